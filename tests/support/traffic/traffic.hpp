// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <netinet/in.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

/// The labs' server and clients: what an application and its users would see, counted. One epoll thread each.
namespace stead::traffic {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

struct Address {
    sockaddr_storage storage{};
    socklen_t size{};
};

/// "10.0.0.1" or "fd00::1" with a port. Ends the program with a message on nonsense: this is a test tool.
[[nodiscard]] Address parse_address(const std::string& text, std::uint16_t port);
/// "10.42.100.1+50": fifty consecutive addresses from there; without "+N" one.
[[nodiscard]] std::vector<std::string> expand_addresses(const std::string& text);
[[noreturn]] void fail(const std::string& what);

struct Options {
    std::string target;
    std::uint16_t port{};
    std::vector<std::string> sources;
    std::string name;       ///< serve: what the server answers with
    std::string http;       ///< tcp: GET this path instead of the line protocol
    std::string dump;       ///< udp: file for "address port name answers" of each flow
    unsigned rate_per_s{500};
    unsigned flows{64};
    unsigned hold{};
    std::uint64_t count{};  ///< 0 = until the time is over
    Milliseconds duration{10000};
    Milliseconds deadline{900};
    Milliseconds held_interval{250};
    Milliseconds live{};    ///< 0 = no progress lines
};

int serve(const Options& options);
int run_udp(const Options& options);
int run_tcp(const Options& options);

/// Set by SIGINT and SIGTERM: finish, print the summary.
extern volatile bool stop_requested;

/// Milliseconds of CLOCK_MONOTONIC: comparable between the processes of one machine.
[[nodiscard]] std::int64_t to_ms(Clock::time_point time);

/// Longest run of losses: the span between the first and the last start of a loss, where losses less than `gap` apart
/// belong together.
struct Outage {
    std::int64_t begin_ms{};
    std::int64_t length_ms{};
};
[[nodiscard]] Outage longest_outage(std::vector<std::int64_t> loss_starts_ms, std::int64_t gap_ms);

} // namespace stead::traffic

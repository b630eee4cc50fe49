// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "frames.hpp"

#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <string>

/// The three back ends behind one question: what becomes of this frame?
namespace stead::shim::test {

enum class Fate : std::uint8_t { pass, take, drop, forward, forward_and_take, answer };

struct Outcome {
    Fate fate{};
    std::set<int> targets; ///< nodes a copy went to
    friend bool operator==(const Outcome&, const Outcome&) = default;
};
std::ostream& operator<<(std::ostream& out, const Outcome& outcome);

inline const Mac own_mac{2, 0, 0, 0, 0, 0x10};
inline const Mac client_mac{2, 0, 0, 0, 0, 0xcc};
inline const Mac vmac4{0x5a, 0xfe, 10, 0, 0, 100};
inline const Mac broadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
[[nodiscard]] inline Mac mac_of(int node) { return {2, 0, 0, 0, 1, static_cast<std::uint8_t>(node)}; }
[[nodiscard]] inline Ip address_of(int node) { return ip4(10, 0, 0, 10 + node); }

/// The state of the node under test (node 0 of 0..3). Every bucket of a table is alike, unless `only` says otherwise.
struct State {
    Delivery delivery{Delivery::directed};
    std::vector<Rule> rules{Rule{{}, 6, 80, Key::port, Track::socket, 0}, Rule{{}, 17, 53, Key::port, Track::none, 0}};
    Bucket bucket{0, 0, {}};
    std::optional<std::uint16_t> only; ///< `bucket` is about this one; all others are member 1's, settled
    std::vector<Bucket> more_groups;   ///< the buckets of groups 1, 2, …
    Step step{Step::settled};
    NodeSet live{std::uint64_t{0xf}};
    bool receiver{true};
    bool draining{};
    bool lease{true};
    bool socket{}; ///< this node has a connection from the client, port 40000, to port 80
    bool arp_per_client{};
};

class Judge {
public:
    virtual ~Judge() = default;
    [[nodiscard]] virtual Outcome judge(const Bytes& frame) = 0;
    [[nodiscard]] virtual std::string name() const = 0;
    [[nodiscard]] virtual GroupStats stats(std::uint8_t group) = 0;
};

[[nodiscard]] FilterOptions options_of(const State& state);
/// verdict.h called directly, the socket table a fake.
[[nodiscard]] std::unique_ptr<Judge> direct_judge(const State& state);
/// What the NFQUEUE back end decides with, the socket table the kernel's.
[[nodiscard]] std::unique_ptr<Judge> nfqueue_judge(const State& state);
/// The tc program by bpf_prog_test_run; checks by the way that XDP never drops what tc does not.
[[nodiscard]] std::unique_ptr<Judge> tc_judge(const State& state);

/// The XDP program alone: drop, or pass = left to tc.
[[nodiscard]] std::unique_ptr<Judge> xdp_judge(const State& state);

inline constexpr std::array<std::uint64_t, 2> hash_seed{0x0706050403020100, 0x0f0e0d0c0b0a0908};

/// Once per process: a veth pair, the VIP and the client on loopback, a listener on port 80. Empty, or what failed.
[[nodiscard]] std::string prepare_namespace();
/// A real connection from the client, port 40000, to the VIP, port 80, in this namespace, while the object lives.
class Connection {
public:
    explicit Connection(bool v6);
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

private:
    int listener_{-1}, client_{-1}, server_{-1};
};

} // namespace stead::shim::test

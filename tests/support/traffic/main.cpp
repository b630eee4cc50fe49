// SPDX-License-Identifier: Apache-2.0
#include "traffic.hpp"

#include <arpa/inet.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace stead::traffic {

volatile bool stop_requested = false;

void fail(const std::string& what) {
    std::fprintf(stderr, "stead-traffic: %s\n", what.c_str());
    std::exit(2);
}

Address parse_address(const std::string& text, std::uint16_t port) {
    Address address;
    auto* four = reinterpret_cast<sockaddr_in*>(&address.storage);
    auto* six = reinterpret_cast<sockaddr_in6*>(&address.storage);
    if (inet_pton(AF_INET, text.c_str(), &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        address.size = sizeof *four;
    } else if (inet_pton(AF_INET6, text.c_str(), &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(port);
        address.size = sizeof *six;
    } else {
        fail("'" + text + "' is not an address");
    }
    return address;
}

std::vector<std::string> expand_addresses(const std::string& text) {
    const auto plus = text.find('+');
    const std::string first = text.substr(0, plus);
    const long count = plus == std::string::npos ? 1 : std::strtol(text.c_str() + plus + 1, nullptr, 10);
    std::vector<std::string> all;
    for (long i = 0; i < count; ++i) {
        char buffer[INET6_ADDRSTRLEN];
        Address address = parse_address(first, 0);
        if (address.storage.ss_family == AF_INET) {
            auto* four = reinterpret_cast<sockaddr_in*>(&address.storage);
            four->sin_addr.s_addr = htonl(ntohl(four->sin_addr.s_addr) + static_cast<std::uint32_t>(i));
            inet_ntop(AF_INET, &four->sin_addr, buffer, sizeof buffer);
        } else {
            auto* six = reinterpret_cast<sockaddr_in6*>(&address.storage);
            std::uint32_t last = 0;
            std::memcpy(&last, six->sin6_addr.s6_addr + 12, 4);
            last = htonl(ntohl(last) + static_cast<std::uint32_t>(i));
            std::memcpy(six->sin6_addr.s6_addr + 12, &last, 4);
            inet_ntop(AF_INET6, &six->sin6_addr, buffer, sizeof buffer);
        }
        all.emplace_back(buffer);
    }
    return all;
}

std::int64_t to_ms(Clock::time_point time) {
    return std::chrono::duration_cast<Milliseconds>(time.time_since_epoch()).count();
}

Outage longest_outage(std::vector<std::int64_t> starts, std::int64_t gap_ms) {
    std::sort(starts.begin(), starts.end());
    Outage longest;
    for (std::size_t i = 0; i < starts.size();) {
        std::size_t last = i;
        while (last + 1 < starts.size() && starts[last + 1] - starts[last] <= gap_ms) {
            ++last;
        }
        if (starts[last] - starts[i] >= longest.length_ms) {
            longest = {starts[i], starts[last] - starts[i]};
        }
        i = last + 1;
    }
    return longest;
}

namespace {

constexpr const char* usage =
    "usage: stead-traffic serve --name NAME --target ADDRESS --port N          UDP and TCP server\n"
    "       stead-traffic udp   --target ADDRESS --port N [options]            every datagram answered by whom\n"
    "       stead-traffic tcp   --target ADDRESS --port N [options]            new and held connections\n"
    "options: --sources ADDRESS[+N][,…] --rate N/s --flows N --hold N --count N --seconds N --deadline-ms N\n"
    "         --held-interval-ms N --http PATH --live-ms N --dump FILE\n"
    "A summary is printed as one line of JSON.\n";

Options parse(int argc, char** argv) {
    Options options;
    for (int i = 2; i < argc; i += 2) {
        const std::string key = argv[i];
        if (i + 1 >= argc) {
            fail(key + " needs a value");
        }
        const std::string value = argv[i + 1];
        const auto number = static_cast<unsigned>(std::strtoul(value.c_str(), nullptr, 10));
        if (key == "--target") {
            options.target = value;
        } else if (key == "--port") {
            options.port = static_cast<std::uint16_t>(number);
        } else if (key == "--name") {
            options.name = value;
        } else if (key == "--http") {
            options.http = value;
        } else if (key == "--dump") {
            options.dump = value;
        } else if (key == "--rate") {
            options.rate_per_s = number;
        } else if (key == "--flows") {
            options.flows = number;
        } else if (key == "--hold") {
            options.hold = number;
        } else if (key == "--count") {
            options.count = number;
        } else if (key == "--seconds") {
            options.duration = std::chrono::seconds(number);
        } else if (key == "--deadline-ms") {
            options.deadline = Milliseconds(number);
        } else if (key == "--held-interval-ms") {
            options.held_interval = Milliseconds(number);
        } else if (key == "--live-ms") {
            options.live = Milliseconds(number);
        } else if (key == "--sources") {
            std::size_t from = 0;
            while (from <= value.size()) {
                const auto comma = std::min(value.find(',', from), value.size());
                const auto some = expand_addresses(value.substr(from, comma - from));
                options.sources.insert(options.sources.end(), some.begin(), some.end());
                from = comma + 1;
            }
        } else {
            fail("unknown option '" + key + "'\n" + usage);
        }
    }
    if (options.target.empty() || options.port == 0) {
        fail(std::string("--target and --port are needed\n") + usage);
    }
    return options;
}

} // namespace
} // namespace stead::traffic

int main(int argc, char** argv) {
    using namespace stead::traffic;
    const std::string mode = argc > 1 ? argv[1] : "";
    if (mode != "serve" && mode != "udp" && mode != "tcp") {
        std::fputs(usage, stderr);
        return 2;
    }
    const auto stop = [](int) { stop_requested = true; };
    std::signal(SIGINT, stop);
    std::signal(SIGTERM, stop);
    std::signal(SIGPIPE, SIG_IGN);
    rlimit files{65536, 65536};
    (void)::setrlimit(RLIMIT_NOFILE, &files);
    const Options options = parse(argc, argv);
    return mode == "serve" ? serve(options) : mode == "udp" ? run_udp(options) : run_tcp(options);
}

// SPDX-License-Identifier: Apache-2.0
#include "traffic.hpp"

#include <boost/json.hpp>

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace stead::traffic {
namespace {

/// Sends numbered datagrams from many addresses and ports and notes who answered each, and how often.
class UdpRun {
public:
    explicit UdpRun(const Options& options) : options_(options), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        open_flows();
    }

    int run() {
        const auto begin = Clock::now();
        const auto period = std::chrono::nanoseconds(1'000'000'000 / std::max(1U, options_.rate_per_s));
        auto next = begin;
        while (!stop_requested && Clock::now() - begin < options_.duration &&
               (options_.count == 0 || sent_.size() < options_.count)) {
            while (Clock::now() >= next && (options_.count == 0 || sent_.size() < options_.count)) {
                send_one();
                next += period;
            }
            receive(1);
        }
        const auto end = Clock::now() + options_.deadline;
        while (Clock::now() < end) {
            receive(10);
        }
        print();
        return 0;
    }

private:
    struct Flow {
        int fd{};
        std::string source;
        std::uint16_t port{};
        std::map<std::string, std::uint64_t> names;
    };
    struct Datagram {
        Clock::time_point at;
        std::uint32_t flow{};
        std::uint16_t answers{};
        std::uint16_t answerers{}; // distinct names, as a bit set of their index
    };

    void open_flows() {
        const Address target = parse_address(options_.target, options_.port);
        for (unsigned i = 0; i < options_.flows; ++i) {
            Flow flow;
            flow.fd = ::socket(target.storage.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
            if (!options_.sources.empty()) {
                flow.source = options_.sources[i % options_.sources.size()];
                const Address source = parse_address(flow.source, 0);
                if (::bind(flow.fd, reinterpret_cast<const sockaddr*>(&source.storage), source.size) != 0) {
                    fail("cannot bind " + flow.source + ": " + std::strerror(errno));
                }
            }
            if (::connect(flow.fd, reinterpret_cast<const sockaddr*>(&target.storage), target.size) != 0) {
                fail(std::string("cannot connect: ") + std::strerror(errno));
            }
            Address own;
            own.size = sizeof own.storage;
            ::getsockname(flow.fd, reinterpret_cast<sockaddr*>(&own.storage), &own.size);
            flow.port = ntohs(reinterpret_cast<const sockaddr_in*>(&own.storage)->sin_port);
            epoll_event event{};
            event.events = EPOLLIN;
            event.data.u32 = i;
            ::epoll_ctl(epoll_, EPOLL_CTL_ADD, flow.fd, &event);
            flows_.push_back(flow);
        }
    }

    void send_one() {
        const auto flow = static_cast<std::uint32_t>(sent_.size() % flows_.size());
        const std::string body = std::to_string(sent_.size());
        sent_.push_back({Clock::now(), flow, 0, 0});
        if (::send(flows_[flow].fd, body.data(), body.size(), 0) < 0) {
            ++send_errors_; // an ICMP error of an earlier datagram, or no buffer
        }
    }

    void receive(int wait_ms) {
        epoll_event events[256];
        const int count = ::epoll_wait(epoll_, events, 256, wait_ms);
        for (int i = 0; i < count; ++i) {
            char buffer[2048];
            ssize_t got = 0;
            while ((got = ::recv(flows_[events[i].data.u32].fd, buffer, sizeof buffer - 1, 0)) > 0) {
                buffer[got] = 0;
                note(buffer);
            }
        }
    }

    void note(const char* reply) {
        const char* space = std::strchr(reply, ' ');
        const std::size_t id = space == nullptr ? sent_.size() : std::strtoul(space + 1, nullptr, 10);
        if (id >= sent_.size()) {
            ++strange_;
            return;
        }
        const std::string name(reply, space);
        const auto known = std::find(names_.begin(), names_.end(), name);
        const auto which = static_cast<unsigned>(known - names_.begin());
        if (known == names_.end()) {
            names_.push_back(name);
        }
        Datagram& datagram = sent_[id];
        ++datagram.answers;
        datagram.answerers |= static_cast<std::uint16_t>(1U << std::min(which, 15U));
        ++flows_[datagram.flow].names[name];
    }

    void print() const {
        std::map<std::string, std::uint64_t> per_name;
        std::uint64_t once = 0, none = 0, twice = 0, two_nodes = 0;
        std::vector<std::int64_t> losses;
        for (const Datagram& datagram : sent_) {
            once += datagram.answers == 1;
            twice += datagram.answers > 1;
            two_nodes += (datagram.answerers & (datagram.answerers - 1)) != 0;
            if (datagram.answers == 0) {
                ++none;
                losses.push_back(to_ms(datagram.at));
            }
        }
        FILE* dump = options_.dump.empty() ? nullptr : std::fopen(options_.dump.c_str(), "w");
        for (const Flow& flow : flows_) {
            for (const auto& [name, answers] : flow.names) {
                per_name[name] += answers;
                if (dump != nullptr) {
                    std::fprintf(dump, "%s %u %s %llu\n", flow.source.c_str(), flow.port, name.c_str(),
                                 static_cast<unsigned long long>(answers));
                }
            }
        }
        if (dump != nullptr) {
            std::fclose(dump);
        }
        const Outage outage = longest_outage(losses, 500);
        boost::json::object names;
        for (const auto& [name, answers] : per_name) {
            names[name] = answers;
        }
        const boost::json::object summary{{"sent", sent_.size()},
                                          {"answered_once", once},
                                          {"unanswered", none},
                                          {"answered_more", twice},
                                          {"answered_by_two", two_nodes},
                                          {"strange", strange_},
                                          {"names", names},
                                          {"outage_ms", outage.length_ms},
                                          {"outage_begin_ms", outage.begin_ms},
                                          {"send_errors", send_errors_}};
        std::printf("%s\n", boost::json::serialize(summary).c_str());
    }

    const Options& options_;
    int epoll_;
    std::vector<Flow> flows_;
    std::vector<Datagram> sent_;
    std::vector<std::string> names_;
    std::uint64_t send_errors_{};
    std::uint64_t strange_{};
};

} // namespace

int run_udp(const Options& options) { return UdpRun(options).run(); }

} // namespace stead::traffic

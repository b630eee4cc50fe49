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
#include <unordered_map>

namespace stead::traffic {
namespace {

constexpr int ipv4_bind_address_no_port = 24; // IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect

struct Connection {
    int fd{-1};
    bool held{};
    bool connected{};
    bool waiting{};            // a request is on its way
    Clock::time_point started; // of the connection, or of the request that waits
    Clock::time_point due;     // held: when to ask again
    std::string name;
    std::string input;
};

/// Opens connections at a steady rate, and holds some for the whole run, asking each now and then.
class TcpRun {
public:
    explicit TcpRun(const Options& options) : options_(options), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        request_ = options.http.empty() ? "hello\n" : "GET " + options.http + " HTTP/1.1\r\nHost: farm\r\nConnection: ";
        target_ = parse_address(options.target, options.port);
    }

    int run() {
        const auto begin = Clock::now();
        const auto period =
            std::chrono::nanoseconds(options_.rate_per_s == 0 ? 0 : 1'000'000'000 / options_.rate_per_s);
        auto next = begin;
        auto next_live = begin + options_.live;
        auto next_check = begin;
        while (!stop_requested && Clock::now() - begin < options_.duration) {
            const auto now = Clock::now();
            while (held_opened_ < options_.hold && held_connecting_ < 64) {
                ++held_opened_;
                open(true);
            }
            while (options_.rate_per_s != 0 && now >= next && (options_.count == 0 || opened_ < options_.count)) {
                ++opened_;
                open(false);
                next += period;
            }
            poll(1);
            if (now >= next_check) {
                check(now);
                next_check = now + Milliseconds(10);
            }
            if (options_.live.count() != 0 && now >= next_live) {
                print("live");
                next_live = now + options_.live;
            }
            if (options_.count != 0 && opened_ >= options_.count && connections_.size() == held_now_) {
                break;
            }
        }
        for (const auto end = Clock::now() + options_.deadline;
             Clock::now() < end && connections_.size() > held_now_;) {
            poll(5);
            check(Clock::now());
        }
        print("summary");
        return 0;
    }

private:
    void open(bool held) {
        Connection connection;
        connection.held = held;
        connection.started = Clock::now();
        connection.fd = ::socket(target_.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (!options_.sources.empty()) {
            const int one = 1;
            ::setsockopt(connection.fd, IPPROTO_IP, ipv4_bind_address_no_port, &one, sizeof one);
            const Address source = parse_address(options_.sources[source_++ % options_.sources.size()], 0);
            if (::bind(connection.fd, reinterpret_cast<const sockaddr*>(&source.storage), source.size) != 0) {
                fail(std::string("cannot bind a source address: ") + std::strerror(errno));
            }
        }
        (void)::connect(connection.fd, reinterpret_cast<const sockaddr*>(&target_.storage), target_.size);
        epoll_event event{};
        event.events = EPOLLIN | EPOLLOUT;
        event.data.fd = connection.fd;
        ::epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event);
        held_connecting_ += held;
        held_now_ += held;
        connections_.emplace(connection.fd, std::move(connection));
    }

    void poll(int wait_ms) {
        epoll_event events[512];
        const int count = ::epoll_wait(epoll_, events, 512, wait_ms);
        for (int i = 0; i < count; ++i) {
            const auto found = connections_.find(events[i].data.fd);
            if (found == connections_.end()) {
                continue;
            }
            Connection& connection = found->second;
            if (!connection.connected && (events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
                int error = 0;
                socklen_t size = sizeof error;
                ::getsockopt(connection.fd, SOL_SOCKET, SO_ERROR, &error, &size);
                if (error != 0) {
                    lost(connection, std::strerror(error));
                    continue;
                }
                established(connection);
            }
            if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
                readable(connection);
            }
        }
    }

    void established(Connection& connection) {
        connection.connected = true;
        held_connecting_ -= connection.held;
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.fd = connection.fd;
        ::epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event);
        ask(connection);
    }

    void ask(Connection& connection) {
        std::string request = request_;
        if (!options_.http.empty()) {
            request += connection.held ? "keep-alive\r\n\r\n" : "close\r\n\r\n";
        }
        connection.waiting = true;
        connection.input.clear();
        (void)::send(connection.fd, request.data(), request.size(), MSG_NOSIGNAL);
    }

    void readable(Connection& connection) {
        char buffer[4096];
        const ssize_t got = ::read(connection.fd, buffer, sizeof buffer);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (got <= 0) {
            lost(connection, got == 0 ? "closed by the server" : std::strerror(errno));
            return;
        }
        connection.input.append(buffer, static_cast<std::size_t>(got));
        const std::string name = answer_in(connection.input);
        if (name.empty()) {
            return;
        }
        if (connection.held) {
            answered_held(connection, name);
        } else {
            finish_short(connection, name);
        }
    }

    /// The node's name, once the answer is complete: the first line, or the X-Stead-Node header of an HTTP answer.
    [[nodiscard]] std::string answer_in(const std::string& input) const {
        if (options_.http.empty()) {
            const auto end = input.find('\n');
            return end == std::string::npos ? "" : input.substr(0, end);
        }
        const auto body = input.find("\r\n\r\n");
        const auto header = input.find("X-Stead-Node: ");
        if (body == std::string::npos || header == std::string::npos || header > body) {
            return "";
        }
        const auto begin = header + std::strlen("X-Stead-Node: ");
        return input.substr(begin, input.find('\r', begin) - begin);
    }

    void answered_held(Connection& connection, const std::string& name) {
        if (!connection.name.empty() && connection.name != name) {
            ++held_changed_node_;
        }
        ++held_answers_;
        connection.name = name;
        connection.waiting = false;
        connection.due = Clock::now() + options_.held_interval;
    }

    void finish_short(Connection& connection, const std::string& name) {
        const auto took = Clock::now() - connection.started;
        if (took > options_.deadline) {
            ++slow_;
        }
        slowest_ = std::max(slowest_, took);
        ++served_[name];
        close(connection);
    }

    void lost(Connection& connection, const std::string& why) {
        if (connection.held) {
            ++(connection.name.empty() ? held_failed_ : held_broken_);
            ++broken_by_[connection.name.empty() ? "(never answered)" : connection.name];
        } else {
            ++failed_;
            losses_.push_back(to_ms(connection.started));
        }
        ++reasons_[why];
        close(connection);
    }

    void close(Connection& connection) {
        held_connecting_ -= connection.held && !connection.connected;
        held_now_ -= connection.held;
        const int fd = connection.fd;
        connections_.erase(fd);
        ::close(fd);
    }

    /// Ends what is over its deadline and asks the held ones again.
    void check(Clock::time_point now) {
        std::vector<int> late;
        for (auto& [fd, connection] : connections_) {
            if (connection.held && connection.connected && !connection.waiting) {
                if (now >= connection.due) {
                    connection.started = now;
                    ask(connection);
                }
            } else if (now - connection.started > options_.deadline * (connection.held ? 4 : 1)) {
                late.push_back(fd);
            }
        }
        for (const int fd : late) {
            lost(connections_.at(fd), connections_.at(fd).connected ? "no answer in time" : "no connection in time");
        }
    }

    void print(const char* kind) const {
        boost::json::object served, broken_by, reasons, holding;
        for (const auto& [name, count] : served_) {
            served[name] = count;
        }
        for (const auto& [name, count] : broken_by_) {
            broken_by[name] = count;
        }
        for (const auto& [why, count] : reasons_) {
            reasons[why] = count;
        }
        std::map<std::string, std::uint64_t> held;
        for (const auto& [fd, connection] : connections_) {
            if (connection.held && !connection.name.empty()) {
                ++held[connection.name];
            }
        }
        for (const auto& [name, count] : held) {
            holding[name] = count;
        }
        const Outage outage = longest_outage(losses_, 500);
        const boost::json::object summary{{"kind", kind},
                                          {"opened", opened_},
                                          {"served", served},
                                          {"failed", failed_},
                                          {"slow", slow_},
                                          {"held_broken", held_broken_},
                                          {"held_failed", held_failed_},
                                          {"held_answers", held_answers_},
                                          {"held_by", holding},
                                          {"broken_by", broken_by},
                                          {"held_changed_node", held_changed_node_},
                                          {"reasons", reasons},
                                          {"outage_ms", outage.length_ms},
                                          {"outage_begin_ms", outage.begin_ms},
                                          {"slowest_ms", std::chrono::duration_cast<Milliseconds>(slowest_).count()},
                                          {"now_ms", to_ms(Clock::now())}};
        std::printf("%s\n", boost::json::serialize(summary).c_str());
        std::fflush(stdout);
    }

    const Options& options_;
    int epoll_;
    Address target_;
    std::string request_;
    std::unordered_map<int, Connection> connections_;
    std::map<std::string, std::uint64_t> served_, broken_by_, reasons_;
    std::vector<std::int64_t> losses_;
    Clock::duration slowest_{};
    std::size_t source_{}, held_now_{}, held_opened_{}, held_connecting_{};
    std::uint64_t opened_{}, failed_{}, slow_{}, held_broken_{}, held_failed_{}, held_answers_{}, held_changed_node_{};
};

} // namespace

int run_tcp(const Options& options) { return TcpRun(options).run(); }

} // namespace stead::traffic

// SPDX-License-Identifier: Apache-2.0
// Real buses, sockets and clocks; every wait is for a fact, with a generous end.
#pragma once

#include <stead/bus/bus.hpp>
#include <stead/wire/sealed.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <random>
#include <thread>

namespace stead::bus {

inline const std::string key_a(32, 'a');
inline const std::string key_b(32, 'b');
inline constexpr std::uint64_t cluster = 0x1234567890abcdef;

/// A strand of its own for the callbacks of one node.
class Strand {
public:
    Strand() : thread_([this] { run(); }) {}
    ~Strand() {
        {
            const std::lock_guard lock{mutex_};
            end_ = true;
        }
        ready_.notify_all();
        thread_.join();
    }
    void post(std::function<void()> work) {
        const std::lock_guard lock{mutex_};
        queue_.push_back(std::move(work));
        ready_.notify_all();
    }

private:
    void run() {
        std::unique_lock lock{mutex_};
        for (;;) {
            ready_.wait(lock, [this] { return end_ || !queue_.empty(); });
            if (queue_.empty()) {
                return;
            }
            auto work = std::move(queue_.front());
            queue_.pop_front();
            lock.unlock();
            work();
            lock.lock();
        }
    }
    std::mutex mutex_;
    std::condition_variable ready_;
    std::deque<std::function<void()>> queue_;
    bool end_{};
    std::thread thread_;
};

struct Seen {
    std::mutex mutex;
    std::vector<membership::ViewInstalled> views;
    std::map<std::pair<NodeId, std::string>, std::string> resources;
    std::vector<std::string> messages;
    std::map<NodeId, std::uint32_t> states;
    std::map<LanId, NodeSet> heard;
    std::vector<std::string> notes, excluded;
    bool left{};
};

template <class Condition>
bool eventually(Condition condition) {
    const Instant end = BootClock::now() + seconds{40};
    while (BootClock::now() < end) {
        if (condition()) {
            return true;
        }
        std::this_thread::sleep_for(milliseconds{5});
    }
    return condition();
}

inline std::string address_of(int node, int lan) {
    return "127.77." + std::to_string(lan + 1) + "." + std::to_string(node + 1);
}

/// A port that is free on every address that the test uses, and then very likely stays so.
inline std::uint16_t free_port() {
    static std::mt19937 random{std::random_device{}()};
    for (;;) {
        const auto port = static_cast<std::uint16_t>(20000 + random() % 12000);
        const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        sockaddr_in any{};
        any.sin_family = AF_INET;
        any.sin_port = htons(port);
        const bool free = ::bind(fd, reinterpret_cast<sockaddr*>(&any), sizeof any) == 0;
        ::close(fd);
        if (free) {
            return port;
        }
    }
}

struct Node {
    Seen seen;
    std::atomic<std::uint64_t> lease{1};
    Strand strand;
    std::unique_ptr<Bus> bus; // first to go
};

class Group {
public:
    explicit Group(int nodes, int lans = 1) : nodes_(static_cast<std::size_t>(nodes)), count_(nodes), lans_(lans) {}

    BusOptions options(int self) const {
        BusOptions out;
        out.group = GroupId{2};
        out.self = NodeId(self);
        for (int node = 0; node < count_; ++node) {
            out.node_names.push_back("node" + std::to_string(node));
            out.nodes.insert(NodeId(node));
        }
        for (int lan = 0; lan < lans_; ++lan) {
            LanOptions one;
            one.name = "lan" + std::to_string(lan);
            for (int node = 0; node < count_; ++node) {
                one.addresses.push_back(address_of(node, lan));
            }
            one.local_address = address_of(self, lan);
            out.lans.push_back(one);
        }
        out.port = port_;
        out.keys = {key_a};
        out.cluster_id = cluster;
        out.timing = membership::default_timing();
        out.realtime = false;
        out.lose = lose;
        return out;
    }

    void start(int self) { start(self, options(self)); }
    void start(int self, const BusOptions& with) {
        auto& slot = nodes_[static_cast<std::size_t>(self)];
        slot = std::make_unique<Node>();
        Node& node = *slot;
        auto started = Bus::start(
            with, events(node), [&node](std::function<void()> work) { node.strand.post(std::move(work)); },
            [&node](std::uint64_t until) { node.lease = until; });
        ASSERT_TRUE(started) << started.error().text();
        node.bus = std::move(*started);
        if (wishes) {
            node.bus->set_weight(1);
        }
    }
    void start_all() {
        for (int node = 0; node < count_; ++node) {
            start(node);
        }
    }
    Node& operator[](int node) { return *nodes_[static_cast<std::size_t>(node)]; }
    void kill(int node) { nodes_[static_cast<std::size_t>(node)].reset(); }
    bool agree(NodeSet members) {
        std::uint64_t id = 0;
        for (const NodeId node : members) {
            const membership::View view = (*this)[index(node)].bus->view();
            if (view.members != members || (id != 0 && view.id != id)) {
                return false;
            }
            id = view.id;
        }
        return true;
    }
    std::uint16_t port() const { return port_; }

    std::function<bool(LanId, NodeId)> lose;
    bool wishes{true}; ///< nodes tell a weight at their start, as those of a module do

private:
    static BusEvents events(Node& node) {
        Seen& seen = node.seen;
        BusEvents out;
        out.view = [&seen](const membership::ViewInstalled& view) {
            const std::lock_guard lock{seen.mutex};
            seen.views.push_back(view);
        };
        out.resource = [&seen](const Resource& resource, bool removed) {
            const std::lock_guard lock{seen.mutex};
            if (removed) {
                seen.resources.erase({resource.owner, resource.name});
            } else {
                seen.resources[{resource.owner, resource.name}] = resource.value;
            }
        };
        out.message = [&seen](const PeerMessage& message) {
            const std::lock_guard lock{seen.mutex};
            seen.messages.push_back(message.body);
        };
        out.note = [&seen](bool, const std::string& line) {
            const std::lock_guard lock{seen.mutex};
            seen.notes.push_back(line);
        };
        out.excluded = [&seen](const std::string& reason) {
            const std::lock_guard lock{seen.mutex};
            seen.excluded.push_back(reason);
        };
        out.leave_done = [&seen] {
            const std::lock_guard lock{seen.mutex};
            seen.left = true;
        };
        out.peer_state = [&seen](NodeId peer, std::uint32_t state) {
            const std::lock_guard lock{seen.mutex};
            seen.states[peer] = state;
        };
        out.heard = [&seen](LanId lan, NodeSet nodes) {
            const std::lock_guard lock{seen.mutex};
            seen.heard[lan] = nodes;
        };
        return out;
    }

    std::vector<std::unique_ptr<Node>> nodes_;
    int count_;
    int lans_;
    std::uint16_t port_{free_port()};
};

inline const NodeSet all_three{NodeId{0}, NodeId{1}, NodeId{2}};
inline const NodeSet first_two{NodeId{0}, NodeId{1}};

inline std::optional<std::string> resource_of(Node& node, int owner, const std::string& name) {
    const std::lock_guard lock{node.seen.mutex};
    const auto found = node.seen.resources.find({NodeId(owner), name});
    return found == node.seen.resources.end() ? std::nullopt : std::optional{found->second};
}

} // namespace stead::bus

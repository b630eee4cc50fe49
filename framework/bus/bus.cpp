// SPDX-License-Identifier: Apache-2.0
#include "engine.hpp"

#include <stead/base/assert.hpp>
#include <stead/bus/bus.hpp>
#include <stead/wire/keys.hpp>

#include <csignal>
#include <future>
#include <thread>

namespace stead::bus {
namespace {

Error beyond(const BusOptions& options, std::string what) {
    return Error{Errc::out_of_range, "bus of group " + std::to_string(index(options.group)), std::move(what)};
}

Result<void> check(const BusOptions& options) {
    if (options.lans.empty() || options.lans.size() > limits::lans_max) {
        return beyond(options, std::to_string(options.lans.size()) + " LANs, 1 to " +
                                   std::to_string(limits::lans_max) + " are allowed");
    }
    if (options.node_names.size() > limits::nodes_max || index(options.self) >= options.node_names.size() ||
        !options.nodes.contains(options.self) ||
        (options.node_names.size() < limits::nodes_max && options.nodes.bits() >> options.node_names.size() != 0)) {
        return beyond(options, "this node or a member of the group is not among the " +
                                   std::to_string(options.node_names.size()) + " nodes, at most 64");
    }
    if (options.keys.empty() || options.keys.size() > 2) {
        return beyond(options, std::to_string(options.keys.size()) +
                                   " cluster keys, 1 or 2 are allowed; run 'stead cluster genkey'");
    }
    for (const std::string& key : options.keys) {
        if (key.size() != wire::cluster_key_bytes) {
            return beyond(options, "a cluster key of " + std::to_string(key.size()) + " bytes, it has 32");
        }
    }
    if (options.timing.period <= nanoseconds{0} || options.timing.takeover <= options.timing.lease) {
        return beyond(options, "the period must be above zero and takeover above lease");
    }
    return {};
}

/// The face for other threads: checks, counts, and hands over to the bus thread.
class BusImpl final : public Bus {
public:
    BusImpl(const BusOptions& options, const SessionId& session, Sockets sockets, BusEvents events, Post post,
            LeaseWriter lease)
        : options_(options), session_(session), front_(options.self, session),
          engine_(options, session, std::move(sockets), std::move(events), std::move(post), std::move(lease),
                  in_flight_) {
        // Signals are for the owner's threads.
        sigset_t all;
        sigset_t before;
        sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before);
        thread_ = std::thread{[this] { engine_.run(); }};
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        ::pthread_setname_np(thread_.native_handle(), ("bus-" + std::to_string(index(options.group))).c_str());
    }
    ~BusImpl() override {
        engine_.stop();
        thread_.join();
    }

    void set_weight(std::uint16_t weight) override {
        change_local([weight](membership::SetLocal& local) { local.weight = weight; });
    }
    void set_state(std::uint32_t state) override {
        change_local([state](membership::SetLocal& local) { local.state = state; });
    }
    void set_config(std::uint64_t digest) override {
        change_local([digest](membership::SetLocal& local) { local.config = digest; });
    }
    void add_lease_writer(LeaseWriter lease) override {
        engine_.post([lease = std::move(lease)](Engine& engine) { engine.add_lease_writer(lease); });
    }
    void leave() override {
        engine_.post([](Engine& engine) { engine.step(membership::Leave{}); });
    }
    void peer_died(NodeId peer, SessionId session) override {
        engine_.post([=](Engine& engine) { engine.step(membership::PeerDied{peer, session}); });
    }
    void peer_past(NodeId peer, SessionId session) override {
        engine_.post([=](Engine& engine) { engine.step(membership::PeerPast{peer, session}); });
    }
    void witness_answer(const membership::WitnessAnswer& answer) override {
        engine_.post([answer](Engine& engine) { engine.step(answer); });
    }

    Result<void> publish(std::string_view name, std::optional<std::string_view> value) override {
        const std::lock_guard lock{front_mutex_}; // also keeps the order of writes from several threads
        const auto change = front_.write(name, value);
        if (!change) {
            return change.error();
        }
        if (*change) {
            engine_.post([name = std::string{name},
                          value = value ? std::optional<std::string>{*value} : std::nullopt](Engine& engine) {
                engine.publish(name, value);
            });
        }
        return {};
    }
    std::vector<Resource> resources() const override {
        return ask([](const Engine& engine) { return engine.resources(); });
    }

    Result<void> send(NodeSet to, std::string_view kind, std::uint16_t version, std::string_view body) override {
        if (body.size() > limits::peer_message_bytes_max) {
            return beyond(options_, "a message of " + std::to_string(body.size()) + " bytes, at most " +
                                        std::to_string(limits::peer_message_bytes_max) + " are allowed");
        }
        if (kind.empty() || kind.size() > limits::name_bytes_max) {
            return beyond(options_, "a message kind of " + std::to_string(kind.size()) + " bytes, 1 to " +
                                        std::to_string(limits::name_bytes_max) + " are allowed");
        }
        to.erase(options_.self);
        const std::lock_guard lock{send_mutex_};
        for (const NodeId node : to) {
            if (in_flight_[index(node)] >= limits::peer_messages_in_flight_max) {
                return beyond(options_, "node '" + options_.node_names[index(node)] + "' has not yet acknowledged " +
                                            std::to_string(limits::peer_messages_in_flight_max) +
                                            " messages; send later");
            }
        }
        for (const NodeId node : to & options_.nodes) {
            ++in_flight_[index(node)];
        }
        engine_.post([to = to & options_.nodes,
                      message = PeerMessage{options_.self, std::string{kind}, version, std::string{body}}](
                         Engine& engine) { engine.send(to, message); });
        return {};
    }

    membership::View view() const override {
        return ask([](const Engine& engine) { return engine.core().view(); });
    }
    NodeSet heard(LanId lan) const override {
        return ask([lan](const Engine& engine) { return engine.core().heard(lan); });
    }
    SessionId session() const override { return session_; }
    SessionId session_of(NodeId peer) const override {
        return ask([peer](const Engine& engine) { return engine.session_of(peer); });
    }
    BusCounters counters() const override {
        return ask([](const Engine& engine) { return engine.counters(); });
    }
    void set_keys(std::vector<std::string> keys) override {
        BusOptions wanted = options_;
        wanted.keys = keys;
        if (check(wanted)) { // the caller has read and checked them; keys that cannot be used change nothing
            engine_.post([keys = std::move(keys)](Engine& engine) { engine.set_keys(keys); });
        }
    }

private:
    void change_local(std::function<void(membership::SetLocal&)> change) {
        engine_.post([change = std::move(change)](Engine& engine) { engine.set_local(change); });
    }

    /// Asks the bus thread, which answers within microseconds. Never call it from that thread.
    template <class Question>
    std::invoke_result_t<Question, const Engine&> ask(Question question) const {
        STEAD_ASSERT(std::this_thread::get_id() != thread_.get_id());
        // Shared, because set_value() may still be at its end when the answer is already here.
        auto promise = std::make_shared<std::promise<std::invoke_result_t<Question, const Engine&>>>();
        auto answer = promise->get_future();
        engine_.post([promise, question](Engine& engine) { promise->set_value(question(engine)); });
        return answer.get();
    }

    BusOptions options_;
    SessionId session_;
    std::mutex front_mutex_;
    whiteboard::Board front_; ///< own resources as the callers see them: limits are checked before the bus thread
    std::mutex send_mutex_;
    InFlight in_flight_{};
    mutable Engine engine_;
    std::thread thread_;
};

} // namespace

Result<std::unique_ptr<Bus>> Bus::start(const BusOptions& options, BusEvents events, Post post, LeaseWriter lease) {
    if (auto good = check(options); !good) {
        return std::move(good).error();
    }
    Sockets sockets;
    if (auto opened = sockets.open(options); !opened) {
        return std::move(opened).error();
    }
    return std::unique_ptr<Bus>{std::make_unique<BusImpl>(options, wire::new_session(), std::move(sockets),
                                                          std::move(events), std::move(post), std::move(lease))};
}

} // namespace stead::bus

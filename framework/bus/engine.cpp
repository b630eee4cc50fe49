// SPDX-License-Identifier: Apache-2.0
// The loop of the bus thread: sockets, one timer, commands from other threads, and the core's outputs.
#include "engine.hpp"

#include <stead/base/assert.hpp>

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace stead::bus {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif
#else
constexpr bool sanitized = false;
#endif

constexpr int realtime_priority = 10;
constexpr int batches_per_turn = 8; // then timers, commands and the other LANs have their turn
constexpr std::uint64_t timer_event = 1000;
constexpr std::uint64_t wake_event = 1001;

std::uint64_t seed_of(const SessionId& session) { return session.high ^ session.low; }

membership::Options core_options(const BusOptions& options, const SessionId& session) {
    return {.self = options.self,
            .session = session,
            .nodes = options.nodes,
            .lans = static_cast<std::uint8_t>(options.lans.size()),
            .timing = options.timing,
            .config = options.config,
            .random_seed = seed_of(session),
            .past_over = options.past_over,
            .partition = options.partition};
}

void watch(int epoll, int fd, std::uint64_t tag) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = tag;
    STEAD_ASSERT(::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
}

} // namespace

Engine::Engine(const BusOptions& options, const SessionId& session, Sockets sockets, BusEvents events, Bus::Post post,
               Bus::LeaseWriter lease, InFlight& in_flight)
    : options_(options), session_(session), sockets_(std::move(sockets)),
      events_(std::make_shared<const BusEvents>(std::move(events))), post_(std::move(post)), in_flight_(in_flight),
      sealer_({options.cluster_id, options.group}, options.self, session, options.keys.front()),
      opener_({options.cluster_id, options.group}, options.self, session, options.nodes, options.keys),
      board_(options.self, session), core_(core_options(options, session), BootClock::now()),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)), timer_(::timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC)),
      wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      urgency_(options.realtime && !sanitized ? options.strand_thread : 0) {
    STEAD_ASSERT(epoll_ && timer_ && wake_);
    if (lease) {
        leases_.push_back(std::move(lease));
        leases_.back()(0);
    }
    local_.config = options.config;
    local_.whiteboard_digest = board_.digest();
    for (std::size_t lan = 0; lan < sockets_.lans(); ++lan) {
        watch(epoll_.get(), sockets_.fd(lan), lan);
    }
    watch(epoll_.get(), timer_.get(), timer_event);
    watch(epoll_.get(), wake_.get(), wake_event);
}

void Engine::be_realtime() {
    if (!options_.realtime || sanitized) {
        return;
    }
    sched_param parameters{};
    parameters.sched_priority = realtime_priority;
    const int failed = ::pthread_setschedparam(::pthread_self(), SCHED_FIFO | SCHED_RESET_ON_FORK, &parameters);
    // Locked pages are not inherited by children; ONFAULT, so that whole thread stacks need not be present.
    const bool unlocked = ::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0;
    if (failed != 0 || unlocked) {
        note(true, std::string{"no "} + (failed != 0 ? "real-time scheduling" : "locked memory") +
                       " permitted: under heavy load this node may miss heartbeats (needs CAP_SYS_NICE, CAP_IPC_LOCK)");
    }
}

void Engine::run() {
    be_realtime();
    step(local_); // the digest of a board without entries is not 0: peers would ask for what is missing for ever
    while (!stop_.load()) {
        arm();
        gather();
        std::array<epoll_event, limits::lans_max + 2> events{};
        const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
        for (int i = 0; i < count; ++i) {
            const epoll_event& event = events[static_cast<std::size_t>(i)];
            std::uint64_t value = 0;
            if (event.data.u64 == timer_event) {
                (void)!::read(timer_.get(), &value, sizeof value);
                armed_ = never;
            } else if (event.data.u64 == wake_event) {
                (void)!::read(wake_.get(), &value, sizeof value);
                run_commands();
            } else {
                if ((event.events & EPOLLERR) != 0) { // reading the error clears it
                    int error = 0;
                    socklen_t size = sizeof error;
                    ::getsockopt(sockets_.fd(event.data.u64), SOL_SOCKET, SO_ERROR, &error, &size);
                }
                drain(event.data.u64);
            }
            tick_if_due();
        }
        tick_if_due();
    }
    lease_changed(Instant{});
}

void Engine::stop() {
    stop_.store(true);
    post([](Engine&) {});
}

void Engine::post(std::function<void(Engine&)> command) {
    {
        const std::lock_guard lock{commands_mutex_};
        commands_.push_back(std::move(command));
    }
    const std::uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
}

void Engine::run_commands() {
    std::vector<std::function<void(Engine&)>> commands;
    {
        const std::lock_guard lock{commands_mutex_};
        commands.swap(commands_);
    }
    for (const auto& command : commands) {
        command(*this);
    }
}

/// To be woken costs more than a datagram: in a large group at rest, what comes within a part of a period is read
/// together. The timer and the commands are not kept waiting; leases count from when things were sent, waits for others
/// from when they were read, so that reading late is on the safe side.
void Engine::gather() {
    const Instant now = BootClock::now();
    const auto nodes = static_cast<std::size_t>(options_.nodes.size());
    const nanoseconds left = read_at_ + membership::read_late(options_.timing, nodes) - now;
    if (!core_.at_rest() || now < lively_until_ || left <= nanoseconds{0}) {
        return;
    }
    const timespec limit{.tv_sec = left.count() / 1'000'000'000, .tv_nsec = left.count() % 1'000'000'000};
    std::array<pollfd, 2> waits{{{timer_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
    (void)::ppoll(waits.data(), waits.size(), &limit, nullptr);
}

/// News are under way: they and their answers are read at once.
void Engine::be_lively() { lively_until_ = BootClock::now() + 2 * options_.timing.period; }

void Engine::drain(std::size_t lan) {
    read_at_ = BootClock::now();
    for (int turn = 0; turn < batches_per_turn; ++turn) {
        const auto datagrams = sockets_.receive(lan);
        for (const auto& datagram : datagrams) {
            datagram_in(LanId(lan), datagram);
        }
        if (datagrams.size() < Sockets::batch) {
            return;
        }
        tick_if_due();
    }
}

void Engine::tick_if_due() {
    const Instant now = BootClock::now();
    if (core_.next_deadline() <= now) {
        step(membership::Tick{});
        for (std::size_t lan = 0; lan < sockets_.lans(); ++lan) {
            if (sockets_.revive(lan, now)) {
                watch(epoll_.get(), sockets_.fd(lan), lan);
                note_quietly(Quiet::revived,
                             "LAN '" + options_.lans[lan].name + "' did not send for a second: socket renewed");
            }
        }
    }
    send_due(now);
    urgency_.take_back_if_due(now);
}

void Engine::arm() {
    Instant next = std::min(core_.next_deadline(), urgency_.due());
    for (const NodeId node : core_.view().members) {
        next = std::min(next, peers_[index(node)].mailbox.next_deadline());
    }
    if (next == armed_) {
        return;
    }
    armed_ = next;
    itimerspec when{};
    if (next != never) {
        const std::int64_t ns = std::max<std::int64_t>(1, to_ns(next));
        when.it_value = {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
    }
    STEAD_ASSERT(::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr) == 0);
}

void Engine::step(const membership::Input& input) {
    for (const membership::Output& output : core_.step(BootClock::now(), input)) {
        perform(output);
    }
    if (events_->heard) {
        tell_heard();
    }
}

/// The core's timer is due when somebody falls silent, so this is never late.
void Engine::tell_heard() {
    for (std::size_t lan = 0; lan < sockets_.lans(); ++lan) {
        const NodeSet now = core_.heard(LanId(lan));
        if (std::exchange(heard_[lan], now) != now) {
            post_([events = events_, lan, now] { events->heard(LanId(lan), now); });
        }
    }
}

void Engine::perform(const membership::Output& output) {
    using namespace membership;
    if (const auto* send_out = std::get_if<Send>(&output)) {
        heartbeat_out(*send_out);
    } else if (const auto* view = std::get_if<ViewInstalled>(&output)) {
        view_installed(*view);
    } else if (const auto* lease = std::get_if<LeaseChanged>(&output)) {
        lease_changed(lease->until);
    } else if (const auto* excluded = std::get_if<Excluded>(&output)) {
        std::string named = excluded->reason;
        if (excluded->differs_from) {
            named += " " + options_.node_names[index(*excluded->differs_from)];
        }
        post_([events = events_, reason = std::move(named)] {
            if (events->excluded) {
                events->excluded(reason);
            }
        });
    } else if (const auto* ended = std::get_if<PeerEnded>(&output)) {
        post_([events = events_, peer = ended->peer] {
            if (events->peer_ended) {
                events->peer_ended(peer);
            }
        });
    } else if (const auto* question = std::get_if<AskWitness>(&output)) {
        post_([events = events_, claim = question->claim] {
            if (events->ask_witness) {
                events->ask_witness(claim);
            }
        });
    } else if (std::get_if<LeaveDone>(&output) != nullptr) {
        post_([events = events_] {
            if (events->leave_done) {
                events->leave_done();
            }
        });
    } else if (const auto* line = std::get_if<Note>(&output)) {
        if (!line->verbose) {
            note(false, line->text);
        } else if (events_->debug) {
            post_([events = events_, text = line->text] { events->debug(text); });
        }
    }
}

void Engine::heartbeat_out(const membership::Send& send) {
    wire::Datagram datagram;
    datagram.heartbeat = send.heartbeat;
    transmit(send.to, datagram);
}

void Engine::transmit(NodeSet to, const wire::Datagram& datagram) {
    const auto payload = codec_.encode(datagram);
    if (payload.size() > wire::payload_bytes_max) {
        note_quietly(Quiet::beyond, "a datagram of " + std::to_string(payload.size()) +
                                        " bytes was not sent, the maximum is " +
                                        std::to_string(wire::payload_bytes_max));
        return;
    }
    for (std::size_t lan = 0; lan < sockets_.lans(); ++lan) {
        NodeSet reached;
        for (const NodeId node : to) {
            if (node != options_.self && sockets_.reaches(lan, node) &&
                !(options_.lose && options_.lose(LanId(lan), node))) {
                reached.insert(node);
            }
        }
        if (reached.empty()) {
            continue;
        }
        const auto sealed = sealer_.seal(LanId(lan), payload);
        const std::size_t sent = sockets_.send(lan, reached, sealed);
        counters_.datagrams_out += sent;
        counters_.bytes_out += sent * sealed.size();
        counters_.send_errors += static_cast<std::size_t>(reached.size()) - sent;
    }
}

void Engine::lease_changed(Instant until) {
    lease_until_ = until == Instant{} ? 0 : static_cast<std::uint64_t>(to_ns(until));
    for (const auto& lease : leases_) {
        lease(lease_until_);
    }
}

void Engine::add_lease_writer(Bus::LeaseWriter lease) {
    leases_.push_back(std::move(lease));
    leases_.back()(lease_until_);
}

void Engine::set_local(const std::function<void(membership::SetLocal&)>& change) {
    be_lively();
    change(local_);
    step(local_);
}

void Engine::set_keys(const std::vector<std::string>& keys) {
    sealer_.set_key(keys.front());
    opener_.set_keys(keys);
}

BusCounters Engine::counters() const {
    BusCounters out = counters_;
    out.membership = core_.counters();
    return out;
}

SessionId Engine::session_of(NodeId peer) const noexcept {
    return peer == options_.self ? session_ : peers_[index(peer)].session;
}

void Engine::note(bool warning, std::string line) {
    post_([events = events_, warning, line = std::move(line)] {
        if (events->note) {
            events->note(warning, line);
        }
    });
}

// At most one line of a kind in ten seconds: whoever floods the socket must not flood the log.
void Engine::note_quietly(Quiet kind, const std::string& line) {
    Instant& last = noted_[static_cast<std::size_t>(kind)];
    const Instant now = BootClock::now();
    if (last == Instant{} || now - last >= seconds{10}) {
        last = now;
        note(true, line);
    }
}

} // namespace stead::bus

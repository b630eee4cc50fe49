// SPDX-License-Identifier: Apache-2.0
#include "world.hpp"

#include <algorithm>

/// The bus as an oracle, the stream, the witness.
namespace stead::mirror::sim {
namespace {
constexpr auto beat_every = milliseconds{50};
constexpr auto suspect = milliseconds{160};
constexpr auto lease_time = milliseconds{400};
constexpr auto takeover = milliseconds{500};
constexpr auto witness_timeout = milliseconds{300};
constexpr std::size_t questions_max = 10; // of one node within a second
} // namespace

void World::cut(Path path, unsigned from, bool is_cut) {
    note(from, std::string(is_cut ? "--- cut " : "--- heal ") + (path == Path::stream ? "stream"
                                                                 : path == Path::bus  ? "bus"
                                                                                      : "witness"));
    cut_[static_cast<std::size_t>(path)][from] = is_cut;
    fully_cut_ = fully_cut_ || silent_both_ways();
    if (path == Path::stream && is_cut) {
        break_stream();
    }
}

/// Neither node can hear the other one.
bool World::silent_both_ways() const { return (cut_[1][0] || paused(0)) && (cut_[1][1] || paused(1)); }

void World::heal() {
    note(0, "--- heal everything");
    cut_ = {};
}

// ---- Bus ----------------------------------------------------------------------------------------------------------

/// One heartbeat and one look at the clock per period.
void World::beat(unsigned n) {
    Node& node = nodes_[n];
    at(beat_every - milliseconds{5} + microseconds{random_.below(10'000)}, [this, n, life = node.life] {
        if (nodes_[n].life == life) {
            beat(n);
        }
    });
    if (paused(n)) {
        return;
    }
    watch(n);
    if (node.core == nullptr || cut_[1][n] || random_.chance(1)) {
        return;
    }
    const bool hears = node.heard != Instant{} && now_ - node.heard < suspect;
    const bool echoes = hears && !node.voted_out && !node.lost;
    if (echoes) {
        node.echoed = now_;
    }
    at(microseconds{50 + random_.below(random_.chance(3) ? 60'000 : 400)},
       [this, n, life = node.life, sent = now_, hears, echoes, echo = node.heard_sent, echo_life = node.heard_life,
        exclusions = node.exclusions] {
           on_node(1 - n, [=, this] { hear(1 - n, life, sent, hears, echoes, echo, echo_life, exclusions); });
       });
}

void World::hear(unsigned n, std::uint64_t life, Instant sent, bool hears, bool echoes, Instant echo,
                 std::uint64_t echo_life, std::uint64_t exclusions) {
    Node& node = nodes_[n];
    if (node.core == nullptr || life < node.heard_life || (life == node.heard_life && sent < node.heard_sent)) {
        return;
    }
    if (life != node.heard_life) {
        if (node.heard_life != 0 && node.ever && !node.lost) { // faster back than missed
            node.lost = true;
            node.lost_at = never;
            step(n, PeerLost{PeerLost::How::died});
        }
        node.heard_life = life;
        node.exclusions_seen = exclusions;
    }
    if (node.core == nullptr) {
        return;
    }
    node.heard = now_;
    node.heard_sent = sent;
    const bool us = hears && echo_life == node.life;
    if (exclusions != node.exclusions_seen) {
        node.exclusions_seen = exclusions;
        node.lease = Instant{};
        step(n, Lease{Instant{}});
        step(n, PeerLost{PeerLost::How::excluded_us});
    }
    if (us) {
        node.good = now_;
        if (node.voted_out && !node.lost) {
            node.voted_out = false;
            node.lost_at = never;
        }
        if (node.lost || !node.ever) {
            node.lost = node.voted_out = false;
            node.lost_at = never;
            node.ever = true;
            step(n, PeerBack{});
        }
    }
    if (us && echoes) {
        const Instant from = setup_.mutant_lease_from_receipt ? now_ : echo;
        if (from + lease_time > node.lease) {
            node.lease = from + lease_time;
            step(n, Lease{node.lease});
        }
    }
}

/// Not heard, or not hearing us: first stop renewing the other one's lease, then wait until it is over.
void World::watch(unsigned n) {
    Node& node = nodes_[n];
    if (node.core == nullptr || node.lost) {
        return;
    }
    if (!node.ever && node.good == Instant{}) {
        node.good = now_; // a node that starts listens first
    }
    if (!node.voted_out && now_ - node.good > suspect) {
        node.voted_out = true;
        node.lost_at = std::max(node.echoed, node.ever ? node.echoed : now_) + takeover;
    }
    if (node.voted_out && now_ >= node.lost_at && now_ - node.heard > suspect) { // who is heard is not dead
        node.lost = node.ever = true;
        node.lost_at = never;
        ++node.exclusions;
        note(n, "bus: the peer is lost");
        step(n, PeerLost{PeerLost::How::silent});
    }
}

// ---- Stream -------------------------------------------------------------------------------------------------------

void World::send(unsigned from, const Message& message) {
    Node& node = nodes_[from];
    Node& other = nodes_[1 - from];
    if (const auto* copy = std::get_if<message::Copy>(&message.body)) {
        count_copy(*copy);
    } else if (std::holds_alternative<message::End>(message.body)) {
        end_sent_ = true;
    } else if (const auto* ack = std::get_if<message::Acked>(&message.body)) {
        for (const Fid& fid : ack->created) {
            created_.insert(fid.low);
        }
    }
    if (node.session == 0 || dead_direction_[from] == node.session) {
        return;
    }
    other.arrival = std::max(other.arrival, now_ + microseconds{30 + random_.below(random_.chance(2) ? 30'000 : 150)});
    events_.push({other.arrival, ++order_, [this, from, message, session = node.session] {
                      on_node(1 - from, [this, from, message, session] {
                          if (nodes_[1 - from].session == session && dead_direction_[from] != session) {
                              step(1 - from, Received{message});
                          }
                      });
                  }});
}

/// A cut or a power loss: what is under way in the cut direction is lost, and each side finds out in its own time.
void World::break_stream() {
    for (unsigned n = 0; n < 2; ++n) {
        const std::uint64_t session = nodes_[n].session;
        if (session == 0) {
            continue;
        }
        if (cut_[0][1 - n] || nodes_[1 - n].core == nullptr) {
            dead_direction_[1 - n] = session;
        }
        at(milliseconds{random_.chance(30) ? random_.below(20) : 100 + random_.below(1200)}, [this, n, session] {
            on_node(n, [this, n, session] {
                if (nodes_[n].session == session) {
                    nodes_[n].session = 0;
                    dead_direction_[n] = session;
                    step(n, LinkDown{});
                }
            });
        });
    }
}

void World::close_stream(unsigned by) {
    Node& node = nodes_[by];
    Node& other = nodes_[1 - by];
    const std::uint64_t session = std::exchange(node.session, 0);
    if (session == 0 || other.session != session) {
        return;
    }
    if (cut_[0][by]) {
        break_stream();
        return;
    }
    const bool reset = random_.chance(50); // what is under way is thrown away
    if (reset) {
        dead_direction_[by] = session;
    }
    other.arrival = std::max(reset ? now_ : other.arrival, now_) + microseconds{50 + random_.below(200)};
    events_.push({other.arrival, ++order_, [this, by, session] {
                      on_node(1 - by, [this, by, session] {
                          if (nodes_[1 - by].session == session) {
                              nodes_[1 - by].session = 0;
                              step(1 - by, LinkDown{});
                          }
                      });
                  }});
}

void World::reconnect() {
    at(milliseconds{20 + random_.below(200)}, [this] { reconnect(); });
    for (unsigned n = 0; n < 2; ++n) {
        if (nodes_[n].core == nullptr || paused(n) || nodes_[n].session != 0 || cut_[0][n]) {
            return;
        }
    }
    ++sessions_;
    sent_.clear();
    end_sent_ = false;
    repairs_before_ = statistics.repairs;
    created_.clear();
    for (unsigned n = 0; n < 2; ++n) {
        nodes_[n].session = sessions_;
        nodes_[n].arrival = now_;
    }
    step(0, LinkUp{});
    step(1, LinkUp{});
}

void World::on(unsigned n, const AskWitness& ask) {
    const auto answer = std::make_shared<Done>(Done{.ticket = ask.ticket, .unanswered = true});
    const std::uint64_t life = nodes_[n].life;
    std::deque<Instant>& questions = nodes_[n].questions;
    questions.push_back(now_);
    while (questions.front() + seconds{1} < now_) {
        questions.pop_front();
    }
    if (questions.size() > questions_max) {
        fail("I11: node" + std::to_string(n) + " asks the witness again and again");
    }
    if (!cut_[2][n]) {
        at(milliseconds{1 + random_.below(40)}, [this, n, answer, epoch = ask.epoch] {
            const bool newer = counter(epoch) > witness_counter_;
            const bool same = counter(epoch) == witness_counter_ && holder(epoch) == witness_holder_;
            if (newer) {
                witness_counter_ = counter(epoch);
                witness_holder_ = holder(epoch);
            }
            if (!random_.chance(10) && !cut_[2][n]) { // the answer may be lost although it was granted
                answer->unanswered = false;
                answer->yes = newer || same;
            }
            if (newer || same) {
                granted_[n] = std::max(granted_[n], counter(epoch));
            }
        });
    }
    const bool refused = cut_[2][n] && random_.chance(50); // by its machine, which lives
    const nanoseconds takes = refused ? milliseconds{1} : cut_[2][n] ? witness_timeout : milliseconds{60};
    at(takes, [this, n, answer, life] {
        on_node(n, [this, n, answer, life] {
            if (nodes_[n].life == life) {
                step(n, *answer);
            }
        });
    });
}

} // namespace stead::mirror::sim

// SPDX-License-Identifier: Apache-2.0
#include "world.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace stead::mirror::sim {
namespace {
constexpr std::uint64_t steps_max = 2'000'000; ///< a wrong core may talk to itself for ever

Options choose_options(Random& random, Mutant mutant) {
    Options options;
    const auto ack = random.below(100);
    options.ack = ack < 50 ? Ack::apply : ack < 70 ? Ack::receipt : ack < 85 ? Ack::disk : Ack::commit;
    options.intent_log = options.ack == Ack::commit || random.chance(40);
    options.witness = random.chance(60);
    options.probe_vip = random.chance(30);
    options.zones_per_extent = 2;
    options.window_operations = 1 + static_cast<std::uint32_t>(random.below(8));
    options.overlap_zones = 1 + static_cast<std::uint32_t>(random.below(4));
    options.window_copies = 1 + static_cast<std::uint32_t>(random.below(6));
    if (mutant == Mutant::none && options.window_copies % 2 == 0) { // the seeds of mutants were found without
        options.window_reads = 1 + options.window_copies / 2;
    }
    options.note_sent = true;
    options.checkpoint_every = milliseconds{200 + random.below(2000)};
    options.witness_wait = seconds{1};
    options.slow_peer = seconds{2};
    options.mutant = mutant;
    return options;
}
} // namespace

void Statistics::add(const Statistics& other) {
    steps += other.steps;
    answers += other.answers;
    syncs += other.syncs;
    faults += other.faults;
    resyncs += other.resyncs;
    copies += other.copies;
    probes += other.probes;
    promotions += other.promotions;
    repairs += other.repairs;
    roll_backs += other.roll_backs;
    splits += other.splits;
    verified_rot += other.verified_rot;
    power_losses += other.power_losses;
    tampered += other.tampered;
    configured += other.configured;
    updated += other.updated;
    commands += other.commands;
    refused += other.refused;
    batches += other.batches;
    overlaps += other.overlaps;
    overlap_max = std::max(overlap_max, other.overlap_max);
}

World::World(const Setup& setup) : setup_(setup), random_{setup.seed * 2 + 1} {
    options_ = choose_options(random_, setup.mutant);
    options_.data = setup.data;
    options_.batch = setup.data && setup.seed % 8 == 5;
    if (setup.data && setup.seed % 8 == 7) {
        configuring_ = Random{setup.seed * 2 + 1}; // its own, so that other histories stay as they were
    }
    if (setup.data && setup.seed % 8 == 3 && options_.ack != Ack::commit) {
        updating_ = Random{setup.seed * 2 + 1};
        at(milliseconds{1}, [this] { update(); });
    }
    load_ = setup.data;
    if (setup_.trace > 0) {
        std::fprintf(stderr, "seed %llu ack %d intent %d witness %d probe %d batch %d\n",
                     static_cast<unsigned long long>(setup.seed), static_cast<int>(options_.ack), options_.intent_log,
                     options_.witness, options_.probe_vip, options_.batch);
    }
    schedule();
    at(milliseconds{1}, [this] { client(); });
    at(milliseconds{1}, [this] { reconnect(); });
}

void World::fail(const std::string& what) {
    if (failure_.empty()) {
        failure_ = "at " + std::to_string(to_ns(now_) / 1000) + " us: " + what;
    }
}

void World::note(unsigned node, const std::string& text, unsigned level) {
    if (setup_.trace >= level) {
        std::fprintf(stderr, "%10.3f ms  node%u  %s\n", static_cast<double>(to_ns(now_)) / 1e6, node, text.c_str());
    }
}

void World::at(nanoseconds delay, std::function<void()> what) {
    events_.push({now_ + delay, ++order_, std::move(what)});
}

/// `stead update` on one of them: the nodes need not agree in it.
void World::update() {
    const unsigned n = updating_->chance(50) ? 0 : 1;
    if (alive(n) && !paused(n)) {
        ++statistics.updated;
        constexpr std::array modes{Ack::receipt, Ack::apply, Ack::disk};
        nodes_[n].ack = modes[updating_->below(modes.size())];
        step(n, SetAck{nodes_[n].ack});
    }
    at(milliseconds{updating_->below(200)}, [this] { update(); });
}

void World::run_for(nanoseconds length) {
    const Instant end = now_ + length;
    while (!failed() && !events_.empty() && events_.top().at <= end) {
        const Event event = events_.top();
        events_.pop();
        now_ = std::max(now_, event.at);
        event.what();
        if (++statistics.steps > steps_max) {
            fail("no end in sight: step limit");
        }
    }
    now_ = failed() ? now_ : end;
}

// ---- Nodes --------------------------------------------------------------------------------------------------------

void World::start(unsigned n) {
    Node& node = nodes_[n];
    if (node.core != nullptr) {
        return;
    }
    if (configuring_ && node.disk.record && !node.disk.record->current.none() && configuring_->chance(20)) {
        note(n, "--- other paths are replicated");
        ++statistics.configured;
        node.disk.configure(++versions_, *configuring_);
        node.before_resync.reset();
    }
    note(n, "--- start");
    Options options = options_;
    options.node = static_cast<std::uint8_t>(n);
    node.core = std::make_unique<Core>(options);
    ++node.life;
    node.ack = options.ack;
    node.serves = false;
    node.heard = node.echoed = node.good = Instant{};
    node.lost = node.voted_out = node.ever = false;
    node.heard_life = 0;
    node.lost_at = never;
    node.lease = Instant{};
    node.session = 0;
    node.disk_free = now_;
    node.paused_until = now_;
    node.inbox.clear();
    const LoadedLog log = node.disk.load_log(random_);
    const bool peer_heard = alive(1 - n) && random_.chance(90);
    node.started = now_;
    node.told_of_peer = peer_heard;
    node.commands = 0;
    node.distrusted.clear();
    step(n, Start{node.disk.record,
                  log,
                  {random_.next(), random_.next()},
                  node.disk.foreign(),
                  peer_heard,
                  node.disk.configured_anew,
                  node.disk.last_parked()});
    node.disk.log_damaged = false;
    at(nanoseconds{random_.below(1'000'000)}, [this, n, life = node.life] {
        if (nodes_[n].life == life) {
            beat(n);
        }
    });
}

/// Process or machine. What was asked of the disk and not confirmed may or may not have happened.
void World::crash(unsigned n, bool power) {
    Node& node = nodes_[n];
    note(n, power ? "--- power loss" : "--- process killed");
    for (const auto& effect : std::exchange(node.unfinished, {})) {
        if (random_.chance(50)) {
            effect();
        }
    }
    const Node& other = nodes_[1 - n];
    const bool pair = node.core != nullptr && other.core != nullptr &&
                      ((serving(n) && other.core->eligible() && !other.left_behind) ||
                       (serving(1 - n) && node.core->eligible() && !node.left_behind));
    const bool covered = other.core != nullptr && (other.core->answers(now_) || pair);
    if ((power || !serving(n)) && !covered) {
        forget_unsynced();
    }
    if (options_.ack == Ack::commit && node.core != nullptr && serving(n)) {
        forget_unsynced(); // the unsynced tail may be lost, as in a local power cut
    }
    if (node.untold && !covered) {
        required_ = synced_ = {}; // as if the fsync that failed had been answered
    }
    node.untold = false;
    const bool was_alive = node.core != nullptr;
    node.core.reset();
    ++node.life;
    ++node.clients;
    node.serves = false;
    node.inbox.clear();
    std::erase_if(requests_, [&](const auto& entry) { return entry.second.node == n; });
    if (power) {
        ++statistics.power_losses;
        node.disk.power_loss(random_);
        node.before_resync.reset();
    }
    if (!was_alive) {
        return;
    }
    if (!power && !cut_[1][n]) { // its steadd tells
        at(microseconds{500 + random_.below(20'000)}, [this, n, life = node.life, heard = other.life] {
            Node& peer = nodes_[1 - n];
            if (peer.core == nullptr || peer.life != heard || nodes_[n].life != life || cut_[1][n]) {
                return;
            }
            on_node(1 - n, [this, n, life] {
                Node& told = nodes_[1 - n];
                if (told.core != nullptr && nodes_[n].life == life && told.ever && !told.lost) {
                    told.lost = true;
                    told.lost_at = never;
                    step(1 - n, PeerLost{PeerLost::How::died});
                }
            });
        });
    }
    if (!power) {
        close_stream(n);
    } else {
        break_stream();
    }
    node.session = 0;
}

void World::pause(unsigned n, nanoseconds length) {
    Node& node = nodes_[n];
    if (node.core == nullptr || paused(n)) {
        return;
    }
    note(n, "--- paused for " + std::to_string(length.count() / 1'000'000) + " ms");
    node.paused_until = now_ + length;
    fully_cut_ = fully_cut_ || silent_both_ways();
    at(length, [this, n, life = node.life] {
        Node& back = nodes_[n];
        if (back.life != life) {
            return;
        }
        note(n, "--- goes on");
        if (!back.lost) { // accuses nobody for what it did not hear meanwhile, and listens as long as after a start
            back.good = back.echoed = now_;
            back.voted_out = false;
            back.lost_at = never;
        }
        for (const auto& what : std::exchange(back.inbox, {})) {
            if (back.life == life) {
                what();
            }
        }
        if (back.core != nullptr && back.life == life) {
            step(n, Tick{});
        }
    });
}

void World::tamper(unsigned n) {
    Node& node = nodes_[n];
    if (node.core == nullptr && node.disk.manifest) {
        note(n, "--- changed behind the mount");
        ++statistics.tampered;
        node.disk.tamper(++versions_, random_);
        node.before_resync.reset();
    }
}

void World::on_node(unsigned n, std::function<void()> what) {
    if (paused(n)) {
        nodes_[n].inbox.push_back(std::move(what));
    } else {
        what();
    }
}

void World::storage_fails(unsigned n) {
    const Node& other = nodes_[1 - n];
    const bool single = other.core != nullptr && other.core->role() == Role::second; // one failure at a time
    if (single && alive(n) && !paused(n)) {
        note(n, "--- storage fails");
        step(n, StorageFailed{});
    }
}

void World::command(unsigned n, Command command) {
    if (alive(n) && !paused(n)) {
        note(n, "--- command " + std::to_string(static_cast<int>(command)));
        ++nodes_[n].commands;
        ++statistics.commands;
        const bool of_roles = command != Command::swap && command != Command::stop && command != Command::verify &&
                              command != Command::repair;
        if (of_roles && !split_) { // a person may make two primaries, or throw away what was answered
            split_ = true;
        }
        step(n, command);
    }
}

/// The time of the schedule, on both nodes and not at once.
void World::schedule() {
    if (options_.batch) {
        at(milliseconds{100 + random_.below(1500)}, [this] { schedule(); });
        let_in(static_cast<unsigned>(random_.below(2)));
    }
}

void World::let_in(unsigned n) {
    if (alive(n)) {
        on_node(n, [this, n] { step(n, LetIn{}); });
    }
}

/// Whoever configures that throws away what was answered.
void World::start_behind(unsigned n) {
    if (alive(n) && !paused(n)) {
        note(n, "--- may start behind");
        split_ = true;
        step(n, StartBehind{});
    }
}

void World::end_batches() {
    if (std::exchange(options_.batch, false)) {
        for (unsigned n = 0; n < 2; ++n) {
            crash(n, false);
            start(n);
        }
    }
}

bool World::serving(unsigned n) const { return nodes_[n].core != nullptr && nodes_[n].serves; }

bool World::equal() const {
    return alive(0) && alive(1) && core(0).equal() && core(1).equal() && serving(0) != serving(1) &&
           !core(0).frozen() && !core(1).frozen() && core(0).pending() == 0 && core(1).pending() == 0;
}

Decision World::decision() const { return decide(core(0).facts(), core(1).facts()); }

// ---- Steps --------------------------------------------------------------------------------------------------------

void World::step(unsigned n, const Input& input) {
    Node& node = nodes_[n];
    if (node.core == nullptr || failed()) {
        return;
    }
    const std::uint64_t life = node.life;
    if (const auto* done = std::get_if<Done>(&input)) {
        node.distrusted.erase(done->ticket);
    }
    const Counters before = node.core->counters();
    const std::vector<Output> outputs = node.core->step(now_, input);
    const Counters& after = node.core->counters();
    statistics.resyncs += after.resyncs - before.resyncs;
    statistics.copies += after.copies - before.copies;
    statistics.probes += after.probes - before.probes;
    statistics.promotions += after.promotions - before.promotions;
    statistics.repairs += after.repairs - before.repairs;
    statistics.verified_rot += after.verify_mismatches - before.verify_mismatches;
    for (const Output& output : outputs) {
        if (node.life == life) {
            perform(n, output);
        }
    }
    if (node.core != nullptr) {
        arm(n);
    }
    check();
}

void World::arm(unsigned n) {
    Node& node = nodes_[n];
    const Instant due = node.core->next_deadline();
    const std::uint64_t timer = ++node.timer;
    if (due == never) {
        return;
    }
    at(std::max<nanoseconds>(due - now_, microseconds{1}), [this, n, timer] {
        on_node(n, [this, n, timer] {
            if (nodes_[n].timer == timer) {
                step(n, Tick{});
            }
        });
    });
}

} // namespace stead::mirror::sim

// SPDX-License-Identifier: Apache-2.0
#include "cluster.hpp"

#include <algorithm>

namespace stead::sim {
namespace {

Setup make_setup(std::uint64_t seed, bool trace, Kind kind, Random& random) {
    Setup setup;
    setup.seed = seed;
    setup.trace = trace;
    setup.gather = kind == Kind::gather;
    setup.nodes = static_cast<std::uint8_t>(1 + random.below(random.chance(100'000) ? 12 : 5));
    setup.lans = static_cast<std::uint8_t>(1 + random.below(2));
    const std::uint64_t profile = random.below(4);
    setup.timing = profile == 0   ? fast_timing()
                   : profile == 1 ? classic_timing(milliseconds{100}, 10)
                                  : default_timing();
    setup.partition = random.chance(200'000) ? Options::Partition::majority : Options::Partition::serve;
    setup.loss_ppm = random.chance(500'000) ? static_cast<std::uint32_t>(random.below(30'000)) : 0;
    setup.duplicate_ppm = static_cast<std::uint32_t>(random.below(50'000));
    setup.delay_max = random.between(setup.timing.period / 100, setup.timing.period / 8);
    setup.delay_min = setup.delay_max / 20;
    setup.drift_ppm_max = random.chance(500'000) ? 500 : 0;
    if (Random own{seed * 104'729}; own.chance(150'000)) { // as a mirror's: a lease of many periods
        setup.timing = classic_timing(milliseconds{100}, 20);
        setup.timing.lease = setup.timing.takeover / 4 * 3;
    }
    if (kind == Kind::witness) {
        setup.partition = Options::Partition::witness;
        setup.slow_witness_ppm = 100'000;
        setup.nodes = static_cast<std::uint8_t>(2 + 2 * Random{seed * 32'452'843}.below(3));
    }
    return setup;
}

class History {
public:
    History(std::uint64_t seed, bool trace, Kind kind)
        : random_(seed * 7919 + 13), halves_(seed * 49'979'687 + 5), setup_(make_setup(seed, trace, kind, random_)),
          cluster_(setup_), t_(setup_.timing) {}

    std::string run(std::uint64_t* steps) {
        for (std::uint8_t node = 0; node < setup_.nodes; ++node) {
            cluster_.start(node, static_cast<std::uint16_t>(1 + random_.below(3)));
            if (random_.chance(300'000)) {
                cluster_.run_for(random_.between(nanoseconds{0}, 2 * t_.takeover));
            }
        }
        cluster_.run_for(t_.takeover * 3);
        const std::uint64_t faults = 1 + random_.below(12);
        for (std::uint64_t i = 0; i < faults && !cluster_.failed(); ++i) {
            disturb();
            cluster_.run_for(random_.between(t_.period / 10, random_.chance(300'000) ? 8 * t_.takeover : t_.takeover));
        }
        settle();
        if (steps != nullptr) {
            *steps += cluster_.steps();
        }
        return cluster_.failure();
    }

private:
    std::uint8_t any() { return static_cast<std::uint8_t>(random_.below(setup_.nodes)); }
    NodeSet some() { return NodeSet{random_.next() & ((std::uint64_t{1} << setup_.nodes) - 1)}; }

    /// Halves are what the witness is for.
    void disturb_witness() {
        const NodeSet all{(std::uint64_t{1} << setup_.nodes) - 1};
        NodeSet half;
        while (2 * half.size() < setup_.nodes) {
            half.insert(NodeId{static_cast<std::uint8_t>(halves_.below(setup_.nodes))});
        }
        switch (halves_.below(6)) {
        case 0: cluster_.cut_witness(NodeSet{halves_.next() & all.bits()}); break;
        case 1: cluster_.heal(); break;
        case 2:
        case 3:
            cluster_.cut(half, all - half);
            cluster_.cut(all - half, half);
            break;
        default: break;
        }
    }

    void disturb() {
        if (setup_.partition == Options::Partition::witness) {
            disturb_witness();
        }
        const std::uint8_t node = any();
        const NodeSet all{(std::uint64_t{1} << setup_.nodes) - 1};
        switch (random_.below(14)) {
        case 0: cluster_.crash(node, random_.chance(500'000)); break;
        case 1: restart(node); break;
        case 2: cluster_.pause(node, random_.between(t_.period / 2, 3 * t_.takeover)); break;
        case 3: cluster_.pause(node, random_.between(t_.suspect, t_.takeover + t_.period)); break;
        case 4: cluster_.pause_machine(node, random_.between(t_.period, 3 * t_.takeover)); break;
        case 5: cluster_.jump_clock(node, random_.between(2 * t_.period, 3 * t_.takeover)); break;
        case 6: cluster_.set_weight(node, static_cast<std::uint16_t>(random_.below(4))); break;
        case 7: { // a partition
            const NodeSet side = some();
            cluster_.cut(side, all - side);
            cluster_.cut(all - side, side);
            break;
        }
        case 8: cluster_.cut(some(), some(), random_.chance(300'000) ? 0 : -1); break; // one way, some LAN or all
        case 9: {
            const NodeSet one{NodeId{node}};
            const NodeSet other{NodeId{any()}};
            cluster_.cut(one, other);
            cluster_.cut(other, one);
            break;
        }
        case 10:
        case 11: cluster_.heal(); break;
        case 12: cluster_.leave(node); break;
        default:
            if (cluster_.up(node)) {
                cluster_.seen_dead(node);
            }
            break;
        }
    }

    void restart(std::uint8_t node) {
        if (!cluster_.paused(node)) {
            cluster_.crash(node, random_.chance(500'000));
        }
        if (!cluster_.up(node)) {
            cluster_.start(node, static_cast<std::uint16_t>(1 + random_.below(3)));
        }
    }

    /// Faults stop: one view, and every bucket owned, in bounded time; and then nothing moves any more.
    void settle() {
        cluster_.heal();
        cluster_.calm();
        cluster_.run_for(4 * t_.takeover); // the longest pause is over
        unsigned most = 0;
        for (std::uint8_t node = 0; node < setup_.nodes; ++node) {
            if (!cluster_.up(node) || cluster_.core(node)->phase() == Phase::leaving) {
                restart(node);
            }
            cluster_.set_weight(node, static_cast<std::uint16_t>(1 + random_.below(3)));
            most = std::max(most, cluster_.exclusions(node));
        }
        const nanoseconds listening = t_.takeover + 2 * t_.period;
        cluster_.run_for(listening + t_.takeover + 4 * t_.period);
        if (setup_.partition == Options::Partition::witness) { // a half changes nothing without it
            cluster_.run_for(membership::witness_patience);
        }
        if (!cluster_.all_owned()) {
            cluster_.run_for(t_.period / 2); // a join may just be changing hands
        }
        if (!cluster_.failed() && !cluster_.all_owned()) {
            cluster_.fail("a bucket has no owner takeover + 4T after the last node may vote");
        }
        if (most > 0) { // hold-down applies
            cluster_.run_for(std::min<nanoseconds>(seconds{1} * (1u << std::min(most, 6u)), seconds{60}));
        }
        if (!cluster_.failed() && !cluster_.one_view()) {
            cluster_.fail("no single view takeover + 4T after the hold-down");
        }
        const std::uint64_t before = cluster_.views();
        cluster_.run_for(10 * t_.takeover);
        if (!cluster_.failed() && (cluster_.views() != before || !cluster_.all_owned())) {
            cluster_.fail("views change although nothing happens");
        }
    }

    Random random_;
    Random halves_;
    Setup setup_;
    Cluster cluster_;
    Timing t_;
};

} // namespace

std::string run_history(std::uint64_t seed, std::uint64_t* steps, bool trace, Kind kind) {
    return History(seed, trace, kind).run(steps);
}

} // namespace stead::sim

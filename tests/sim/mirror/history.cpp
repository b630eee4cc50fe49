// SPDX-License-Identifier: Apache-2.0
#include "world.hpp"

#include <algorithm>
#include <array>

namespace stead::mirror::sim {
namespace {

class History {
public:
    explicit History(const Setup& setup)
        : world_(setup), random_(world_.random()), storage_(setup.seed * 7'368'787 + 12),
          misses_changes_(setup.seed % 8 == 3) {}

    std::string run(Statistics* statistics) {
        world_.start(0);
        world_.start(1);
        world_.command(0, Command::prim);
        world_.let_in(1); // the first copy
        world_.run_for(milliseconds{400 + random_.below(800)});
        const std::uint64_t faults = 1 + random_.below(14);
        for (std::uint64_t i = 0; i < faults && !world_.failed(); ++i) {
            disturb();
            ++world_.statistics.faults;
            if (storage_.chance(3)) {
                world_.storage_fails(static_cast<unsigned>(storage_.below(2)));
            }
            world_.run_for(random_.chance(40) ? milliseconds{random_.below(60)} : milliseconds{random_.below(1500)});
        }
        settle();
        if (statistics != nullptr) {
            statistics->add(world_.statistics);
        }
        return world_.failure();
    }

private:
    void restart_later(unsigned node) {
        if (random_.chance(85)) {
            for (int i = 0; i < 3 && !world_.failed(); ++i) {
                world_.run_for(milliseconds{random_.below(random_.chance(50) ? 20 : 700)});
            }
            world_.start(node);
        }
    }

    void cut(World::Path path) {
        const unsigned from = static_cast<unsigned>(random_.below(2));
        world_.cut(path, from, true);
        if (random_.chance(60)) {
            world_.cut(path, 1 - from, true);
        }
    }

    void disk_trouble(unsigned node) {
        bool Disk::*const fault = random_.chance(50) ? &Disk::full : &Disk::sync_fails;
        world_.disk(node).*fault = true;
        world_.run_for(milliseconds{50 + random_.below(500)});
        world_.disk(node).*fault = false;
    }

    /// One cannot do a change that the other one has answered, and that one dies as it notes that it goes on alone.
    void missed_then_dead(unsigned node) {
        world_.disk(node).full = true;
        world_.set_trap(1 - node, World::Trap{0, 0, false});
        world_.run_for(milliseconds{20 + random_.below(200)});
        world_.set_trap(1 - node, std::nullopt);
        world_.disk(node).full = false;
        restart_later(1 - node);
    }

    /// The primary dies while the other one's disk is behind.
    void slow_then_dead(unsigned node) {
        world_.disk(1 - node).slow = true;
        world_.run_for(milliseconds{20 + random_.below(200)});
        world_.crash(node, random_.chance(30));
        world_.run_for(milliseconds{random_.below(600)});
        world_.disk(1 - node).slow = false;
        restart_later(node);
    }

    /// One dies, and while the other one writes down that it is alone, or makes it equal again, that one dies as well.
    void one_after_the_other(unsigned node, bool while_it_returns) {
        world_.crash(node, random_.chance(50));
        world_.run_for(microseconds{random_.below(25'000)});
        if (while_it_returns) {
            world_.run_for(milliseconds{random_.below(400)});
            world_.start(node);
            world_.run_for(milliseconds{20 + random_.below(280)});
        }
        world_.crash(1 - node, random_.chance(70));
        world_.run_for(milliseconds{random_.below(50)});
        world_.start(node);
        restart_later(1 - node);
    }

    /// Dies exactly while it writes something down, or does something that it has not written down yet.
    void trapped(unsigned node) {
        constexpr std::array<std::size_t, 12> effects{0, 0, 0, 1, 1, 2, 3, 10, 11, 16, 17, 20};
        world_.set_trap(node,
                        World::Trap{effects[random_.below(effects.size())], random_.below(3), random_.chance(50)});
        const auto what = random_.below(4);
        if (what == 0) {
            world_.crash(1 - node, random_.chance(50));
        } else if (what == 1) {
            cut(World::Path::stream);
        } else if (what == 2) {
            world_.crash(1 - node, random_.chance(50));
            world_.run_for(milliseconds{random_.below(300)});
            world_.start(1 - node);
        }
        world_.run_for(milliseconds{random_.below(900)});
        world_.set_trap(node, std::nullopt);
        if (what == 0) {
            restart_later(1 - node);
        }
        restart_later(node);
    }

    /// Whoever serves dies, again and again.
    void ping_pong() {
        for (std::uint64_t i = 2 + random_.below(4); i > 0 && !world_.failed(); --i) {
            const unsigned node = world_.serving(0) ? 0 : 1;
            world_.crash(node, random_.chance(30));
            world_.run_for(milliseconds{300 + random_.below(700)});
            world_.start(node);
            world_.run_for(milliseconds{random_.below(700)});
        }
    }

    void swap_and_stop(unsigned node) {
        world_.command(node, Command::swap);
        world_.command(1 - node, Command::swap);
        world_.run_for(microseconds{random_.below(5000)});
        const unsigned stops = static_cast<unsigned>(random_.below(2));
        world_.command(stops, Command::stop);
        world_.run_for(milliseconds{random_.below(600)});
        restart_later(stops);
    }

    void hung_disk(unsigned node) {
        world_.disk(node).hung = true;
        world_.run_for(milliseconds{random_.below(500)});
        world_.disk(node).hung = false;
        world_.run_for(milliseconds{random_.below(4000)});
    }

    /// The source dies in the middle of a resync, and a person has the target roll back and serve.
    void half_then_prim(unsigned node) {
        world_.crash(node, random_.chance(50));
        world_.run_for(milliseconds{100 + random_.below(700)});
        world_.start(node);
        const auto half = [&] { return world_.alive(node) && !world_.core(node).record().inconsistent.none(); };
        for (int i = 0; i < 500 && !world_.failed() && !half(); ++i) {
            world_.run_for(milliseconds{1});
        }
        world_.run_for(microseconds{random_.below(20'000)});
        world_.crash(1 - node, random_.chance(50));
        world_.command(node, Command::prim);
        world_.run_for(milliseconds{random_.below(3000)});
        restart_later(1 - node);
    }

    /// A resync ends, and both lose their power before the source has written that down.
    void power_as_it_ends() {
        world_.heal();
        const unsigned target = world_.serving(0) ? 1 : 0;
        world_.crash(target, random_.chance(50));
        world_.run_for(milliseconds{50 + random_.below(300)});
        world_.start(target);
        const auto ended = [&] { return !world_.alive(target) || world_.core(target).counters().syncs > 0; };
        for (int i = 0; i < 8000 && !world_.failed() && !ended(); ++i) {
            world_.run_for(microseconds{100});
        }
        world_.run_for(microseconds{random_.below(4000)});
        world_.crash(1 - target, true);
        world_.run_for(milliseconds{random_.below(40)});
        world_.crash(target, true);
        world_.start(1 - target);
        restart_later(target);
    }

    void order(unsigned node) {
        constexpr std::array commands{Command::prim,      Command::prim,        Command::second, Command::primforce,
                                      Command::prim_full, Command::second_full, Command::verify, Command::repair};
        world_.command(node, commands[random_.below(commands.size())]);
    }

    /// Stopped, perhaps changed behind its mount, started, and perhaps dead in the middle of that.
    void changed_while_stopped(unsigned node) {
        world_.command(node, Command::stop);
        world_.run_for(milliseconds{random_.below(800)});
        for (std::uint64_t i = random_.below(3); i > 0; --i) {
            world_.tamper(node);
        }
        world_.start(node);
        if (random_.chance(30)) {
            world_.run_for(microseconds{random_.below(3000)});
            world_.crash(node, random_.chance(50));
            restart_later(node);
        }
    }

    void disturb() {
        const unsigned node = static_cast<unsigned>(random_.below(2));
        if (misses_changes_ && random_.chance(40)) {
            missed_then_dead(node);
            return;
        }
        switch (random_.below(33)) {
        case 0:
        case 1:
            world_.crash(node, false);
            restart_later(node);
            break;
        case 2:
        case 3:
            world_.crash(node, true);
            restart_later(node);
            break;
        case 4:
            world_.crash(node, true);
            world_.run_for(milliseconds{random_.chance(50) ? 0 : random_.below(900)});
            world_.crash(1 - node, true);
            world_.run_for(milliseconds{random_.below(100)});
            world_.start(node);
            restart_later(1 - node);
            break;
        case 5: world_.pause(node, milliseconds{50 + random_.below(2500)}); break;
        case 6:
        case 7: cut(World::Path::stream); break;
        case 8: cut(World::Path::bus); break;
        case 9:
        case 10:
            cut(World::Path::stream);
            cut(World::Path::bus);
            break;
        case 11: cut(World::Path::witness); break;
        case 12:
        case 13: world_.heal(); break;
        case 14:
        case 15: disk_trouble(node); break;
        case 16: world_.command(node, Command::swap); break;
        case 17: world_.command(node, Command::verify); break;
        case 18: changed_while_stopped(node); break;
        case 19: slow_then_dead(node); break;
        case 20: one_after_the_other(node, false); break;
        case 21: one_after_the_other(node, true); break;
        case 22:
        case 23:
        case 24: trapped(node); break;
        case 25: ping_pong(); break;
        case 26: swap_and_stop(node); break;
        case 27: hung_disk(node); break;
        case 28: world_.batch() && random_.chance(30) ? world_.start_behind(node) : order(node); break;
        case 29:
        case 30: half_then_prim(node); break;
        case 31: power_as_it_ends(); break;
        default:
            world_.crash(node, random_.chance(50));
            world_.disk(node).log_damaged = true;
            restart_later(node);
            break;
        }
    }

    /// Faults stop. An administrator decides what only a person can.
    void settle() {
        world_.heal();
        world_.run_for(seconds{3}); // the longest pause is over
        world_.end_batches();
        for (int round = 0; round < 30 && !world_.failed() && !world_.equal(); ++round) {
            for (unsigned node = 0; node < 2; ++node) {
                if (!world_.alive(node)) {
                    world_.start(node);
                }
            }
            world_.run_for(seconds{2});
            if (!world_.failed() && !world_.equal() && round > 1) {
                administrate();
            }
        }
        if (!world_.failed() && !world_.equal()) {
            world_.fail("I9: the nodes do not become equal");
        }
        verify();
    }

    void administrate() {
        if (!world_.alive(0) || !world_.alive(1)) {
            return;
        }
        const Decision decision = world_.decision();
        if (decision.verdict == Verdict::source || decision.verdict == Verdict::target) {
            return;
        }
        const bool one = world_.serving(0) != world_.serving(1);
        if (one) {
            world_.command(world_.serving(0) ? 1 : 0, Command::second);
        } else if (!world_.serving(0)) {
            const bool zero = world_.core(0).record().epoch > world_.core(1).record().epoch;
            world_.command(zero ? 0 : 1, decision.verdict == Verdict::refuse ? Command::primforce : Command::prim);
        }
    }

    void compare(unsigned node, Command how) {
        world_.command(node, how);
        for (unsigned second = 0; second < 2 || (second < 30 && world_.core(node).status().verifying); ++second) {
            world_.run_for(seconds{1});
        }
    }

    /// Quiet, then damage nobody saw: verify finds exactly that, and afterwards the trees are equal.
    void verify() {
        if (!world_.failed() && !(world_.alive(0) && world_.alive(1))) {
            world_.fail("quiet, and a node is down");
        }
        if (world_.failed()) {
            return;
        }
        world_.set_load(false);
        const unsigned longest = 10; // seconds; a disk that hung was slow to answer for 5.5
        const auto busy = [this] {
            const Status one = world_.core(0).status(), two = world_.core(1).status();
            return one.operations + two.operations > 0 || one.verifying || two.verifying;
        };
        for (unsigned second = 0; second < 1 || (second < longest && busy()); ++second) {
            world_.run_for(seconds{1});
        }
        world_.check_equal_trees();
        const unsigned second = world_.serving(0) ? 1 : 0;
        const std::vector<Target> targets = world_.disk(second).list(std::nullopt);
        std::set<Target> rotten;
        for (std::uint64_t i = random_.below(4); i > 0; --i) {
            const Target target = targets[random_.below(targets.size())];
            if (target.kind == TargetKind::zone && rotten.insert(target).second) {
                world_.rot(second, target);
            }
        }
        const std::uint64_t before = world_.statistics.verified_rot;
        const auto of_resyncs = static_cast<std::size_t>(
            std::ranges::count_if(rotten, [&](const Target& target) { return world_.core(1 - second).sent(target); }));
        compare(1 - second, Command::verify_sent);
        if (!world_.failed() && world_.differing(1 - second) != of_resyncs) {
            world_.fail("I9: verify_sent found " + std::to_string(world_.differing(1 - second)) + " of " +
                        std::to_string(of_resyncs) + " damaged targets that resyncs sent");
        }
        compare(1 - second, Command::repair);
        const std::uint64_t found = world_.statistics.verified_rot - before - of_resyncs;
        if (!world_.failed() && found != rotten.size()) {
            world_.fail("I9: verify found " + std::to_string(found) + " of " + std::to_string(rotten.size()) +
                        " damaged targets");
        }
        world_.check_equal_trees();
    }

    World world_;
    Random& random_;
    Random storage_;      ///< of its own, so that the other faults stay what they are
    bool misses_changes_; ///< in some histories only: the others stay as they were
};

} // namespace

std::string run_history(const Setup& setup, Statistics* statistics) { return History(setup).run(statistics); }

} // namespace stead::mirror::sim

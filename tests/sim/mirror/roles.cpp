// SPDX-License-Identifier: Apache-2.0
#include "world.hpp"

#include <array>

/// A mirror without data: what it promises, and histories of it. Nobody's writes are fenced by a lease here, so two may
/// serve for the moment that it takes one of them to hear of the other; never longer, and never in one epoch.
namespace stead::mirror::sim {
namespace {
constexpr auto hear_of_it_max = milliseconds{1000}; ///< takeover, a question to the witness, a new stream
} // namespace

bool World::acts(unsigned n) const { return serving(n) && !core(n).frozen() && !paused(n); }

void World::check_roles() {
    if (silent_both_ways() || paused(0) || paused(1) || cut_[1][0] || cut_[1][1] || !alive(0) || !alive(1)) {
        disturbed_at_ = now_;
    }
    one_way_at_ = cut_[1][0] != cut_[1][1] ? now_ : one_way_at_;
    for (unsigned n = 0; n < 2; ++n) {
        const bool alone = alive(n) && core(n).role() == Role::alone;
        alone_since_[n] = !alone ? never : alone_since_[n] == never ? now_ : alone_since_[n];
        if (!alive(n)) {
            promotions_[n] = 0;
            continue;
        }
        const std::uint64_t promotions = core(n).counters().promotions;
        if (options_.witness && std::exchange(promotions_[n], promotions) < promotions &&
            granted_[n] < counter(core(n).record().epoch)) {
            fail("R3: node" + std::to_string(n) + " took over without the witness's word");
        }
    }
    if (serving(0) && serving(1) && core(0).record().epoch == core(1).record().epoch) {
        fail("R2: two serve in one epoch");
    }
    if (!acts(0) || !acts(1)) {
        both_since_ = never;
        return;
    }
    if (both_since_ == never) {
        both_since_ = now_;
        ++statistics.overlaps;
        // The witness knows numbers only: whoever loses sight of one that has been alone for long, or never met it,
        // gets the next one.
        const Instant alone_since = std::min(alone_since_[0], alone_since_[1]);
        const bool met = !core(0).facts().peer_incarnation.none() && !core(1).facts().peer_incarnation.none();
        contested_ = met && (alone_since == never || now_ - alone_since < hear_of_it_max);
    }
    const bool may = !options_.witness && silent_both_ways(); // a split, and the log says that it is possible
    const Instant quiet = std::max(both_since_, options_.witness && contested_ ? one_way_at_ : disturbed_at_);
    const Instant since = may ? now_ : quiet;
    statistics.overlap_max = std::max(statistics.overlap_max, now_ - since);
    if (now_ - since > hear_of_it_max) {
        fail("R1: both nodes have served for " + std::to_string((now_ - both_since_).count() / 1'000'000) + " ms");
    }
}

namespace {

class Roles {
public:
    explicit Roles(const Setup& setup) : world_(setup), random_(world_.random()) {}

    std::string run(Statistics* statistics) {
        world_.start(0);
        pass(milliseconds{random_.below(900)});
        world_.start(1);
        pass(milliseconds{800 + random_.below(800)});
        const std::uint64_t faults = 1 + random_.below(14);
        for (std::uint64_t i = 0; i < faults && !world_.failed(); ++i) {
            disturb();
            ++world_.statistics.faults;
            pass(random_.chance(40) ? milliseconds{random_.below(60)} : milliseconds{random_.below(2500)});
        }
        settle();
        if (statistics != nullptr) {
            statistics->add(world_.statistics);
        }
        return world_.failure();
    }

private:
    /// With a look at both nodes from time to time, for a node that serves in quiet does nothing.
    void pass(nanoseconds length) {
        constexpr nanoseconds look = milliseconds{10};
        for (; length > nanoseconds{0} && !world_.failed(); length -= look) {
            world_.run_for(std::min(length, look));
            world_.look();
        }
    }

    void restart_later(unsigned node) {
        if (random_.chance(85)) {
            pass(milliseconds{random_.below(random_.chance(50) ? 20 : 1500)});
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

    void disturb() {
        const unsigned node = static_cast<unsigned>(random_.below(2));
        const auto everything = [this] {
            cut(World::Path::stream);
            cut(World::Path::bus);
        };
        switch (random_.below(16)) {
        case 0:
        case 1:
        case 2:
            world_.crash(node, random_.chance(50));
            restart_later(node);
            break;
        case 3:
            world_.crash(node, random_.chance(50));
            pass(milliseconds{random_.below(900)});
            world_.crash(1 - node, random_.chance(50));
            pass(milliseconds{random_.below(100)});
            world_.start(node);
            restart_later(1 - node);
            break;
        case 4:
        case 5: world_.pause(node, milliseconds{50 + random_.below(2500)}); break;
        case 6: cut(World::Path::stream); break;
        case 7: cut(World::Path::bus); break;
        case 8:
        case 9:
        case 10: everything(); break;
        case 11: cut(World::Path::witness); break;
        case 12:
        case 13: world_.heal(); break;
        case 14: world_.command(node, Command::swap); break;
        default:
            world_.command(node, Command::stop);
            pass(milliseconds{random_.below(800)});
            world_.start(node);
            break;
        }
    }

    /// Faults stop. Nobody is asked: one serves, the other one follows.
    void settle() {
        world_.heal();
        for (int second = 0; second < 40 && !world_.failed() && !(second > 5 && world_.equal()); ++second) {
            for (unsigned node = 0; node < 2; ++node) {
                world_.start(node);
            }
            pass(seconds{1});
        }
        if (!world_.failed() && !world_.equal()) {
            world_.fail("R4: the nodes do not find their roles");
        }
    }

    World world_;
    Random& random_;
};

} // namespace

std::string run_roles_history(const Setup& setup, Statistics* statistics) {
    Setup of_roles = setup;
    of_roles.data = false;
    return Roles(of_roles).run(statistics);
}

} // namespace stead::mirror::sim

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/farm/mover.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

/// A farm of real Movers in virtual time. Membership is an oracle that keeps its promises (docs/farm-moves.md names
/// those that matter) and is otherwise as nasty as it may be; packets follow what packet_filter.hpp says of each step.
namespace stead::farm::sim {

struct Random { ///< splitmix64: our own, for standard distributions differ between libraries
    std::uint64_t state;
    std::uint64_t next() {
        std::uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    std::uint64_t below(std::uint64_t n) { return next() % n; }
    bool chance(unsigned percent) { return below(100) < percent; }
};

class FarmSim {
public:
    explicit FarmSim(std::uint64_t seed, const Mover::Options& mutants = {});
    /// Runs one history; empty when every promise was kept, else what was broken and when.
    std::string run();

    struct Counters {
        std::uint64_t probes{}, connections{}, moves{}, lossless_probes{}, sent_on{};
    } counters;

private:
    static constexpr std::uint32_t buckets = 64;
    struct Connection {
        std::uint32_t bucket{};
        Instant ends{};
    };
    struct Node {
        std::unique_ptr<Mover> mover;
        bool alive{}, lease{}, lease_kept{};
        std::uint16_t wish{};
        unsigned side{};
        std::uint64_t incarnation{};
        std::uint64_t next_install{}; ///< token of the latest planned view change
        std::vector<Connection> connections;
        Instant tick_at{never};
        std::vector<Instant> link_free; ///< per receiver: messages stay in order
        bool receives{};                ///< directed: announces the address
        Instant receives_since{};
    };
    struct Flow { ///< one new flow on its way: who took it
        std::uint32_t bucket{};
        NodeSet taken;
        std::uint64_t faults{};
        bool judged_for_loss{};
    };

    void at(nanoseconds delay, std::function<void()> what);
    void fail(const std::string& what);
    void act();
    void change_views();
    void install(unsigned node, FarmView view);
    void boot(unsigned node);
    void kill(unsigned node);
    void exclude(unsigned node);
    void split_or_heal();
    void pump(unsigned node);
    void probe();
    void take(unsigned node, const std::shared_ptr<Flow>& flow, bool forwarded);
    void judge(const Flow& flow);
    void check_instant();
    void check_connections();
    void check_quiet();
    [[nodiscard]] std::string describe(std::uint32_t bucket) const;
    [[nodiscard]] bool takes_own(unsigned node, std::uint32_t bucket) const;
    [[nodiscard]] bool takes_forwarded(unsigned node, std::uint32_t bucket) const;
    [[nodiscard]] int sends_on(unsigned node, std::uint32_t bucket) const; ///< invisible: to whom, or -1
    [[nodiscard]] unsigned taker(unsigned node, std::uint32_t bucket) const; ///< directed: whom it believes to take
    [[nodiscard]] bool judge_loss(std::uint32_t bucket) const;
    void update_receiver(unsigned node);
    void announce(unsigned node);
    void deliver_directed(const std::shared_ptr<Flow>& flow, unsigned side);
    void check_reached(unsigned holder, const Connection& connection);

    Random random_;
    Mover::Options mutants_;
    Instant now_{seconds{1}};
    std::multimap<Instant, std::function<void()>> events_;
    std::vector<Node> nodes_;
    std::array<FarmView, 2> latest_{};  ///< per side of a cut
    std::array<std::array<std::uint64_t, 8>, 2> lives_{}; ///< incarnation of each member of latest_
    bool directed_;               ///< one node receives and sends on; else every node gets every frame
    std::size_t groups_;          ///< 2: with powers of their own
    std::array<int, 2> arp_{-1, -1}; ///< per side: where clients send the address's frames
    bool cut_{}, quiet_{};
    std::uint64_t view_ids_{}, faults_{}, tokens_{};
    Instant calm_since_{seconds{1}}; ///< a farm that starts has nobody yet to serve what comes early
    std::string failure_;
};

} // namespace stead::farm::sim

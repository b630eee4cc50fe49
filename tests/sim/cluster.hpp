// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/core/membership.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <string>
#include <vector>

/// Many membership cores in virtual time: one seed is one history. No thread, no clock, no <random> distribution.
namespace stead::sim {

using namespace membership;

/// Own generator and own distributions: the same on every library and machine.
class Random {
public:
    explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
    std::uint64_t next() noexcept;
    /// 0 .. bound-1; bound > 0.
    std::uint64_t below(std::uint64_t bound) noexcept { return next() % bound; }
    bool chance(std::uint32_t per_million) noexcept { return below(1'000'000) < per_million; }
    nanoseconds between(nanoseconds low, nanoseconds high) noexcept;

private:
    std::uint64_t state_;
};

struct Setup {
    std::uint64_t seed{1};
    std::uint8_t nodes{3};
    std::uint8_t lans{1};
    Timing timing{default_timing()};
    Options::Partition partition{Options::Partition::serve};
    std::uint32_t loss_ppm{};
    std::uint32_t duplicate_ppm{};
    std::uint32_t slow_witness_ppm{}; ///< of questions and answers that take up to 20 takeovers
    nanoseconds delay_min{microseconds{50}};
    nanoseconds delay_max{microseconds{500}};
    std::uint32_t drift_ppm_max{}; ///< each node's clock rate, +- up to this
    bool gather{};                 ///< nodes at rest read what came only every T/5, as large groups do
    bool record{};                 ///< keep `events` for transcripts
    bool trace{};                  ///< print everything to stderr, to look into a failed seed
};

inline constexpr std::uint32_t buckets = 64;
inline constexpr std::uint64_t step_limit = 40'000'000; ///< a wrong core must not spin for ever

class Cluster {
public:
    explicit Cluster(const Setup& setup);

    void start(std::uint8_t node, std::uint16_t weight = 1, std::uint64_t config = 0);
    void start_all();
    /// The machine loses power (its data plane too), or only the process dies and its last lease runs on.
    void crash(std::uint8_t node, bool machine);
    /// No code of the node runs; its clock and the lease in its data plane go on.
    void pause(std::uint8_t node, nanoseconds length);
    /// As pause, but the clock stands still and the data plane does nothing either.
    void pause_machine(std::uint8_t node, nanoseconds length);
    void jump_clock(std::uint8_t node, nanoseconds forward);
    void leave(std::uint8_t node);
    void set_weight(std::uint8_t node, std::uint16_t weight);
    void set_config(std::uint8_t node, std::uint64_t config);
    void seen_dead(std::uint8_t node);                ///< crash of the process with its gate closed, told to all others
    void cut(NodeSet from, NodeSet to, int lan = -1); ///< one way
    void cut_witness(NodeSet from);                   ///< from now on their questions are lost, and the answers
    void heal();
    /// Nothing is lost or late any more.
    void calm() { setup_.loss_ppm = setup_.slow_witness_ppm = 0; }
    void run_for(nanoseconds length);

    [[nodiscard]] bool failed() const noexcept { return !failure_.empty(); }
    [[nodiscard]] const std::string& failure() const noexcept { return failure_; }
    void fail(const std::string& what);

    [[nodiscard]] const Core* core(std::uint8_t node) const { return nodes_[node].core.get(); }
    [[nodiscard]] std::uint8_t nodes() const noexcept { return setup_.nodes; }
    [[nodiscard]] bool up(std::uint8_t node) const { return nodes_[node].core != nullptr; }
    [[nodiscard]] bool paused(std::uint8_t node) const { return nodes_[node].paused; }
    [[nodiscard]] bool accepting(std::uint8_t node) const;
    /// True when all running nodes are in one view of exactly them.
    [[nodiscard]] bool one_view() const;
    /// True when each bucket is accepted by some running node.
    [[nodiscard]] bool all_owned() const;
    [[nodiscard]] nanoseconds overlap_max() const noexcept { return overlap_max_; }
    [[nodiscard]] nanoseconds now() const noexcept { return now_; }
    [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }
    [[nodiscard]] std::uint64_t views() const noexcept { return views_; }
    [[nodiscard]] std::uint64_t received(std::uint8_t node) const { return nodes_[node].received; }
    [[nodiscard]] unsigned exclusions(std::uint8_t node) const { return nodes_[node].exclusions; }
    [[nodiscard]] const Timing& timing() const noexcept { return setup_.timing; }

    std::vector<std::string> events; ///< "1: view {0,1} dead {2}", when Setup::record
    std::map<std::uint8_t, ViewInstalled> last_install;
    std::map<std::uint8_t, nanoseconds> installed_at;

private:
    struct Packet {
        std::uint8_t lan;
        std::shared_ptr<const Heartbeat> beat;
        PeerPast word{}; ///< of a steadd, when there is no heartbeat
        std::optional<WitnessAnswer> answer{};
        SessionId to{}; ///< of the answer
    };
    struct Node {
        std::unique_ptr<Core> core;
        SessionId session;
        bool past_over{}; ///< no session before `session` could act when that began
        std::uint16_t weight{1};
        std::uint64_t config{};
        nanoseconds offset{}; ///< local clock at virtual time zero
        std::int64_t drift_ppm{};
        bool paused{};
        bool frozen{}; ///< paused, and its data plane with it
        nanoseconds frozen_at{};
        nanoseconds running_since{};
        nanoseconds excused_until{}; ///< its clock stood still: the documented limit of one lease
        std::vector<Packet> inbox;
        nanoseconds read_at{}; ///< when it last read, with Setup::gather
        std::uint64_t timer{}; ///< generation of the armed timer
        std::uint64_t mine{};  ///< buckets that the data plane accepts, lease permitting
        Instant lease;
        std::uint64_t proposal_id{};
        std::uint64_t epoch{};
        std::uint64_t received{};
        unsigned exclusions{};
    };
    enum class Happens : std::uint8_t { deliver, timer, resume, claim };
    struct Event {
        nanoseconds at;
        std::uint64_t order;
        Happens kind;
        std::uint8_t node;
        std::uint64_t timer;
        Packet packet;
    };
    struct Later {
        bool operator()(const Event& a, const Event& b) const noexcept {
            return a.at != b.at ? a.at > b.at : a.order > b.order;
        }
    };

    [[nodiscard]] Instant local(const Node& node, nanoseconds at) const noexcept;
    void push(Event event);
    void step(std::uint8_t node, const Input& input);
    void perform(std::uint8_t node, const Output& output);
    void take(std::uint8_t node, const Packet& packet);
    /// What the steadds say of their modules' sessions, when one begins.
    void tell_pasts(std::uint8_t started);
    void tell_past(std::uint8_t of, std::uint8_t to);
    [[nodiscard]] bool gate_closed(const Node& node) const noexcept;
    void send(std::uint8_t from, const Send& out);
    void ask_witness(std::uint8_t from, const Grant& claim);
    void take_claim(const Event& event);
    [[nodiscard]] nanoseconds way_of_witness();
    void arm(std::uint8_t node);
    void resume(std::uint8_t node);
    void handle(const Event& event);
    void check_view(std::uint8_t node, const View& view);
    void check_buckets();
    void check_pair(std::uint8_t a, std::uint8_t b);
    /// As in the largest groups, whatever the size: what holds with it holds with less.
    [[nodiscard]] nanoseconds longest_wait() const noexcept {
        return membership::read_late(setup_.timing, limits::nodes_max);
    }
    [[nodiscard]] nanoseconds news_time() const noexcept;
    [[nodiscard]] bool joined(std::uint8_t a, std::uint8_t b) const;
    [[nodiscard]] bool link_settled(std::uint8_t a, std::uint8_t b) const;
    [[nodiscard]] std::uint64_t owned(const View& view, std::uint8_t node) const;
    void log(std::uint8_t node, const std::string& text);
    void trace(std::uint8_t node, const std::string& text);

    Setup setup_;
    Random network_;
    Random faults_;
    Random steadds_;
    Random claims_;
    Grant held_; ///< by the witness
    NodeSet cut_from_witness_;
    nanoseconds now_{};
    std::uint64_t order_{};
    std::uint64_t steps_{};
    std::uint64_t views_{};
    std::uint64_t sessions_{};
    std::vector<Node> nodes_;
    std::priority_queue<Event, std::vector<Event>, Later> heap_;
    struct Link {
        bool up{true};
        nanoseconds since{};
    };
    std::array<std::array<std::array<Link, limits::nodes_max>, limits::nodes_max>, 3> links_{};
    std::map<std::uint64_t, View> views_seen_;
    std::map<std::pair<std::uint8_t, std::uint8_t>, nanoseconds> overlap_since_; ///< of pairs that a relay joins
    nanoseconds overlap_max_{};
    std::string failure_;
};

[[nodiscard]] std::string names(NodeSet set);

enum class Kind : std::uint8_t {
    usual,
    gather,  ///< nodes at rest read late
    witness, ///< an even number of nodes, cut into halves more often, and a witness that decides between them
};

/// One history full of faults, then quiet. Returns an empty string, or what went wrong.
[[nodiscard]] std::string run_history(std::uint64_t seed, std::uint64_t* steps = nullptr, bool trace = false,
                                      Kind kind = Kind::usual);

} // namespace stead::sim

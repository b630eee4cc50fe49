// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "disk.hpp"

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <vector>

/// Two mirror cores, their disks, the stream, the bus and a witness in virtual time: one seed is one history. The bus
/// is an oracle that keeps the promises of docs/protocol-membership.md (lease, takeover, exclusion).
namespace stead::mirror::sim {

struct Setup {
    std::uint64_t seed{1};
    Mutant mutant{Mutant::none};
    bool mutant_lease_from_receipt{};
    bool data{true};     ///< false: a mirror of roles only
    unsigned trace{};    ///< 1: what happens; 2: also each message and each effect on the tree
};

struct Statistics {
    std::uint64_t steps{}, answers{}, syncs{}, faults{}, resyncs{}, copies{}, probes{}, promotions{}, repairs{},
        roll_backs{}, splits{}, verified_rot{}, power_losses{}, tampered{}, configured{}, updated{}, commands{},
        refused{}, batches{}, overlaps{};
    nanoseconds overlap_max{}; ///< of two that served without data: until one of them heard of the other
    void add(const Statistics& other);
};

class World {
public:
    explicit World(const Setup& setup);

    void run_for(nanoseconds length);
    [[nodiscard]] bool failed() const noexcept { return !failure_.empty(); }
    [[nodiscard]] const std::string& failure() const noexcept { return failure_; }
    void fail(const std::string& what);
    Random& random() noexcept { return random_; }

    // ---- Faults
    void start(unsigned node);
    void crash(unsigned node, bool power);
    /// The node crashes within a millisecond of its next effect of this kind but `count`: before, at or after its end.
    struct Trap {
        std::size_t effect{}; ///< index in Output
        std::uint64_t count{};
        bool power{};
    };
    void set_trap(unsigned node, std::optional<Trap> trap) { nodes_[node].trap = trap; }
    void pause(unsigned node, nanoseconds length);
    enum class Path : std::uint8_t { stream, bus, witness };
    void cut(Path path, unsigned from, bool is_cut);
    void heal();
    Disk& disk(unsigned node) { return nodes_[node].disk; }
    void tamper(unsigned node); ///< if it was stopped cleanly
    void rot(unsigned node, const Target& target);
    void command(unsigned node, Command command);
    void storage_fails(unsigned node); ///< nothing can be written there, says the driver
    void let_in(unsigned node);
    void start_behind(unsigned node);
    void end_batches(); ///< both nodes start anew, and stay equal from now on
    void set_load(bool on) { load_ = on; }

    // ---- What is
    [[nodiscard]] bool alive(unsigned node) const { return nodes_[node].core != nullptr; }
    [[nodiscard]] bool paused(unsigned node) const { return nodes_[node].paused_until > now_; }
    [[nodiscard]] const Core& core(unsigned node) const { return *nodes_[node].core; }
    [[nodiscard]] bool serving(unsigned node) const;
    [[nodiscard]] bool equal() const; ///< one prim, one second, nothing on its way
    /// What the node's last comparison found.
    [[nodiscard]] std::uint64_t differing(unsigned n) const { return nodes_[n].verified.differing; }
    [[nodiscard]] std::size_t outstanding() const { return requests_.size(); }
    [[nodiscard]] bool witness() const noexcept { return options_.witness; }
    [[nodiscard]] bool batch() const noexcept { return options_.batch; }
    [[nodiscard]] std::size_t commands_open(unsigned node) const { return nodes_[node].commands; }
    [[nodiscard]] Decision decision() const; ///< of node 0, both alive
    void check_equal_trees();
    void look() { check(); }
    [[nodiscard]] bool silent_both_ways() const;
    Statistics statistics;

private:
    struct Node {
        std::unique_ptr<Core> core;
        Disk disk;
        std::uint64_t life{};
        Instant paused_until{};
        std::vector<std::function<void()>> inbox;      ///< while paused
        std::vector<std::function<void()>> unfinished; ///< see effect()
        Instant disk_free{};                           ///< record and logs are written one after the other
        std::uint64_t timer{};
        Ack ack{};                     ///< as it was last told
        std::uint64_t clients{};       ///< changes with the role: whose requests still count
        std::deque<Instant> questions; ///< to the witness, in the last second
        // The bus, as this node sees it
        Instant heard{}, echoed{}, good{};
        std::uint64_t heard_life{}, exclusions{}, exclusions_seen{};
        Instant heard_sent{};
        bool lost{}, voted_out{}, ever{};
        Instant lost_at{never};
        Instant lease{};
        // The stream
        std::uint64_t session{}; ///< 0 = down
        Instant arrival{};       ///< of the last message to this node
        std::optional<Tree> before_resync;
        std::optional<Trap> trap;
        std::size_t commands{}; ///< not answered yet
        VerifyCounts verified;  ///< by the last comparison
        bool serves{};
        std::set<Ticket> distrusted; ///< syncs that failed, and the core has not heard of it yet
        bool untold{};               ///< a sync failed, and no application has heard of it yet
        bool left_behind{};          ///< the other one went on alone since both were equal
        Instant started{}, serves_since{};
        bool told_of_peer{}; ///< at the start
    };
    struct Request_ {
        unsigned node{};
        std::uint64_t clients{};
        Operation operation;
        Ack ack{}; ///< when it was asked
        std::uint64_t errors{};
        Tree synced; ///< of a sync: what had been answered when it was asked
    };

    void at(nanoseconds delay, std::function<void()> what);
    void on_node(unsigned node, std::function<void()> what); ///< now, or when it is not paused any more
    void step(unsigned node, const Input& input);
    void perform(unsigned node, const Output& output);
    void arm(unsigned node);
    void note(unsigned node, const std::string& text, unsigned level = 1);

    // Driver
    void done(unsigned node, Done done, nanoseconds delay);
    void effect(unsigned node, nanoseconds delay, Ticket ticket, std::function<void(Done&)> what);
    nanoseconds disk_time(unsigned node);
    nanoseconds sync_time(unsigned node);
    void in_order(unsigned node, Ticket ticket, std::function<void(Done&)> what);
    void on(unsigned node, const Persist& output);
    void on(unsigned node, const LogReset& output);
    void on(unsigned node, const LogAppend& output);
    void on(unsigned node, const Apply& output);
    void on(unsigned node, const SyncInode& output);
    void on(unsigned node, const Flush& output);
    void on(unsigned node, const Read& output);
    void on(unsigned node, const Digest& output);
    void on(unsigned node, const List& output);
    void on(unsigned node, const Store& output);
    void on(unsigned node, const SaveUndo& output);
    void on(unsigned node, const StartUndo& output);
    void on(unsigned node, const RollBack& output);
    void on(unsigned node, const Purge& output);
    void on(unsigned node, const EndResync& output);
    void on(unsigned node, const Send& output);
    void on(unsigned node, const BusSend& output);
    void on(unsigned node, const CloseLink& output);
    void on(unsigned node, const Answer& output);
    void on(unsigned node, const RoleChanged& output);
    void on(unsigned node, const AskWitness& output);
    void on(unsigned node, const ProbeVip& output);
    void on(unsigned node, const CommandDone& output);
    void on(unsigned node, const ForeignKept& output);
    void on(unsigned node, const Stopped& output);
    void on(unsigned node, const Note& output);

    // Network
    void beat(unsigned node);
    void hear(unsigned node, std::uint64_t life, Instant sent, bool hears, bool echoes, Instant echo,
              std::uint64_t echo_life, std::uint64_t exclusions);
    void watch(unsigned node);
    void send(unsigned from, const Message& message);
    void break_stream();
    void close_stream(unsigned by);
    void reconnect();

    // Client and ledger
    void client();
    void update();
    void schedule();
    std::optional<Operation> choose(unsigned node);
    Operation choose_name_change(unsigned node);
    Operation choose_write(std::uint64_t inode);
    [[nodiscard]] bool busy(const Operation& operation) const;
    void forget_unsynced();
    void count_copy(const message::Copy& copy);

    // Invariants
    void check();
    void check_serving();
    void check_second();
    void check_accounting();
    void check_roles();
    void check_start(unsigned node, const RoleChanged& change);
    [[nodiscard]] bool acts(unsigned node) const;
    [[nodiscard]] bool accounted(const Target& target, const std::array<Decision, 2>* would) const;
    [[nodiscard]] bool sent_with_another(const Target& target, const std::array<Decision, 2>* would) const;
    void sync_failed_beside_dead(unsigned n);
    void lost_by_disk(unsigned node, const Fid& fid);
    void check_content(unsigned node, const Tree& needed, bool queued_counts, const char* what);

    Setup setup_;
    Random random_;
    std::optional<Random> updating_;    ///< of a history in which `ack` is changed under way
    std::optional<Random> configuring_; ///< of a history in which what is replicated changes
    Options options_;
    Instant now_{seconds{1}};
    struct Event {
        Instant at;
        std::uint64_t order;
        std::function<void()> what;
    };
    struct Later {
        bool operator()(const Event& a, const Event& b) const noexcept {
            return a.at != b.at ? a.at > b.at : a.order > b.order;
        }
    };
    std::priority_queue<Event, std::vector<Event>, Later> events_;
    std::uint64_t order_{};
    std::array<Node, 2> nodes_;
    std::array<std::array<bool, 2>, 3> cut_{}; ///< [path][from]
    std::uint64_t sessions_{};
    std::array<std::uint64_t, 2> dead_direction_{}; ///< from: session in which nothing passes any more
    std::uint64_t witness_counter_{};
    unsigned witness_holder_{};
    bool load_{true}, fully_cut_{}, split_{};
    Instant apart_at_{}; ///< the last time that something kept the two from meeting
    // Without data
    std::array<std::uint64_t, 2> granted_{}, promotions_{}; ///< highest counter that the witness gave to each node
    bool contested_{}; ///< as two began to serve: both had met, and neither was alone for long
    std::array<Instant, 2> alone_since_{never, never};
    Instant disturbed_at_{}; ///< the last time that something kept the two from hearing each other
    Instant one_way_at_{};   ///< the last time that one was heard and did not hear
    Instant both_since_{never};
    std::uint64_t versions_{};
    std::map<OpId, Request_> requests_;
    Tree required_, synced_; ///< versions that must not be lost: answered, and answered by fsync
    std::map<Target, unsigned> sent_;
    std::set<std::uint64_t> created_;
    std::uint64_t repairs_before_{};
    bool end_sent_{};
    TargetSet rotten_; ///< damaged behind everybody's back: only verify can find these
    std::string failure_;
};

[[nodiscard]] std::string describe(const Target& target);
[[nodiscard]] std::string describe(const Message& message);
[[nodiscard]] std::string describe(const Operation& operation);

/// As below, of a mirror without data.
[[nodiscard]] std::string run_roles_history(const Setup& setup, Statistics* statistics = nullptr);
/// One history full of faults, then quiet. Returns an empty string, or what went wrong.
[[nodiscard]] std::string run_history(const Setup& setup, Statistics* statistics = nullptr);

} // namespace stead::mirror::sim

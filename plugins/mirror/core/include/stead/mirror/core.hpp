// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/time.hpp>
#include <stead/mirror/messages.hpp>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

/// One node of a mirror as a state machine: docs/protocol-mirror.md.
namespace stead::mirror {

/// One broken rule each, for tests/sim only: every one must be caught there.
enum class Mutant : std::uint8_t {
    none,
    local_first,
    ack_before_log,
    apply_before_record,
    end_before_flush,
    forget_unsynced,
    promote_without_drain,
    no_outdate,
    start_without_claim,
    overwrite_before_undo,
    ignore_epoch,
    answer_after_lease,
    trust_damaged_log,
    sync_one_side,
    forget_intents,
    restart_decides,
    failed_change_counts,
    ignore_configured,
    ack_changes_under_way,
    ahead_of_end,
    failed_sync_told_once,
    durable_after_failed_sync,
    read_beside_writes,
    // Without data
    take_without_asking,
    ask_at_once,
};

struct Options {
    std::uint8_t node{}; ///< index in the cluster, 0 to 63; the two differ
    Ack ack{Ack::apply};
    bool intent_log{};    ///< obligatory with Ack::commit
    bool witness{};       ///< AskWitness is answered by a compare-and-set at a third place
    bool probe_vip{};     ///< ask for the virtual IP before a promotion
    bool failover{true};  ///< false: a secondary that loses its primary waits
    bool data{true};      ///< false: there is nothing to replicate, only a role: no node is ever behind
    bool batch{};         ///< as a target it waits for LetIn, and leaves again once both are equal
    bool keep_undo{true}; ///< after a split: what the loser had stays exportable
    bool note_sent{};     ///< what resyncs sent is remembered, for Command::verify_sent
    std::uint64_t zones_per_extent{1024};
    /// A change of at least so many zones is applied on both sides at the same time: the peer says when it has received
    /// it (also unasked), and that is enough to go on here, though not to answer. Both sides may differ in it.
    std::uint32_t overlap_zones{3};
    std::uint32_t window_operations{256};
    std::uint32_t window_copies{16};
    /// How many targets of a resync may be locked to be read at once: what the application writes there waits.
    std::uint32_t window_reads{~std::uint32_t{0}};
    nanoseconds checkpoint_every{seconds{30}};
    nanoseconds repeat_every{milliseconds{200}};
    /// How long a primary without its peer waits to be told that it may go on, before it stops serving. Longer than a
    /// peer that died silently still counts as heard: for that one never answers.
    nanoseconds witness_wait{seconds{3}};
    nanoseconds slow_peer{seconds{10}};
    nanoseconds meet_wait{seconds{3}};     ///< how long a last holder that starts tries to meet a peer that is heard
    nanoseconds command_wait{seconds{10}}; ///< how long `prim` and `second` wait to learn what the peer is
    Mutant mutant{Mutant::none};
};

[[nodiscard]] std::string name_of(const Target& target); ///< for a log line

// ---- Inputs ---------------------------------------------------------------------------------------------------------

struct Tick {};
/// First input of a life. `entropy`: 128 bits from the operating system, from which this life's generations come.
struct Start {
    std::optional<Record> record; ///< none: a node without data
    LoadedLog log;
    Gen entropy;
    /// What was changed behind the mount since a clean stop. The driver reports it at every start until ForeignKept.
    TargetSet foreign{};
    /// The bus hears the peer. Then a last holder meets it before it serves: a restart must not decide a split.
    bool peer_heard{};
    /// Other directories are replicated than before, or other paths in them: everything is compared. Reported until
    /// ForeignKept, too.
    bool configured_anew{};
    Seq last_parked{}; ///< what was parked before this life has numbers up to this one
};
/// What a person asks for. Each is answered by one CommandDone. One at a time, but `stop` ends whatever is on its way,
/// and verify and repair run beside the others.
enum class Command : std::uint8_t {
    prim,        ///< serve what is here (half resynced: rolled back first). Refused if the peer serves, or may serve
    second,      ///< follow the peer, whatever is lost here. Refused if the peer is connected and does not serve
    swap,        ///< on a primary in sync: exchange the roles
    stop,        ///< Stopped follows
    verify,      ///< on a primary in sync: compare everything, count and remember what differs
    repair,      ///< as verify, and the secondary gets what differs
    verify_sent, ///< as verify, of what resyncs sent since it last ended well (Options::note_sent)
    primforce,   ///< serve what is here, also half resynced or beside a primary; later everything is compared
    prim_full,   ///< as prim; later everything is compared
    second_full, ///< as second; everything is compared
};
[[nodiscard]] constexpr bool compares(Command what) noexcept {
    return what == Command::verify || what == Command::repair || what == Command::verify_sent;
}
struct Request { ///< of the application; only while role is prim or alone
    OpId id{};
    Operation operation;
};
/// Completion of an effect with this ticket.
struct Done {
    Ticket ticket{};
    int error{};                   ///< errno; 0 = good
    Payload payload{};             ///< of Read; nullptr = the target is not there
    std::uint64_t digest{};        ///< of Digest
    std::vector<Fid> created{};    ///< of Store: FIDs it met that a Store created since the last EndResync
    std::vector<Zones> lacking{};  ///< of Store of an inode: zones that hold data there and nothing here
    std::vector<Target> targets{}; ///< of List
    bool yes{};                    ///< of ProbeVip: answered; of AskWitness: granted
    bool unanswered{};             ///< of AskWitness: nobody answered
};
struct LinkUp {};   ///< a new stream to the peer, empty
struct LinkDown {}; ///< it is dead; nothing sent on it may still arrive
struct Received {
    Message message;
};
struct BusReceived {
    BusMessage message;
};
struct Lease {
    Instant until;
};
struct PeerLost {
    enum class How : std::uint8_t {
        silent,      ///< takeover has passed since it could last renew its lease
        died,        ///< a trusted witness saw the end of its process, and its mount is gone
        excluded_us, ///< it is heard, but went on without us for a while
    } how{};
};
struct PeerBack {};
/// With Options::batch: this node may become a target now, or when its source comes. Until both were equal.
struct LetIn {};
/// The peer is gone, and what this node last had counts as young enough to serve it, although it is behind: what was
/// answered since is lost. Taken up once, like the death of a primary (probe, witness); ignored where it is not needed
/// or where no complete copy is here. A peer that comes back, or a refusal, ends it.
struct StartBehind {};
/// Options::window_copies and window_reads from now on. What is under way above them is finished.
struct SetWindow {
    std::uint32_t copies{}, reads{};
};
/// Options::ack for what the application asks from now on. Ignored from and to Ack::commit, which is accounted for in
/// another way.
struct SetAck {
    Ack ack{};
};
/// An application was told an error, and the driver has found that nothing can be written here any more: a primary
/// whose peer has everything hands over. Otherwise ignored: each operation has its own error.
struct StorageFailed {};
using Input = std::variant<Tick, Start, Command, Request, Done, LinkUp, LinkDown, Received, BusReceived, Lease,
                           PeerLost, PeerBack, LetIn, StartBehind, SetWindow, SetAck, StorageFailed>;

// ---- Outputs: perform in order. Those with a ticket are answered by Done, once --------------------------------------

struct Persist { ///< write the record; Done when it is on disk. One after the other, in this order
    Ticket ticket{};
    Record record;
};
struct LogReset { ///< replace the change log by one with this id and content, atomically and durably
    Ticket ticket{};
    std::uint64_t id{};
    std::vector<LogEntry> entries;
};
struct LogAppend { ///< Done when on disk
    Ticket ticket{};
    std::vector<LogEntry> entries;
};
struct Apply { ///< perform the operation on the tree. Kind change only
    Ticket ticket{};
    Operation operation;
    Seq park{}; ///< not 0: an inode that loses its last name is kept under this number (see Purge)
};
struct SyncInode {
    Ticket ticket{};
    Fid fid;
};
/// Make everything durable that was applied so far. Success says so, also of what an earlier failed sync left behind.
struct Flush {
    Ticket ticket{};
};
struct Read {
    Ticket ticket{};
    Target target;
    bool urgent{}; ///< an operation waits for it
};
struct Digest { ///< equal digests only for equal content; 0 = not there
    Ticket ticket{};
    Target target;
};
struct List { ///< all targets of an inode, or of the tree
    Ticket ticket{};
    std::optional<Fid> fid;
};
struct Store { ///< overwrite a target; a listing places (park, link, create empty). What it creates it reports
    Ticket ticket{};
    Target target;
    Payload payload;
    Seq park{};
};
struct SaveUndo { ///< Done when the old content is durably in the undo log, or at once behind EndResync
    Ticket ticket{};
    std::vector<Target> targets;
};
struct StartUndo { ///< a new, empty undo log; or go on with the one of a resync that broke off (first content counts)
    bool go_on{};
};
struct RollBack { ///< restore what the undo log holds; Done when durable. Idempotent
    Ticket ticket{};
};
struct Purge { ///< remove what was parked under numbers up to this one: nobody will want it back
    Seq through{};
};
struct EndResync { ///< what Store created is complete; `keep_undo`: the undo log becomes an export of what was lost
    bool keep_undo{};
};
struct Send {
    Message message;
};
struct BusSend {
    BusMessage message;
};
struct CloseLink {}; ///< LinkDown is not reported for it
struct Answer {      ///< the driver compares the lease once more right before it replies
    OpId id{};
    int error{};
};
struct RoleChanged { ///< waiting: kill the application, abort FUSE, forget all requests
    Role role{};
    Epoch epoch{};
    std::string reason;
};
struct AskWitness { ///< compare-and-set to (counter(epoch), holder(epoch))
    Ticket ticket{};
    Epoch epoch{};
};
struct ProbeVip {
    Ticket ticket{};
};
struct VerifyCounts { ///< in targets
    std::uint64_t total{}, checked{}, differing{}, repaired{};
};
struct CommandDone {
    Command command{};
    bool ok{};
    std::string reason;  ///< for a person: why not, or what was done
    VerifyCounts counts; ///< of verify and repair
};
/// What Start named as foreign is on record: the driver may forget it.
struct ForeignKept {};
struct Stopped {}; ///< after Command::stop, or for good: the record cannot be written
struct Note {
    bool alarm{};
    std::string text;
};
using Output = std::variant<Persist, LogReset, LogAppend, Apply, SyncInode, Flush, Read, Digest, List, Store, SaveUndo,
                            StartUndo, RollBack, Purge, EndResync, Send, BusSend, CloseLink, Answer, RoleChanged,
                            AskWitness, ProbeVip, CommandDone, ForeignKept, Stopped, Note>;

struct Counters {
    std::uint64_t resyncs{}, syncs{}, copies{}, probes{}, verify_mismatches{}, stale_refused{}, promotions{}, repairs{};
};

/// What observers may see: plugin, console, logs. A snapshot; gathering it costs the number of operations in flight.
struct Status {
    struct Kind {
        std::uint64_t total{}, left{}; ///< targets; total grows while a resync finds more
    };
    Role role{};
    Epoch epoch{};
    std::string phase;           ///< of the conversation with the peer: "down", "copying", "equal", ...
    std::string deciding;        ///< what is being decided about the role; empty = nothing
    std::string handshake;       ///< outcome and reason of the last handshake; empty = none yet
    std::string storage_failure; ///< why this node, in its own fault, is not in sync; empty = no such reason
    bool frozen{};
    Instant frozen_since{}; ///< when `frozen`
    bool equal{}, in_sync{}, outdated{}, half_resynced{}, unknown{};
    bool waits_for_schedule{};               ///< for LetIn
    bool resyncing{}, source{}, comparing{}; ///< resyncing: Begin was sent or received, and End was not
    std::array<Kind, 3> resync{};            ///< by TargetKind; at the source, of the present or last resync
    std::uint64_t received_copies{};         ///< at the target, in this conversation
    std::size_t operations{}, unacknowledged{}, held{}, incoming{}, copies_in_flight{};
    std::size_t dirty{};
    std::size_t unsynced_here{}, unsynced_there{}; ///< at most
    bool verifying{};
    VerifyCounts verify;             ///< of the present or last run
    std::vector<Target> differing{}; ///< the first 20 that it found
};

/// Pure: equal (options, inputs, times) give equal outputs. One thread owns it. Never throws, except when memory ends.
class Core {
public:
    explicit Core(const Options& options);
    ~Core();
    Core(Core&&) noexcept;
    Core& operator=(Core&&) noexcept;

    [[nodiscard]] std::vector<Output> step(Instant now, const Input& input);
    /// When step(Tick) is next due.
    [[nodiscard]] Instant next_deadline() const noexcept;

    [[nodiscard]] Role role() const noexcept;
    [[nodiscard]] const Record& record() const noexcept; ///< as last asked to be persisted
    [[nodiscard]] bool frozen() const noexcept;
    /// Whether an operation would be answered at `now`: serves, not frozen, and the lease holds where one is needed.
    [[nodiscard]] bool answers(Instant now) const noexcept;
    [[nodiscard]] bool equal() const noexcept; ///< both in sync, and the stream is up
    [[nodiscard]] bool verifying() const noexcept;
    /// Whether Command::verify_sent would compare it.
    [[nodiscard]] bool sent(const Target& target) const;
    /// Targets still to be sent by a resync.
    [[nodiscard]] std::size_t pending() const noexcept;
    /// Whether this node accounts for a difference in `target`; with a decision: also as one that only a power loss
    /// explains, of a side that may have had one.
    [[nodiscard]] bool accounts_for(const Target& target, const Decision* decision) const;
    /// Received for `target` and not yet applied.
    [[nodiscard]] bool queued(const Target& target) const;
    /// Secondary that the primary counts on.
    [[nodiscard]] bool eligible() const noexcept;
    /// What Hello would say now.
    [[nodiscard]] Facts facts() const;
    [[nodiscard]] const Counters& counters() const noexcept;
    [[nodiscard]] Status status() const;

    /// With what a node would come back from this record and log: its Hello, and the targets it would account for.
    struct Standing {
        Facts facts;
        TargetSet marks, unsynced;
    };
    [[nodiscard]] static Standing after_restart(const Options& options, const Record& record, const LoadedLog& log);

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace stead::mirror

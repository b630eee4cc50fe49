// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "locks.hpp"
#include "unsynced.hpp"

#include <stead/mirror/core.hpp>

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace stead::mirror {

/// How far the conversation over the present stream is.
enum class Phase : std::uint8_t {
    down,
    up,        ///< stream, but not both Hellos
    apart,     ///< the handshake says: stay as you are
    leading,   ///< source: becoming alone first
    marks,     ///< source: collecting what may differ
    begun,     ///< source: Begin sent
    copying,   ///< source: operations are mirrored from here on
    ending,    ///< source: flushing
    end_sent,  ///< source: the peer may be in sync now
    equal,     ///< both sides
    marked,    ///< target: Marks sent
    receiving, ///< target
};

/// What is being decided about the role. Nothing else is decided meanwhile.
enum class Claim : std::uint8_t {
    none,
    outdating, ///< primary, frozen: the peer shall write that it is outdated
    asking,    ///< the witness, by either side
    becoming,  ///< persisting "alone"
    draining,  ///< secondary: applying what it received
    probing,   ///< secondary: asking for the virtual IP
    handing,   ///< primary: finishing its operations
    handed,    ///< Handover sent
    taking,    ///< secondary: flushing and persisting
    emptying,  ///< on order: applying what was received
    rolling,   ///< restoring the undo log
    stopping,
    recording, ///< at start: writing down what was changed behind the mount
};

struct Running { ///< an operation of the application
    OpId id{};
    Operation op;
    Seq seq{};
    bool remote{};                ///< was sent
    bool ahead{};                 ///< before the end of a resync: its answer does not wait for the peer
    Level wanted{Level::applied}; ///< on both sides; options.ack may be another one by now
    bool peer_ok{}, peer_done{};  ///< acknowledged as wanted; nothing more to come
    bool local_started{}, local_done{};
    bool granted{}, orphan{}; ///< has its locks; nobody waits for its answer any more
    bool repairing{};         ///< failed here, was done there
    bool finished{}, answered{};
    int error{};
    std::size_t copies{};          ///< that it waits for
    std::uint64_t failed_before{}; ///< failed_syncs_of() it as it was begun here

    /// The end of the resync flushes all.
    [[nodiscard]] Level of_peer() const noexcept { return ahead ? Level::applied : wanted; }
};

struct Job { ///< one target on its way to the peer
    Target target;
    Ticket owner{}; ///< operation under whose lock it runs; 0 = has its own
    bool compare{}, verify{};
};

struct Incoming { ///< at the receiving side, until it is done
    std::variant<message::Change, message::Copy, message::Probe> what;
    std::uint64_t conversation{};
};

struct Core::State {
    explicit State(const Options& o) : options(o), outside(o.batch) {}

    // ---- core.cpp: inputs, completions, time
    void handle(const Tick&) {}
    void handle(const Start& input);
    void handle(const Command& input);
    void handle(const Request& input);
    void handle(const Done& input);
    void handle(const LinkUp&);
    void handle(const LinkDown&);
    void handle(const Received& input);
    void handle(const BusReceived& input);
    void handle(const Lease& input);
    void handle(const PeerLost& input);
    void handle(const PeerBack&);
    void handle(const LetIn&);
    void handle(const SetWindow& input) {
        options.window_copies = input.copies;
        options.window_reads = input.reads;
    }
    void handle(const SetAck& input);
    void handle(const StartBehind&);
    void handle(const StorageFailed&);
    void settle(); ///< whatever can go on now, goes on
    void timers();
    [[nodiscard]] Instant deadline() const;
    [[nodiscard]] Facts facts() const;
    [[nodiscard]] bool accounts_for(const Target& target, const Decision* decision) const;
    [[nodiscard]] bool queued(const Target& target) const;
    void load(const Start& input);
    void forget_data();
    void foreign_kept();
    void started();
    void go_on_starting();
    void go_on_after_split(const Facts& theirs, bool starting);

    using Then = std::function<void(const Done&)>;
    Ticket expect(Then then);
    void persist(std::function<void()> then);
    void send(message::Body body) { out.emplace_back(Send{Message{record.epoch, std::move(body)}}); }
    void note(std::string text, bool alarm = false) { out.emplace_back(Note{alarm, std::move(text)}); }
    [[nodiscard]] Gen fresh();
    [[nodiscard]] std::uint64_t fresh_log();
    [[nodiscard]] bool mutant(Mutant which) const noexcept { return options.mutant == which; }

    // ---- log.cpp: generations and the change log
    [[nodiscard]] Target extent(const Target& target) const noexcept;
    [[nodiscard]] bool ensure_logged(Ticket op);
    [[nodiscard]] bool ensure_intended(Ticket op);
    void start_generation(std::function<void(int)> then);
    void named(std::uint64_t id, TargetSet covered, std::function<void(int)> then);
    void pump_log();
    void log_failed(const std::vector<Ticket>& waiters, int error);
    [[nodiscard]] std::vector<LogEntry> all_entries() const;
    void record_foreign(const TargetSet& foreign);
    void reset_intents(std::function<void()> then, bool in_any_case = false);

    // ---- serving.cpp: operations of the application
    [[nodiscard]] bool serving() const noexcept;
    [[nodiscard]] bool peer_receives() const noexcept;
    [[nodiscard]] bool runs_ahead() const noexcept;
    [[nodiscard]] bool needs_lease() const noexcept { return phase == Phase::end_sent || phase == Phase::equal; }
    void prepare(Ticket op);
    void prepare_all(const std::vector<Ticket>& tickets);
    void prepare_everything();
    [[nodiscard]] std::size_t pending_of(const Operation& op) const;
    void launch_remote(Ticket op);
    void launch_local(Ticket op);
    void repair(Ticket op);
    void local_applied(Ticket op, int error);
    void local_finished(Ticket op, int error);
    [[nodiscard]] std::uint64_t failed_syncs_of(const Operation& op) const;
    void sync_inodes(const Operation& op, std::uint64_t failed_before, std::function<void(int)> then);
    void trim_unacknowledged();
    void peer_acked(const message::Acked& ack);
    void complete(Ticket op);
    void finish(Ticket op, int error);
    void try_answer(Ticket op);
    void answer_held();
    void retire(Ticket op);
    void release_locks(Ticket ticket);
    [[nodiscard]] Seq completed_through() const;
    void own_sync_failed(int error);
    void distrust_cache();
    [[nodiscard]] Level level_for(const Operation& op) const noexcept;
    [[nodiscard]] bool overlaps(const Operation& op) const;

    // ---- copies.cpp: targets on their way to the peer
    void copy_for(Ticket op);
    void pump_copies();
    void go_on_reading();
    [[nodiscard]] bool written_beside(const Job& job) const;
    [[nodiscard]] bool waits_for_copies(Ticket op) const;
    void wait_for_reads(Ticket op);
    void start_job(Job job);
    void job_ready(Ticket job);
    void probe(Ticket job);
    void read_and_send(Ticket job);
    void job_done(Ticket job);
    void copy_acked(const message::Acked& ack);
    void copy_done_for(Ticket op);
    void wake(const Target& target);
    void add_lacking(const Fid& file, const std::vector<Zones>& lacking);
    void add_pending(const Target& target);
    void drop_pending(const Target& target);
    void note_copied(const Target& target);
    [[nodiscard]] message::Progress progress() const;

    // ---- conversation.cpp: handshake, resync, end
    void reset_link(const std::string& why);
    void stream_lost();
    void greet();
    void converse();
    void on(const message::Hello& hello);
    void on(const message::Marks& marks);
    void on(const message::Begin& begin);
    void on(const message::BeginAck&);
    void on(const message::Change& change);
    void on(const message::Copy& copy);
    void on(const message::Probe& probe);
    void on(const message::Acked& ack);
    void on(const message::Durable& durable);
    void on(const message::End& end);
    void on(const message::EndAck&);
    void on(const message::Handover& handover);
    void on(const message::Taken&);
    void on(const message::Stale&);
    void for_each_lost(const std::function<void(const Target&)>& function) const;
    void build_set();
    void begin();
    void send_marks();
    void try_end();
    void try_finish_end();
    void become_equal();
    [[nodiscard]] bool peer_is_held() const { return hello_received && hello_received->held; }
    [[nodiscard]] bool waits_for_schedule() const;
    void checkpoint();

    // ---- replica.cpp: the receiving side
    void queue(Seq seq, Incoming incoming, const std::vector<Target>& targets, bool follows = false);
    void run(Seq seq);
    void perform(Seq seq);
    void performed(Seq seq, message::Acked ack);
    void store(Seq seq, const message::Copy& copy);
    void change(Seq seq, const message::Change& change);
    void own_failure(const std::string& what, int error);
    void acknowledge(const Incoming& incoming, message::Acked ack);

    // ---- roles.cpp: who serves
    void drop_operations();
    [[nodiscard]] bool operations_drained() const;
    [[nodiscard]] bool quiet() const;
    [[nodiscard]] bool may_promote() const;
    [[nodiscard]] bool every_claim_is_asked() const;
    void promote();
    void claim_on();
    void become_alone(Epoch epoch, std::string reason);
    void alone_now(const std::string& reason);
    void step_down(const std::string& reason, bool outdated);
    void set_role(Role to, const std::string& reason);
    void try_promote();
    void doubt(const std::string& reason);
    void go_on_promoting();
    void ask_witness(Epoch epoch);
    void witness_answered(const Done& answer);
    void be_outdated(const BusMessage& message, std::uint64_t nonce);
    void hand_over();
    void hand_over_broken(const char* why);
    void go_on_handing();
    void go_on_taking();
    void go_on_stopping();
    void roll_back_and_serve(bool force);
    void freeze();
    void announce();
    void tell_witness();

    // ---- orders.cpp: what a person asks for
    enum class PeerServes : std::uint8_t { no, yes, unknown, not_heard };
    [[nodiscard]] PeerServes peer_serves() const;
    void finish_order(bool ok, const std::string& reason);
    void follow_order();
    void follow_swap();
    void follow_prim();
    void begin_prim();
    void go_on_prim();
    void serve_by_order(const std::string& reason);
    void follow_second();
    void verify_all(Command what);
    void follow_verify();
    void finish_verify(const std::string& broken_off);
    void verify_differs(const Target& target);

    void status(Status& status) const; // status.cpp

    Options options;
    Instant now{};
    std::vector<Output> out;
    Record record;
    Role role{Role::none};
    Phase phase{Phase::down};
    Claim claim{Claim::none};
    bool dead{}, link_up{}, frozen{}, stop_wanted{}, accept_loss{};
    bool excluded{}; ///< primary: the peer may have gone on; its silence says nothing any more
    bool outside{};  ///< with options.batch: not let in
    bool behind{};   ///< may take over although it is behind
    bool eligible{}; ///< second: the primary counts on this node, so it may take over
    bool log_memory{}, intent_known{}, tainted{}, sync_failed{};
    Gen incarnation, peer_incarnation; ///< the peer's when both were equal
    Gen conversing_with;               ///< the peer's in the present or last conversation
    std::uint64_t entropy_high{}, entropy_low{}, drawn{};
    enum class PeerState : std::uint8_t { unknown, present, silent, died } peer{PeerState::unknown};
    Instant lease{};
    bool lapsed{true}; ///< the lease was over at some time since both became equal
    Counters counters;

    Ticket last_ticket{};
    std::map<Ticket, Then> expected;
    std::uint64_t reign{};        ///< changes with the role: what was decided before is void
    std::uint64_t conversation{}; ///< changes with the stream
    std::size_t persists{};       ///< not completed yet

    // What may differ
    TargetSet dirty, uncertain, intended;
    TargetSet coarse; ///< of `dirty`: a log has whole extents, of which most zones may be equal
    Unsynced unsynced;
    // The log: extents in it, and operations that wait for more
    TargetSet logged, logged_intents, log_wanted, intents_wanted;
    std::vector<Ticket> log_waiters;
    bool log_busy{}, generating{}, log_usable{};
    bool opening_intents{}; ///< nothing is sent before it is open
    bool closing_log{};     ///< the record that names it is being replaced
    std::uint64_t log_token{};

    // Serving side
    Seq seq{};
    std::map<Ticket, Running> ops;
    std::map<Seq, Ticket> by_seq;
    std::deque<std::pair<Seq, Instant>> unacknowledged; ///< sent, in order; the first one is not acknowledged as wanted
    std::set<Ticket> parked, held;
    std::deque<Ticket> window_waiters;
    std::map<Fid, std::uint64_t> failed_syncs; ///< how often, where at all
    std::size_t outstanding{};                 ///< operations sent and not acknowledged as wanted
    Locks locks;

    // Source
    TargetSet pending, to_compare, to_verify;
    TargetSet copied; ///< by resyncs, not compared since; Options::note_sent
    Target pump_from; ///< all of pending before this one has a job, ...
    bool pumped{};    ///< ... and all behind it as well
    std::array<std::uint64_t, 3> pending_total{}, pending_left{}; ///< by kind, for observers
    std::uint64_t received_copies{};
    TargetSet scheduled;            ///< a job has it, or waits for its lock
    TargetSet moving;               ///< a job is reading it, or about to
    std::set<Ticket> waiting_reads; ///< jobs of operations, until writes of the inode have ended
    std::map<Ticket, Job> jobs;
    struct SentCopy {
        Target target;
        Ticket owner{}; ///< operation that waits
        bool verify{};
    };
    std::map<Seq, SentCopy> copies; ///< not acknowledged
    std::map<Seq, Ticket> probes;
    std::multimap<Target, Ticket> waiting_for;
    std::size_t lists{};
    std::set<Fid>
        completed; ///< inodes that the peer created empty in this conversation: all of them is pending or sent
    bool listing{};
    std::optional<Facts> hello_sent, hello_received;
    Decision decision;
    std::vector<LogEntry> peer_marks;
    bool marks_complete{};
    Instant checkpoint_at{never};
    bool flushing{};
    Seq flushed_through{}, end_seq{};

    // Target
    std::map<Seq, Incoming> incoming;
    Locks replica_locks;
    bool undoing{}, undo_failed{};
    TargetSet saved, saving; ///< for undo, or asked for; those that are not durable yet
    bool resync_keeps_undo{};
    std::optional<message::End> end_wanted;
    std::set<Seq> end_waits;
    bool ending{};

    // Roles
    std::uint64_t nonce{};
    Instant repeat_at{never}, give_up_at{never}, announce_at{never};
    Instant meet_until{never}; ///< a last holder that has started, and has not met its peer yet
    bool meets_first{};
    std::string claim_reason;
    /// What the witness may have granted although no answer came: whoever goes on later does so at least in this epoch,
    /// or the peer's own question, one higher than what it knows, would be refused for ever.
    Epoch asked_epoch{};
    Epoch granted_epoch{}; ///< that the witness knows to be this node's
    bool trusted{};        ///< the peer is known to have stopped serving
    Instant frozen_since{};
    Gen peer_current; ///< as the peer last said
    Epoch peer_epoch{};
    std::string handshake_text;
    std::string storage_failure; ///< of this node, since it was last in sync

    // Orders
    std::optional<Command> order, verify_order;
    Instant order_until{never};
    bool order_begun{};
    VerifyCounts verify_counts, full_counts; ///< of the last comparison; of the last one of everything
    std::vector<Target> differing;           ///< the first of them
    std::size_t verify_moving{};             ///< targets of a comparison on their way
    bool step_running{};                     ///< of the claim: an effect is on its way
};

} // namespace stead::mirror

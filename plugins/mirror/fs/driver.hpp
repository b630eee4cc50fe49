// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "front.hpp"

#include "link.hpp"
#include "note_limit.hpp"
#include "pacer.hpp"
#include "pool.hpp"

#include <stead/mirror/channel.hpp>
#include <stead/mirror/core.hpp>
#include <stead/mirror/lease.hpp>
#include <stead/mirror/lost.hpp>
#include <stead/mirror/progress.hpp>
#include <stead/mirror/settings.hpp>
#include <stead/mirror/state_files.hpp>
#include <stead/mirror/tree.hpp>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace stead::mirror {

/// stead-fs: performs what the core says, on tree, disk, stream, file systems and channel.
///
/// Threading: the core is stepped under one lock, by whichever thread has an input for it: a thread of a front (a
/// change),
/// the link's (a message), a pool's (a completion), the main thread (time, the host). What may block is done after the
/// lock was released: a change is applied by the very thread that made it possible, so that a write costs no hand-over
/// between threads; syncs, reads and logs go to pools.
class Driver {
public:
    Driver(Settings settings, Channel& channel, LeasePage lease);
    ~Driver();

    /// Opens tree and state, loads record and log, begins. Errors name what could not be had.
    [[nodiscard]] Result<void> open();
    /// Until the core has stopped (0) or the host is gone (1).
    [[nodiscard]] int run();

private:
    /// What is to be done without the lock, in order.
    using Work = std::vector<std::function<void()>>;

    // driver.cpp
    void feed(const Input& input);
    void step(const Input& input, Work& work);
    void renew_lease(Instant now, Work& work);
    void run_all(Work& work);
    void collect(std::vector<Output> outputs, Work& work);
    void submit(Operation operation, std::function<void(int)> answer);
    void reply(const std::function<void(int)>& answer, int error);
    [[nodiscard]] bool serves() const noexcept { return role_ == Role::prim || role_ == Role::alone; }
    void release_withheld(Work& work);
    void wake() noexcept;
    void note(bool alarm, const std::string& text);
    void note_seldom(bool alarm, const std::string& text);
    void say(const boost::json::object& message);
    [[nodiscard]] std::unique_ptr<Link> take_link();
    void start_link(std::uint8_t peer, const std::string& address);
    void end_threads();

    // effects.cpp
    void perform(Persist&& output, Work& work);
    void perform(LogReset&& output, Work& work);
    void perform(LogAppend&& output, Work& work);
    void perform(Apply&& output, Work& work);
    void perform(SyncInode&& output, Work& work);
    void perform(Flush&& output, Work& work);
    void perform(Read&& output, Work& work);
    void perform(Digest&& output, Work& work);
    void perform(List&& output, Work& work);
    void perform(Store&& output, Work& work);
    void perform(SaveUndo&& output, Work& work);
    void perform(StartUndo&& output, Work& work);
    void perform(RollBack&& output, Work& work);
    void perform(Purge&& output, Work& work);
    void perform(EndResync&& output, Work& work);
    void perform(Send&& output, Work& work);
    void perform(BusSend&& output, Work& work);
    void perform(CloseLink&& output, Work& work);
    void perform(Answer&& output, Work& work);
    void perform(RoleChanged&& output, Work& work);
    void perform(AskWitness&& output, Work& work);
    void perform(ProbeVip&& output, Work& work);
    void perform(Stopped&& output, Work& work);
    void perform(Note&& output, Work& work);
    void perform(CommandDone&& output, Work& work);
    void perform(ForeignKept&& output, Work& work);
    void save_undo_batch();
    void tidy();
    void tell_failure(const char* what, const Target& target, int error);

    // service.cpp: the main thread
    void serve(const boost::json::object& message);
    [[nodiscard]] int wait_and_tick();
    void drop_fronts();
    void on_peer(const boost::json::object& message);
    void set_window();
    void update(const boost::json::object& message);
    void on_command(const boost::json::object& message);
    void mount(std::int64_t id);
    void look_at_storage();
    void tell_place();
    void take_peer_limits(const boost::json::object& message);
    void unmount(std::int64_t id, bool force);
    void lost(const boost::json::object& message);
    [[nodiscard]] Result<std::string> export_sets(const std::vector<LostSet>& sets, const std::string& folder) const;
    [[nodiscard]] Result<std::string> drop_sets(const std::vector<LostSet>& sets, const std::string& name) const;
    void differences(std::int64_t id);
    void done(std::int64_t id, bool ok, const std::string& text);
    void follow_role();
    void show_read_only(bool shown);
    [[nodiscard]] boost::json::object status();
    void tell_status(bool now);
    int finish();

    // watch.cpp: what passes on the stream, for who watches. Under the lock
    void watch(const message::Body& body, bool sent);
    void measure(Instant now, const Status& status);
    void resync_begins(Instant now, bool source, const message::Begin& begin);
    void warn_of_room(std::uint64_t bytes);
    void flow_cut();
    void resync_ends(Instant now, bool whole);

    Settings settings_;
    Channel& channel_;
    LeasePage lease_;
    std::mutex channel_mutex_;
    std::mutex limit_mutex_;
    NoteLimit limit_;
    std::unique_ptr<Tree> tree_;
    std::unique_ptr<StateFiles> files_;
    Pacer pacer_;

    std::mutex mutex_; ///< everything down to the blank line
    std::optional<Core> core_;
    LeasePage::Value last_lease_;
    std::unordered_map<OpId, std::function<void(int)>> pending_;
    OpId last_op_{};
    std::vector<std::pair<std::function<void(int)>, int>> withheld_;
    std::size_t replying_{}; ///< answers between the core's word and the application
    std::condition_variable replied_;
    std::uint64_t generation_{};
    Role role_{Role::none};
    std::string role_reason_;
    bool role_changed_{};
    bool stopped_{};
    std::string failure_; ///< why the core ended without having been told to
    std::vector<SaveUndo> undo_queue_;
    bool undo_running_{};
    Instant undo_from_{}; ///< of the undo thread: when the next batch may begin
    std::map<Command, std::deque<std::int64_t>> commands_; ///< ids that wait for CommandDone
    message::Begin announced_;                             ///< received, and not yet taken up
    ResyncMeter resync_;
    Instant resync_told_{};
    ReplicationMeter replication_;

    std::atomic<std::int64_t> armed_ns_{};
    std::atomic<bool> mirrored_{};
    std::atomic<std::uint32_t> window_copies_{}, window_reads_{};
    std::atomic<bool> status_due_{}; ///< at once
    std::atomic<bool> storage_looked_at_{};
    Fd wake_;
    std::mutex fronts_mutex_;
    std::vector<std::unique_ptr<Front>> fronts_;
    std::vector<std::shared_ptr<PeerLimits>> peer_limits_; ///< of each directory; the fronts look at them
    std::vector<std::string> shown_;                       ///< places that show a read-only view
    std::mutex lost_mutex_;                                ///< what was lost in splits, on disk
    std::atomic<bool> host_gone_{};
    std::string last_status_;
    Instant status_at_{};

    // Last: their threads use everything above.
    std::unique_ptr<Link> link_;
    std::string link_peer_;
    std::optional<Pool> state_pool_, undo_pool_, sync_pool_, store_pool_, reader_pool_;
};

} // namespace stead::mirror

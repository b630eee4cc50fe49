// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "inodes.hpp"

#include <stead/mirror/early_syncs.hpp>

#include <condition_variable>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace stead::mirror {

/// What was changed and is not known to be on disk. Thread-safe.
/// sync() is what an application asks for one inode; flush() is what the other node is told: all of what was noted
/// before it began is on disk, times included, also where a sync of the same inode is still under way. After a sync
/// that failed, the file reads as the disk has it: whoever compares it with the other node's sees what was lost.
class Written {
public:
    enum class What : std::uint8_t {
        data,     ///< bytes and times only: fdatasync is enough for an application
        all,      ///< also attributes, size by truncation, or a directory's names
        elsewhere ///< a device, fifo, socket or symbolic link: only syncfs reaches it
    };
    void note(const Fid& fid, What what);
    /// Around one application: what it notes on this thread is noted once more at its end, for a flush that came in
    /// between has taken the first note and not seen all of the change.
    class Change {
    public:
        explicit Change(Written& written) noexcept;
        ~Change();
        Change(const Change&) = delete;
        Change& operator=(const Change&) = delete;

    private:
        friend class Written;
        Written& written_;
        Change* outer_;
        std::vector<std::pair<Fid, What>> noted_;
    };
    void gone(const Fid& fid);

    [[nodiscard]] Errno sync(const Inodes& inodes, const Fid& fid);
    [[nodiscard]] Errno flush(const Inodes& inodes);
    [[nodiscard]] EarlySyncs& early() noexcept { return early_; }

private:
    using Changed = std::unordered_map<Fid, What, FidHash>;
    /// Inodes that are being synced right now, outside of flush().
    struct Syncing {
        std::uint64_t id{};
        Fid fid;
        What what{};
    };
    /// `shared`: somebody else is syncing it as well.
    [[nodiscard]] What begin(const Fid& fid, std::uint64_t& id, bool& shared);
    void end(std::uint64_t id);
    void wait_for_syncs();
    [[nodiscard]] Errno sync_one(const Inodes& inodes, const Fid& fid, What what, bool data_only);
    [[nodiscard]] Errno sync_file_systems(const Inodes& inodes, const Changed& changed);
    [[nodiscard]] Errno sync_each(const Inodes& inodes, const Changed& changed);
    void failed(const Inodes& inodes, const Fid& fid, What what);
    void add(const Fid& fid, What what);
    [[nodiscard]] bool let_go(const Inodes& inodes, const Fid& fid);
    void try_hopeless(const Inodes& inodes);
    void hear_out(const Inodes& inodes);

    static thread_local Change* change_;

    EarlySyncs early_;
    std::mutex flush_; ///< one flush() at a time; before mutex_
    std::mutex mutex_;
    Changed changed_;
    Changed flushing_; ///< what flush() has taken; only it changes this
    std::vector<Syncing> syncing_;
    std::uint64_t last_sync_{};
    std::condition_variable synced_;
    std::uint64_t failures_{};                  ///< syncs that failed so far
    bool swallowed_{};                          ///< a file system told of a failure of nobody knows whom
    std::unordered_set<Fid, FidHash> hopeless_; ///< what is read of them may still be what a failed sync lost
};

} // namespace stead::mirror

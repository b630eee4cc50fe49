// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/mirror/content.hpp>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <sys/stat.h>

/// The replicated directories as inodes named by FID, and what the core's effects do to them.
namespace stead::mirror {

/// One replicated directory. Its data lie at `place` while the module is stopped; while it runs they are in the folder
/// `hidden` (root only, beside it, same file system), and `place` is an empty immutable directory that a mount covers.
struct Root {
    std::filesystem::path place;
    std::string hidden_suffix{"_For_SafeKit_Replication"};
    std::vector<std::string> excluded;       ///< relative paths that are not replicated, with all below them
    std::vector<std::string> excluded_regex; ///< POSIX extended, matched against the whole relative path
    std::vector<std::string> to_check;       ///< relative paths that the data must have, or nothing is opened
    /// This node has the good copy: an empty directory at `place` that is not the one that was replicated is an error.
    bool known{};
};

/// A failed system call of the backing file system; errno values.
using Errno = int;

/// Threading: every member may be called from any thread; calls that change the same inode never overlap (the core's
/// locks see to that), reads may overlap with anything.
/// Errors: errno values of the backing file system. No member throws, except when memory ends.
class Tree {
public:
    struct Options {
        std::vector<Root> roots;
        std::filesystem::path state; ///< folder for the undo log and the manifest; made if missing
        std::function<void(bool alarm, const std::string&)> note;
    };
    /// Moves the data aside (renameat2 RENAME_EXCHANGE), indexes all inodes, gives those without FID a new one, and
    /// compares with the manifest of the last close(). Errors name the directory and what to do: missing, a mount
    /// point, a sub-mount inside, a file system without trusted xattrs or file handles. Where Root::to_check names
    /// something that is missing, the data are at their place afterwards, also those that a crash had left aside.
    [[nodiscard]] static Result<std::unique_ptr<Tree>> open(Options options);
    /// Without close() the data stay aside, as after a crash.
    virtual ~Tree() = default;
    /// Writes the manifest and moves the data back to their place. Nothing may be mounted over them any more.
    [[nodiscard]] virtual Result<void> close() = 0;
    /// What was changed behind our back since close(): inodes that are new, gone, or of another ctime or size, with
    /// their zones and directories. All targets when the manifest is damaged or lost. Empty after a crash, when no
    /// manifest tells.
    [[nodiscard]] virtual const TargetSet& foreign() const noexcept = 0;
    /// Other roots, or other exclusions in them, than foreign_accounted() was last told: what was not replicated and is
    /// now is in nobody's marks. Everything must be compared.
    [[nodiscard]] virtual bool configured_anew() const noexcept = 0;
    /// The highest number under which something was parked before open(); numbers go on from there.
    [[nodiscard]] virtual Seq last_parked() const = 0;
    /// The caller has foreign() in its durable log and configured_anew() in its record, or does not need them: the
    /// manifest goes. Until then a crash, and the next open(), will find the same again (and what was changed through
    /// us since). Not needed where there is nothing of the two.
    [[nodiscard]] virtual Errno foreign_accounted() = 0;
    [[nodiscard]] virtual bool empty() const noexcept = 0; ///< no name in any root

    // ---- Effects of the core (core.hpp says what each means)
    [[nodiscard]] virtual Errno apply(const Operation& operation, Seq park) = 0;
    [[nodiscard]] virtual Errno sync(const Fid& inode) = 0;
    /// Behind an apply(): the inode that its sync is expected for, as always behind such changes. sync_early() may
    /// begin it at once, on a thread that may wait; join_early() then has its outcome.
    [[nodiscard]] virtual std::optional<Fid> expects_sync(const Operation& applied) = 0;
    virtual void sync_early(const Fid& inode) = 0;
    /// As sync(), where an early one of it was begun: `then` gets the outcome, at once or on that one's thread. False:
    /// none was, `then` gets nothing. Asked for each sync: this is how it is learnt which ones to expect.
    [[nodiscard]] virtual bool join_early(const Fid& inode, std::function<void(Errno)> then) = 0;
    /// The application is gone: what was not told to its fsyncs is not told to the next one's.
    virtual void forget_failures() = 0;
    /// Another clock gives the times from here on: what was written last by the old one holds none of them back.
    virtual void forget_times() = 0;
    /// Everything written so far, by us, to any inode. Stays an error after a failed sync of an inode until that inode
    /// was written anew.
    [[nodiscard]] virtual Errno flush() = 0;
    /// Writes to the disk of each root; the first error.
    [[nodiscard]] virtual Errno probe() const = 0;
    [[nodiscard]] virtual Errno read(const Target& target, Payload& out) const = 0;         ///< nullptr: not there
    [[nodiscard]] virtual Errno digest(const Target& target, std::uint64_t& out) const = 0; ///< 0: not there
    [[nodiscard]] virtual Errno list(const std::optional<Fid>& inode, std::vector<Target>& out) const = 0;
    struct Stored {
        std::vector<Fid> created;   ///< inodes that it met and that a store() created since the last end_resync()
        std::vector<Zones> lacking; ///< of an inode: zones that hold data on the other side, and nothing here
    };
    [[nodiscard]] virtual Errno store(const Target& target, const Content& content, Seq park, Stored& out) = 0;
    [[nodiscard]] virtual Errno start_undo(bool go_on) = 0;
    /// EINVAL without start_undo(); nothing to do behind end_resync(), which a live change may meet.
    [[nodiscard]] virtual Errno save_undo(const std::vector<Target>& targets) = 0;
    [[nodiscard]] virtual Errno roll_back() = 0;
    /// What was parked under numbers up to this one is not wanted any more: in the core's order with end_resync(),
    /// which keeps of it what was lost in a split. Takes no time.
    virtual void unwanted(Seq through) = 0;
    /// As unwanted(), and removes all that is not wanted, unless the undo log is in use; 0: what was named before.
    virtual void purge(Seq through) = 0;
    /// tidy() and purge(0) are due after it.
    virtual void end_resync(bool keep_undo) = 0;
    /// A piece of what end_resync() has left to do because it takes long; false: nothing is left. close() does all.
    [[nodiscard]] virtual bool tidy() = 0;

    // ---- For persons
    /// Where inodes are, as absolute paths (of several names one); not those that have none. Reads every directory.
    [[nodiscard]] virtual Errno paths_of(const std::set<Fid>& inodes, std::map<Fid, std::string>& out) const = 0;

    // ---- For the file system in front of it
    [[nodiscard]] virtual std::size_t roots() const noexcept = 0;
    [[nodiscard]] virtual Fid root(std::size_t index) const noexcept = 0;
    [[nodiscard]] virtual const Root& describe(std::size_t index) const noexcept = 0;
    /// A new random name for an inode about to be made in this root.
    [[nodiscard]] virtual Fid fresh(std::size_t root = 0) = 0;
    /// Opens an inode; O_PATH is meant where flags have it. Negative errno on failure: -ESTALE when there is none.
    [[nodiscard]] virtual int open_inode(const Fid& inode, int flags) const = 0;
    /// FID and attributes of a name; ENOENT also for
    /// excluded names when `replicated_only`. An inode that is excluded
    /// from replication has a FID of its own all the same, and `excluded` says so.
    struct Entry {
        Fid inode;
        struct stat attributes {};
        bool excluded{};
    };
    [[nodiscard]] virtual Errno lookup(const Fid& parent, const std::string& name, Entry& out) const = 0;
    [[nodiscard]] virtual bool excluded(const Fid& inode) const = 0;
    /// Would `name` in `parent` be excluded? (A rename or link across that border is EXDEV.)
    [[nodiscard]] virtual bool excluded(const Fid& parent, const std::string& name) const = 0;
    /// A path below this directory is excluded by name: renaming it is EXDEV.
    [[nodiscard]] virtual bool pinned(const Fid& directory) const = 0;
    /// This directory would get, as `name` in `parent`, something below it that is excluded there: EXDEV too.
    [[nodiscard]] virtual bool hides(const Fid& directory, const Fid& parent, const std::string& name) const = 0;
    /// Performs a change of an excluded inode, or of one that lost its last name, on this node only.
    [[nodiscard]] virtual Errno apply_here(const Content& content) = 0;
};

/// Digest of content as the core compares it: XXH3 of its encoding. 0 only of a zone without data: as one that is not
/// there.
[[nodiscard]] std::uint64_t digest_of(const Content& content);

} // namespace stead::mirror

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "inodes.hpp"
#include "lost_paths.hpp"
#include "scan.hpp"
#include "undo_log.hpp"
#include "written.hpp"

#include <stead/base/assert.hpp>
#include <stead/mirror/tree.hpp>

#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <unordered_set>

namespace stead::mirror {

/// Tree on directories of this machine. The members are grouped by file: tree.cpp opens, closes and answers the front;
/// apply.cpp, make.cpp and names.cpp perform changes; content.cpp reads; placing.cpp stores; undo.cpp saves and
/// restores.
class StoredTree final : public Tree {
public:
    explicit StoredTree(Options options, std::size_t open_max);
    ~StoredTree() override;
    [[nodiscard]] Result<void> start();

    [[nodiscard]] Result<void> close() override;
    [[nodiscard]] const TargetSet& foreign() const noexcept override { return foreign_; }
    [[nodiscard]] bool configured_anew() const noexcept override { return configured_anew_; }
    [[nodiscard]] Seq last_parked() const override;
    [[nodiscard]] Errno foreign_accounted() override;
    [[nodiscard]] bool empty() const noexcept override;

    [[nodiscard]] Errno apply(const Operation& operation, Seq park) override;
    [[nodiscard]] Errno sync(const Fid& inode) override { return written_.sync(inodes_, inode); }
    [[nodiscard]] std::optional<Fid> expects_sync(const Operation& applied) override;
    void sync_early(const Fid& inode) override {
        written_.early().run(inode, [&] { return written_.sync(inodes_, inode); });
    }
    [[nodiscard]] bool join_early(const Fid& inode, std::function<void(Errno)> then) override {
        return written_.early().join(inode, std::move(then));
    }
    void forget_failures() override { written_.early().nobody_asks(); }
    void forget_times() override { inodes_.forget_times(); }
    [[nodiscard]] Errno flush() override { return written_.flush(inodes_); }
    [[nodiscard]] Errno probe() const override;
    [[nodiscard]] Errno read(const Target& target, Payload& out) const override;
    [[nodiscard]] Errno digest(const Target& target, std::uint64_t& out) const override;
    [[nodiscard]] Errno list(const std::optional<Fid>& inode, std::vector<Target>& out) const override;
    [[nodiscard]] Errno paths_of(const std::set<Fid>& inodes, std::map<Fid, std::string>& out) const override;
    [[nodiscard]] Errno store(const Target& target, const Content& content, Seq park, Stored& out) override;
    [[nodiscard]] Errno start_undo(bool go_on) override;
    [[nodiscard]] Errno save_undo(const std::vector<Target>& targets) override;
    [[nodiscard]] Errno roll_back() override;
    void unwanted(Seq through) override;
    void purge(Seq through) override;
    void end_resync(bool keep_undo) override;
    [[nodiscard]] bool tidy() override;

    [[nodiscard]] std::size_t roots() const noexcept override { return inodes_.roots.size(); }
    [[nodiscard]] Fid root(std::size_t index) const noexcept override { return inodes_.roots[index]->fid; }
    [[nodiscard]] const Root& describe(std::size_t index) const noexcept override {
        return inodes_.roots[index]->options;
    }
    [[nodiscard]] Fid fresh(std::size_t root) override;
    [[nodiscard]] int open_inode(const Fid& inode, int flags) const override { return inodes_.open(inode, flags); }
    [[nodiscard]] Errno lookup(const Fid& parent, const std::string& name, Entry& out) const override;
    [[nodiscard]] bool excluded(const Fid& inode) const override;
    [[nodiscard]] bool excluded(const Fid& parent, const std::string& name) const override;
    [[nodiscard]] bool pinned(const Fid& directory) const override;
    [[nodiscard]] bool hides(const Fid& directory, const Fid& parent, const std::string& name) const override;
    [[nodiscard]] Errno apply_here(const Content& content) override;

private:
    /// How a change is performed.
    struct Manner {
        Time at;
        Seq park{};        ///< see Apply
        bool replicated{}; ///< not on this node only
    };
    /// A name in a directory that is open.
    struct Spot {
        InodeRef folder;
        Located parent;
        std::string name;
    };
    /// What stands at a spot.
    struct Found {
        Located located;
        struct stat attributes {};
    };

    // apply.cpp
    [[nodiscard]] Errno perform(const Content& content, const Manner& manner);
    [[nodiscard]] Errno perform(const change::Write& change, const Manner& manner);
    [[nodiscard]] Errno perform(const change::Attributes& change, const Manner& manner);
    [[nodiscard]] Errno perform(const change::SetXattr& change, const Manner& manner);
    [[nodiscard]] Errno perform(const change::RemoveXattr& change, const Manner& manner);
    [[nodiscard]] Errno perform(const change::Allocate& change, const Manner& manner);
    [[nodiscard]] Errno resize(const change::Attributes& change, const Manner& manner);
    void note(const Located& located);

    // make.cpp
    [[nodiscard]] Errno perform(const change::Make& change, const Manner& manner);
    [[nodiscard]] Errno make(const Spot& spot, const change::Make& change, const Time& at, bool excluded,
                             bool incomplete);
    [[nodiscard]] Errno make_file(const Spot& spot, const change::Make& change, const Time& at, Located& located);
    [[nodiscard]] Errno make_node(const Spot& spot, const change::Make& change, const Time& at, Located& located);
    [[nodiscard]] Errno finish_new(int fd, const change::Make& change, const Time& at, bool inherits, Located& located);

    // names.cpp
    [[nodiscard]] Errno perform(const change::Link& change, const Manner& manner);
    [[nodiscard]] Errno perform(const change::Remove& change, const Manner& manner);
    [[nodiscard]] Errno perform(const change::Rename& change, const Manner& manner);
    [[nodiscard]] Errno find_spot(const Fid& parent, const std::string& name, Spot& out) const;
    [[nodiscard]] static Time change_time(const Spot& spot, const Manner& manner);
    [[nodiscard]] Errno look(const Spot& spot, Found& out) const; ///< ENOENT: nothing there
    [[nodiscard]] Errno check_rename(const change::Rename& change, const Spot& from, const Spot& to, Found& moved,
                                     std::optional<Found>& replaced) const;
    /// Whether a directory has no name in it but such as are not replicated.
    [[nodiscard]] Errno check_empty(const Located& directory) const;
    [[nodiscard]] Errno take_away(const Spot& spot, const Found& found, Seq park);
    [[nodiscard]] Errno to_park(int folder, const std::string& name, const Located& located, Seq seq);
    void left_park(const Located& located); ///< it has another name now
    [[nodiscard]] Errno destroy(const OpenRoot& root, const std::string& name);
    [[nodiscard]] Errno empty_out(const OpenRoot& root, int folder, std::vector<std::string>& more);
    void purge_now(Seq through);
    void lost_last_name(const Fid& fid);
    [[nodiscard]] std::string temporary_name();
    void clean_park();

    // content.cpp
    /// `strangers`: names in a directory that nobody made through us. They are in no listing.
    [[nodiscard]] Errno read_content(const Target& target, bool zones, std::optional<Content>& out,
                                     std::vector<std::string>* strangers = nullptr) const;
    [[nodiscard]] Errno read_listing(const Located& directory, copy::Listing& out,
                                     std::vector<std::string>* strangers = nullptr) const;
    [[nodiscard]] Errno put_out(const Spot& spot) const;
    [[nodiscard]] Errno read_inode(const Located& located, bool zones, copy::Inode& out) const;
    [[nodiscard]] Errno list_one(const Located& located, std::vector<Target>& out) const;
    [[nodiscard]] Errno list_all(std::vector<Target>& out) const;

    // placing.cpp
    [[nodiscard]] Errno find_alive(const Fid& fid, Located& out, struct stat& attributes) const;
    [[nodiscard]] Errno make_empty(const Spot* spot, const copy::Listing::Entry& entry, Seq park);
    [[nodiscard]] Errno ensure(const Fid& fid, const copy::Listing::Entry& entry, Seq park, bool& incomplete);
    [[nodiscard]] Errno store_zone(const Fid& fid, std::uint64_t index, const copy::Zone& zone, Seq park);
    [[nodiscard]] static Errno data_ranges(int fd, std::uint64_t size, std::vector<copy::ZoneRange>& out);
    [[nodiscard]] Errno find_lacking(const Fid& fid, int fd, std::uint64_t size, const copy::Inode& inode,
                                     Stored& out) const;
    [[nodiscard]] Errno store_inode(const Fid& fid, const copy::Inode& inode, Seq park, Stored& out);
    [[nodiscard]] Errno store_listing(const Fid& fid, const copy::Listing& listing, Seq park,
                                      std::vector<Fid>& created);
    [[nodiscard]] Errno check_listing(const Located& directory, const copy::Listing& listing) const;
    [[nodiscard]] Errno unplace(const Spot& folder, const copy::Listing& listing, Seq park,
                                std::map<std::string, Fid>& present);
    [[nodiscard]] Errno place(const Spot& spot, const copy::Listing::Entry& entry, Seq park, std::vector<Fid>& created);
    [[nodiscard]] Errno move_directory(const Located& moved, const Spot& spot, Seq park);
    [[nodiscard]] Errno displace(const Located& directory, Seq park);
    void settle_displaced();

    // undo.cpp, lost.cpp
    [[nodiscard]] std::filesystem::path undo_path() const;
    /// A cut or a hole takes zones that no target names: while undo is kept, those that hold data are saved right
    /// before it happens. `taken`: of this zone something goes. The caller holds none of the locks below.
    void forget_made();
    [[nodiscard]] bool made_by_resync(const Target& target);
    [[nodiscard]] Errno save_taken(const Fid& fid, const std::function<bool(std::uint64_t zone)>& taken);
    /// Makes an export of the undo log and of what was parked up to here. Its lock is held.
    [[nodiscard]] Errno keep_lost(Seq through);
    void end_undo(); ///< what end_resync() has left to do of it. Its lock is held
    [[nodiscard]] Errno read_undone(std::set<Fid>& overwritten, std::map<Fid, copy::Listing>& listings) const;
    [[nodiscard]] Errno names_gone(const Fid& directory, const copy::Listing& before,
                                   const std::function<void(const copy::Listing::Entry&)>& gone) const;
    [[nodiscard]] Errno lost_paths(const std::string& folder, Seq through, std::vector<LostPath>& out);
    [[nodiscard]] Errno write_lost_paths(const std::string& folder, Seq through, std::vector<LostPath>& paths);
    void forget_below(std::vector<Fid> kept);
    [[nodiscard]] Errno keep_parked(const std::vector<LostPath>& paths, const std::string& folder);
    [[nodiscard]] Errno
    walk_names(std::vector<Fid> unseen, const std::set<Fid>& wanted,
               const std::function<void(const Fid& parent, const std::string& name, const Fid&)>& found) const;
    [[nodiscard]] std::map<Fid, std::string> places() const;

    // tree.cpp
    /// The root that a FID was made for, when it was made by a Tree; the first otherwise.
    [[nodiscard]] std::uint8_t root_of(const Fid& fid) const noexcept;
    [[nodiscard]] bool hides_below(const Exclusions& exclusions, const Fid& directory, const std::string& path) const;
    [[nodiscard]] Result<void> make_durable() const;
    [[nodiscard]] Errno forget_cached() const;
    [[nodiscard]] Result<void> take_over();

    // aside.cpp
    [[nodiscard]] std::filesystem::path aside_path() const;
    void put_back_others();
    void note_aside() const;
    void forget_aside() const;

    // foreign.cpp
    [[nodiscard]] Result<void> index_all();
    [[nodiscard]] std::filesystem::path manifest_path() const;
    [[nodiscard]] std::string configured() const;
    [[nodiscard]] std::filesystem::path configured_path() const;
    [[nodiscard]] bool was_replicated(const std::filesystem::path& place) const;
    [[nodiscard]] Result<void> account() const;
    void hand_back();
    [[nodiscard]] Result<void> check_markers() const;
    [[nodiscard]] Result<void> check_openers() const;
    void hand_back_all();
    void say(bool alarm, const std::string& text) const;

    Options options_;
    std::string others_aside_; ///< entries of the file `aside` that could not be put back
    Inodes inodes_;
    Written written_;
    TargetSet foreign_;
    bool configured_anew_{}, closed_{};
    /// Held while names are taken away or found by inode, so that the last one is known to be the last.
    mutable std::mutex names_;
    std::map<Fid, Seq> parked_;
    std::set<Fid> displaced_;       ///< parked only until their place is free
    std::vector<Fid> incomplete_;   ///< made empty by a resync
    std::vector<Fid> still_marked_; ///< were, and have been filled since: only their marks say otherwise
    std::atomic<std::uint64_t> temporaries_{0};
    std::mutex undo_mutex_; ///< before names_
    UndoLog undo_;
    std::atomic<bool> saves_undo_{}; ///< between start_undo() and the end of the resync, or its roll-back
    std::mutex made_mutex_;
    std::unordered_set<Fid, FidHash> made_; ///< since the undo log was begun; guarded by made_mutex_
    bool resync_ended_{};                   ///< since the last start_undo(); guarded by undo_mutex_
    struct Ending {
        bool keep_undo{};
        Seq through{};
    };
    std::optional<Ending> ending_; ///< of the undo log
    std::atomic<Seq> purge_later_{};
};

} // namespace stead::mirror

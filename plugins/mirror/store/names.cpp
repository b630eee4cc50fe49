// SPDX-License-Identifier: Apache-2.0
#include "stored_tree.hpp"

#include <unistd.h>

/// Names: linked, removed, moved, and parked when they were an inode's last.
namespace stead::mirror {

Errno StoredTree::find_spot(const Fid& parent, const std::string& name, Spot& out) const {
    if (!sys::name_is_sound(name)) {
        return name.size() > NAME_MAX ? ENAMETOOLONG : EINVAL;
    }
    const auto located = inodes_.index.find(parent);
    int error = ESTALE;
    out.folder = located ? inodes_.directory(parent, error) : nullptr;
    if (out.folder == nullptr) {
        return error;
    }
    out.parent = *located;
    out.name = name;
    return 0;
}

/// When a directory was changed: now, but for a name that is not replicated in one that is. The other node does not
/// hear of it, and the two would differ.
Time StoredTree::change_time(const Spot& spot, const Manner& manner) {
    struct stat before {};
    const bool unheard = !manner.replicated && !spot.parent.excluded;
    return unheard && sys::attributes(spot.folder->fd(), before) == 0 ? sys::to_time(before.st_mtim) : manner.at;
}

Errno StoredTree::look(const Spot& spot, Found& out) const {
    const int folder = spot.folder->fd();
    if (const int error = sys::attributes(folder, spot.name.c_str(), out.attributes); error != 0) {
        return error;
    }
    sys::Mark mark;
    const int error = sys::read_mark(folder, spot.name, mark);
    if (error != 0) {
        return error == ENODATA ? ESTALE : error; // it is just being made
    }
    const auto located = inodes_.index.find(mark.fid);
    out.located = located ? *located : Located{};
    out.located.fid = mark.fid;
    return 0;
}

std::string StoredTree::temporary_name() { return "tmp-" + std::to_string(++temporaries_); }

/// What it held in memory goes; what a process has open stays reachable until it is closed.
void StoredTree::lost_last_name(const Fid& fid) {
    written_.gone(fid);
    inodes_.unlinked(fid);
}

Errno StoredTree::to_park(int folder, const std::string& name, const Located& located, Seq seq) {
    const std::string aside = park_name(seq, located.fid);
    const int park = inodes_.roots[located.root]->place.park();
    if (::renameat2(folder, name.c_str(), park, aside.c_str(), RENAME_NOREPLACE) != 0) {
        return errno;
    }
    parked_[located.fid] = seq;
    return 0;
}

void StoredTree::left_park(const Located& located) {
    const auto found = parked_.find(located.fid);
    if (found == parked_.end()) {
        return;
    }
    const std::string aside = park_name(found->second, located.fid);
    ::unlinkat(inodes_.roots[located.root]->place.park(), aside.c_str(), 0);
    parked_.erase(found);
}

Errno StoredTree::check_empty(const Located& directory) const {
    int error = 0;
    const InodeRef folder = inodes_.directory(directory.fid, error);
    if (folder == nullptr) {
        return error;
    }
    const Fd fd(::openat(folder->fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)); // the position is shared otherwise
    return !fd ? errno : sys::each_entry(fd.get(), [&](const char* name, unsigned char) {
        return inodes_.excluded(directory, name) ? 0 : ENOTEMPTY;
    });
}

/// Removes the name of what was found there; its last one goes to the park where `park` is not 0. Names are locked.
Errno StoredTree::take_away(const Spot& spot, const Found& found, Seq park) {
    const bool directory = S_ISDIR(found.attributes.st_mode);
    const bool last = directory || found.attributes.st_nlink <= 1;
    if (last && park != 0) {
        return to_park(spot.folder->fd(), spot.name, found.located, park);
    }
    if (::unlinkat(spot.folder->fd(), spot.name.c_str(), directory ? AT_REMOVEDIR : 0) != 0) {
        return errno;
    }
    if (last) {
        lost_last_name(found.located.fid);
    }
    return 0;
}

Errno StoredTree::perform(const change::Link& change, const Manner& manner) {
    Spot spot;
    if (const Errno error = find_spot(change.parent, change.name, spot); error != 0) {
        return error;
    }
    const auto located = inodes_.index.find(change.inode);
    const Fd fd(located ? inodes_.open(*located, O_PATH) : -ESTALE);
    if (!fd) {
        return open_error(fd);
    }
    if (manner.replicated && inodes_.excluded(spot.parent, change.name)) {
        return EPERM;
    }
    const std::lock_guard lock(names_);
    const Time changed = change_time(spot, manner);
    if (::linkat(fd.get(), "", spot.folder->fd(), change.name.c_str(), AT_EMPTY_PATH) != 0) {
        const int error = errno;
        Found there;
        return error == EEXIST && look(spot, there) == 0 && there.located.fid == change.inode ? 0 : error;
    }
    left_park(*located);
    written_.note(change.parent, Written::What::all);
    return sys::set_times(spot.folder->fd(), std::nullopt, changed);
}

Errno StoredTree::perform(const change::Remove& change, const Manner& manner) {
    Spot spot;
    if (const Errno error = find_spot(change.parent, change.name, spot); error != 0) {
        return error;
    }
    const std::lock_guard lock(names_);
    Found found;
    if (const Errno error = look(spot, found); error != 0) {
        return error;
    }
    if (found.located.fid != change.inode) {
        return ESTALE;
    }
    if (S_ISDIR(found.attributes.st_mode) != change.directory) {
        return change.directory ? ENOTDIR : EISDIR;
    }
    if (change.directory) {
        if (const Errno error = check_empty(found.located); error != 0) {
            return error;
        }
    }
    const Time changed = change_time(spot, manner);
    if (const Errno error = take_away(spot, found, manner.park); error != 0) {
        return error;
    }
    written_.note(change.parent, Written::What::all);
    return sys::set_times(spot.folder->fd(), std::nullopt, changed);
}

/// Whether both names are what the other node saw.
Errno StoredTree::check_rename(const change::Rename& change, const Spot& from, const Spot& to, Found& moved,
                               std::optional<Found>& replaced) const {
    if ((change.flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) {
        return EINVAL;
    }
    if (const Errno error = look(from, moved); error != 0) {
        return error;
    }
    Found there;
    const Errno error = look(to, there);
    if (error != 0 && error != ENOENT) {
        return error;
    }
    if (error == 0) {
        replaced = there;
    }
    if (moved.located.fid != change.inode || (replaced ? replaced->located.fid : Fid{}) != change.replaced) {
        return ESTALE;
    }
    if (!replaced) {
        return (change.flags & RENAME_EXCHANGE) != 0 ? ENOENT : 0;
    }
    if ((change.flags & RENAME_NOREPLACE) != 0) {
        return EEXIST;
    }
    if ((change.flags & RENAME_EXCHANGE) != 0 || change.inode == change.replaced) {
        return 0;
    }
    const bool directory = S_ISDIR(replaced->attributes.st_mode);
    if (directory != S_ISDIR(moved.attributes.st_mode)) {
        return directory ? EISDIR : ENOTDIR;
    }
    return directory ? check_empty(replaced->located) : 0;
}

Errno StoredTree::perform(const change::Rename& change, const Manner& manner) {
    Spot from, to;
    Errno error = find_spot(change.parent, change.name, from);
    error = error == 0 ? find_spot(change.new_parent, change.new_name, to) : error;
    if (error != 0) {
        return error;
    }
    if (manner.replicated &&
        (inodes_.excluded(from.parent, from.name) || inodes_.excluded(to.parent, to.name) || pinned(change.inode))) {
        return EPERM;
    }
    const std::lock_guard lock(names_);
    Found moved;
    std::optional<Found> replaced;
    if ((error = check_rename(change, from, to, moved, replaced)) != 0) {
        return error;
    }
    if (replaced && change.inode == change.replaced) {
        return 0; // two names of one inode: both stay
    }
    const Time from_changed = change_time(from, manner), to_changed = change_time(to, manner);
    const bool over = replaced && (change.flags & RENAME_EXCHANGE) == 0;
    const bool last = over && (S_ISDIR(replaced->attributes.st_mode) || replaced->attributes.st_nlink <= 1);
    const bool parks = last && manner.park != 0;
    // Exchanged first, so that there is no moment without the new name.
    const unsigned flags = parks ? static_cast<unsigned>(RENAME_EXCHANGE) : change.flags;
    if (::renameat2(from.folder->fd(), from.name.c_str(), to.folder->fd(), to.name.c_str(), flags) != 0) {
        return errno;
    }
    if (parks) {
        error = to_park(from.folder->fd(), from.name, replaced->located, manner.park);
    } else if (last) {
        lost_last_name(change.replaced);
    }
    written_.note(change.parent, Written::What::all);
    written_.note(change.new_parent, Written::What::all);
    error = error == 0 ? sys::set_times(from.folder->fd(), std::nullopt, from_changed) : error;
    return error == 0 ? sys::set_times(to.folder->fd(), std::nullopt, to_changed) : error;
}

// ---- The park -------------------------------------------------------------------------------------------------------

/// Removes the names in a folder of the park; its folders are moved up to be emptied in turn: no recursion, any depth.
Errno StoredTree::empty_out(const OpenRoot& root, int folder, std::vector<std::string>& more) {
    std::vector<std::pair<std::string, bool>> names;
    Errno error = sys::each_entry(folder, [&](const char* name, unsigned char) {
        struct stat found {};
        const int looked = sys::attributes(folder, name, found);
        names.emplace_back(name, S_ISDIR(found.st_mode));
        sys::Mark mark;
        const bool last = S_ISDIR(found.st_mode) || found.st_nlink <= 1;
        if (looked == 0 && last && sys::read_mark(folder, name, mark) == 0) {
            parked_.erase(mark.fid);
            if (const auto known = inodes_.index.find(mark.fid); known && !S_ISDIR(found.st_mode)) {
                lost_last_name(mark.fid);
            }
        }
        return looked;
    });
    for (auto at = names.begin(); error == 0 && at != names.end(); ++at) {
        if (at->second) {
            more.push_back(temporary_name());
            error = sys::result(::renameat(folder, at->first.c_str(), root.place.park(), more.back().c_str()));
        } else {
            error = sys::result(::unlinkat(folder, at->first.c_str(), 0));
        }
    }
    return error;
}

/// Something in the park, with all below it.
Errno StoredTree::destroy(const OpenRoot& root, const std::string& name) {
    const int park = root.place.park();
    std::vector<std::string> unseen{name};
    while (!unseen.empty()) {
        const std::string next = std::move(unseen.back());
        unseen.pop_back();
        struct stat found {};
        sys::Mark mark;
        if (const int error = sys::attributes(park, next.c_str(), found); error != 0) {
            return error;
        }
        const bool marked = sys::read_mark(park, next, mark) == 0;
        if (S_ISDIR(found.st_mode)) {
            const Fd folder(::openat(park, next.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
            if (const Errno error = folder ? empty_out(root, folder.get(), unseen) : errno; error != 0) {
                return error;
            }
        }
        if (::unlinkat(park, next.c_str(), S_ISDIR(found.st_mode) ? AT_REMOVEDIR : 0) != 0) {
            return errno;
        }
        if (marked && (S_ISDIR(found.st_mode) || found.st_nlink <= 1)) {
            lost_last_name(mark.fid);
        }
    }
    return 0;
}

/// What a crash left half made or half removed.
void StoredTree::clean_park() {
    for (const auto& root : inodes_.roots) {
        std::vector<std::string> left;
        const Errno listed = sys::each_entry(root->place.park(), [&](const char* name, unsigned char) {
            if (std::string_view(name).starts_with("tmp-")) {
                left.emplace_back(name);
            }
            return 0;
        });
        for (const std::string& name : left) {
            if (const Errno error = destroy(*root, name); error != 0 || listed != 0) {
                say(true, root->place.hidden_path() + "/park/" + name + " cannot be removed");
            }
        }
    }
}

/// One at a time, and files without the lock: there may be a hundred thousand, and what changes names waits for it.
void StoredTree::purge_now(Seq through) {
    std::vector<std::pair<Fid, Seq>> unwanted;
    {
        const std::lock_guard lock(names_);
        for (const auto& [fid, seq] : parked_) {
            if (displaced_.contains(fid)) {
                say(true, "a directory of an unfinished resync stays in the park: " + park_name(seq, fid));
            } else if (seq <= through) {
                unwanted.emplace_back(fid, seq);
            }
        }
    }
    for (const auto& [fid, seq] : unwanted) {
        std::unique_lock lock(names_);
        const auto parked = parked_.find(fid);
        if (parked == parked_.end() || parked->second != seq) {
            continue; // it has a name again
        }
        parked_.erase(parked);
        const auto located = inodes_.index.find(fid);
        if (!located) {
            continue;
        }
        if (!located->is_directory()) { // what is below a directory may be parked as well
            lock.unlock();
        }
        const OpenRoot& root = *inodes_.roots[located->root];
        if (const Errno error = destroy(root, park_name(seq, fid)); error != 0 && error != ENOENT) {
            say(true, os_error(root.place.hidden_path(), "a parked inode cannot be removed", error).text());
        }
    }
}

} // namespace stead::mirror

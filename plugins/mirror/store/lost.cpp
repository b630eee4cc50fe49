// SPDX-License-Identifier: Apache-2.0
#include "lost_paths.hpp"
#include "stored_tree.hpp"

#include <algorithm>
#include <unordered_map>

#include <unistd.h>

/// At the end of a resync after a split: what was overwritten and parked becomes an export, with the paths it had.
namespace stead::mirror {

namespace {

struct Name {
    Fid parent;
    std::string name;
};
using Names = std::unordered_map<Fid, Name, FidHash>;

/// Path below the root that it ends in; none when a directory of it is not known.
std::optional<std::string> climb(const Names& names, const std::map<Fid, std::string>& tops, Fid at) {
    std::string path;
    for (std::size_t steps = 0; steps <= names.size(); ++steps) {
        if (const auto top = tops.find(at); top != tops.end()) {
            return top->second + path;
        }
        const auto found = names.find(at);
        if (found == names.end()) {
            return std::nullopt;
        }
        path.insert(0, "/" + found->second.name);
        at = found->second.parent;
    }
    return std::nullopt;
}

} // namespace

/// Names of all directories and of `wanted`, in the tree and below `unseen`.
Errno StoredTree::walk_names(
    std::vector<Fid> unseen, const std::set<Fid>& wanted,
    const std::function<void(const Fid& parent, const std::string& name, const Fid&)>& found) const {
    for (const auto& root : inodes_.roots) {
        unseen.push_back(root->fid);
    }
    while (!unseen.empty()) {
        const Fid next = unseen.back();
        unseen.pop_back();
        const auto directory = inodes_.index.find(next);
        const Fd folder(directory && directory->is_directory() ? inodes_.open(*directory, O_RDONLY | O_DIRECTORY) : -1);
        const Errno error = !folder ? 0 : sys::each_entry(folder.get(), [&](const char* name, unsigned char) {
            sys::Mark mark;
            if (sys::read_mark(folder.get(), name, mark) != 0) {
                return 0;
            }
            const auto located = inodes_.index.find(mark.fid);
            const bool is_directory = located && located->is_directory();
            if (is_directory || wanted.contains(mark.fid)) {
                found(next, name, mark.fid);
            }
            if (is_directory) {
                unseen.push_back(mark.fid);
            }
            return 0;
        });
        if (error != 0) {
            return error;
        }
    }
    return 0;
}

/// Where the inodes of the undo log and of the park were, and where they are now.
Errno StoredTree::lost_paths(std::vector<LostPath>& out) {
    std::set<Fid> overwritten;
    std::map<Fid, copy::Listing> listings;
    for (const UndoLog::Entry& entry : undo_.entries()) {
        Content content;
        if (!entry.there) {
            continue;
        }
        if (entry.target.kind != TargetKind::directory) {
            overwritten.insert(entry.target.fid);
        } else if (const Errno error = undo_.read(entry, content); error != 0) {
            return error;
        } else if (auto* listing = std::get_if<copy::Listing>(&content.what)) {
            listings[entry.target.fid] = std::move(*listing);
        }
    }
    Names now, was;
    std::vector<Fid> aside;
    for (const auto& [fid, seq] : parked_) {
        aside.push_back(fid);
    }
    const Errno error =
        walk_names(std::move(aside), overwritten, [&](const Fid& parent, const std::string& name, const Fid& fid) {
            now[fid] = {parent, name};
            if (!listings.contains(parent)) {
                was[fid] = {parent, name};
            }
        });
    for (const auto& [parent, listing] : listings) {
        for (const copy::Listing::Entry& entry : listing.entries) {
            was[entry.inode] = {parent, entry.name};
        }
    }
    const std::map<Fid, std::string> tops = places();
    for (const auto& [fid, seq] : parked_) {
        if (const auto path = climb(was, tops, fid); path && seq <= purge_later_) {
            out.push_back({fid, true, *path, {}});
        }
    }
    for (const Fid& fid : overwritten) {
        const auto located = inodes_.index.find(fid);
        const auto path = climb(was, tops, fid);
        if (located && path && !parked_.contains(fid) && (located->is_file() || located->type() == S_IFLNK)) {
            out.push_back({fid, false, *path, climb(now, tops, fid).value_or("")});
        }
    }
    return error;
}

std::map<Fid, std::string> StoredTree::places() const {
    std::map<Fid, std::string> tops;
    for (const auto& root : inodes_.roots) {
        tops[root->fid] = root->options.place.lexically_normal().string();
    }
    return tops;
}

Errno StoredTree::paths_of(const std::set<Fid>& inodes, std::map<Fid, std::string>& out) const {
    Names names;
    const Errno error = walk_names({}, inodes, [&](const Fid& parent, const std::string& name, const Fid& fid) {
        names[fid] = {parent, name};
    });
    const std::map<Fid, std::string> tops = places();
    for (const Fid& fid : inodes) {
        if (const auto path = climb(names, tops, fid)) {
            out[fid] = *path;
        }
    }
    return error;
}

/// Into the folder beside the data: nobody purges it there.
Errno StoredTree::keep_parked(const std::vector<LostPath>& paths, const std::string& folder) {
    for (const LostPath& path : paths) {
        const auto located = inodes_.index.find(path.fid);
        const auto parked = parked_.find(path.fid);
        if (!path.whole || !located || parked == parked_.end()) {
            continue;
        }
        const Place& place = inodes_.roots[located->root]->place;
        if (::mkdirat(place.hidden(), folder.c_str(), 0700) != 0 && errno != EEXIST) {
            return errno;
        }
        const std::string to = folder + "/" + sys::text(path.fid);
        if (::renameat2(place.park(), park_name(parked->second, path.fid).c_str(), place.hidden(), to.c_str(),
                        RENAME_NOREPLACE) != 0) {
            return errno;
        }
        inodes_.forget(path.fid);
        inodes_.index.erase(path.fid);
        parked_.erase(parked);
        if (::fsync(place.hidden()) != 0) {
            return errno;
        }
    }
    return 0;
}

Errno StoredTree::keep_lost() {
    const std::lock_guard lock(names_);
    const std::vector<std::uint64_t> numbers = lost_numbers(options_.state);
    const std::string folder = lost_folder(numbers.empty() ? 1 : numbers.back() + 1);
    const std::filesystem::path path = options_.state / folder;
    std::vector<LostPath> paths;
    if (const Errno error = lost_paths(paths); error != 0) {
        return error;
    }
    if (paths.empty()) {
        return 0;
    }
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
        return errno;
    }
    std::sort(paths.begin(), paths.end(), [](const LostPath& a, const LostPath& b) { return a.was < b.was; });
    std::string text = encode_lost_paths(paths);
    for (const auto& root : inodes_.roots) {
        text.append(root->place.hidden_path()).push_back('\0');
    }
    if (!write_file_atomically(path / "paths", text, 0600)) {
        return EIO;
    }
    Errno error = keep_parked(paths, folder);
    error = error == 0 ? sys::result(::rename(undo_path().c_str(), (path / "undo").c_str())) : error;
    if (error == 0 && (!sync_folder(path) || !sync_folder(options_.state))) {
        error = EIO;
    }
    undo_.close();
    if (error == 0) {
        say(true, "what this node had and the other did not is kept as lost " + folder.substr(5) + ": " +
                      std::to_string(paths.size()) + " items");
    }
    return error;
}

} // namespace stead::mirror

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

/// The names that inodes had, and have.
struct LostNames {
    Names now, was; ///< `was`: of directories
    /// As listings before had them, and as they are in directories whose listing was not overwritten.
    std::map<Fid, std::vector<Name>> names, walked;
    std::map<Fid, std::string> in_tree; ///< the roots

    /// One item, and one more for each further name.
    void add(LostPath item, std::vector<LostPath>& out) {
        std::set<std::string> paths, inside; // of something that is kept as a whole
        const auto path_of = [&](const Name& name) {
            const auto above = climb(was, in_tree, name.parent);
            return above ? *above + "/" + name.name : "";
        };
        for (const Name& name : names[item.fid]) {
            paths.insert(path_of(name));
        }
        for (const Name& name : walked[item.fid]) {
            if (climb(now, in_tree, name.parent)) {
                paths.insert(path_of(name));
            } else {
                inside.insert(path_of(name));
            }
        }
        paths.erase("");
        inside.erase("");
        if (climb(now, in_tree, item.fid)) { // forget_below() takes these names away
            paths.merge(inside);
        } else if (paths.empty() && !inside.empty()) { // the copy of the whole has it
            paths.insert(*inside.begin());
        }
        for (const std::string& path : paths) {
            item.was = path;
            out.push_back(item);
            item = {item.fid, false, {}, {}, true};
        }
    }
};

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

/// What the undo log says of the time before: which inodes were overwritten, and what was in each directory.
Errno StoredTree::read_undone(std::set<Fid>& overwritten, std::map<Fid, copy::Listing>& listings) const {
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
    return 0;
}

/// Names in this directory that went: those of inodes that are neither parked nor overwritten are inside something that
/// is parked.
Errno StoredTree::names_gone(const Fid& directory, const copy::Listing& before,
                             const std::function<void(const copy::Listing::Entry&)>& gone) const {
    copy::Listing now;
    const auto located = inodes_.index.find(directory);
    const Errno error = located ? read_listing(*located, now) : ESTALE;
    if (error != 0 && error != ESTALE) {
        return error;
    }
    for (const copy::Listing::Entry& entry : before.entries) {
        const auto found =
            std::lower_bound(now.entries.begin(), now.entries.end(), entry.name,
                             [](const copy::Listing::Entry& one, const std::string& name) { return one.name < name; });
        if (found == now.entries.end() || found->name != entry.name || found->inode != entry.inode) {
            gone(entry);
        }
    }
    return 0;
}

/// Where the inodes of the undo log and of the park were, under each of their names, and where they are now. What is
/// parked goes to `folder`.
Errno StoredTree::lost_paths(const std::string& folder, Seq through, std::vector<LostPath>& out) {
    std::set<Fid> overwritten;
    std::map<Fid, copy::Listing> listings;
    Errno error = read_undone(overwritten, listings);
    LostNames lost;
    std::set<Fid> wanted = overwritten, strays;
    for (const auto& [parent, listing] : listings) {
        for (const copy::Listing::Entry& entry : listing.entries) {
            if (entry.type == S_IFDIR) {
                lost.was[entry.inode] = {parent, entry.name};
            } else if (overwritten.contains(entry.inode) || parked_.contains(entry.inode)) {
                lost.names[entry.inode].push_back({parent, entry.name});
            }
        }
        const auto gone = [&, of = parent](const copy::Listing::Entry& entry) {
            if (entry.type != S_IFDIR && !overwritten.contains(entry.inode) && !parked_.contains(entry.inode)) {
                lost.names[entry.inode].push_back({of, entry.name});
                strays.insert(entry.inode);
            }
        };
        error = error == 0 ? names_gone(parent, listing, gone) : error;
    }
    wanted.insert(strays.begin(), strays.end());
    lost.in_tree = places();
    std::map<Fid, std::string> tops = lost.in_tree;
    std::vector<Fid> aside;
    for (const auto& [fid, seq] : parked_) {
        const auto located = inodes_.index.find(fid);
        aside.push_back(fid);
        if (located && seq <= through) {
            tops[fid] = inodes_.roots[located->root]->place.hidden_path() + "/" + folder + "/" + sys::text(fid);
        }
    }
    const auto found = [&](const Fid& parent, const std::string& name, const Fid& fid) {
        const auto located = inodes_.index.find(fid);
        lost.now.try_emplace(fid, Name{parent, name}); // the tree comes first
        if (!listings.contains(parent) && located && located->is_directory()) {
            lost.was.try_emplace(fid, Name{parent, name});
        } else if (!listings.contains(parent)) {
            lost.walked[fid].push_back({parent, name});
        }
    };
    error = error == 0 ? walk_names(std::move(aside), wanted, found) : error;
    for (const auto& [fid, seq] : parked_) {
        if (const auto directory = lost.was.find(fid); directory != lost.was.end()) {
            lost.names[fid] = {directory->second};
        }
        if (seq <= through) {
            lost.add({fid, true, {}, {}, false}, out);
        }
    }
    for (const Fid& fid : wanted) {
        const auto located = inodes_.index.find(fid);
        const bool whole = strays.contains(fid) && !climb(lost.now, lost.in_tree, fid); // with what holds it
        const bool link = located && located->type() == S_IFLNK && overwritten.contains(fid);
        if (located && !parked_.contains(fid) && (located->is_file() || link || whole)) {
            lost.add({fid, false, {}, climb(lost.now, tops, fid).value_or(""), whole}, out);
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

/// What is inside a directory that is kept goes with it. What has a name in the tree as well was moved there: it is not
/// lost, and a further name would be in its count of links.
void StoredTree::forget_below(std::vector<Fid> kept) {
    std::unordered_map<Fid, std::vector<Name>, FidHash> inside;
    while (!kept.empty()) {
        const Fid next = kept.back();
        const auto directory = inodes_.index.find(next);
        kept.pop_back();
        const Fd folder(directory && directory->is_directory() ? inodes_.open(*directory, O_RDONLY | O_DIRECTORY)
                                                               : -ESTALE);
        static_cast<void>(!folder ? 0 : sys::each_entry(folder.get(), [&](const char* name, unsigned char) {
            sys::Mark mark;
            if (sys::read_mark(folder.get(), name, mark) == 0) {
                std::vector<Name>& names = inside[mark.fid];
                names.push_back({next, name});
                if (names.size() == 1) {
                    kept.push_back(mark.fid);
                }
            }
            return 0;
        }));
    }
    std::vector<Fid> gone;
    for (const auto& [fid, names] : inside) {
        struct stat found {};
        const auto located = inodes_.index.find(fid);
        const Fd fd(located && !parked_.contains(fid) ? inodes_.open(*located, O_PATH) : -ESTALE);
        if (!fd || sys::attributes(fd.get(), found) != 0) {
            continue;
        }
        if (located->is_directory() || found.st_nlink <= names.size()) {
            gone.push_back(fid);
            continue;
        }
        for (const Name& name : names) {
            if (const Fd folder(inodes_.open(name.parent, O_PATH)); folder) {
                ::unlinkat(folder.get(), name.name.c_str(), 0);
            }
        }
    }
    for (const Fid& fid : gone) {
        inodes_.forget(fid);
        inodes_.index.erase(fid);
    }
}

/// Into the folder beside the data: nobody purges it there.
Errno StoredTree::keep_parked(const std::vector<LostPath>& paths, const std::string& folder) {
    std::vector<Fid> directories;
    for (const LostPath& path : paths) {
        if (const auto located = inodes_.index.find(path.fid);
            path.whole && located && located->is_directory() && parked_.contains(path.fid)) {
            directories.push_back(path.fid);
        }
    }
    forget_below(std::move(directories));
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
    }
    for (const auto& root : inodes_.roots) { // once: there may be ten thousand
        const Place& place = root->place;
        const Fd kept(::openat(place.hidden(), folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if ((kept && ::fsync(kept.get()) != 0) || ::fsync(place.hidden()) != 0 || ::fsync(place.park()) != 0) {
            return errno;
        }
    }
    return 0;
}

/// `paths`: what is written there already, and after it all.
Errno StoredTree::write_lost_paths(const std::string& folder, Seq through, std::vector<LostPath>& paths) {
    const std::filesystem::path path = options_.state / folder;
    std::vector<LostPath> fresh;
    if (const Errno error = lost_paths(folder, through, fresh); error != 0 || (fresh.empty() && paths.empty())) {
        return error;
    }
    std::set<std::pair<Fid, std::string>> known;
    for (const LostPath& one : fresh) {
        known.emplace(one.fid, one.was);
    }
    std::erase_if(paths, [&](const LostPath& one) { return known.contains({one.fid, one.was}); });
    paths.insert(paths.end(), fresh.begin(), fresh.end());
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
        return errno;
    }
    std::sort(paths.begin(), paths.end(), [](const LostPath& a, const LostPath& b) { return a.was < b.was; });
    std::string text = encode_lost_paths(paths);
    for (const auto& root : inodes_.roots) {
        text.append(root->place.hidden_path()).push_back('\0');
    }
    return write_file_atomically(path / "paths", text, 0600) ? 0 : EIO;
}

/// One that a crash interrupted is gone on with: its paths were written before anything was moved.
Errno StoredTree::keep_lost(Seq through) {
    const std::lock_guard lock(names_);
    const std::vector<std::uint64_t> numbers = lost_numbers(options_.state);
    std::error_code ignored;
    const bool go_on =
        !numbers.empty() && !std::filesystem::exists(options_.state / lost_folder(numbers.back()) / "undo", ignored);
    const std::string folder = lost_folder(numbers.empty() ? 1 : numbers.back() + (go_on ? 0 : 1));
    const std::filesystem::path path = options_.state / folder;
    std::vector<LostPath> paths;
    if (const auto written = read_file(path / "paths", lost_paths_bytes_max); go_on && written) {
        if (auto known = decode_lost_paths(path.string(), *written)) {
            paths = std::move(*known);
        }
    }
    if (const Errno error = write_lost_paths(folder, through, paths); error != 0 || paths.empty()) {
        return error;
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

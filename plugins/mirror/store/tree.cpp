// SPDX-License-Identifier: Apache-2.0
#include "manifest.hpp"
#include "openers.hpp"
#include "stored_tree.hpp"

#include <algorithm>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <sys/resource.h>
#include <unistd.h>

/// Opening, closing, and what the file system in front asks.
namespace stead::mirror {

namespace {

/// Both nodes configure the same path, so that both give the root the same name.
Fid root_fid(const std::filesystem::path& place) {
    const std::string path = "root:" + place.lexically_normal().string();
    const XXH128_hash_t hash = XXH3_128bits(path.data(), path.size());
    return {hash.high64, hash.low64};
}

/// As a mount point without its disk, or a disk that has just been formatted.
bool is_new_and_empty(const std::filesystem::path& place) {
    sys::Mark mark;
    std::error_code error;
    const std::filesystem::directory_iterator entries(place, error), end;
    return !error && sys::read_mark(place.string(), mark) == ENODATA &&
           std::all_of(entries, end, [](const auto& entry) { return entry.path().filename() == "lost+found"; });
}

/// A part of what the process may open; the rest is the file system's and the stream's.
std::size_t open_inodes_max() {
    struct rlimit limit {};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    return std::clamp<std::size_t>(limit.rlim_cur / 4, 64, 4096);
}

} // namespace

Result<std::unique_ptr<Tree>> Tree::open(Options options) {
    auto tree = std::make_unique<StoredTree>(std::move(options), open_inodes_max());
    if (const auto started = tree->start(); !started) {
        return started.error();
    }
    return std::unique_ptr<Tree>(std::move(tree));
}

StoredTree::StoredTree(Options options, std::size_t open_max) : options_(std::move(options)), inodes_(open_max) {}

StoredTree::~StoredTree() = default;

void StoredTree::say(bool alarm, const std::string& text) const {
    if (options_.note) {
        options_.note(alarm, text);
    }
}

Result<void> StoredTree::start() {
    if (options_.roots.size() > 256) { // none: a mirror of roles only
        return Error{Errc::out_of_range, "replicated",
                     std::to_string(options_.roots.size()) + " directories; at most 256 are allowed"};
    }
    if (const int error = sys::private_folder(options_.state); error != 0) {
        return os_error(options_.state.string(), "cannot be made", error);
    }
    put_back_others();
    for (const Root& root : options_.roots) {
        auto open = std::make_unique<OpenRoot>();
        open->options = root;
        open->fid = root_fid(root.place);
        auto exclusions = Exclusions::make(root.place.string(), root.excluded, root.excluded_regex);
        if (!exclusions) {
            return exclusions.error();
        }
        open->exclusions = std::move(*exclusions);
        auto place = Place::find(root, options_.note);
        if (!place) {
            return place.error();
        }
        open->place = std::move(*place);
        inodes_.roots.push_back(std::move(open));
    }
    const Result<void> marked = check_markers();
    const bool moved = std::any_of(inodes_.roots.begin(), inodes_.roots.end(),
                                   [](const auto& root) { return !root->place.was_stopped(); });
    if (!marked && !moved) {
        return marked; // nothing was touched
    }
    note_aside();
    Result<void> taken;
    for (std::size_t i = 0; i < inodes_.roots.size() && taken; ++i) {
        taken = inodes_.roots[i]->place.take();
    }
    taken = taken ? check_openers() : taken; // nobody else can open anything there from here on
    taken = taken ? index_all() : taken;
    taken = taken ? make_durable() : taken;
    taken = taken ? take_over() : taken;
    if (!taken) {
        hand_back();
    } else if (!marked) {
        hand_back_all();
    }
    return taken ? marked : taken;
}

/// An empty or wrong directory must never be taken for the good copy.
Result<void> StoredTree::check_markers() const {
    for (const auto& root : inodes_.roots) {
        const std::filesystem::path& place = root->options.place;
        const std::filesystem::path data =
            root->place.was_stopped() ? place : std::filesystem::path{root->place.hidden_path()} / "data";
        for (const std::string& marker : root->options.to_check) {
            struct stat found {};
            if (::lstat((data / marker).c_str(), &found) != 0) {
                return Error{Errc::not_found, (place / marker).string(),
                             "is named by <tocheck> and missing: is the right disk mounted? Nothing was started"};
            }
        }
        if (root->options.known && root->place.was_stopped() && was_replicated(place) && is_new_and_empty(place)) {
            return Error{Errc::not_found, place.string(),
                         "is empty, and is not the directory that was replicated: is its disk mounted? Nothing was "
                         "started. If its data are lost, remove " +
                             options_.state.string() +
                             " here, say 'stead prim' on the other node, and 'stead second' here: this one then gets a "
                             "full copy"};
        }
    }
    return {};
}

/// Who opened something while the data were in their place goes on with it, beside the mount: nothing of that would be
/// replicated.
Result<void> StoredTree::check_openers() const {
    for (const auto& root : inodes_.roots) {
        const std::string place = root->options.place.string();
        const auto opener = root->place.was_stopped() ? opener_below(root->place.data_path(), place) : std::nullopt;
        if (opener && opener->writes) {
            return Error{Errc::conflict, place,
                         opener->text + ": what it writes would not be replicated. End it first; the application is "
                                        "started by the module. Nothing was started"};
        }
        if (opener) {
            say(true, place + ": " + opener->text + ": what it does there by relative names is not replicated");
        }
    }
    return {};
}

/// As close() does, so that whoever puts the marker there finds the data, and what else he changes is noticed. A
/// manifest that still tells of changes stays as it is.
void StoredTree::hand_back_all() {
    if (foreign_.empty()) {
        if (const auto written = Manifest::write(manifest_path(), inodes_); !written) {
            say(true, written.error().text()); // then everything is compared
        }
    }
    inodes_.forget_all();
    bool all = true;
    for (const auto& root : inodes_.roots) {
        if (const auto back = root->place.give_back(); !back) {
            say(true, back.error().text());
            all = false;
        }
    }
    if (all) {
        forget_aside();
    }
}

/// Nothing was done to the data: those that were in their place go there again.
void StoredTree::hand_back() {
    inodes_.forget_all();
    bool all = true;
    for (const auto& root : inodes_.roots) {
        if (root->place.was_stopped() && root->place.data() >= 0) {
            if (const auto back = root->place.give_back(); !back) {
                say(true, back.error().text());
                all = false;
            }
        }
        all = all && root->place.was_stopped();
    }
    if (all) {
        forget_aside();
    }
}

/// What was written before this life, by others or by a stead-fs that was killed, and the names that were just given:
/// nobody accounts for it as unsynced any more, so a power cut may not take it back. What could not be written is not
/// kept in memory, where it would look as if it had been.
Result<void> StoredTree::make_durable() const {
    for (const auto& root : inodes_.roots) {
        const std::string place = root->options.place.string();
        if (::syncfs(root->place.hidden()) == 0) {
            continue;
        }
        say(true,
            os_error(place, "not all of what is there could be written; it is read from the disk again", errno).text());
        if (const Errno error = forget_cached(); error != 0) {
            return os_error(place, "what is in memory and not on the disk cannot be dropped", error);
        }
        if (::syncfs(root->place.hidden()) != 0) {
            return os_error(place, "what is there cannot be flushed to its disk", errno);
        }
    }
    return {};
}

Seq StoredTree::last_parked() const {
    const std::lock_guard lock(names_);
    Seq last = 0;
    for (const auto& [fid, seq] : parked_) {
        last = seq == ~Seq{0} ? last : std::max(last, seq); // that is a roll-back's
    }
    return last;
}

Errno StoredTree::forget_cached() const {
    for (std::size_t shard = 0; shard < Index::shards; ++shard) {
        for (const Located& located : inodes_.index.shard(shard)) {
            const Fd fd(located.is_file() ? inodes_.open(located, O_RDWR) : -1);
            if (const int error = fd ? sys::drop_cache(fd.get()) : 0; error != 0) {
                return error;
            }
        }
    }
    return 0;
}

/// What a life before this one left: the park, and the undo log of a resync that broke off.
Result<void> StoredTree::take_over() {
    clean_park();
    for (const auto& [fid, seq] : parked_) {
        const Fd fd(inodes_.open(fid, O_PATH));
        int error = 0;
        if (fd && sys::xattr(fd.get(), sys::from_xattr, error)) {
            displaced_.insert(fid);
        }
    }
    if (const Errno error = undo_.load(undo_path()); error != 0) {
        return os_error(undo_path().string(), "cannot be read", error);
    }
    if (undo_.damaged()) {
        say(true, undo_path().string() + " is damaged: what the last resync overwrote cannot be rolled back");
    }
    return {};
}

/// The manifest first: after a crash between the two, the data are found aside and equal to it. Without it everything
/// is compared; the data must be at their place all the same.
Result<void> StoredTree::close() {
    if (closed_) {
        return {};
    }
    while (tidy()) {
    }
    if (const auto written = Manifest::write(manifest_path(), inodes_); !written) {
        say(true, written.error().text());
    }
    inodes_.forget_all();
    for (const auto& root : inodes_.roots) {
        if (const auto back = root->place.give_back(); !back) {
            return back;
        }
    }
    forget_aside();
    closed_ = true;
    return {};
}

bool StoredTree::empty() const noexcept {
    return std::all_of(inodes_.roots.begin(), inodes_.roots.end(), [&](const auto& root) {
        const auto located = inodes_.index.find(root->fid);
        return located && check_empty(*located) == 0;
    });
}

/// The lowest 16 bits tell the root, so that a node that hears of a FID for the first time knows on which file system
/// it will be wanted.
Fid StoredTree::fresh(std::size_t root) {
    Fid fid;
    const int error = sys::random_fid(inodes_.roots[root]->fid, fid);
    STEAD_ASSERT(error == 0); // getrandom fails for no reason that a program could do something about
    return fid;
}

std::uint8_t StoredTree::root_of(const Fid& fid) const noexcept {
    const auto found = std::find_if(inodes_.roots.begin(), inodes_.roots.end(), [&](const auto& root) {
        return (root->fid.low & sys::root_bits) == (fid.low & sys::root_bits);
    });
    return found == inodes_.roots.end() ? 0 : static_cast<std::uint8_t>(found - inodes_.roots.begin());
}

Errno StoredTree::lookup(const Fid& parent, const std::string& name, Entry& out) const {
    Spot spot;
    if (const Errno error = find_spot(parent, name, spot); error != 0) {
        return error;
    }
    Found found;
    const Errno error = look(spot, found);
    if (error != 0) {
        return error == ESTALE ? ENOENT : error; // being made: not there yet
    }
    out.inode = found.located.fid;
    out.attributes = found.attributes;
    out.excluded = found.located.excluded != 0;
    return 0;
}

bool StoredTree::excluded(const Fid& inode) const {
    const auto located = inodes_.index.find(inode);
    return located && located->excluded;
}

bool StoredTree::pinned(const Fid& directory) const {
    const auto located = inodes_.index.find(directory);
    std::string path;
    return located && located->is_directory() && !inodes_.roots[located->root]->exclusions.none() &&
           inodes_.path_of(*located, path) == 0 && !path.empty() &&
           inodes_.roots[located->root]->exclusions.any_below(path);
}

bool StoredTree::hides(const Fid& directory, const Fid& parent, const std::string& name) const {
    const auto above = inodes_.index.find(parent);
    std::string path;
    if (!above || inodes_.roots[above->root]->exclusions.none() || inodes_.path_of(*above, path) != 0) {
        return false;
    }
    const Exclusions& exclusions = inodes_.roots[above->root]->exclusions;
    path = path.empty() ? name : path + "/" + name;
    if (exclusions.has_patterns()) {
        return hides_below(exclusions, directory, path);
    }
    const std::vector<std::string> excluded = exclusions.below(path);
    return std::any_of(excluded.begin(), excluded.end(), [&](const std::string& rest) {
        Entry there;
        there.inode = directory;
        const std::filesystem::path parts(rest);
        return std::all_of(parts.begin(), parts.end(),
                           [&](const auto& part) { return lookup(there.inode, part.string(), there) == 0; });
    });
}

/// With patterns, only looking at everything tells.
bool StoredTree::hides_below(const Exclusions& exclusions, const Fid& directory, const std::string& path) const {
    bool hidden = false;
    std::vector<std::pair<Fid, std::string>> unseen{{directory, path}};
    while (!unseen.empty() && !hidden) {
        const std::pair<Fid, std::string> here = std::move(unseen.back());
        unseen.pop_back();
        const auto located = inodes_.index.find(here.first);
        const Fd folder(located && located->is_directory() ? inodes_.open(*located, O_RDONLY | O_DIRECTORY) : -1);
        const auto look = [&](const char* name, unsigned char) {
            sys::Mark mark;
            const bool marked = sys::read_mark(folder.get(), name, mark) == 0;
            const auto there = marked ? inodes_.index.find(mark.fid) : std::nullopt;
            const std::string full = here.second + "/" + name;
            hidden = there && !there->excluded && exclusions.match(full);
            if (there && !there->excluded && there->is_directory()) {
                unseen.emplace_back(mark.fid, full);
            }
            return hidden ? EEXIST : 0;
        };
        if (folder) {
            static_cast<void>(sys::each_entry(folder.get(), look)); // one that is gone has nothing in it
        }
    }
    return hidden;
}

bool StoredTree::excluded(const Fid& parent, const std::string& name) const {
    const auto located = inodes_.index.find(parent);
    return located && inodes_.excluded(*located, name);
}

} // namespace stead::mirror

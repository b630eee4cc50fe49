// SPDX-License-Identifier: Apache-2.0
#include "stored_tree.hpp"

#include <stead/mirror/codec.hpp>

#include <algorithm>
#include <limits>
#include <map>

#include <sys/xattr.h>
#include <unistd.h>

/// Overwrites targets with what the source has. Names first: an inode comes from the park or from elsewhere by its
/// FID, so that renames and hard links cost no data; what is not known is made empty, and said to be.
namespace stead::mirror {

namespace {

constexpr const char* strangers_name = "strangers"; ///< beside the data: what was put out of them

} // namespace

Errno StoredTree::store(const Target& target, const Content& content, Seq park, Stored& out) {
    const auto located = inodes_.index.find(target.fid);
    if (located && located->excluded) {
        return EPERM;
    }
    const Written::Change noting(written_);
    Errno error = EINVAL; // content of another kind
    if (const auto* listing = std::get_if<copy::Listing>(&content.what);
        listing != nullptr && target.kind == TargetKind::directory) {
        error = store_listing(target.fid, *listing, park, out.created);
    } else if (const auto* inode = std::get_if<copy::Inode>(&content.what);
               inode != nullptr && target.kind == TargetKind::inode) {
        error = store_inode(target.fid, *inode, park, out);
    } else if (const auto* zone = std::get_if<copy::Zone>(&content.what);
               zone != nullptr && target.kind == TargetKind::zone) {
        error = store_zone(target.fid, target.index, *zone, park);
    }
    return error;
}

/// An inode that is still there: ESTALE when its last name is gone, or it never was.
Errno StoredTree::find_alive(const Fid& fid, Located& out, struct stat& attributes) const {
    const auto located = inodes_.index.find(fid);
    const Fd fd(located ? inodes_.open(*located, O_PATH) : -ESTALE);
    if (!fd) {
        return open_error(fd);
    }
    out = *located;
    const int error = sys::attributes(fd.get(), attributes);
    return error == 0 && attributes.st_nlink == 0 ? ESTALE : error;
}

/// Makes it, empty and without rights, in a directory or (no `spot`) in the park.
Errno StoredTree::make_empty(const Spot* spot, const copy::Listing::Entry& entry, Seq park) {
    inodes_.index.erase(entry.inode); // one that lost its last name, and somebody has it still open
    inodes_.forget(entry.inode);
    const std::uint32_t type = entry.type & S_IFMT;
    const std::uint32_t mode = type | (type == S_IFDIR ? 0700u : 0600u);
    change::Make change{{}, entry.name, entry.inode, mode, 0, 0, entry.device, entry.link};
    Spot aside;
    if (spot == nullptr) {
        aside.parent.root = root_of(entry.inode);
        aside.folder = std::make_shared<OpenInode>(
            Fd(::fcntl(inodes_.roots[aside.parent.root]->place.park(), F_DUPFD_CLOEXEC, 0)));
        aside.name = park_name(park, entry.inode);
    }
    const Errno error = make(spot != nullptr ? *spot : aside, change, {}, false, true);
    if (error == 0) {
        incomplete_.push_back(entry.inode);
        if (spot == nullptr) {
            parked_[entry.inode] = park;
        }
    }
    return error;
}

/// The inode of a target that comes before any listing that names it: it waits in the park. Looked for again under the
/// lock: a listing, or another target of this inode, may be making it at this moment, and there must not be two of it.
Errno StoredTree::ensure(const Fid& fid, const copy::Listing::Entry& entry, Seq park, bool& incomplete) {
    Located located;
    struct stat attributes {};
    Errno error = find_alive(fid, located, attributes);
    if (error == ESTALE) {
        const std::lock_guard lock(names_);
        error = find_alive(fid, located, attributes);
        if (error == ESTALE) {
            incomplete = true;
            return make_empty(nullptr, entry, park);
        }
    }
    if (error != 0) {
        return error;
    }
    incomplete = located.incomplete != 0;
    return (attributes.st_mode & S_IFMT) == (entry.type & S_IFMT) ? 0 : EEXIST;
}

// ---- Zones ----------------------------------------------------------------------------------------------------------

namespace {

Errno write_zeros(int fd, std::uint64_t offset, std::uint64_t length) {
    const std::string zeros(std::min<std::uint64_t>(length, zone_bytes), '\0');
    while (length > 0) {
        const std::uint64_t step = std::min<std::uint64_t>(length, zeros.size());
        if (const Errno error = sys::write_all(fd, std::string_view(zeros).substr(0, step), offset); error != 0) {
            return error;
        }
        offset += step;
        length -= step;
    }
    return 0;
}

/// Zeros, without taking space where the file system can. What reaches the end of the file is punched to the end of its
/// zone: else the last block would stay. No further, for a write of the next zone may be under way.
Errno make_hole(int fd, std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
    if (length == 0) {
        return 0;
    }
    const std::uint64_t beyond = (offset + length) % zone_bytes;
    const std::uint64_t more = offset + length >= size && beyond != 0 ? zone_bytes - beyond : 0;
    const int error = sys::result(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                              static_cast<off_t>(offset), static_cast<off_t>(length + more)));
    return error == EOPNOTSUPP ? write_zeros(fd, offset, length) : error;
}

/// Writes of other zones may make the file longer meanwhile: nothing here cuts it.
Errno write_zone(int fd, std::uint64_t index, const copy::Zone& zone) {
    const std::uint64_t begin = index * zone_bytes;
    struct stat now {};
    Errno error = sys::attributes(fd, now);
    if (error == 0 && zone.length > 0 && static_cast<std::uint64_t>(now.st_size) < begin + zone.length) {
        error = write_zeros(fd, begin + zone.length - 1, 1);
    }
    error = error == 0 ? sys::write_all(fd, zone.data, begin) : error;
    const std::uint64_t size = std::max(static_cast<std::uint64_t>(now.st_size), begin + zone.length);
    return error == 0 ? make_hole(fd, begin + zone.data.size(), zone.length - zone.data.size(), size) : error;
}

/// Does storing `inode` take something of this zone: by its size, or because it holds no data on the other side?
bool takes_of(const copy::Inode& inode, std::uint64_t zone) {
    const auto holds = [zone](const copy::ZoneRange& range) {
        return range.first <= zone && zone - range.first < range.count;
    };
    return (zone + 1) * zone_bytes > inode.size || std::none_of(inode.data.begin(), inode.data.end(), holds);
}

/// Empties every zone that holds no data on the other side.
Errno punch_between(int fd, const copy::Inode& inode) {
    std::uint64_t at = 0;
    for (const copy::ZoneRange& range : inode.data) {
        const std::uint64_t begin = std::min(range.first * zone_bytes, inode.size);
        if (begin > at) {
            if (const Errno error = make_hole(fd, at, begin - at, inode.size); error != 0) {
                return error;
            }
        }
        at = std::max(at, (range.first + range.count) * zone_bytes);
    }
    return at < inode.size ? make_hole(fd, at, inode.size - at, inode.size) : 0;
}

} // namespace

Errno StoredTree::store_zone(const Fid& fid, std::uint64_t index, const copy::Zone& zone, Seq park) {
    if (zone.length > zone_bytes || zone.data.size() > zone.length ||
        index > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max()) / zone_bytes - 1) {
        return EINVAL;
    }
    bool incomplete = false; // its inode, or a listing, says so
    Errno error = ensure(fid, {{}, fid, S_IFREG, 0, {}}, park, incomplete);
    const InodeRef file = error == 0 ? inodes_.file(fid, error) : nullptr;
    if (file == nullptr) {
        return error;
    }
    written_.note(fid, Written::What::all);
    return file->preserving_mtime([&](int fd) { return write_zone(fd, index, zone); });
}

// ---- Attributes -----------------------------------------------------------------------------------------------------

namespace {

Errno store_xattrs(int fd, const std::vector<std::pair<std::string, std::string>>& wanted) {
    std::vector<std::string> names;
    if (const Errno error = sys::list_xattrs(fd, names); error != 0) {
        return error;
    }
    const std::string path = sys::proc_path(fd);
    for (const std::string& name : names) {
        const bool keep =
            std::string_view(name).starts_with(sys::own_xattrs) ||
            std::any_of(wanted.begin(), wanted.end(), [&](const auto& want) { return want.first == name; });
        if (!keep && ::removexattr(path.c_str(), name.c_str()) != 0 && errno != ENODATA) {
            return errno;
        }
    }
    for (const auto& [name, value] : wanted) {
        int error = 0;
        if (std::string_view(name).starts_with(sys::own_xattrs)) {
            return EPERM;
        }
        if (sys::xattr(fd, name.c_str(), error) != value &&
            ::setxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0) != 0) {
            return errno;
        }
    }
    return 0;
}

} // namespace

/// Where `inode` has data and this file has none at all: cut or punched here, by an application of this node or behind
/// the mount. Too many to say so are said by asking for all of the file.
Errno StoredTree::find_lacking(const Fid& fid, int fd, std::uint64_t size, const copy::Inode& inode,
                               Stored& out) const {
    std::vector<copy::ZoneRange> own;
    if (const Errno error = data_ranges(fd, size, own); error != 0) {
        return error;
    }
    std::uint64_t zones = 0;
    auto next = own.begin();
    const auto add = [&](std::uint64_t first, std::uint64_t end) {
        if (first < end) {
            out.lacking.push_back({first, end - first});
            zones += end - first;
        }
    };
    for (const copy::ZoneRange& range : inode.data) {
        std::uint64_t at = range.first;
        const std::uint64_t end = range.first + range.count;
        for (; next != own.end() && next->first < end; ++next) {
            add(at, std::min(next->first, end));
            at = std::max(at, next->first + next->count);
            if (at >= end) {
                break; // it may cover the next range as well
            }
        }
        add(std::min(at, end), end);
    }
    if (zones > codec_limits::lacking_max) {
        out.lacking.clear();
        out.created.push_back(fid);
    }
    return 0;
}

/// Size first, times last: each step would change what a later one sets. A new owner takes capabilities and set-uid
/// away.
Errno StoredTree::store_inode(const Fid& fid, const copy::Inode& inode, Seq park, Stored& out) {
    bool incomplete = false;
    Errno error = ensure(fid, {{}, fid, inode.mode & S_IFMT, inode.device, inode.link}, park, incomplete);
    if (error != 0) {
        return error;
    }
    if (incomplete) {
        out.created.push_back(fid);
    }
    const auto located = inodes_.index.find(fid);
    const Fd fd(located ? inodes_.open(*located, O_PATH) : -ESTALE);
    struct stat now {};
    if (!fd || (error = sys::attributes(fd.get(), now)) != 0) {
        return fd ? error : open_error(fd);
    }
    note(*located);
    const InodeRef file = located->is_file() ? inodes_.file(fid, error) : nullptr;
    if (file != nullptr) {
        error = incomplete ? 0 : find_lacking(fid, file->fd(), static_cast<std::uint64_t>(now.st_size), inode, out);
        error = error != 0 ? error : save_taken(fid, [&inode](std::uint64_t zone) { return takes_of(inode, zone); });
        if (error == 0 && static_cast<std::uint64_t>(now.st_size) != inode.size) {
            error = sys::result(::ftruncate(file->fd(), static_cast<off_t>(inode.size)));
        }
        error = error == 0 ? punch_between(file->fd(), inode) : error;
    }
    if (error == 0 && (now.st_uid != inode.owner || now.st_gid != inode.group)) {
        error = sys::result(::fchownat(fd.get(), "", inode.owner, inode.group, AT_EMPTY_PATH));
    }
    error = error == 0 ? store_xattrs(fd.get(), inode.xattrs) : error;
    if (error == 0 && !S_ISLNK(inode.mode)) {
        error = sys::change_mode(fd.get(), inode.mode);
    }
    if (error != 0) {
        return error;
    }
    return file != nullptr ? file->set_mtime(std::nullopt, inode.mtime)
                           : sys::set_times(fd.get(), std::nullopt, inode.mtime);
}

// ---- Listings -------------------------------------------------------------------------------------------------------

Errno StoredTree::check_listing(const Located& directory, const copy::Listing& listing) const {
    for (std::size_t i = 0; i < listing.entries.size(); ++i) {
        const copy::Listing::Entry& entry = listing.entries[i];
        if (!sys::name_is_sound(entry.name) || entry.inode == Fid{} ||
            (i > 0 && !(listing.entries[i - 1].name < entry.name))) {
            return EINVAL;
        }
        if (inodes_.excluded(directory, entry.name)) {
            return EPERM; // the nodes are configured differently
        }
    }
    return 0;
}

/// What was made here past the mirror is somebody's all the same: it goes out of the data, and is not lost.
Errno StoredTree::put_out(const Spot& spot) const {
    const Place& place = inodes_.roots[spot.parent.root]->place;
    if (::mkdirat(place.hidden(), strangers_name, 0700) != 0 && errno != EEXIST) {
        return errno;
    }
    const Fd strangers(::openat(place.hidden(), strangers_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    std::string number;
    for (unsigned next = 1; strangers && number.empty(); ++next) {
        number = std::to_string(next);
        if (::mkdirat(strangers.get(), number.c_str(), 0700) != 0) {
            if (errno != EEXIST) {
                return errno;
            }
            number.clear();
        }
    }
    const Fd folder(strangers ? ::openat(strangers.get(), number.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1);
    if (!folder || ::renameat2(spot.folder->fd(), spot.name.c_str(), folder.get(), spot.name.c_str(), 0) != 0) {
        return errno;
    }
    say(true, "'" + spot.name + "' was made in the mirror's folder past the mirror: it is in " + place.hidden_path() +
                  "/" + strangers_name + "/" + number + " now");
    return sys::result(::fsync(folder.get()));
}

/// Takes away what does not belong there; `present` is what stays.
Errno StoredTree::unplace(const Spot& folder, const copy::Listing& listing, Seq park,
                          std::map<std::string, Fid>& present) {
    copy::Listing now;
    std::vector<std::string> strangers;
    if (const Errno error = read_listing(folder.parent, now, &strangers); error != 0) {
        return error;
    }
    for (std::string& name : strangers) {
        Spot spot = folder;
        spot.name = std::move(name);
        if (const Errno error = put_out(spot); error != 0) {
            return error;
        }
    }
    for (const copy::Listing::Entry& entry : now.entries) {
        const auto wanted =
            std::lower_bound(listing.entries.begin(), listing.entries.end(), entry.name,
                             [](const copy::Listing::Entry& a, const std::string& name) { return a.name < name; });
        if (wanted != listing.entries.end() && wanted->name == entry.name && wanted->inode == entry.inode) {
            present.emplace(entry.name, entry.inode);
            continue;
        }
        Spot spot = folder;
        spot.name = entry.name;
        Found found;
        Errno error = look(spot, found);
        error = error == 0 ? take_away(spot, found, park) : error;
        if (error != 0 && error != ENOENT) {
            return error;
        }
    }
    return 0;
}

/// Gives a directory that exists a new name; it leaves the old one, whose directory keeps its time.
Errno StoredTree::move_directory(const Located& moved, const Spot& spot, Seq park) {
    const Fd fd(inodes_.open(moved, O_RDONLY | O_DIRECTORY));
    Fd parent;
    std::string name;
    struct stat before {};
    Errno error = open_error(fd);
    if (const auto parked = parked_.find(moved.fid); parked != parked_.end()) {
        parent = Fd(::fcntl(inodes_.roots[moved.root]->place.park(), F_DUPFD_CLOEXEC, 0));
        name = park_name(parked->second, moved.fid);
    } else if (error == 0) {
        error = inodes_.parent_of(fd.get(), parent, name);
    }
    error = error == 0 ? sys::attributes(parent.get(), before) : error;
    if (error != 0) {
        return error;
    }
    const auto rename = [&] {
        return sys::result(
            ::renameat2(parent.get(), name.c_str(), spot.folder->fd(), spot.name.c_str(), RENAME_NOREPLACE));
    };
    error = rename();
    if (error == EINVAL) { // it is moved below itself: its future parent leaves it first
        error = displace(spot.parent, park);
        error = error == 0 ? rename() : error;
    }
    if (error == 0) {
        parked_.erase(moved.fid);
        sys::Mark mark;
        if (sys::read_mark(parent.get(), mark) == 0) {
            written_.note(mark.fid, Written::What::all);
        }
        error = sys::set_times(parent.get(), std::nullopt, sys::to_time(before.st_mtim));
    }
    return error;
}

/// Puts a directory into the park for as long as it stands in the way of another one. Where it was stays written on
/// it: if no listing names it elsewhere, it goes back there.
Errno StoredTree::displace(const Located& directory, Seq park) {
    const Fd fd(inodes_.open(directory, O_RDONLY | O_DIRECTORY));
    Fd parent;
    std::string name;
    sys::Mark above;
    Errno error = fd ? inodes_.parent_of(fd.get(), parent, name) : open_error(fd);
    error = error == 0 ? sys::read_mark(parent.get(), above) : error;
    if (error != 0) {
        return error;
    }
    const std::string from = sys::text(above.fid) + name;
    if (::fsetxattr(fd.get(), sys::from_xattr, from.data(), from.size(), 0) != 0) {
        return errno;
    }
    struct stat before {};
    error = sys::attributes(parent.get(), before);
    error = error == 0 ? to_park(parent.get(), name, directory, park) : error;
    if (error == 0) {
        displaced_.insert(directory.fid);
        error = sys::set_times(parent.get(), std::nullopt, sys::to_time(before.st_mtim));
    }
    return error;
}

/// After every listing: what was displaced is placed by now, or can go back, or waits for another listing.
void StoredTree::settle_displaced() {
    std::erase_if(displaced_, [&](const Fid& fid) {
        const Fd fd(inodes_.open(fid, O_RDONLY | O_DIRECTORY));
        if (!fd) {
            return true;
        }
        const auto parked = parked_.find(fid);
        if (parked == parked_.end()) {
            ::fremovexattr(fd.get(), sys::from_xattr);
            return true;
        }
        int error = 0;
        const std::string from = sys::xattr(fd.get(), sys::from_xattr, error).value_or("");
        const auto above = sys::fid_of(std::string_view(from).substr(0, 32));
        const auto root = inodes_.index.find(fid);
        const InodeRef parent = above && root ? inodes_.directory(*above, error) : nullptr;
        struct stat before {};
        if (parent == nullptr || sys::attributes(parent->fd(), before) != 0 ||
            ::renameat2(inodes_.roots[root->root]->place.park(), park_name(parked->second, fid).c_str(), parent->fd(),
                        from.c_str() + 32, RENAME_NOREPLACE) != 0) {
            return false;
        }
        ::fremovexattr(fd.get(), sys::from_xattr);
        parked_.erase(parked);
        return sys::set_times(parent->fd(), std::nullopt, sys::to_time(before.st_mtim)) == 0;
    });
}

Errno StoredTree::place(const Spot& spot, const copy::Listing::Entry& entry, Seq park, std::vector<Fid>& created) {
    Located located;
    struct stat attributes {};
    Errno error = find_alive(entry.inode, located, attributes);
    if (error == ESTALE) {
        created.push_back(entry.inode);
        return make_empty(&spot, entry, park);
    }
    if (error != 0 || (attributes.st_mode & S_IFMT) != (entry.type & S_IFMT)) {
        return error != 0 ? error : EEXIST;
    }
    if (located.incomplete) {
        created.push_back(entry.inode);
    }
    if (located.is_directory()) {
        return move_directory(located, spot, park);
    }
    const Fd fd(inodes_.open(located, O_PATH));
    if (!fd || ::linkat(fd.get(), "", spot.folder->fd(), spot.name.c_str(), AT_EMPTY_PATH) != 0) {
        return fd ? errno : open_error(fd);
    }
    left_park(located);
    return 0;
}

Errno StoredTree::store_listing(const Fid& fid, const copy::Listing& listing, Seq park, std::vector<Fid>& created) {
    bool incomplete = false;
    Errno error = ensure(fid, {{}, fid, S_IFDIR, 0, {}}, park, incomplete);
    if (incomplete) {
        created.push_back(fid);
    }
    const InodeRef folder = error == 0 ? inodes_.directory(fid, error) : nullptr;
    if (folder == nullptr) {
        return error;
    }
    const std::lock_guard lock(names_);
    Spot spot{folder, inodes_.index.find(fid).value(), {}};
    struct stat before {};
    error = sys::attributes(folder->fd(), before);
    error = error == 0 ? check_listing(spot.parent, listing) : error;
    std::map<std::string, Fid> present;
    error = error == 0 ? unplace(spot, listing, park, present) : error;
    for (const copy::Listing::Entry& entry : listing.entries) {
        if (error != 0) {
            break;
        }
        spot.name = entry.name;
        if (!present.contains(entry.name)) {
            error = place(spot, entry, park, created);
        } else if (const auto known = inodes_.index.find(entry.inode); known && known->incomplete) {
            created.push_back(entry.inode); // of a resync that broke off
        }
    }
    settle_displaced();
    written_.note(fid, Written::What::all);
    const int times = sys::set_times(folder->fd(), std::nullopt, sys::to_time(before.st_mtim));
    return error != 0 ? error : times;
}

} // namespace stead::mirror

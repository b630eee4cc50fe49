// SPDX-License-Identifier: Apache-2.0
#include "stored_tree.hpp"

#include <stead/mirror/codec.hpp>

#include <algorithm>
#include <unordered_set>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <unistd.h>

/// What a target contains, and which targets there are.
namespace stead::mirror {

namespace {

Errno read_zone(int fd, std::uint64_t index, std::uint64_t size, copy::Zone& out) {
    const std::uint64_t begin = index * zone_bytes;
    out.length = std::min(zone_bytes, size - begin);
    const off_t data = ::lseek(fd, static_cast<off_t>(begin), SEEK_DATA);
    if (data < 0 && errno == ENXIO) {
        return 0; // a hole up to the end
    }
    if (data >= 0 && static_cast<std::uint64_t>(data) >= begin + out.length) {
        return 0;
    }
    if (const int error = sys::read_up_to(fd, out.length, begin, out.data); error != 0) {
        return error;
    }
    const std::size_t last = out.data.find_last_not_of('\0');
    out.data.resize(last == std::string::npos ? 0 : last + 1);
    return 0;
}

std::uint64_t zones_of(std::uint64_t size) { return (size + zone_bytes - 1) / zone_bytes; }

void add_targets(const Located& located, std::uint64_t size, std::vector<Target>& out) {
    if (located.is_directory()) {
        out.push_back({TargetKind::directory, located.fid, 0});
    }
    out.push_back({TargetKind::inode, located.fid, 0});
    for (std::uint64_t zone = 0; located.is_file() && zone < zones_of(size); ++zone) {
        out.push_back({TargetKind::zone, located.fid, zone});
    }
}

} // namespace

std::uint64_t digest_of(const Content& content) {
    // How much of a zone is in the file, if any, says the inode: a write of a later zone changes that beside this.
    if (const auto* zone = std::get_if<copy::Zone>(&content.what); zone != nullptr && zone->length != zone_bytes) {
        return digest_of(Content{content.at, copy::Zone{zone_bytes, zone->data}});
    } else if (zone != nullptr && zone->data.empty()) {
        return 0;
    }
    const auto* inode = std::get_if<copy::Inode>(&content.what);
    if (inode != nullptr && !inode->data.empty()) { // how space is allocated may differ
        Content bare = content;
        std::get<copy::Inode>(bare.what).data.clear();
        return digest_of(bare);
    }
    const std::string bytes = encode(content);
    const std::uint64_t hash = XXH3_64bits(bytes.data(), bytes.size());
    return hash == 0 ? 1 : hash;
}

/// The zones with data. Where there are more pieces than a message may hold, the last one covers the rest.
Errno StoredTree::data_ranges(int fd, std::uint64_t size, std::vector<copy::ZoneRange>& out) {
    for (off_t end = 0; static_cast<std::uint64_t>(end) < size;) {
        const off_t begin = ::lseek(fd, end, SEEK_DATA);
        if (begin < 0) {
            return errno == ENXIO ? 0 : errno;
        }
        end = ::lseek(fd, begin, SEEK_HOLE);
        if (end < 0) {
            return errno == ENXIO ? 0 : errno; // cut meanwhile
        }
        const std::uint64_t first = static_cast<std::uint64_t>(begin) / zone_bytes;
        const std::uint64_t last = (static_cast<std::uint64_t>(end) - 1) / zone_bytes;
        const bool joins = !out.empty() && first <= out.back().first + out.back().count;
        if (joins || out.size() >= codec_limits::ranges_max) {
            out.back().count = last - out.back().first + 1;
        } else {
            out.push_back({first, last - first + 1});
        }
    }
    return 0;
}

/// Of an inode that somebody has open and that lost its last name nothing is read: nobody can reach it on the other
/// side. (A directory like that cannot even be listed.)
Errno StoredTree::read_listing(const Located& directory, copy::Listing& out,
                               std::vector<std::string>* strangers) const {
    const Fd folder(inodes_.open(directory, O_RDONLY | O_DIRECTORY));
    struct stat now {};
    Errno error = folder ? sys::attributes(folder.get(), now) : open_error(folder);
    if (error != 0 || now.st_nlink == 0) {
        return error != 0 ? error : ESTALE;
    }
    error = sys::each_entry(folder.get(), [&](const char* name, unsigned char) {
        if (inodes_.excluded(directory, name)) {
            return 0;
        }
        copy::Listing::Entry entry;
        struct stat found {};
        sys::Mark mark;
        int failed = sys::attributes(folder.get(), name, found);
        failed = failed == 0 ? sys::read_mark(folder.get(), name, mark) : failed;
        if (failed == ENOENT || failed == ENODATA) { // removed, or being made, meanwhile: not while it is locked
            if (failed == ENODATA && strangers != nullptr) {
                strangers->emplace_back(name);
            }
            return 0;
        }
        if (failed == 0 && S_ISLNK(found.st_mode)) {
            const Fd link(::openat(folder.get(), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
            entry.link = link ? sys::link_text(link.get(), failed).value_or("") : "";
            failed = link ? failed : errno;
        }
        entry.name = name;
        entry.inode = mark.fid;
        entry.type = found.st_mode & S_IFMT;
        entry.device = S_ISCHR(found.st_mode) || S_ISBLK(found.st_mode) ? found.st_rdev : 0;
        out.entries.push_back(std::move(entry));
        return failed;
    });
    std::sort(out.entries.begin(), out.entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    return error;
}

Errno StoredTree::read_inode(const Located& located, bool zones, copy::Inode& out) const {
    const bool ranges = zones && located.is_file();
    const Fd fd(inodes_.open(located, ranges ? O_RDONLY : O_PATH));
    struct stat found {};
    int error = fd ? sys::attributes(fd.get(), found) : open_error(fd);
    if (error != 0 || found.st_nlink == 0) {
        return error != 0 ? error : ESTALE;
    }
    out.mode = found.st_mode;
    out.owner = found.st_uid;
    out.group = found.st_gid;
    out.device = S_ISCHR(found.st_mode) || S_ISBLK(found.st_mode) ? found.st_rdev : 0;
    out.size = S_ISREG(found.st_mode) ? static_cast<std::uint64_t>(found.st_size) : 0;
    out.mtime = sys::to_time(found.st_mtim);
    if (S_ISLNK(found.st_mode)) {
        out.link = sys::link_text(fd.get(), error).value_or("");
    } else if (ranges) {
        error = data_ranges(fd.get(), out.size, out.data);
    }
    std::vector<std::string> names;
    error = error == 0 ? sys::list_xattrs(fd.get(), names) : error;
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
        if (error != 0) {
            return error;
        }
        if (std::string_view(name).starts_with(sys::own_xattrs)) {
            continue;
        }
        int failed = 0;
        if (auto value = sys::xattr(fd.get(), name.c_str(), failed)) {
            out.xattrs.emplace_back(name, std::move(*value));
        } else if (failed != ENODATA) {
            error = failed;
        }
    }
    return error;
}

Errno StoredTree::read_content(const Target& target, bool zones, std::optional<Content>& out,
                               std::vector<std::string>* strangers) const {
    const auto located = inodes_.index.find(target.fid);
    out.reset();
    if (!located || located->excluded) {
        return 0;
    }
    Content content;
    Errno error = 0;
    if (target.kind == TargetKind::directory) {
        if (!located->is_directory()) {
            return 0;
        }
        error = read_listing(*located, content.what.emplace<copy::Listing>(), strangers);
    } else if (target.kind == TargetKind::inode) {
        error = read_inode(*located, zones, content.what.emplace<copy::Inode>());
    } else {
        if (!located->is_file()) {
            return 0;
        }
        const Fd fd(inodes_.open(*located, O_RDONLY));
        struct stat found {};
        error = fd ? sys::attributes(fd.get(), found) : open_error(fd);
        if (error == 0 &&
            (found.st_nlink == 0 || target.index >= zones_of(static_cast<std::uint64_t>(found.st_size)))) {
            return 0;
        }
        error = error == 0 ? read_zone(fd.get(), target.index, static_cast<std::uint64_t>(found.st_size),
                                       content.what.emplace<copy::Zone>())
                           : error;
    }
    if (error == ESTALE) {
        return 0; // it has just gone
    }
    if (error == 0) {
        out = std::move(content);
    }
    return error;
}

Errno StoredTree::probe() const {
    for (const auto& root : inodes_.roots) {
        if (const int error = root->place.try_disk(); error != 0) {
            return error;
        }
    }
    return 0;
}

Errno StoredTree::read(const Target& target, Payload& out) const {
    std::optional<Content> content;
    const Errno error = read_content(target, true, content);
    out = content ? std::make_shared<const Content>(std::move(*content)) : nullptr;
    return error;
}

/// What is parked was removed and is kept only until the primary flushed its removal: for the primary it is gone. A
/// directory with strangers in it is like no other (the caller has locked it, so nothing is being made there).
Errno StoredTree::digest(const Target& target, std::uint64_t& out) const {
    std::optional<Content> content;
    const bool parked = [&] {
        const std::lock_guard lock(names_);
        return parked_.contains(target.fid);
    }();
    std::vector<std::string> strangers;
    const Errno error = parked ? 0 : read_content(target, false, content, &strangers);
    out = content ? digest_of(*content) : 0;
    if (!strangers.empty()) {
        std::sort(strangers.begin(), strangers.end());
        std::string names;
        for (const std::string& name : strangers) {
            names += '/' + name;
        }
        out ^= std::hash<std::string>{}(names) | 1;
    }
    return error;
}

Errno StoredTree::list_one(const Located& located, std::vector<Target>& out) const {
    const Fd fd(inodes_.open(located, O_PATH));
    struct stat found {};
    const int error = fd ? sys::attributes(fd.get(), found) : open_error(fd);
    if (error != 0 || found.st_nlink == 0) {
        return error == ESTALE ? 0 : error;
    }
    add_targets(located, static_cast<std::uint64_t>(found.st_size), out);
    return 0;
}

/// All that has a name in a root: not the park. Directories wait by FID, so that depth needs no descriptors.
Errno StoredTree::list_all(std::vector<Target>& out) const {
    std::vector<Fid> unseen;
    std::unordered_set<Fid, FidHash> linked; ///< seen under another name
    for (const auto& root : inodes_.roots) {
        unseen.push_back(root->fid);
        add_targets(inodes_.index.find(root->fid).value(), 0, out);
    }
    while (!unseen.empty()) {
        const Fid next = unseen.back();
        unseen.pop_back();
        const auto directory = inodes_.index.find(next);
        const Fd folder(directory ? inodes_.open(*directory, O_RDONLY | O_DIRECTORY) : -ESTALE);
        if (open_error(folder) == ESTALE) {
            continue; // removed meanwhile
        }
        const Errno error =
            !folder ? open_error(folder) : sys::each_entry(folder.get(), [&](const char* name, unsigned char) {
                struct stat found {};
                sys::Mark mark;
                int failed = sys::attributes(folder.get(), name, found);
                failed = failed == 0 ? sys::read_mark(folder.get(), name, mark) : failed;
                const auto located = failed == 0 ? inodes_.index.find(mark.fid) : std::nullopt;
                if (!located) {
                    return failed == ENOENT || failed == ENODATA ? 0 : failed;
                }
                const bool again = !S_ISDIR(found.st_mode) && found.st_nlink > 1 && !linked.insert(mark.fid).second;
                if (!located->excluded && !again) {
                    add_targets(*located, static_cast<std::uint64_t>(found.st_size), out);
                    if (located->is_directory()) {
                        unseen.push_back(mark.fid);
                    }
                }
                return 0;
            });
        if (error != 0) {
            return error;
        }
    }
    return 0;
}

Errno StoredTree::list(const std::optional<Fid>& inode, std::vector<Target>& out) const {
    out.clear();
    if (!inode) {
        return list_all(out);
    }
    const auto located = inodes_.index.find(*inode);
    return located && !located->excluded ? list_one(*located, out) : 0;
}

} // namespace stead::mirror

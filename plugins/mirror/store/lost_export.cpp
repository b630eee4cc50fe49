// SPDX-License-Identifier: Apache-2.0
#include "copy_tree.hpp"
#include "lost_paths.hpp"

#include <stead/mirror/codec.hpp>
#include <stead/mirror/lost.hpp>

#include <algorithm>
#include <charconv>

#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/// Lists and writes out what was kept. Needs no open tree.
namespace stead::mirror {

namespace fs = std::filesystem;

namespace {

/// Everything of one lost set, read.
struct Kept {
    std::vector<LostPath> paths;
    std::vector<std::string> asides; ///< the folders beside the data, of each root
    UndoLog undo;
};

std::vector<std::string_view> split(std::string_view bytes) {
    std::vector<std::string_view> fields;
    while (!bytes.empty()) {
        const std::size_t end = bytes.find('\0');
        if (end == std::string_view::npos) {
            break;
        }
        fields.push_back(bytes.substr(0, end));
        bytes.remove_prefix(end + 1);
    }
    return fields;
}

Result<Kept> load(const fs::path& state, std::uint64_t number) {
    Kept kept;
    const fs::path folder = state / lost_folder(number);
    const fs::path file = folder / "paths";
    const auto bytes = read_file(file, lost_paths_bytes_max);
    if (!bytes) {
        return bytes.error();
    }
    auto paths = decode_lost_paths(file.string(), *bytes);
    if (!paths) {
        return paths.error();
    }
    kept.paths = std::move(*paths);
    const auto fields = split(*bytes);
    for (std::size_t i = 1 + 4 * kept.paths.size(); i < fields.size(); ++i) {
        kept.asides.emplace_back(fields[i]);
    }
    const fs::path undo = folder / "undo";
    if (const Errno error = kept.undo.load(undo); error != 0) {
        return os_error(undo.string(), "cannot be read", error);
    }
    if (kept.undo.damaged()) {
        return Error{Errc::malformed, undo.string(), "is damaged"};
    }
    return kept;
}

std::optional<fs::path> whole_item(const Kept& kept, std::uint64_t number, const Fid& fid) {
    for (const std::string& aside : kept.asides) {
        fs::path path = fs::path(aside) / lost_folder(number) / sys::text(fid);
        std::error_code ignored;
        if (fs::symlink_status(path, ignored).type() != fs::file_type::not_found) {
            return path;
        }
    }
    return std::nullopt;
}

Errno restore(int fd, const copy::Inode& inode) {
    Errno error = sys::result(::fchown(fd, inode.owner, inode.group));
    for (const auto& [name, value] : inode.xattrs) {
        if (error == 0 && ::fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) != 0 && errno != EOPNOTSUPP) {
            error = errno; // another file system may not know it
        }
    }
    error = error == 0 ? sys::change_mode(fd, inode.mode) : error;
    return error == 0 ? sys::set_times(fd, std::nullopt, inode.mtime) : error;
}

/// `now`: where the attributes are those of today, for they were not overwritten; may be none.
Errno put_back(int fd, int now, const Kept& kept, const Fid& fid) {
    std::optional<copy::Inode> attributes;
    for (const UndoLog::Entry& entry : kept.undo.entries()) {
        Content content;
        if (entry.target.fid != fid || !entry.there) {
            continue;
        }
        if (const Errno error = kept.undo.read(entry, content); error != 0) {
            return error;
        }
        if (auto* inode = std::get_if<copy::Inode>(&content.what)) {
            attributes = std::move(*inode);
        } else if (const auto* zone = std::get_if<copy::Zone>(&content.what)) {
            std::string data = zone->data;
            data.resize(zone->length);
            if (const Errno error = sys::write_all(fd, data, entry.target.index * zone_bytes); error != 0) {
                return error;
            }
        }
    }
    struct stat todays {};
    if (!attributes) {
        return now >= 0 && sys::attributes(now, todays) == 0 ? copy_attributes(now, fd, todays) : 0;
    }
    const Errno error = sys::result(::ftruncate(fd, static_cast<off_t>(attributes->size)));
    return error == 0 ? restore(fd, *attributes) : error;
}

/// Of a symbolic link the text never changes: what was overwritten are owner and time.
std::optional<copy::Inode> saved_link(const Kept& kept, const Fid& fid) {
    for (const UndoLog::Entry& entry : kept.undo.entries()) {
        Content content;
        if (entry.target.kind == TargetKind::inode && entry.target.fid == fid && entry.there &&
            kept.undo.read(entry, content) == 0) {
            auto* inode = std::get_if<copy::Inode>(&content.what);
            return inode != nullptr && S_ISLNK(inode->mode) ? std::optional(std::move(*inode)) : std::nullopt;
        }
    }
    return std::nullopt;
}

Errno export_link(const copy::Inode& link, const fs::path& to) {
    if (::symlink(link.link.c_str(), to.c_str()) != 0) {
        return errno;
    }
    const Fd made(::open(to.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!made || ::fchownat(made.get(), "", link.owner, link.group, AT_EMPTY_PATH) != 0) {
        return errno;
    }
    return sys::set_times(made.get(), std::nullopt, link.mtime);
}

/// The file as it is now, of this FID: aside while the mirror runs, at its place when it is stopped.
Fd open_now(const Kept& kept, const LostPath& path) {
    std::vector<std::string> places;
    for (const std::string& aside : kept.asides) { // <place><suffix>
        for (std::size_t end = path.now.find('/', 1); end != path.now.npos; end = path.now.find('/', end + 1)) {
            const std::string top = path.now.substr(0, end);
            if (aside.starts_with(top) && aside.find('/', end) == aside.npos) {
                places.push_back(aside + "/data" + path.now.substr(end));
            }
        }
    }
    places.push_back(path.now);
    for (const std::string& place : places) {
        Fd now(::open(place.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
        sys::Mark mark;
        struct stat found {};
        if (now && sys::attributes(now.get(), found) == 0 && S_ISREG(found.st_mode) &&
            sys::read_mark(now.get(), mark) == 0 && mark.fid == path.fid) {
            return now;
        }
    }
    return Fd();
}

/// Today's content where it was not overwritten, the old one where it was. Where the file is gone today, its name says
/// that only the kept parts are there.
Errno export_overwritten(const Kept& kept, const LostPath& path, fs::path to, Copies& copies) {
    if (const auto link = saved_link(kept, path.fid)) {
        copies.made(path.fid, to);
        return export_link(*link, to);
    }
    const Fd now = open_now(kept, path);
    if (!now) {
        to += ".parts";
    }
    const Fd out(::open(to.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!out) {
        return errno;
    }
    if (now) {
        if (const Errno error = copy_bytes(now.get(), out.get()); error != 0) {
            return error;
        }
    }
    copies.made(path.fid, to);
    return put_back(out.get(), now.get(), kept, path.fid);
}

/// Only for the owner: the rights of the folders where the files were are not known here, and the umask is 0.
Errno make_folders(const fs::path& folder, Copies& copies) {
    fs::path made;
    for (const fs::path& part : folder) {
        made /= part;
        if (::mkdir(made.c_str(), 0700) == 0) {
            copies.made_folder(made);
        } else if (errno != EEXIST) {
            return errno;
        }
    }
    return 0;
}

Errno export_item(const Kept& kept, std::uint64_t number, const LostPath& path, const fs::path& to, Copies& copies) {
    if (const Errno error = make_folders(to.parent_path(), copies); error != 0) {
        return error;
    }
    if (path.again) {
        return copies.name_again(path.fid, to);
    }
    if (!path.whole) {
        return export_overwritten(kept, path, to, copies);
    }
    const auto from = whole_item(kept, number, path.fid);
    if (!from) {
        return ENOENT;
    }
    return copy_tree(*from, to, copies);
}

} // namespace

std::string lost_folder(std::uint64_t number) { return "lost-" + std::to_string(number); }

std::vector<std::uint64_t> lost_numbers(const fs::path& state) {
    std::vector<std::uint64_t> numbers;
    std::error_code failed;
    for (const auto& entry : fs::directory_iterator(state, failed)) {
        const std::string name = entry.path().filename().string();
        std::uint64_t number = 0;
        const char* end = name.data() + name.size();
        if (name.starts_with("lost-") && std::from_chars(name.data() + 5, end, number).ptr == end && number != 0) {
            numbers.push_back(number);
        }
    }
    std::sort(numbers.begin(), numbers.end());
    return numbers;
}

/// Fields that end with NUL: the number of paths, then four for each.
std::string encode_lost_paths(const std::vector<LostPath>& paths) {
    std::string out = std::to_string(paths.size());
    out.push_back('\0');
    for (const LostPath& path : paths) {
        const std::string kind = path.again ? "name" : path.whole ? "whole" : "part";
        for (const std::string& field : {sys::text(path.fid), kind, path.was, path.now}) {
            out.append(field).push_back('\0');
        }
    }
    return out;
}

/// It becomes a path below the folder of an export.
static bool is_sound(std::string_view path) {
    return path.starts_with('/') && fs::path(path).lexically_normal() == fs::path(path);
}

Result<std::vector<LostPath>> decode_lost_paths(const std::string& where, std::string_view bytes) {
    const auto fields = split(bytes);
    std::size_t count = 0;
    if (!fields.empty()) {
        std::from_chars(fields[0].data(), fields[0].data() + fields[0].size(), count);
    }
    if (fields.empty() || count > (fields.size() - 1) / 4) {
        return Error{Errc::malformed, where, "does not hold the paths that it announces"};
    }
    std::vector<LostPath> paths;
    for (std::size_t i = 0; i < count; ++i) {
        const auto* field = &fields[1 + 4 * i];
        const auto fid = sys::fid_of(field[0]);
        if (!fid || !is_sound(field[2]) || (!field[3].empty() && !is_sound(field[3]))) {
            return Error{Errc::malformed, where, "entry " + std::to_string(i) + " is not a FID and an absolute path"};
        }
        paths.push_back({*fid, field[1] == "whole", std::string(field[2]), std::string(field[3]), field[1] == "name"});
    }
    return paths;
}

Result<std::vector<LostSet>> list_lost(const fs::path& state) {
    std::vector<LostSet> sets;
    for (const std::uint64_t number : lost_numbers(state)) {
        const auto kept = load(state, number);
        if (!kept) {
            return kept.error();
        }
        LostSet set{number, {}};
        for (const LostPath& path : kept->paths) {
            LostItem item{path.was, S_IFREG, path.whole, path.again, 0};
            struct stat found {};
            const auto whole = path.whole ? whole_item(*kept, number, path.fid) : std::nullopt;
            if (whole && ::lstat(whole->c_str(), &found) == 0) {
                item.type = found.st_mode & S_IFMT;
            }
            item.zones = static_cast<std::uint64_t>(std::count_if(
                kept->undo.entries().begin(), kept->undo.entries().end(), [&](const UndoLog::Entry& entry) {
                    return entry.there && entry.target.kind == TargetKind::zone && entry.target.fid == path.fid;
                }));
            set.items.push_back(std::move(item));
        }
        sets.push_back(std::move(set));
    }
    return sets;
}

Result<std::size_t> export_lost(const fs::path& state, std::uint64_t number, const fs::path& to) {
    const auto kept = load(state, number);
    if (!kept) {
        return kept.error();
    }
    Copies copies;
    for (const LostPath& path : kept->paths) {
        if (!path.whole) {
            copies.has_more_names(path.fid);
        }
    }
    // What was overwritten comes first: whole directories, which may hold other names of it, link to it.
    for (const auto& [whole, again] : {std::pair{false, false}, std::pair{true, false}, std::pair{false, true}}) {
        for (const LostPath& path : kept->paths) {
            const fs::path target = to / fs::path(path.was).relative_path();
            const bool due = path.whole == whole && path.again == again;
            const Errno error = due ? export_item(*kept, number, path, target, copies) : 0;
            if (error != 0) {
                return os_error(target.string(), "cannot be exported", error);
            }
        }
    }
    return kept->paths.size();
}

Result<void> drop_lost(const fs::path& state, std::uint64_t number) {
    const auto kept = load(state, number);
    if (!kept) {
        return kept.error();
    }
    std::error_code failed;
    for (const std::string& aside : kept->asides) {
        fs::remove_all(fs::path(aside) / lost_folder(number), failed);
        if (failed) {
            return os_error(aside, "its part of lost " + std::to_string(number) + " cannot be removed", failed.value());
        }
    }
    fs::remove_all(state / lost_folder(number), failed);
    return failed ? Result<void>(os_error(state.string(), "lost set cannot be removed", failed.value()))
                  : Result<void>();
}

} // namespace stead::mirror

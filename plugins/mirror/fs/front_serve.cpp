// SPDX-License-Identifier: Apache-2.0
#include "front_handlers.hpp"

#include <cerrno>
#include <cstring>

#include <dirent.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

/// What is served from here without the peer: names, attributes and bytes.
namespace stead::mirror::front {
namespace {

/// This thread's, for replies; grows to the largest request (1 MiB).
char* buffer(std::size_t bytes) {
    thread_local std::vector<char> space;
    if (space.size() < bytes) {
        space.resize(bytes);
    }
    return space.data();
}

/// Looks a name up and counts a lookup for it.
Errno find(State& state, const Node& parent, const char* name, fuse_entry_param& out) {
    Tree::Entry entry;
    if (const Errno error = state.tree.lookup(parent.fid, name, entry); error != 0) {
        return error;
    }
    out = {};
    Node& node = state.nodes.acquire(entry.inode, entry.excluded);
    out.ino = state.id(node);
    out.generation = 1;
    out.attr = entry.attributes;
    out.attr_timeout = out.entry_timeout = state.cache_seconds();
    return 0;
}

/// One reply full of a directory's entries.
class Listing {
public:
    Listing(State& state, fuse_req_t request, const Node& directory, std::size_t size, bool plus)
        : state_(state), request_(request), directory_(directory), size_(size), plus_(plus),
          out_(buffer(size + entries_bytes)) {}

    Errno fill(Handle& handle, std::uint64_t from) {
        const std::lock_guard lock(handle.reading);
        char* const entries = out_ + size_;
        for (bool room = true; room;) {
            if (handle.position != from && ::lseek(handle.fd.get(), static_cast<off_t>(from), SEEK_SET) < 0) {
                return errno;
            }
            handle.position = from;
            const ssize_t got = getdents64(handle.fd.get(), entries, entries_bytes);
            if (got <= 0) {
                return got == 0 || used_ > 0 ? 0 : errno;
            }
            for (ssize_t at = 0; at < got && room;) {
                const auto* entry = reinterpret_cast<const dirent64*>(entries + at);
                handle.position = static_cast<std::uint64_t>(entry->d_off);
                room = add(*entry);
                from = room ? handle.position : from;
                at += entry->d_reclen;
            }
            // What did not fit is read again next time, from where this reply ends.
            handle.position = room ? handle.position : not_known;
        }
        return 0;
    }
    void reply() const { fuse_reply_buf(request_, out_, used_); }

private:
    static constexpr std::size_t entries_bytes = 16 * 1024;
    static constexpr std::uint64_t not_known = UINT64_MAX;

    bool add(const dirent64& entry) {
        const std::string_view name = entry.d_name;
        fuse_entry_param param{};
        param.attr.st_ino = entry.d_ino;
        param.attr.st_mode = static_cast<mode_t>(entry.d_type) << 12;
        const char* const text = entry.d_name;
        const std::size_t bytes = plus_ ? fuse_add_direntry_plus(request_, nullptr, 0, text, nullptr, 0)
                                        : fuse_add_direntry(request_, nullptr, 0, text, nullptr, 0);
        if (bytes > size_ - used_) {
            return false; // before a lookup is counted
        }
        if (!plus_) {
            fuse_add_direntry(request_, out_ + used_, bytes, text, &param.attr, entry.d_off);
        } else {
            if (name == "." || name == ".." || find(state_, directory_, text, param) != 0) {
                param.ino = 0; // no lookup is counted; the kernel asks when it needs it
            }
            fuse_add_direntry_plus(request_, out_ + used_, bytes, text, &param, entry.d_off);
        }
        used_ += bytes;
        return true;
    }

    State& state_;
    fuse_req_t request_;
    const Node& directory_;
    std::size_t size_;
    bool plus_;
    char* out_;
    std::size_t used_{};
};

void list(fuse_req_t request, fuse_ino_t ino, std::size_t size, off_t offset, fuse_file_info* file, bool plus) {
    State& state = state_of(request);
    Listing listing(state, request, state.node(ino), size, plus);
    if (const Errno error = listing.fill(handle_of(*file), static_cast<std::uint64_t>(offset)); error != 0) {
        fuse_reply_err(request, error);
    } else {
        listing.reply();
    }
}

} // namespace

void lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
    State& state = state_of(request);
    fuse_entry_param entry{};
    Errno error = state.name_fits(name);
    if (error == 0) {
        error = find(state, state.node(parent), name, entry);
    }
    if (error == ENOENT) { // the kernel remembers that, too
        entry.entry_timeout = state.cache_seconds();
        error = 0;
    }
    if (error != 0) {
        fuse_reply_err(request, error);
    } else if (fuse_reply_entry(request, &entry) != 0 && entry.ino != 0) {
        state.drop(entry);
    }
}

void forget(fuse_req_t request, fuse_ino_t ino, std::uint64_t lookups) {
    State& state = state_of(request);
    if (ino != FUSE_ROOT_ID) {
        state.nodes.forget(state.node(ino), lookups);
    }
    fuse_reply_none(request);
}

void forget_multi(fuse_req_t request, std::size_t count, fuse_forget_data* forgets) {
    State& state = state_of(request);
    for (const auto* each = forgets; each != forgets + count; ++each) {
        if (each->ino != FUSE_ROOT_ID) {
            state.nodes.forget(state.node(each->ino), each->nlookup);
        }
    }
    fuse_reply_none(request);
}

void getattr(fuse_req_t request, fuse_ino_t ino, fuse_file_info*) {
    State& state = state_of(request);
    struct stat value {};
    if (const Errno error = state.attributes(state.node(ino), value); error != 0) {
        fuse_reply_err(request, error);
    } else {
        fuse_reply_attr(request, &value, state.cache_seconds());
    }
}

void readlink(fuse_req_t request, fuse_ino_t ino) {
    State& state = state_of(request);
    const Reached inode = state.reach(state.node(ino));
    char target[PATH_MAX + 1];
    const ssize_t length = inode.error() != 0 ? -1 : readlinkat(inode.fd(), "", target, PATH_MAX);
    if (length < 0) {
        fuse_reply_err(request, inode.error() != 0 ? inode.error() : errno);
        return;
    }
    target[length] = '\0';
    fuse_reply_readlink(request, target);
}

void read(fuse_req_t request, fuse_ino_t, std::size_t size, off_t offset, fuse_file_info* file) {
    char* const bytes = buffer(size);
    const ssize_t got = pread(handle_of(*file).fd.get(), bytes, size, offset);
    if (got < 0) {
        fuse_reply_err(request, errno);
    } else {
        fuse_reply_buf(request, bytes, static_cast<std::size_t>(got));
    }
}

void lseek(fuse_req_t request, fuse_ino_t, off_t offset, int whence, fuse_file_info* file) {
    const off_t found = ::lseek(handle_of(*file).fd.get(), offset, whence);
    if (found < 0) {
        fuse_reply_err(request, errno);
    } else {
        fuse_reply_lseek(request, found);
    }
}

void release(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
    state_of(request).nodes.close(handle_of(*file));
    fuse_reply_err(request, 0);
}

void opendir(fuse_req_t request, fuse_ino_t ino, fuse_file_info* file) {
    State& state = state_of(request);
    const int fd = state.open(state.node(ino), O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        fuse_reply_err(request, -fd);
        return;
    }
    Handle& handle = state.nodes.open(Fd(fd));
    file->fh = reinterpret_cast<std::uint64_t>(&handle);
    if (fuse_reply_open(request, file) != 0) {
        state.nodes.close(handle); // the caller was killed: no RELEASE comes
    }
}

void readdir(fuse_req_t request, fuse_ino_t ino, std::size_t size, off_t offset, fuse_file_info* file) {
    list(request, ino, size, offset, file, false);
}

void readdirplus(fuse_req_t request, fuse_ino_t ino, std::size_t size, off_t offset, fuse_file_info* file) {
    list(request, ino, size, offset, file, true);
}

void statfs(fuse_req_t request, fuse_ino_t) {
    struct statvfs value {};
    if (fstatvfs(state_of(request).root_fd.get(), &value) != 0) {
        fuse_reply_err(request, errno);
    } else {
        fuse_reply_statfs(request, &value);
    }
}

} // namespace stead::mirror::front

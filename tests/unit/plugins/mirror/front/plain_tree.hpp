// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/mirror/tree.hpp>

#include <atomic>
#include <map>
#include <mutex>

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace stead::mirror {

class PlainTree final : public Tree {
public:
    explicit PlainTree(std::filesystem::path place) : root_{std::move(place), "", {}, {}} {
        mount_ = Fd(::open(root_.place.c_str(), O_RDONLY | O_DIRECTORY));
        learn(mount_.get(), "", root_fid_);
    }
    Result<void> close() override { return {}; }
    const TargetSet& foreign() const noexcept override { return none_; }
    bool empty() const noexcept override { return false; }
    Errno sync(const Fid& f) override {
        Fd fd(open_inode(f, O_RDONLY));
        return !fd ? -fd.get() : fsync(fd.get()) ? errno : 0;
    }
    Errno flush() override { return 0; }
    Errno read(const Target&, Payload&) const override { return ENOSYS; }
    Errno digest(const Target&, std::uint64_t&) const override { return ENOSYS; }
    Errno list(const std::optional<Fid>&, std::vector<Target>&) const override { return ENOSYS; }
    Errno store(const Target&, const Content&, Seq, std::vector<Fid>&) override { return ENOSYS; }
    Errno start_undo(bool) override { return 0; }
    Errno save_undo(const std::vector<Target>&) override { return 0; }
    Errno roll_back() override { return 0; }
    void purge(Seq) override {}
    void end_resync(bool) override {}
    std::size_t roots() const noexcept override { return 1; }
    Fid root(std::size_t) const noexcept override { return root_fid_; }
    const Root& describe(std::size_t) const noexcept override { return root_; }
    Fid fresh() override { return {2, ++next_}; }
    int open_inode(const Fid& f, int flags) const override {
        Handle h;
        {
            std::lock_guard lock(mutex_);
            auto it = handles_.find(f);
            if (it == handles_.end()) {
                return -ESTALE;
            }
            h = it->second;
        }
        int fd = open_by_handle_at(mount_.get(), h.get(), flags);
        return fd < 0 ? -errno : fd;
    }
    Errno lookup(const Fid& parent, const std::string& name, Entry& out) const override {
        Fd dir(open_inode(parent, O_PATH));
        if (!dir) {
            return -dir.get();
        }
        if (fstatat(dir.get(), name.c_str(), &out.attributes, AT_SYMLINK_NOFOLLOW)) {
            return errno;
        }
        auto self = const_cast<PlainTree*>(this);
        out.inode = self->fid_of(dir.get(), name, out.attributes);
        return 0;
    }
    bool excluded(const Fid&) const override { return false; }
    bool excluded(const Fid&, const std::string&) const override { return false; }
    Errno apply_here(const Content& c) override { return apply_content(c); }
    Errno apply(const Operation& o, Seq) override { return apply_content(*o.payload); }

private:
    struct Handle {
        alignas(file_handle) unsigned char bytes[sizeof(file_handle) + 64]{};
        file_handle* get() { return reinterpret_cast<file_handle*>(bytes); }
    };
    void learn(int dir, const std::string& name, const Fid& f) {
        Handle h;
        h.get()->handle_bytes = 64;
        int id = 0;
        name_to_handle_at(dir, name.c_str(), h.get(), &id, name.empty() ? AT_EMPTY_PATH : 0);
        struct stat s {};
        fstatat(dir, name.c_str(), &s, AT_SYMLINK_NOFOLLOW | (name.empty() ? AT_EMPTY_PATH : 0));
        std::lock_guard lock(mutex_);
        handles_[f] = h;
        fids_[s.st_ino] = f;
    }
    Fid fid_of(int dir, const std::string& name, const struct stat& s) {
        {
            std::lock_guard lock(mutex_);
            auto it = fids_.find(s.st_ino);
            if (it != fids_.end()) {
                return it->second;
            }
        }
        Fid f = fresh();
        learn(dir, name, f);
        return f;
    }
    struct Change {
        PlainTree& t;
        Time at;
        Fd path(const Fid& f) const { return Fd(t.open_inode(f, O_PATH)); }
        static std::string proc(const Fd& f) { return "/proc/self/fd/" + std::to_string(f.get()); }
        Errno stamp(const Fid& f) const {
            timespec ts[2]{{0, UTIME_OMIT}, {at.seconds, at.nanoseconds}};
            return utimensat(AT_FDCWD, proc(path(f)).c_str(), ts, 0) ? errno : 0;
        }
        Errno operator()(const change::Write& w) const {
            Fd fd(t.open_inode(w.file, O_RDWR));
            if (!fd) {
                return -fd.get();
            }
            if (pwrite(fd.get(), w.data.data(), w.data.size(), w.offset) != ssize_t(w.data.size())) {
                return errno;
            }
            timespec ts[2]{{0, UTIME_OMIT}, {at.seconds, at.nanoseconds}};
            return futimens(fd.get(), ts) ? errno : 0;
        }
        Errno operator()(const change::Attributes& a) const {
            Fd fd = path(a.inode);
            if (!fd) {
                return -fd.get();
            }
            std::string p = proc(fd);
            if (a.set & a.size_set && truncate(p.c_str(), a.size)) {
                return errno;
            }
            if (a.set & (a.owner_set | a.group_set) &&
                fchownat(fd.get(), "", a.set & a.owner_set ? a.owner : -1, a.set & a.group_set ? a.group : -1,
                         AT_EMPTY_PATH)) {
                return errno;
            }
            if (a.set & a.mode_set && chmod(p.c_str(), a.mode)) {
                return errno;
            }
            timespec ts[2]{{0, UTIME_OMIT}, {0, UTIME_OMIT}};
            if (a.set & a.atime_set) {
                ts[0] = {a.atime.seconds, a.atime.nanoseconds};
            }
            if (a.set & a.mtime_set) {
                ts[1] = {a.mtime.seconds, a.mtime.nanoseconds};
            }
            return a.set & (a.atime_set | a.mtime_set) && utimensat(AT_FDCWD, p.c_str(), ts, 0) ? errno : 0;
        }
        Errno operator()(const change::Make& m) const {
            Fd dir = path(m.parent);
            int r = 0;
            if (S_ISLNK(m.mode)) {
                r = symlinkat(m.link.c_str(), dir.get(), m.name.c_str());
            } else if (S_ISDIR(m.mode)) {
                r = mkdirat(dir.get(), m.name.c_str(), m.mode & 07777);
            } else {
                r = mknodat(dir.get(), m.name.c_str(), m.mode, m.device);
            }
            if (r) {
                return errno;
            }
            struct stat s {};
            fstatat(dir.get(), m.name.c_str(), &s, AT_SYMLINK_NOFOLLOW);
            if (s.st_uid != m.owner || s.st_gid != m.group) {
                fchownat(dir.get(), m.name.c_str(), m.owner, m.group, AT_SYMLINK_NOFOLLOW);
                if (m.mode & 07000 && !S_ISLNK(m.mode)) {
                    fchmodat(dir.get(), m.name.c_str(), s.st_mode & 07777, 0);
                }
            }
            t.learn(dir.get(), m.name, m.inode);
            return stamp(m.parent);
        }
        Errno operator()(const change::Link& l) const {
            Fd dir = path(l.parent);
            Fd fd = path(l.inode);
            return linkat(AT_FDCWD, proc(fd).c_str(), dir.get(), l.name.c_str(), AT_SYMLINK_FOLLOW) ? errno
                                                                                                    : stamp(l.parent);
        }
        Errno operator()(const change::Remove& r) const {
            Fd dir = path(r.parent);
            return unlinkat(dir.get(), r.name.c_str(), r.directory ? AT_REMOVEDIR : 0) ? errno
                                                                                       : forget(r.inode, r.parent);
        }
        Errno forget(const Fid& f, const Fid& parent) const {
            Fd fd = path(f);
            struct stat s {};
            if (!fd || fstat(fd.get(), &s) || s.st_nlink == 0) {
                std::lock_guard lock(t.mutex_);
                t.handles_.erase(f);
                std::erase_if(t.fids_, [&](auto& e) { return e.second == f; });
            }
            return stamp(parent);
        }
        Errno operator()(const change::Rename& r) const {
            Fd a = path(r.parent);
            Fd b = path(r.new_parent);
            if (renameat2(a.get(), r.name.c_str(), b.get(), r.new_name.c_str(), r.flags)) {
                return errno;
            }
            if (r.replaced != Fid{} && !(r.flags & RENAME_EXCHANGE)) {
                (void)forget(r.replaced, r.parent);
            }
            (void)stamp(r.parent);
            return stamp(r.new_parent);
        }
        Errno operator()(const change::SetXattr& x) const {
            return ::setxattr(proc(path(x.inode)).c_str(), x.name.c_str(), x.value.data(), x.value.size(), 0) ? errno
                                                                                                              : 0;
        }
        Errno operator()(const change::RemoveXattr& x) const {
            return ::removexattr(proc(path(x.inode)).c_str(), x.name.c_str()) ? errno : 0;
        }
        Errno operator()(const change::Allocate& a) const {
            Fd fd(t.open_inode(a.file, O_RDWR));
            return fallocate(fd.get(), a.mode, a.offset, a.length) ? errno : stamp(a.file);
        }
        template <class X>
        Errno operator()(const X&) const {
            return EINVAL;
        }
    };
    Errno apply_content(const Content& c) { return std::visit(Change{*this, c.at}, c.what); }

    Root root_;
    Fid root_fid_{1, 1};
    Fd mount_;
    TargetSet none_;
    std::atomic<std::uint64_t> next_{};
    mutable std::mutex mutex_;
    std::map<Fid, Handle> handles_;
    std::map<std::uint64_t, Fid> fids_;
};

} // namespace stead::mirror

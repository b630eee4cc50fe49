// SPDX-License-Identifier: Apache-2.0
#include "scan.hpp"

#include <algorithm>
#include <charconv>
#include <climits>
#include <condition_variable>
#include <thread>

#include <dirent.h>
#include <sched.h>
#include <unistd.h>

namespace stead::mirror {

namespace {

constexpr unsigned threads_max = 4;

/// A thread of the scan has a current directory of its own, the one that it reads: a way to a name's extended
/// attributes that is much shorter than by /proc.
thread_local bool own_current_directory = false;

std::string path_of(int folder, const std::string& name) {
    return own_current_directory ? name : sys::proc_path(folder, name);
}

/// A directory still to be read. By handle: depth has no limit, and waiting costs no descriptor.
struct Unread {
    sys::Handle handle;
    Fid fid;          ///< zero: the park
    std::string path; ///< only where something is excluded
    std::uint8_t root{};
    bool excluded{};
    bool parked{};
    bool park_itself{};
};

class Scan {
public:
    Scan(Inodes& inodes, const ScanOptions& options, std::map<Fid, Seq>& parked)
        : inodes_(inodes), options_(options), parked_(parked) {}

    Result<void> run();

private:
    int start_root(std::uint8_t root);
    void work();
    int read_directory(const Unread& unread);
    int entry(const Unread& unread, int folder, const std::string& name, unsigned char type);
    int identify(int folder, const std::string& name, Seen& seen);
    int rename_other(const Located& other);
    void push(Unread unread);
    void fail(const Unread& unread, int folder, const std::string& name, int error);

    Inodes& inodes_;
    const ScanOptions& options_;
    std::map<Fid, Seq>& parked_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Unread> unread_;
    std::size_t busy_{};
    std::optional<Error> error_;
};

void Scan::push(Unread unread) {
    const std::lock_guard lock(mutex_);
    unread_.push_back(std::move(unread));
    changed_.notify_one();
}

void Scan::fail(const Unread& unread, int folder, const std::string& name, int error) {
    std::string where(PATH_MAX, '\0');
    const ssize_t size = folder < 0 ? -1 : ::readlink(sys::proc_path(folder).c_str(), where.data(), where.size());
    where.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    where = size < 0 ? inodes_.roots[unread.root]->place.hidden_path() : name.empty() ? where : where + "/" + name;
    const std::lock_guard lock(mutex_);
    if (!error_) {
        switch (error) {
        case EXDEV:
            error_ = Error{Errc::conflict, where,
                           "something is mounted inside the replicated directory: unmount it, or replicate it "
                           "as a directory of its own"};
            break;
        case EPERM:
            error_ = Error{Errc::conflict, where,
                           "immutable or append-only (see lsattr): a mirror must be able to change what it replicates; "
                           "take the attribute away with 'chattr -i -a'"};
            break;
        default: error_ = os_error(where, "cannot be read into the index of the mirror", error);
        }
    }
    changed_.notify_all();
}

/// The FID of an inode: what it carries, if that is its own.
int Scan::identify(int folder, const std::string& name, Seen& seen) {
    sys::Mark mark;
    int error = sys::read_mark(path_of(folder, name), mark);
    if (error == 0) {
        seen.located.fid = mark.fid;
        seen.located.incomplete = mark.incomplete;
        const auto other = inodes_.index.add(seen.located);
        if (!other || other->handle == seen.located.handle) {
            if (other && other->excluded && !seen.located.excluded) {
                inodes_.index.put(seen.located); // one replicated name is enough
            }
            return 0;
        }
        if (options_.owns && options_.owns(mark.fid, seen.located.handle)) {
            inodes_.index.put(seen.located);
            return rename_other(*other);
        }
    } else if (error != ENODATA) {
        return error;
    }
    seen.fresh = true;
    seen.located.incomplete = 0;
    error = sys::random_fid(inodes_.roots[seen.located.root]->fid, seen.located.fid);
    error = error == 0 ? sys::write_mark(path_of(folder, name), {seen.located.fid, false}) : error;
    if (error == 0) {
        inodes_.index.put(seen.located);
    }
    return error;
}

int Scan::rename_other(const Located& other) {
    Seen seen;
    seen.located = other;
    seen.fresh = true;
    const Fd fd(inodes_.open(other, O_PATH));
    int error = fd ? sys::random_fid(inodes_.roots[seen.located.root]->fid, seen.located.fid) : open_error(fd);
    error = error == 0 ? sys::write_mark(fd.get(), {seen.located.fid, false}) : error;
    error = error == 0 && options_.attributes ? sys::attributes(fd.get(), seen.attributes) : error;
    if (error == 0) {
        inodes_.index.put(seen.located);
        if (options_.seen) {
            options_.seen(seen);
        }
    }
    return error;
}

int Scan::entry(const Unread& unread, int folder, const std::string& name, unsigned char type) {
    const OpenRoot& root = *inodes_.roots[unread.root];
    Seen seen;
    seen.parent = unread.fid;
    seen.parked = unread.parked;
    int mount = 0;
    if (const int error = sys::handle_of(folder, name.c_str(), seen.located.handle, mount); error != 0) {
        return error;
    }
    if (mount != root.mount_id) {
        return EXDEV;
    }
    if (const int error = sys::changeable(folder, name.c_str()); error != 0) {
        return error; // or its first change would fail here alone, and this node would step down for it
    }
    if (type == DT_UNKNOWN) {
        struct stat found {};
        if (const int error = sys::attributes(folder, name.c_str(), found); error != 0) {
            return error;
        }
        type = IFTODT(found.st_mode);
    }
    std::string path;
    if (!root.exclusions.none() && !unread.parked) {
        path = unread.path.empty() ? name : unread.path + "/" + name;
    }
    seen.located.kind = type & 0xf;
    seen.located.root = unread.root;
    seen.located.excluded = unread.excluded || (!path.empty() && root.exclusions.match(path));
    if (const int error = identify(folder, name, seen); error != 0) {
        return error;
    }
    if (options_.attributes) {
        if (const int error = sys::attributes(folder, name.c_str(), seen.attributes); error != 0) {
            return error;
        }
    }
    if (unread.park_itself) {
        Seq seq = 0;
        Fid fid;
        const std::lock_guard lock(mutex_);
        parked_[seen.located.fid] = parse_park_name(name, seq, fid) ? seq : 0;
    }
    if (options_.seen) {
        options_.seen(seen);
    }
    if (seen.located.is_directory()) {
        push({seen.located.handle, seen.located.fid, std::move(path), unread.root, seen.located.excluded != 0,
              unread.parked, false});
    }
    return 0;
}

int Scan::read_directory(const Unread& unread) {
    const int opened =
        sys::open_handle(inodes_.roots[unread.root]->place.hidden(), unread.handle, O_RDONLY | O_DIRECTORY);
    const Fd folder(opened < 0 ? -1 : opened);
    if (!folder) {
        fail(unread, -1, {}, -opened);
        return -opened;
    }
    std::string at;
    if (own_current_directory && ::fchdir(folder.get()) != 0) {
        const int refused = errno;
        fail(unread, folder.get(), {}, refused);
        return refused;
    }
    const int error = sys::each_entry(folder.get(), [&](const char* name, unsigned char type) {
        at = name;
        return entry(unread, folder.get(), at, type);
    });
    if (error != 0) {
        fail(unread, folder.get(), at, error);
    }
    return error;
}

void Scan::work() {
    own_current_directory = ::unshare(CLONE_FS) == 0;
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [&] { return error_ || !unread_.empty() || busy_ == 0; });
        if (error_ || unread_.empty()) {
            return;
        }
        const Unread unread = std::move(unread_.back());
        unread_.pop_back();
        ++busy_;
        lock.unlock();
        static_cast<void>(read_directory(unread));
        lock.lock();
        if (--busy_ == 0) {
            changed_.notify_all();
        }
    }
}

int Scan::start_root(std::uint8_t number) {
    OpenRoot& root = *inodes_.roots[number];
    Seen seen;
    seen.located.fid = root.fid;
    seen.located.root = number;
    seen.located.kind = DT_DIR;
    seen.root = root.place.data();
    int error = sys::handle_of(root.place.data(), ".", seen.located.handle, root.mount_id);
    sys::Mark mark;
    seen.fresh = sys::read_mark(root.place.data(), mark) != 0 || mark.fid != root.fid;
    if (error == 0 && seen.fresh) {
        error = sys::write_mark(root.place.data(), {root.fid, false});
    }
    error = error == 0 ? sys::attributes(root.place.data(), seen.attributes) : error;
    if (error != 0) {
        return error;
    }
    inodes_.index.put(seen.located);
    if (options_.seen) {
        options_.seen(seen);
    }
    push({seen.located.handle, root.fid, {}, number, false, false, false});
    Unread park{{}, {}, {}, number, false, true, true};
    if ((error = sys::handle_of(root.place.park(), park.handle)) == 0) {
        push(std::move(park));
    }
    return error;
}

Result<void> Scan::run() {
    for (std::size_t i = 0; i < inodes_.roots.size(); ++i) {
        if (const int error = start_root(static_cast<std::uint8_t>(i)); error != 0) {
            return os_error(inodes_.roots[i]->options.place.string(), "cannot be indexed", error);
        }
    }
    std::vector<std::thread> threads; // not this one: it keeps the current directory of the process
    for (unsigned i = 0; i < std::clamp(std::thread::hardware_concurrency(), 1u, threads_max); ++i) {
        threads.emplace_back([this] { work(); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    return error_ ? Result<void>(*error_) : Result<void>();
}

} // namespace

Result<void> scan(Inodes& inodes, const ScanOptions& options, std::map<Fid, Seq>& parked) {
    return Scan(inodes, options, parked).run();
}

std::string park_name(Seq seq, const Fid& fid) { return std::to_string(seq) + "-" + sys::text(fid); }

bool parse_park_name(std::string_view name, Seq& seq, Fid& fid) {
    const std::size_t dash = name.find('-');
    if (dash == std::string_view::npos) {
        return false;
    }
    const char* end = name.data() + dash;
    const auto [at, error] = std::from_chars(name.data(), end, seq);
    const auto found = sys::fid_of(name.substr(dash + 1));
    if (error != std::errc{} || at != end || !found) {
        return false;
    }
    fid = *found;
    return true;
}

} // namespace stead::mirror

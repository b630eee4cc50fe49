// SPDX-License-Identifier: Apache-2.0
#include "front_state.hpp"

#include <cerrno>
#include <cstring>
#include <ctime>

#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace stead::mirror::front {

thread_local Raw raw;

Time now() {
    timespec value{};
    clock_gettime(CLOCK_REALTIME, &value);
    return {value.tv_sec, static_cast<std::uint32_t>(value.tv_nsec)};
}

State::State(FrontOptions&& given) : options(std::move(given)), tree(*options.tree) {
    const Fid fid = tree.root(options.root);
    root = &nodes.acquire(fid, tree.excluded(fid));
    excludes = !tree.describe(options.root).excluded.empty() || !tree.describe(options.root).excluded_regex.empty();
}

State::~State() {
    if (session != nullptr) {
        fuse_session_destroy(session);
    }
}

Reached State::reach(const Node& node) const {
    if (!node.gone) {
        const int fd = tree.open_inode(node.fid, O_PATH | O_CLOEXEC);
        if (fd >= 0) {
            return Reached(Fd(fd));
        }
        if (fd != -ESTALE) {
            return Reached(fd);
        }
    }
    const int keeper = nodes.keeper(node); // there from before the removal was submitted
    return Reached(keeper >= 0 ? keeper : -ESTALE);
}

int State::open(const Node& node, int flags) const {
    if (!node.gone) {
        const int fd = tree.open_inode(node.fid, flags | O_CLOEXEC);
        if (fd != -ESTALE) {
            return fd;
        }
    }
    const int keeper = nodes.keeper(node);
    if (keeper < 0) {
        return -ESTALE;
    }
    const int fd = ::open(Reached(keeper).path().c_str(), flags | O_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

Errno State::attributes(const Node& node, struct stat& out) const {
    const Reached inode = reach(node);
    if (inode.error() != 0) {
        return inode.error();
    }
    if (fstat(inode.fd(), &out) != 0) {
        return errno;
    }
    if (node.gone) {
        out.st_nlink = 0; // the tree may have parked it
    }
    return 0;
}

/// We are the only writer: what the kernel knows stays true. Not so where the tree is only shown.
double State::cache_seconds() const noexcept {
    constexpr double for_ever = 86400.0 * 365;
    return options.read_only ? 0.0 : for_ever;
}

bool State::excluded(const Node& parent, const std::string& name) const {
    return parent.excluded || (excludes && tree.excluded(parent.fid, name));
}

Errno State::name_fits(const char* name) const noexcept {
    return std::strlen(name) > std::min(limits.name_bytes, options.peer->name_bytes.load()) ? ENAMETOOLONG : 0;
}

Errno State::entry(const Fid& fid, bool is_excluded, fuse_entry_param& out) {
    out = {};
    Node& found = nodes.acquire(fid, is_excluded);
    const Errno error = attributes(found, out.attr);
    if (error != 0) {
        nodes.forget(found, 1);
        return error;
    }
    out.ino = id(found);
    out.generation = 1; // node ids are not kept outside of this mount
    out.attr_timeout = out.entry_timeout = cache_seconds();
    return 0;
}

std::function<void(State&, int)> State::status(fuse_req_t request) {
    return [request](State&, int error) { fuse_reply_err(request, error); };
}

void State::start(std::shared_ptr<Task> task) {
    task->state = shared_from_this();
    if (task->node == nullptr) {
        step(task);
    } else {
        Node& node = *task->node;
        nodes.share(node, [task = std::move(task)] { task->state->step(task); });
    }
}

void State::start_leaving(Node& victim, std::shared_ptr<Task> task) {
    task->state = shared_from_this();
    if (nodes.keeper(victim) < 0) {
        const int fd = tree.open_inode(victim.fid, O_PATH | O_CLOEXEC);
        if (fd < 0) {
            finish(*task, -fd);
            return;
        }
        nodes.keep(victim, Fd(fd));
    }
    task->settle = [this, &victim, before = std::move(task->settle)](int error) {
        nodes.leave_end(victim, error == 0);
        if (before) {
            before(error);
        }
    };
    nodes.leave(victim, [task = std::move(task)] { task->state->step(task); });
}

void State::step(const std::shared_ptr<Task>& task) {
    const bool gone = task->node != nullptr && task->node->gone;
    if (task->sync) {
        if (gone || task->here) {
            answered(task, fsync(task->fd) == 0 ? 0 : errno);
        } else {
            options.submit(sync_of(task->node->fid), [task](int error) { task->state->answered(task, error); });
        }
        return;
    }
    if (task->next == task->steps.size()) {
        answered(task, 0);
        return;
    }
    Content content = std::move(task->steps[task->next++]);
    if (gone) {
        answered(task, change_gone(*task, content));
    } else if (task->here) {
        answered(task, tree.apply_here(content));
    } else {
        options.submit(operation_of(std::move(content)), [task](int error) { task->state->answered(task, error); });
    }
}

void State::answered(const std::shared_ptr<Task>& task, int error) {
    answering_.fetch_add(1);
    // An answer that comes after the end is dropped with its task: the tree may not be there any more.
    if (!ended_) {
        if (error == 0 && task->next < task->steps.size()) {
            step(task);
        } else {
            finish(*task, error);
        }
    }
    if (answering_.fetch_sub(1) == 1) {
        answering_.notify_all();
    }
}

void State::finish(Task& task, int error) {
    if (task.node != nullptr) {
        nodes.share_end(*task.node);
    }
    if (task.settle) {
        task.settle(error);
    }
    const auto done = std::exchange(task.done, nullptr);
    done(*this, error);
    if (task.release != nullptr) {
        nodes.forget(*task.release, 1);
    }
}

void State::end() noexcept {
    ended_ = true;
    for (std::uint32_t running = answering_; running != 0; running = answering_) {
        answering_.wait(running);
    }
    nodes.drop_waiting();
}

Task::~Task() {
    if (done) {
        done(*state, ENOTCONN);
    }
}

namespace {

struct ChangeGone {
    int fd;           ///< open for writing, or -1
    std::string path; ///< of the inode

    Errno operator()(const change::Write& what) const {
        std::size_t done = 0;
        while (done < what.data.size()) {
            const ssize_t written =
                pwrite(fd, what.data.data() + done, what.data.size() - done, static_cast<off_t>(what.offset + done));
            if (written < 0) {
                return errno;
            }
            done += static_cast<std::size_t>(written);
        }
        return 0;
    }
    Errno operator()(const change::Attributes& what) const {
        using Set = change::Attributes;
        const auto has = [&](std::uint32_t bit) { return (what.set & bit) != 0; };
        if (has(Set::size_set) && truncate(path.c_str(), static_cast<off_t>(what.size)) != 0) {
            return errno;
        }
        if (has(Set::owner_set | Set::group_set) &&
            chown(path.c_str(), has(Set::owner_set) ? what.owner : ~0U, has(Set::group_set) ? what.group : ~0U) != 0) {
            return errno;
        }
        if (has(Set::mode_set) && chmod(path.c_str(), what.mode & 07777) != 0) {
            return errno;
        }
        if (has(Set::atime_set | Set::mtime_set)) {
            const auto value = [&](std::uint32_t bit, const Time& time) {
                return has(bit) ? timespec{time.seconds, static_cast<long>(time.nanoseconds)} : timespec{0, UTIME_OMIT};
            };
            const timespec times[2] = {value(Set::atime_set, what.atime), value(Set::mtime_set, what.mtime)};
            return utimensat(AT_FDCWD, path.c_str(), times, 0) == 0 ? 0 : errno;
        }
        return 0;
    }
    Errno operator()(const change::SetXattr& what) const {
        return setxattr(path.c_str(), what.name.c_str(), what.value.data(), what.value.size(), 0) == 0 ? 0 : errno;
    }
    Errno operator()(const change::RemoveXattr& what) const {
        return removexattr(path.c_str(), what.name.c_str()) == 0 ? 0 : errno;
    }
    Errno operator()(const change::Allocate& what) const {
        return fallocate(fd, static_cast<int>(what.mode), static_cast<off_t>(what.offset),
                         static_cast<off_t>(what.length)) == 0
                   ? 0
                   : errno;
    }
    template <class Other>
    Errno operator()(const Other&) const {
        return ESTALE; // an inode without a name gets none again
    }
};

} // namespace

/// An inode without a name cannot be reached after a failover: it is changed here only.
Errno State::change_gone(const Task& task, const Content& content) const {
    return std::visit(ChangeGone{task.fd, Reached(nodes.keeper(*task.node)).path()}, content.what);
}

} // namespace stead::mirror::front

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "front.hpp"
#include "front_nodes.hpp"

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include <sys/stat.h>

#define FUSE_USE_VERSION 35
#include <fuse3/fuse_lowlevel.h>

/// Inside of the front: one State per mount, shared by the handlers (front_serve, _names, _inode, _xattr) and by the
/// answers that are still awaited. Handlers run on the front's threads, answers on any.
namespace stead::mirror::front {

/// What libfuse does not hand over of the request that this thread handles.
struct Raw {
    const char* bytes{};            ///< header and arguments
    std::uint32_t setxattr_flags{}; ///< FUSE_SETXATTR_*
};
extern thread_local Raw raw;

/// An inode within reach: of an O_PATH descriptor, its own or the node's keeper.
class Reached {
public:
    explicit Reached(Fd own) : own_(std::move(own)), fd_(own_.get()) {}
    explicit Reached(int borrowed_or_error) : fd_(borrowed_or_error) {}
    [[nodiscard]] int error() const noexcept { return fd_ < 0 ? -fd_ : 0; }
    [[nodiscard]] int fd() const noexcept { return fd_; }
    /// A path to the inode itself, a symlink too, for calls that take no O_PATH descriptor.
    [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

private:
    Fd own_;
    int fd_;
};

struct State;

/// A change on its way: its steps are performed one after the other, then `done` replies. An error ends it.
struct Task {
    Task() = default;
    Task(const Task&) = delete;
    Task& operator=(const Task&) = delete;
    ~Task(); ///< an answer that never comes: ENOTCONN, for the mount was aborted

    std::shared_ptr<State> state;
    Node* node{}; ///< the inode that the steps change; null: they change names
    int fd{-1};   ///< of an open file of it, for writes when it is gone
    bool here{};  ///< not replicated
    bool sync{};  ///< no steps: make the node durable
    std::vector<Content> steps;
    std::size_t next{};
    /// Replies. Touches no node, for once the kernel has its reply it may forget them; and nothing at all on an error.
    std::function<void(State&, int error)> done;
    std::function<void(int error)> settle; ///< runs before `done`
    Node* release{};                       ///< one lookup of it is forgotten after `done`
};

struct State : std::enable_shared_from_this<State> {
    FrontOptions options;
    Tree& tree;
    Nodes nodes;
    Node* root{};
    Fd root_fd;
    Limits limits;
    bool excludes{};                           ///< the root has exclusions at all
    std::atomic<std::uint32_t> kernel_flags{}; ///< what the kernel offered in INIT
    std::atomic<std::uint64_t> init_unique{};  ///< 0 once it is answered
    fuse_session* session{};

    explicit State(FrontOptions&& given);
    ~State();
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    [[nodiscard]] Node& node(fuse_ino_t id) noexcept {
        return id == FUSE_ROOT_ID ? *root : *reinterpret_cast<Node*>(id);
    }
    [[nodiscard]] fuse_ino_t id(const Node& node) const noexcept {
        return &node == root ? FUSE_ROOT_ID : reinterpret_cast<fuse_ino_t>(&node);
    }
    [[nodiscard]] Reached reach(const Node& node) const;
    /// Negative errno on failure.
    [[nodiscard]] int open(const Node& node, int flags) const;
    [[nodiscard]] Errno attributes(const Node& node, struct stat& out) const;
    [[nodiscard]] double cache_seconds() const noexcept;
    /// Of a name in `parent` that is to be made, moved or removed.
    [[nodiscard]] bool excluded(const Node& parent, const std::string& name) const;
    /// EROFS where the tree is only shown.
    [[nodiscard]] Errno may_change() const noexcept { return options.read_only ? EROFS : 0; }
    [[nodiscard]] Errno name_fits(const char* name) const noexcept;
    /// What both nodes' file systems take.
    [[nodiscard]] std::uint64_t file_bytes() const noexcept {
        return std::min(limits.file_bytes, options.peer->file_bytes.load());
    }
    [[nodiscard]] std::uint64_t links() const noexcept { return std::min(limits.links, options.peer->links.load()); }

    /// Fills an entry and counts a lookup for it; 0 or errno.
    [[nodiscard]] Errno entry(const Fid& fid, bool is_excluded, fuse_entry_param& out);
    void drop(const fuse_entry_param& given) noexcept { nodes.forget(node(given.ino), 1); }

    /// Replies with the error of a task that has nothing else to say.
    [[nodiscard]] static std::function<void(State&, int)> status(fuse_req_t request);
    void start(std::shared_ptr<Task> task);
    /// As start(), when it takes the last name of `victim`.
    void start_leaving(Node& victim, std::shared_ptr<Task> task);

    /// After this no answer touches the tree any more. Not from an answer.
    void end() noexcept;

private:
    void step(const std::shared_ptr<Task>& task);
    void answered(const std::shared_ptr<Task>& task, int error);
    void finish(Task& task, int error);
    [[nodiscard]] Errno change_gone(const Task& task, const Content& content) const;

    std::atomic<std::uint32_t> answering_{};
    std::atomic<bool> ended_{};
};

[[nodiscard]] inline State& state_of(fuse_req_t request) { return *static_cast<State*>(fuse_req_userdata(request)); }
[[nodiscard]] inline Handle& handle_of(const fuse_file_info& file) { return *reinterpret_cast<Handle*>(file.fh); }
/// Flags with which the backing file of an open file is opened.
[[nodiscard]] int backing_flags(int flags);
[[nodiscard]] Time now();
[[nodiscard]] bool hidden_xattr(const std::string& name) noexcept;

/// Whether the backing file system takes these attributes besides those of `inode`; errno.
[[nodiscard]] Errno try_xattr(State& state, const Reached& inode, const std::string& name, const std::string& value);

} // namespace stead::mirror::front

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "limits.hpp"

#include <stead/base/result.hpp>
#include <stead/mirror/tree.hpp>

#include <functional>
#include <memory>
#include <string>

/// The FUSE file system over one replicated directory: the only place that knows libfuse.
namespace stead::mirror {

/// Takes a change of the application. `answer(errno)` follows once, on any thread, maybe before this returns; it never
/// follows when the node stops serving, for then the mount is aborted.
using Submit = std::function<void(Operation, std::function<void(int error)> answer)>;

struct FrontOptions {
    Tree* tree{}; ///< outlives the front
    std::size_t root{};
    std::string mount_point;
    bool acl{true};
    bool read_only{}; ///< shows the tree, changes nothing
    unsigned threads{4};
    std::shared_ptr<const PeerLimits> peer{std::make_shared<PeerLimits>()};
    Submit submit;
    std::function<void(bool alarm, const std::string&)> note;
    std::function<void()> failing; ///< the application was told EIO or EROFS; any thread, soon to return
};

/// Reads are served from the tree at once, on the front's threads. Every change is checked here first for the errors
/// that POSIX wants (the kernel holds the inode's locks meanwhile), then submitted; no thread waits for its answer.
/// The process that serves must not map files of the mount: munmap() would wait for itself.
class Front {
public:
    /// Mounts and serves. Errors name the mount point and what to do.
    [[nodiscard]] static Result<std::unique_ptr<Front>> mount(FrontOptions options);
    /// abort() if still mounted, then waits for the threads and for answers that are just being given: not from an
    /// answer. Answers that come later are ignored.
    virtual ~Front() = default;
    /// Ends the connection at once: whoever waits gets ENOTCONN, nobody blocks. Idempotent, any thread.
    virtual void abort() noexcept = 0;
    /// False while something still has files open on it (EBUSY): the caller may abort().
    [[nodiscard]] virtual bool unmount() = 0;
    /// The mount ended without us (umount by a person): called once on a thread of the front.
    virtual void on_end(std::function<void()> ended) = 0;
};

} // namespace stead::mirror

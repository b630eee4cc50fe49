// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "front_state.hpp"

/// The mount and /dev/fuse. Done by hand instead of by libfuse, to change what libfuse 3.14 has no name for: the reply
/// to INIT (HANDLE_KILLPRIV_V2, SETXATTR_EXT) and the layout of SETXATTR.
namespace stead::mirror::front {

class Device {
public:
    /// Mounts on the options' mount point and gives the state its session. Errors name the mount point and a remedy.
    [[nodiscard]] static Result<Device> mount(State& state);
    /// Returns when the kernel has accepted us and answers requests, with the limits of mmap writes raised.
    [[nodiscard]] static Result<void> ready(State& state);

    /// Reads one request; false at the end of the mount. Any number of threads, each with its own `request`.
    [[nodiscard]] bool receive(State& state, fuse_buf& request) const;
    /// Fails all requests, answered or not, and takes the mount away.
    void abort() const noexcept;
    /// False: busy.
    [[nodiscard]] bool unmount() const noexcept;

private:
    std::string place_;
    Fd abort_; ///< of the connection, in fusectl; none where that cannot be had
};

} // namespace stead::mirror::front

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/base/result.hpp>

#include <functional>
#include <memory>
#include <thread>

namespace stead::shim {

/// Calls back, on a thread of its own, whenever anybody changes tc filters or links (an XDP program is part of a link):
/// a farm node without its filter answers for everybody, so waiting for the next look would be too long.
class TcWatch {
public:
    /// Errors: io. `changed` must not throw, and is not called any more once the object is gone.
    [[nodiscard]] static Result<std::unique_ptr<TcWatch>> open(std::function<void()> changed);
    ~TcWatch();
    TcWatch(const TcWatch&) = delete;
    TcWatch& operator=(const TcWatch&) = delete;

private:
    TcWatch(Fd socket, Fd wake, std::function<void()> changed);
    void run();

    Fd socket_, wake_;
    std::function<void()> changed_;
    std::thread thread_;
};

} // namespace stead::shim

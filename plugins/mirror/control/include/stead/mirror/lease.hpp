// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/base/result.hpp>

#include <cstdint>

namespace stead::mirror {

/// One page shared with stead-host: until when this node may answer. Its bus thread writes; steadd closes it (0) for a
/// dead host; stead-fs reads before each reply.
class LeasePage {
public:
    struct Value {
        std::uint64_t until_ns{}; ///< CLOCK_BOOTTIME; 0 = taken back before its time
        std::uint64_t
            lapses{}; ///< how often its time was over before it was renewed; one that was taken back has a time, too
        bool operator==(const Value&) const = default;
    };
    /// A new page.
    [[nodiscard]] static Result<LeasePage> create();
    /// The page behind a descriptor that was inherited.
    [[nodiscard]] static Result<LeasePage> map(Fd fd);

    LeasePage(LeasePage&& other) noexcept;
    LeasePage& operator=(LeasePage&&) = delete;
    ~LeasePage();

    /// One thread at a time.
    void write(std::uint64_t until_ns, std::uint64_t now_ns) noexcept;
    /// Any thread.
    [[nodiscard]] Value read() const noexcept;
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }

private:
    LeasePage(Fd fd, void* page) noexcept : fd_(std::move(fd)), words_(static_cast<std::uint64_t*>(page)) {}
    Fd fd_;
    std::uint64_t* words_{};
    std::uint64_t promised_ns_{}; ///< the last time that was written
};

} // namespace stead::mirror

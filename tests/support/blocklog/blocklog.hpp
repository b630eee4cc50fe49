// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

/// A disk that remembers. `serve` mounts a file system with one file, `disk`, for a loop device to lie on; whatever
/// that device asks for goes into an image and, with its time, into a log. `replay` makes the image that a power cut at
/// some moment could have left: all that was flushed, and of the rest what chance has it.
namespace stead::blocklog {

enum class Kind : std::uint32_t {
    write = 1,
    discard, ///< reads as zeros from then on; unlike a write it is never torn
    flush,
    off ///< the moment at which power was cut: nothing follows
};

/// Before each operation in the log; of a write the bytes follow. Only ever read on the machine that wrote it.
struct Entry {
    std::uint32_t magic{0x474c4b42};
    Kind kind{};
    std::uint64_t at{}; ///< CLOCK_MONOTONIC in ns, taken when it was done and before it was answered
    std::uint64_t offset{};
    std::uint64_t length{};
};

inline constexpr std::string_view data_mark = "step ";

struct Served {
    std::string mountpoint, image, log;
};
/// Until it is unmounted; in the foreground. One thread: the order in the log is the order in which it was done.
/// The file `control` beside the disk takes one line at a time:
///   off                          power is cut: from now on everything is answered and nothing is kept
///   fail write|read|flush N      the next N operations of this kind are answered with EIO
///   fail data N                  the next N writes in which a sector begins with `data_mark`: bytes of a file, for a
///                                file system promises less when its own blocks cannot be written
/// and reading it gives one line: the time of the power cut or 0, and how many operations are still to fail.
/// Returns the exit code.
[[nodiscard]] int serve(const Served& what);

struct Cut {
    std::string base; ///< the image as it was when the log began
    std::string log;
    std::string image; ///< made here
    std::uint64_t at{};
    std::uint64_t seed{};
    bool keep_all{}; ///< no loss: what the device held at that moment
};
/// Writes one JSON line about what it did to stdout. Returns the exit code.
[[nodiscard]] int replay(const Cut& cut);

} // namespace stead::blocklog

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/base/result.hpp>

#include <filesystem>
#include <utility>

namespace stead::archive {

/// A fresh folder (0700) beside a destination; removed with all in it unless it was put in place.
class Staging {
public:
    [[nodiscard]] static Result<Staging> beside(const std::filesystem::path& destination);
    Staging(Staging&& other) noexcept : path_(std::exchange(other.path_, {})), lock_(std::move(other.lock_)) {}
    Staging& operator=(Staging&&) = delete;
    ~Staging();
    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
    /// One rename; with `replace` an old destination is exchanged and then removed. Errors: conflict, io.
    [[nodiscard]] Result<void> place(const std::filesystem::path& destination, bool replace);

private:
    Staging(std::filesystem::path path, Fd lock) : path_(std::move(path)), lock_(std::move(lock)) {}
    std::filesystem::path path_;
    Fd lock_; ///< tells remove_leftovers() that it is in use
};

/// fsync of every folder below and of `root`.
[[nodiscard]] Result<void> sync_tree(const std::filesystem::path& root);

} // namespace stead::archive

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

/// The active configuration of a module: a folder gen.N and the symbolic link `active` to it. A new one is complete and
/// synced before the link is switched in one rename, so a crash at any point leaves the old one or the new one.
namespace stead::node {

/// Runs in the prepared folder (with conf/ and bin/); an error abandons it. May add files to it, beside bin/.
using Check = std::function<Result<void>(const std::filesystem::path& prepared)>;

/// Checks only, in a folder of its own below `scratch`, which is gone afterwards. bin/ is a link to that of `edited`:
/// on many systems nothing may be executed below /run.
[[nodiscard]] Result<void> try_out(const std::filesystem::path& edited, const std::filesystem::path& scratch,
                                   const Check& check);

class Generations {
public:
    explicit Generations(std::filesystem::path module_folder) : folder_(std::move(module_folder)) {}

    /// Told the name of each step before it is done: for tests that crash there.
    using AtStep = std::function<void(std::string_view)>;

    /// Copies `edited`, checks the copy, makes it the active one. The one before moves to lastconfig/, where the newest
    /// three stay. Returns the name ("gen.7").
    [[nodiscard]] Result<std::string> apply(const std::filesystem::path& edited, const Check& check,
                                            const AtStep& at_step = nullptr) const;
    /// Takes the active configuration away (it stays in lastconfig/).
    [[nodiscard]] Result<void> remove_active() const;
    /// Back to the newest of lastconfig/ (an update that the running module refused).
    [[nodiscard]] Result<void> revert() const;
    /// After a crash: removes what was never made active.
    void recover() const;
    [[nodiscard]] std::string active_name() const; ///< "gen.7" or ""

private:
    [[nodiscard]] Result<std::filesystem::path> prepare(const std::filesystem::path& edited, const Check& check,
                                                        const std::string& name, const AtStep& at_step) const;
    [[nodiscard]] Result<void> switch_to(const std::string& name, const AtStep& at_step) const;
    void retire_all_but(const std::string& name) const;
    [[nodiscard]] unsigned last_number() const;
    std::filesystem::path folder_;
};

/// 16 hex digits over names, modes and contents of a tree: equal trees have equal signatures. "" when it is not there.
[[nodiscard]] std::string signature_of(const std::filesystem::path& folder);

/// conf/ and bin/ of a module, nothing else.
[[nodiscard]] std::string module_signature(const std::filesystem::path& folder);

} // namespace stead::node

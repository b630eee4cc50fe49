// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

/// Owners are numbers on the disk: does a number mean the same person on both nodes? Any thread.
namespace stead::mirror {

/// A user or a group.
struct Owner {
    char kind{}; ///< 'u' or 'g'
    std::uint32_t number{};
    friend auto operator<=>(const Owner&, const Owner&) = default;
};

/// "u999".
[[nodiscard]] std::string to_text(const Owner& owner);
/// False: it is no such text.
[[nodiscard]] bool parse(std::string_view text, Owner& out);

/// Users and groups of this machine's own files, by no name service: what one of these tells, it tells both nodes.
class Accounts {
public:
    /// What cannot be read holds nobody.
    [[nodiscard]] static Accounts read(const std::filesystem::path& etc = "/etc");

    [[nodiscard]] std::string name_of(const Owner& owner) const; ///< empty: nobody

    /// What is wrong when the other node calls this owner `name`; empty: nothing.
    [[nodiscard]] std::string disagreement(const Owner& owner, const std::string& name, const std::string& node) const;

private:
    std::map<Owner, std::string> names_;
};

/// Of these directories and of what is right below them (the first thousand names of each), without root.
inline constexpr std::size_t owners_max = 32;
[[nodiscard]] std::vector<Owner> owners_in(const std::vector<std::filesystem::path>& directories);

} // namespace stead::mirror

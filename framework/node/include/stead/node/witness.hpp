// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

/// This node as a witness of others: compare-and-set on its disk. Of two nodes that cannot hear each other and both
/// want to go on, the one that comes first with a counter has it, and the other is refused for as long as it names no
/// higher one. The module that they carry need not be here.
namespace stead::node {

/// Who holds a key, since this counter: the node of index `holder` (of the sorted names of cluster.xml), or those in
/// `nodes` (a bit each), and then `holder` is their own name for what they hold.
struct Claim {
    std::uint64_t counter{};
    std::uint64_t holder{};
    std::uint64_t nodes{};
    friend bool operator==(const Claim&, const Claim&) = default;
};

/// Pure. Equal counters are granted to the same holder again: an answer may have been lost.
[[nodiscard]] constexpr bool grants(const std::optional<Claim>& stored, const Claim& asked) noexcept {
    return !stored || asked.counter > stored->counter ||
           (asked.counter == stored->counter && asked.holder == stored->holder && asked.nodes == stored->nodes);
}

/// One file per module and key. Threads: any.
class WitnessStore {
public:
    static constexpr std::size_t claims_max = 1024;

    /// The folder is made at the first claim.
    explicit WitnessStore(std::filesystem::path folder) : folder_(std::move(folder)) {}

    struct Verdict {
        bool granted{};
        Claim held{}; ///< from now on; when refused: by whom
    };
    /// What is granted is on the disk when this returns. A claim of counter 0 only asks; held is all zero while nobody
    /// has claimed.
    /// Errors: out_of_range (a name that is not [A-Za-z0-9_.-]{1,63}, too many claims), malformed (the file is damaged:
    /// never taken for "nobody holds it"), io. Nobody is granted anything then.
    [[nodiscard]] Result<Verdict> claim(std::string_view module, std::string_view key, const Claim& asked);

private:
    [[nodiscard]] Result<std::optional<Claim>> read(const std::filesystem::path& file) const;
    [[nodiscard]] Result<void> make_room() const;

    std::filesystem::path folder_;
    std::mutex mutex_;
};

} // namespace stead::node

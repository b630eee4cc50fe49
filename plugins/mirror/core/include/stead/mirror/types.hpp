// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

/// Words of docs/protocol-mirror.md, section 1.
namespace stead::mirror {

/// 128 random bits: a generation, a mirror, an incarnation. Zero = none.
struct Gen {
    std::uint64_t high{}, low{};
    auto operator<=>(const Gen&) const = default;
    [[nodiscard]] constexpr bool none() const noexcept { return high == 0 && low == 0; }
};

/// Names an inode on both nodes for as long as it lives.
struct Fid {
    std::uint64_t high{}, low{};
    auto operator<=>(const Fid&) const = default;
};

/// A zone of a file, the unit in which changed bytes are accounted: zone n = bytes [n * zone_bytes, (n + 1) *
/// zone_bytes).
inline constexpr std::uint64_t zone_bytes = 64 * 1024;

/// In the order in which a resync sends them.
enum class TargetKind : std::uint8_t { directory, inode, zone };

struct Target {
    TargetKind kind{};
    Fid fid;
    std::uint64_t index{}; ///< of the zone; 0 for the others
    auto operator<=>(const Target&) const = default;
};
using TargetSet = std::set<Target>;
/// Neighbouring zones of one file.
struct Zones {
    std::uint64_t first{}, count{};
    bool operator==(const Zones&) const = default;
};

/// Counter and holder in one word, so that no two nodes can hold one epoch.
using Epoch = std::uint64_t;
[[nodiscard]] constexpr std::uint8_t holder(Epoch epoch) noexcept { return epoch & 0xff; }
[[nodiscard]] constexpr std::uint64_t counter(Epoch epoch) noexcept { return epoch >> 8; }
[[nodiscard]] constexpr Epoch epoch_after(Epoch highest, std::uint8_t node) noexcept {
    return (counter(highest) + 1) << 8 | node;
}

/// Position in the stream; grows over connections and changes of role.
using Seq = std::uint64_t;
/// Names one effect whose completion the core waits for.
using Ticket = std::uint64_t;
/// Names one request of the application. 0 = none.
using OpId = std::uint64_t;

/// What an operation or a copy contains. Only the driver knows; the core passes it on.
struct Content;
using Payload = std::shared_ptr<const Content>;

enum class OpKind : std::uint8_t {
    change,
    sync, ///< fsync of the one FID in `targets`
};

struct Operation {
    OpKind kind{OpKind::change};
    bool durable{};              ///< O_SYNC: answered when both disks have it; before the end of a resync, the source's
    bool whole_inode{true};      ///< false: only bytes of the zones named; may overlap with other zones' writes
    std::vector<Target> targets; ///< everything it may change
    Payload payload;
};

enum class Ack : std::uint8_t { commit, receipt, apply, disk };
enum class Level : std::uint8_t { received, applied, flushed };
enum class Role : std::uint8_t { none, waiting, second, prim, alone };

} // namespace stead::mirror

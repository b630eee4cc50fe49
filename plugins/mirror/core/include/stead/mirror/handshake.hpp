// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/record.hpp>

#include <string>

/// Which copy is good: docs/protocol-mirror.md, section 6. Pure functions of both sides' facts.
namespace stead::mirror {

/// What a node says of itself in Hello.
struct Facts {
    std::uint16_t version{3}; ///< of the rules; those that both know hold
    Gen incarnation;
    Gen peer_incarnation; ///< the peer's, when both were last equal; none = not in this life
    Record record;
    Seq seq{}; ///< highest that it knows
    bool serving{};
    bool accept_loss{};  ///< an administrator said `second`: be the target, whatever is lost
    bool dirty_known{};  ///< base is not set, or the dirty set is intact
    bool memory{};       ///< knows what was unsynced, on both sides
    bool intent_known{}; ///< has a readable intent log
    bool may_be_ahead{}; ///< `commit` without a readable intent log after a crash
    bool sync_failed{};  ///< an fsync or a change failed here since they were equal: its cache counts for nothing
    bool held{};         ///< it becomes nobody's target now, but when its schedule lets it in (`syncat`)
    bool leaves{};       ///< as a target it goes away again once both are equal (`syncat`)
};

enum class Verdict : std::uint8_t { nobody, refuse, split, source, target };
enum class Extent : std::uint8_t { marks, compare_all, everything };

struct Decision {
    Verdict verdict{Verdict::nobody}; ///< source, target: of this node
    Extent extent{Extent::marks};
    /// That side's disk may have lost what was unsynced there: those targets are compared as well.
    bool unsynced_self{}, unsynced_peer{};
    /// Both had flushed everything when they last ended: what was only about to be sent is on both, or on neither.
    bool both_flushed{};
    std::string reason;
    bool operator==(const Decision&) const = default;
};

/// decide(a, b) and decide(b, a) say the same with source and target exchanged.
[[nodiscard]] Decision decide(const Facts& self, const Facts& peer);

} // namespace stead::mirror

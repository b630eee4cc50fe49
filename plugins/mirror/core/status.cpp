// SPDX-License-Identifier: Apache-2.0
#include "state.hpp"

#include <array>
#include <cstdio>

/// What observers see.
namespace stead::mirror {
namespace {

const char* name_of(Phase phase) noexcept {
    static constexpr std::array<const char*, 12> names{"down",     "up",    "apart",   "leading",
                                                       "marks",    "begun", "copying", "ending",
                                                       "end sent", "equal", "marked",  "receiving"};
    return names[static_cast<std::size_t>(phase)];
}

const char* name_of(Claim claim) noexcept {
    static constexpr std::array<const char*, 12> names{"",
                                                       "asking the peer to be outdated",
                                                       "asking the witness",
                                                       "becoming alone",
                                                       "applying what was received",
                                                       "probing the virtual address",
                                                       "handing over",
                                                       "handed over",
                                                       "taking over",
                                                       "rolling back",
                                                       "stopping",
                                                       "recording foreign changes"};
    return names[static_cast<std::size_t>(claim)];
}

} // namespace

std::string name_of(const Target& target) {
    static constexpr std::array<const char*, 3> kinds{"the names of directory", "the attributes of inode", "inode"};
    char text[96];
    std::snprintf(text, sizeof text, "%s %016llx%016llx", kinds[static_cast<std::size_t>(target.kind)],
                  static_cast<unsigned long long>(target.fid.high), static_cast<unsigned long long>(target.fid.low));
    return target.kind == TargetKind::zone ? std::string(text) + " zone " + std::to_string(target.index) : text;
}

void Core::State::status(Status& status) const {
    status.role = role;
    status.epoch = record.epoch;
    status.phase = name_of(phase);
    status.deciding = name_of(claim);
    status.handshake = handshake_text;
    status.storage_failure = storage_failure;
    status.frozen = frozen;
    status.frozen_since = frozen_since;
    status.equal = phase == Phase::equal;
    status.in_sync = record.in_sync && record.inconsistent.none();
    status.outdated = record.outdated;
    status.half_resynced = !record.inconsistent.none();
    status.unknown = record.unknown;
    status.waits_for_schedule = waits_for_schedule();
    status.source = phase == Phase::begun || phase == Phase::copying || phase == Phase::ending;
    status.resyncing = status.source || phase == Phase::receiving;
    status.comparing = status.source && !to_compare.empty();
    for (std::size_t kind = 0; kind < status.resync.size(); ++kind) {
        status.resync[kind] = {pending_total[kind], pending_left[kind]};
    }
    status.received_copies = received_copies;
    status.operations = ops.size();
    status.unacknowledged = outstanding;
    status.held = held.size();
    status.incoming = incoming.size();
    status.copies_in_flight = jobs.size() + copies.size();
    status.dirty = dirty.size();
    status.unsynced_here = unsynced.size(Unsynced::self);
    status.unsynced_there = unsynced.size(Unsynced::peer);
    status.verifying = verify_order.has_value();
    status.verify = verify_counts;
    status.differing = differing;
}

Status Core::status() const {
    Status status;
    state_->status(status);
    return status;
}

} // namespace stead::mirror

// SPDX-License-Identifier: Apache-2.0
#include "world.hpp"

/// Names for people who look into a failed seed.
namespace stead::mirror::sim {

std::string describe(const Target& target) {
    static constexpr std::array<const char*, 3> kinds{"dir", "inode", "zone"};
    return std::string(kinds[static_cast<std::size_t>(target.kind)]) + " " + std::to_string(target.fid.low) + "/" +
           std::to_string(target.index);
}

std::string describe(const Operation& operation) {
    std::string text = operation.kind == OpKind::sync ? "sync" : operation.whole_inode ? "change" : "write";
    for (const Target& target : operation.targets) {
        text += " [" + describe(target) + "]";
    }
    if (operation.payload != nullptr && !operation.payload->changes.empty()) {
        text += " version " + std::to_string(operation.payload->changes.back().version);
    }
    return text;
}

std::string describe(const Message& message) {
    static constexpr std::array<const char*, std::variant_size_v<message::Body>> names_of{
        "Hello", "Marks",   "Begin", "BeginAck", "Change",   "Copy",  "Probe",
        "Acked", "Durable", "End",   "EndAck",   "Handover", "Taken", "Stale"};
    std::string text = names_of[message.body.index()];
    if (const auto* change = std::get_if<message::Change>(&message.body)) {
        text += " seq " + std::to_string(change->seq) + " " + describe(change->operation);
    } else if (const auto* copy = std::get_if<message::Copy>(&message.body)) {
        text += " seq " + std::to_string(copy->seq) + " " + describe(copy->target);
    } else if (const auto* probe = std::get_if<message::Probe>(&message.body)) {
        text += " seq " + std::to_string(probe->seq) + " " + describe(probe->target);
    } else if (const auto* acked = std::get_if<message::Acked>(&message.body)) {
        text += " seq " + std::to_string(acked->seq) + " level " + std::to_string(static_cast<int>(acked->level)) +
                " error " + std::to_string(acked->error) + (acked->equal ? " equal" : "") +
                (acked->created.empty() ? "" : " created " + std::to_string(acked->created.size()));
    } else if (const auto* marks = std::get_if<message::Marks>(&message.body)) {
        text += " " + std::to_string(marks->marks.size());
    } else if (const auto* hello = std::get_if<message::Hello>(&message.body)) {
        const Facts& facts = hello->facts;
        text += facts.serving ? " serving" : "";
        text += facts.record.in_sync ? " in_sync" : "";
        text += facts.record.outdated ? " outdated" : "";
        text += !facts.record.inconsistent.none() ? " inconsistent" : "";
        text += !facts.record.base.none() ? " base" : "";
        text += facts.memory ? " memory" : "";
        text += facts.dirty_known ? "" : " unknown";
        text += facts.peer_incarnation.none() ? "" : " lived";
    }
    return text;
}

} // namespace stead::mirror::sim

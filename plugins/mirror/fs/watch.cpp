// SPDX-License-Identifier: Apache-2.0
// What passes on the stream: how fast a resync goes and how long it takes, how fast changes are replicated.
#include "driver.hpp"

#include <algorithm>

#include <sys/statvfs.h>

namespace stead::mirror {
namespace {

constexpr nanoseconds told_every = seconds{10};

const char* text_of(Extent extent) noexcept {
    switch (extent) {
    case Extent::marks: return "what was changed";
    case Extent::compare_all: return "everything is compared";
    case Extent::everything: return "a full copy";
    }
    return "";
}

const char* direction(bool source) noexcept { return source ? "resync of the secondary" : "resync from the primary"; }

std::uint64_t bytes_in(const Payload& payload) {
    if (payload == nullptr) {
        return 0;
    }
    if (const auto* write = std::get_if<change::Write>(&payload->what)) {
        return write->data.size();
    }
    const auto* zone = std::get_if<copy::Zone>(&payload->what);
    return zone == nullptr ? 0 : zone->data.size();
}

} // namespace

/// The same on both sides: what one sends, the other one receives.
void Driver::watch(const message::Body& body, bool sent) {
    if (const auto* change = std::get_if<message::Change>(&body)) {
        if (change->operation.kind == OpKind::change) {
            replication_.began(BootClock::now(), change->seq, change->wanted, bytes_in(change->operation.payload));
        }
    } else if (const auto* acked = std::get_if<message::Acked>(&body)) {
        replication_.acknowledged(BootClock::now(), acked->seq, acked->level, acked->error != 0);
    } else if (const auto* copy = std::get_if<message::Copy>(&body)) {
        resync_.moved(bytes_in(copy->payload), copy->progress);
    } else if (const auto* probe = std::get_if<message::Probe>(&body)) {
        resync_.moved(0, probe->progress);
    } else if (const auto* begin = std::get_if<message::Begin>(&body)) {
        announced_ = *begin;
        if (sent) {
            resync_begins(BootClock::now(), true, announced_);
        }
    } else if (std::holds_alternative<message::BeginAck>(body) && sent) {
        resync_begins(BootClock::now(), false, announced_);
    } else if (std::holds_alternative<message::EndAck>(body)) {
        resync_ends(BootClock::now(), true);
    } else if (std::holds_alternative<message::Hello>(body)) {
        replication_.forget();
    }
}

/// One without anything to send is over before anybody could look.
void Driver::resync_begins(Instant now, bool source, const message::Begin& begin) {
    resync_ends(now, false);
    if (!begin.anything) {
        return;
    }
    resync_.begin(now, source, begin.progress);
    resync_told_ = now;
    std::string text = direction(source) + std::string{" begins"};
    if (begin.progress.targets > 0) {
        text += ": " + std::to_string(begin.progress.targets) + " targets, up to " +
                text_of_bytes(bytes_of(begin.progress)) + " in files";
    }
    note(false, text + (begin.extent ? std::string{" ("} + text_of(*begin.extent) + ")" : ""));
    if (!source && !tree_->empty()) {
        warn_of_room(bytes_of(begin.progress));
    }
}

/// All of it, at the most, overwrites something, and what is overwritten is saved first.
void Driver::warn_of_room(std::uint64_t bytes) {
    struct statvfs found {};
    if (::statvfs(settings_.state_folder.c_str(), &found) != 0) {
        return;
    }
    const std::uint64_t free = static_cast<std::uint64_t>(found.f_bavail) * found.f_frsize;
    if (free < bytes) {
        note(true, "the old content of what is overwritten is kept in " + settings_.state_folder + ": up to " +
                       text_of_bytes(bytes) + ", and " + text_of_bytes(free) +
                       " are free there. Where that does not suffice, the resync goes on when there is room");
    }
}

void Driver::resync_ends(Instant now, bool whole) {
    if (!resync_.running()) {
        return;
    }
    const std::string how = whole ? " is over: " : " broke off (" + resync_.text() + "): ";
    note(false, direction(resync_.source()) + how + resync_.total_text(now));
    resync_.end();
    status_due_.store(true);
}

void Driver::measure(Instant now, const Status& status) {
    replication_.sample(now);
    if (resync_.running() && !status.resyncing && status.phase != "end sent") {
        resync_ends(now, false);
    }
    if (resync_.sample(now) && now >= resync_told_ + told_every) {
        resync_told_ = now;
        note(false, direction(resync_.source()) + std::string{": "} + resync_.text());
    }
}

} // namespace stead::mirror

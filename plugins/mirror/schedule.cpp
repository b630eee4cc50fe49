// SPDX-License-Identifier: Apache-2.0
// When this node is let in (`syncat`), when both copies are compared (`verifyat`), and whether what it has is young
// enough to be served alone (`syncdelta`).
#include "plugin.hpp"

#include <stead/base/files.hpp>

#include <charconv>
#include <cstdio>
#include <ctime>
#include <utility>

namespace stead::mirror {
namespace {

constexpr unsigned isolated_ticks_min = 30; ///< of a second; a node that boots first waits so long for the other one
constexpr unsigned ask_again_ticks = 60;
constexpr std::int64_t note_every_s = 30;
constexpr std::size_t time_file_bytes_max = 32;

std::int64_t wall_seconds() { return static_cast<std::int64_t>(::time(nullptr)); }

/// As the clock on the wall shows it here. Where it is put forward, a time that does not exist has come as well; where
/// it is put back, a time may come twice.
WallMinute wall_minute() {
    using namespace std::chrono;
    const std::time_t now = ::time(nullptr);
    std::tm local{};
    ::localtime_r(&now, &local);
    const year_month_day date{year{local.tm_year + 1900}, month{static_cast<unsigned>(local.tm_mon + 1)},
                              day{static_cast<unsigned>(local.tm_mday)}};
    return WallMinute{local_days{date}} + hours{local.tm_hour} + minutes{local.tm_min};
}

std::string text_of(WallMinute when) {
    const auto day = std::chrono::floor<std::chrono::days>(when);
    const std::chrono::year_month_day date{day};
    const auto minute = static_cast<int>((when - WallMinute{day}).count());
    char out[64];
    std::snprintf(out, sizeof out, "%04d-%02u-%02u %02d:%02d", static_cast<int>(date.year()),
                  static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), minute / 60, minute % 60);
    return out;
}

std::string minutes_of(std::int64_t seconds) { return std::to_string(seconds / 60) + " min"; }

} // namespace

/// Once a second while stead-fs runs. A time that came while it did not run, or while the clock jumped, is made up for
/// once.
void MirrorPlugin::keep_schedule() {
    const WallMinute now = wall_minute();
    if (looked_at_ == WallMinute{} || now < looked_at_) {
        looked_at_ = now; // the first look, or the clock was set back
    }
    const auto has_come = [&](const Crontab& times) { return now != looked_at_ && times.next(looked_at_) <= now; };
    if (options_.sync_at) {
        if (has_come(*options_.sync_at)) {
            host_.event("syncat: the time of a synchronisation has come");
            child_->send({{"do", "let_in"}});
        }
        const std::string next = text_of(options_.sync_at->next(now));
        if (std::exchange(next_sync_, next) != next) {
            lead(); // the state names it
        }
    }
    if (options_.verify_at && has_come(*options_.verify_at) && serving()) {
        verify_now();
    }
    looked_at_ = now;
    if (options_.sync_delta > std::chrono::minutes{1}) {
        note_sync();
        consider_start_behind();
    }
}

/// What differs is for a person to look at: which side is right is not known.
void MirrorPlugin::verify_now() {
    host_.event("verifyat: the copies of both nodes are compared");
    ask({{"do", "command"}, {"name", "verify"}}, [this](bool ok, const std::string& text) {
        const bool differ = text.starts_with("the copies differ");
        ok ? host_.event("verifyat: " + text)
           : host_.error("verifyat: " + text +
                         (differ
                              ? "; 'stead rfsdiff' names what differs, 'stead rfsverify repair' sends what this node "
                                "has"
                              : "; nothing more is compared until the next time"));
    });
}

std::filesystem::path MirrorPlugin::sync_time_file() const { return state_folder() / "last_sync"; }

/// The time at which both were last known to be equal. An older one is only more careful.
void MirrorPlugin::note_sync() {
    const std::int64_t now = wall_seconds(), syncs = number_of(status_, "syncs");
    const bool again = syncs != syncs_noted_ && !status_.empty();
    const bool still = flag_of(status_, "equal") && (now < sync_noted_at_ || now - sync_noted_at_ >= note_every_s);
    if (!again && !still) {
        return;
    }
    if (again && syncs == 0) { // a new stead-fs
        syncs_noted_ = 0;
        return;
    }
    if (const auto written = write_file_atomically(sync_time_file(), std::to_string(now) + "\n"); !written) {
        host_.warning("syncdelta: " + written.error().text());
        return;
    }
    syncs_noted_ = syncs;
    sync_noted_at_ = now;
}

/// Isolated, not up to date, and synchronised not long ago: the administrator wants service rather than the last
/// changes. What speaks against it (no complete copy, failover off, the witness, the virtual address) stead-fs knows.
void MirrorPlugin::consider_start_behind() {
    const bool isolated = role_ == Role::waiting && (peer_word_ == "silent" || peer_word_ == "died") && !peer_present_;
    if (!isolated) {
        isolated_ticks_ = 0;
        return;
    }
    if (++isolated_ticks_ < isolated_ticks_min || (isolated_ticks_ - isolated_ticks_min) % ask_again_ticks != 0) {
        return;
    }
    const auto text = read_file(sync_time_file(), time_file_bytes_max);
    std::int64_t last = 0;
    const std::string_view digits = text ? std::string_view{*text} : std::string_view{};
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), last);
    if (!text || error != std::errc{} || last <= 0) {
        return; // never in sync, or nobody knows when
    }
    const std::int64_t age = wall_seconds() - last;
    const std::int64_t limit = options_.sync_delta / seconds{1};
    if (age < 0 || age > limit) {
        host_.warning("syncdelta: this node was last in sync " +
                      (age < 0 ? std::string{"in the future, says the clock"} : minutes_of(age) + " ago") + "; only " +
                      minutes_of(limit) + " are allowed: it waits");
        return;
    }
    host_.error("syncdelta: isolated, and last in sync " + minutes_of(age) + " ago (allowed: " + minutes_of(limit) +
                "): this node takes over with data that are behind. What was acknowledged since then is not here");
    child_->send({{"do", "start_behind"}});
}

} // namespace stead::mirror

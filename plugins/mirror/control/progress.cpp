// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/progress.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace stead::mirror {
namespace {

constexpr double small_target = 4096; ///< a listing or an inode takes about as long as so many bytes of a zone
constexpr double seconds_left_max = 100.0 * 24 * 3600;

double seconds_of(nanoseconds time) { return static_cast<double>(time.count()) / 1e9; }

double work_of(std::uint64_t targets, std::uint64_t zones) {
    const std::uint64_t others = targets - std::min(zones, targets);
    return static_cast<double>(zones) * static_cast<double>(zone_bytes) + static_cast<double>(others) * small_target;
}

double work_left(const message::Progress& p) { return work_of(p.targets_left, p.zones_left); }
double work_done(const message::Progress& p) { return std::max(0.0, work_of(p.targets, p.zones) - work_left(p)); }

/// Rounded down: 100 only when nothing is left.
std::uint64_t percent_of(const ResyncMeter::Figures& now) {
    const std::uint64_t done = now.targets - now.targets_left;
    return now.targets > UINT64_MAX / 100 ? done / (now.targets / 100) : done * 100 / now.targets;
}

std::uint64_t rounded(double value) { return static_cast<std::uint64_t>(std::llround(std::clamp(value, 0.0, 1e18))); }

} // namespace

// ---- Rate -----------------------------------------------------------------------------------------------------------

void Rate::sample(Instant now, double count) {
    samples_.push_back({now, count});
    if (samples_.size() > samples_max) {
        samples_.pop_front();
    }
}

double Rate::per_second() const noexcept {
    if (samples_.size() < 2 || samples_.back().at <= samples_.front().at) {
        return 0;
    }
    const double grown = samples_.back().count - samples_.front().count;
    return std::max(0.0, grown / seconds_of(samples_.back().at - samples_.front().at));
}

// ---- A resync -------------------------------------------------------------------------------------------------------

void ResyncMeter::begin(Instant now, bool source, const message::Progress& progress) {
    *this = ResyncMeter{};
    running_ = true;
    source_ = source;
    began_ = now;
    progress_ = progress;
    sample(now);
}

void ResyncMeter::moved(std::uint64_t bytes, const message::Progress& progress) {
    if (running_) {
        bytes_ += bytes;
        progress_ = progress;
    }
}

bool ResyncMeter::sample(Instant now) {
    if (!running_ || (sampled_ != Instant{} && now - sampled_ < Rate::every)) {
        return false;
    }
    sampled_ = now;
    byte_rate_.sample(now, static_cast<double>(bytes_));
    target_rate_.sample(now,
                        static_cast<double>(progress_.targets - std::min(progress_.targets_left, progress_.targets)));
    work_rate_.sample(now, work_done(progress_));
    text_ = make_text();
    return true;
}

ResyncMeter::Figures ResyncMeter::figures() const {
    Figures out;
    if (!running_) {
        return out;
    }
    out.running = true;
    out.targets = progress_.targets;
    out.targets_left = std::min(progress_.targets_left, progress_.targets);
    out.bytes = bytes_;
    out.bytes_per_second = rounded(byte_rate_.per_second());
    out.targets_per_second = rounded(target_rate_.per_second());
    const double pace = work_rate_.per_second();
    if (pace > 0 && work_left(progress_) / pace <= seconds_left_max) {
        out.seconds_left = rounded(std::ceil(work_left(progress_) / pace));
    }
    return out;
}

std::string ResyncMeter::make_text() const {
    const Figures now = figures();
    const std::string percent = now.targets == 0 ? "" : std::to_string(percent_of(now)) + " %";
    std::string text = source_ ? (percent.empty() ? "being sent" : percent + " resynced")
                               : "being resynced" + (percent.empty() ? "" : ", " + percent) + ", " +
                                     text_of_bytes(now.bytes) + " received";
    if (now.bytes_per_second > 0) {
        text += ", " + text_of_bytes(now.bytes_per_second) + "/s";
    }
    if (now.seconds_left) {
        text += ", " + text_of_seconds(*now.seconds_left) + " left";
    }
    return text;
}

std::string ResyncMeter::total_text(Instant now) const {
    const double passed = std::max(0.001, seconds_of(now - began_));
    char text[48];
    std::snprintf(text, sizeof text, " in %.1f s, ", passed);
    return text_of_bytes(bytes_) + text + text_of_bytes(rounded(static_cast<double>(bytes_) / passed)) + "/s";
}

// ---- Replication ----------------------------------------------------------------------------------------------------

void ReplicationMeter::began(Instant now, Seq seq, Level wanted, std::uint64_t bytes) {
    bytes_ += bytes;
    if (open_.size() < open_max) {
        open_[seq] = {now, wanted};
    }
}

void ReplicationMeter::acknowledged(Instant now, Seq seq, Level level, bool failed) {
    const auto found = open_.find(seq);
    if (found == open_.end() || (level < found->second.wanted && !failed)) {
        return;
    }
    waited_ += now - found->second.at;
    ++acknowledged_;
    open_.erase(found);
}

void ReplicationMeter::sample(Instant now) {
    const nanoseconds passed = now - sampled_;
    if (passed < Rate::every) {
        return;
    }
    figures_.latency_us =
        acknowledged_ == 0 ? 0 : static_cast<std::uint64_t>(waited_ / microseconds{1}) / acknowledged_;
    figures_.bandwidth = rounded(static_cast<double>(bytes_) / seconds_of(passed));
    bytes_ = acknowledged_ = 0;
    waited_ = {};
    sampled_ = now;
}

// ---- Text -----------------------------------------------------------------------------------------------------------

std::uint64_t bytes_of(const message::Progress& progress) noexcept {
    return rounded(static_cast<double>(progress.zones) * static_cast<double>(zone_bytes));
}

std::string text_of_bytes(std::uint64_t bytes) {
    static constexpr const char* units[] = {"kB", "MB", "GB", "TB"};
    if (bytes < 1000) {
        return std::to_string(bytes) + " B";
    }
    double value = static_cast<double>(bytes) / 1000;
    std::size_t unit = 0;
    for (; value >= 999.95 && unit + 1 < std::size(units); ++unit) {
        value /= 1000;
    }
    char text[48];
    std::snprintf(text, sizeof text, "%.1f %s", value, units[unit]);
    return text;
}

std::string text_of_seconds(std::uint64_t seconds) {
    if (seconds < 120) {
        return std::to_string(seconds) + " s";
    }
    const std::uint64_t minutes = (seconds + 30) / 60;
    return minutes < 120 ? std::to_string(minutes) + " min"
                         : std::to_string(minutes / 60) + " h " + std::to_string(minutes % 60) + " min";
}

} // namespace stead::mirror

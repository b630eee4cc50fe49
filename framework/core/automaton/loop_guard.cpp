// SPDX-License-Identifier: Apache-2.0
#include <stead/core/loop_guard.hpp>

#include <algorithm>
#include <charconv>

namespace stead::automaton {

bool LoopGuard::recent(std::int64_t time, std::int64_t now) const noexcept {
    return time <= now && now - time < interval_.count(); // a clock that was set back forgets what lies ahead of it
}

std::size_t LoopGuard::used(std::int64_t now_seconds) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(times_, [&](std::int64_t time) { return recent(time, now_seconds); }));
}

bool LoopGuard::exhausted(std::int64_t now_seconds) const {
    return interval_.count() > 0 && used(now_seconds) >= maxloop_;
}

bool LoopGuard::count(std::int64_t now_seconds) {
    if (interval_.count() == 0) {
        return true;
    }
    std::erase_if(times_, [&](std::int64_t time) { return !recent(time, now_seconds); });
    if (times_.size() >= maxloop_) {
        return false;
    }
    times_.push_back(now_seconds);
    return true;
}

bool LoopGuard::announce(std::int64_t now_seconds, std::string_view who) {
    if (!count(now_seconds)) {
        return false;
    }
    constexpr std::size_t announced_max = 16; // more scripts do not act at one time
    if (announced_.size() >= announced_max) {
        announced_.erase(announced_.begin());
    }
    announced_.push_back({std::string{who}, now_seconds});
    return true;
}

bool LoopGuard::count_of(std::int64_t now_seconds, std::string_view who) {
    std::erase_if(announced_, [&](const Announced& one) {
        return one.at > now_seconds || now_seconds - one.at >= announced_for.count();
    });
    auto mine = std::ranges::find(announced_, who, &Announced::who);
    if (mine == announced_.end()) {
        mine = std::ranges::find(announced_, std::string_view{}, &Announced::who);
    }
    if (mine == announced_.end()) {
        return count(now_seconds);
    }
    announced_.erase(mine);
    return true;
}

std::string LoopGuard::save() const {
    std::string text;
    for (const std::int64_t time : times_) {
        text += std::to_string(time) + "\n";
    }
    return text;
}

void LoopGuard::load(std::string_view text) {
    constexpr std::size_t times_max = 1000;
    times_.clear();
    while (!text.empty() && times_.size() < times_max) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, end);
        std::int64_t time = 0;
        const auto [last, error] = std::from_chars(line.data(), line.data() + line.size(), time);
        if (error == std::errc{} && last == line.data() + line.size()) {
            times_.push_back(time);
        }
        text.remove_prefix(std::min(end + 1, text.size()));
    }
}

} // namespace stead::automaton

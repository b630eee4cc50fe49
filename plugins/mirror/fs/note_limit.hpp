// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/time.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace stead::mirror {

/// What may happen again and again, such as a peer whose messages are refused at each connection: the first is told,
/// then the same words once a minute with how many were left out, and of different words a few a minute.
/// One thread at a time. Pure: time is an argument.
class NoteLimit {
public:
    static constexpr nanoseconds period = seconds{60};
    static constexpr std::size_t texts_max = 4; ///< different ones in a period

    /// What to tell now; none: not now, it is counted.
    [[nodiscard]] std::optional<std::string> admit(Instant now, const std::string& text) {
        std::uint64_t left_out = 0;
        for (auto at = told_.begin(); at != told_.end();) {
            if (now - at->second.at < period) {
                ++at;
                continue;
            }
            (at->first == text ? left_out : others_) += at->second.left_out;
            at = told_.erase(at);
        }
        if (const auto found = told_.find(text); found != told_.end()) {
            ++found->second.left_out;
            return std::nullopt;
        }
        if (told_.size() >= texts_max) {
            ++others_;
            return std::nullopt;
        }
        told_[text] = {now, 0};
        std::string out = text;
        if (left_out > 0) {
            out += " (" + std::to_string(left_out) + " more times before)";
        }
        if (others_ > 0) {
            out += " (" + std::to_string(std::exchange(others_, 0)) + " others were left out)";
        }
        return out;
    }

private:
    struct Told {
        Instant at;
        std::uint64_t left_out{};
    };
    std::map<std::string, Told> told_; ///< in the last period
    std::uint64_t others_{};
};

} // namespace stead::mirror

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/plugin.h>

#include <cstddef>
#include <optional>

namespace stead::splitbrain {

/// The votes of several nodes on one claim: a majority of those that are named must grant it. Pure.
class Ballot {
public:
    explicit Ballot(std::size_t voters) : open_(voters), voters_(voters) {}

    void vote(stead_witness_verdict verdict) noexcept {
        if (open_ > 0) {
            --open_;
            granted_ += verdict == STEAD_WITNESS_GRANTED ? 1 : 0;
            refused_ += verdict == STEAD_WITNESS_REFUSED ? 1 : 0;
        }
    }
    /// Nothing while it depends on votes that are still open. Unanswered: those that gave no word could still make a
    /// majority.
    [[nodiscard]] std::optional<stead_witness_verdict> result() const noexcept {
        if (2 * granted_ > voters_) {
            return STEAD_WITNESS_GRANTED;
        }
        if (2 * (voters_ - refused_) <= voters_) {
            return STEAD_WITNESS_REFUSED;
        }
        return open_ == 0 ? std::optional{STEAD_WITNESS_UNANSWERED} : std::nullopt;
    }

    [[nodiscard]] std::size_t granted() const noexcept { return granted_; }
    [[nodiscard]] std::size_t needed() const noexcept { return voters_ / 2 + 1; }

private:
    std::size_t open_, voters_, granted_{}, refused_{};
};

} // namespace stead::splitbrain

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/plugin.h>

#include <cstdint>
#include <functional>
#include <string>

namespace stead::splitbrain {

/// One asking of all witnesses. Threading: everything in the loop. Lifetime: no callback after destruction.
class Round {
public:
    /// `words`: what each witness answered, or what is known of the reason why not. Called once, never from inside the
    /// constructor; it may not destroy the round.
    using Done = std::function<void(stead_witness_verdict verdict, const std::string& words)>;

    virtual ~Round() = default;
    /// The host's answer to a question of this round, else ignored.
    virtual void on_witness(std::uint64_t /*token*/, stead_witness_verdict /*verdict*/) {}
};

} // namespace stead::splitbrain

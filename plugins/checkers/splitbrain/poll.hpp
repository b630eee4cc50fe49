// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ballot.hpp"
#include "round.hpp"

#include <stead/checker.hpp>

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace stead::splitbrain {

/// What is claimed from nodes: the first who names a counter has it.
struct Petition {
    std::string key;
    std::uint64_t counter{};
    std::uint32_t holder{};
    friend bool operator==(const Petition&, const Petition&) = default;
};

/// Asks stead nodes for a claim, each once.
class Poll final : public Round {
public:
    Poll(plugin::Host host, checker::Loop& loop, const std::vector<std::string>& nodes, const Petition& petition,
         std::chrono::nanoseconds timeout, Done done);
    Poll(const Poll&) = delete;
    Poll& operator=(const Poll&) = delete;
    ~Poll() override;

    void on_witness(std::uint64_t token, stead_witness_verdict verdict) override;

private:
    void take(const std::string& node, stead_witness_verdict verdict, const char* word);
    void end();
    [[nodiscard]] std::string words() const;

    checker::Loop& loop_;
    Done done_;
    Ballot ballot_;
    std::map<std::uint64_t, std::string> open_; ///< tokens, by the node that was asked
    std::vector<std::string> nodes_;
    std::map<std::string, const char*> said_;
    checker::Loop::TimerId deadline_{}, end_{};
};

} // namespace stead::splitbrain

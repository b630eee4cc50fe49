// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/checker.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <regex.h>

namespace stead::checkers {

/// What an answer must be like. Immutable once made.
class Expectation {
public:
    /// `status`: "200-399,401". `body`: a POSIX extended regular expression, empty = any. Throws std::invalid_argument.
    Expectation(std::string_view status, const std::string& body);
    Expectation(const Expectation&) = delete;
    Expectation& operator=(const Expectation&) = delete;
    ~Expectation();
    [[nodiscard]] bool allows(unsigned status) const noexcept;
    [[nodiscard]] bool wants_body() const noexcept { return has_body_; }
    [[nodiscard]] bool matches(const std::string& body) const noexcept;
    [[nodiscard]] const std::string& status_text() const noexcept { return status_text_; }

private:
    std::vector<std::pair<unsigned, unsigned>> ranges_;
    std::string status_text_;
    bool has_body_{};
    regex_t body_{};
};

/// Reads one HTTP/1 answer and judges it as soon as it can. Bounded: 16 KiB of header, 64 KiB of body, 4 answers 1xx.
class Exchange {
public:
    static constexpr std::uint32_t header_bytes_max = 16384;
    static constexpr std::size_t body_bytes_max = 65536;
    static constexpr int interim_max = 4;

    Exchange(const Expectation& expectation, bool head);
    Exchange(const Exchange&) = delete;
    Exchange& operator=(const Exchange&) = delete;
    ~Exchange();
    /// The verdict, when there is one.
    [[nodiscard]] std::optional<checker::Outcome> received(std::string_view bytes);
    /// The connection ended.
    [[nodiscard]] checker::Outcome ended(const std::string& reason);
    /// The answer's ETag; empty when it has none.
    [[nodiscard]] std::string validator() const;

private:
    struct Parser;
    [[nodiscard]] std::optional<checker::Outcome> parse();
    [[nodiscard]] std::optional<checker::Outcome> judge(bool whole);
    [[nodiscard]] checker::Outcome judge_body() const;

    const Expectation& expectation_;
    const bool head_;
    std::unique_ptr<Parser> parser_;
    std::string unparsed_;
    int interim_{};
};

} // namespace stead::checkers

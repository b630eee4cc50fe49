// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/time.hpp>
#include <stead/mirror/messages.hpp>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <unordered_map>

/// How far and how fast: of a resync, and of the changes that are replicated. Pure: time is an argument.
namespace stead::mirror {

/// How fast a count grows, over the last five seconds.
class Rate {
public:
    static constexpr nanoseconds every = seconds{1};
    static constexpr std::size_t samples_max = 6;

    void sample(Instant now, double count);
    [[nodiscard]] double per_second() const noexcept; ///< 0: until there are two samples, and when it does not grow

private:
    struct Sample {
        Instant at;
        double count{};
    };
    std::deque<Sample> samples_;
};

/// One resync, at its source or at its target: both know the same, for the source says it in its messages.
class ResyncMeter {
public:
    struct Figures {
        bool running{};
        std::uint64_t targets{}, targets_left{}; ///< 0 of 0: the source does not say
        std::uint64_t bytes{};                   ///< sent, or received
        std::uint64_t bytes_per_second{}, targets_per_second{};
        std::optional<std::uint64_t> seconds_left; ///< none: not known, or nothing moves
    };

    void begin(Instant now, bool source, const message::Progress& progress);
    /// A message of the resync. Ignored when none runs.
    void moved(std::uint64_t bytes, const message::Progress& progress);
    /// Measures, if a second has passed since the last time. True: it did.
    bool sample(Instant now);
    void end() noexcept { running_ = false; }

    [[nodiscard]] bool running() const noexcept { return running_; }
    [[nodiscard]] bool source() const noexcept { return source_; }
    [[nodiscard]] Figures figures() const; ///< when none runs: all 0
    /// "44 % resynced, 12.3 MB/s, 38 s left", as of the last sample; empty when none runs.
    [[nodiscard]] std::string text() const { return running_ ? text_ : std::string{}; }
    /// "78.6 MB in 12.3 s, 6.4 MB/s": from the beginning until `now`.
    [[nodiscard]] std::string total_text(Instant now) const;

private:
    [[nodiscard]] std::string make_text() const;

    bool running_{}, source_{};
    Instant began_{}, sampled_{};
    message::Progress progress_;
    std::uint64_t bytes_{};
    Rate byte_rate_, target_rate_, work_rate_;
    std::string text_;
};

/// Changes on their way to the secondary. Figures are of the last second that was measured.
class ReplicationMeter {
public:
    static constexpr std::size_t open_max = 4096;

    struct Figures {
        std::uint64_t latency_us{}; ///< mean, until the acknowledgement that was wanted; 0 = there was none
        std::uint64_t bandwidth{};  ///< bytes per second of the changes
    };
    /// Sent, or received.
    void began(Instant now, Seq seq, Level wanted, std::uint64_t bytes);
    void acknowledged(Instant now, Seq seq, Level level, bool failed);
    void forget() noexcept { open_.clear(); } ///< a new stream: what was under way is not acknowledged any more
    void sample(Instant now);
    [[nodiscard]] const Figures& figures() const noexcept { return figures_; }

private:
    struct Open {
        Instant at;
        Level wanted{};
    };
    std::unordered_map<Seq, Open> open_;
    std::uint64_t bytes_{}, acknowledged_{};
    nanoseconds waited_{};
    Instant sampled_{};
    Figures figures_;
};

/// At most this many bytes are to be sent, zones being full.
[[nodiscard]] std::uint64_t bytes_of(const message::Progress& progress) noexcept;
[[nodiscard]] std::string text_of_bytes(std::uint64_t bytes);     ///< "12.3 MB"
[[nodiscard]] std::string text_of_seconds(std::uint64_t seconds); ///< "38 s", "12 min", "3 h 5 min"

} // namespace stead::mirror

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <link.hpp>

#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <mutex>

namespace stead::mirror::test {

inline const std::string key_a(32, 'a');
inline const std::string key_b(32, 'b');

inline LinkOptions accepting(std::vector<std::string> keys = {key_a}) {
    return {false, "127.0.0.1", "127.0.0.1", 0, std::move(keys), milliseconds{60'000}};
}
inline LinkOptions connecting(std::uint16_t port, std::vector<std::string> keys = {key_a}) {
    return {true, "127.0.0.1", "127.0.0.1", port, std::move(keys), milliseconds{60'000}};
}

inline Message durable(Seq seq) { return {1, message::Durable{seq}}; }
inline Message write_of(Seq seq, std::size_t bytes) {
    return {1, message::Change{seq, operation_of(Content{{}, change::Write{{1, 2}, 0, std::string(bytes, 'x'), false}}),
                               Level::applied}};
}

/// A link and all that it said, in order.
struct End {
    struct Said {
        enum class What : std::uint8_t { up, received, down } what{};
        std::uint64_t generation{};
        Seq seq{};
        std::string reason;
    };

    explicit End(const LinkOptions& options) {
        auto made = Link::start(options, {[this] {
                                              note({Said::What::up, link_generation(), 0, ""});
                                          },
                                          [this](std::uint64_t generation, const Message& message) {
                                              if (on_message) {
                                                  on_message(generation, message);
                                              }
                                              note({Said::What::received, generation, seq_of(message), ""});
                                          },
                                          [this](std::uint64_t generation, const std::string& reason) {
                                              note({Said::What::down, generation, 0, reason});
                                          }});
        EXPECT_TRUE(made) << made.error().text();
        const std::lock_guard lock{mutex};
        link = std::move(*made);
        changed.notify_all();
    }

    static Seq seq_of(const Message& message) {
        if (const auto* change = std::get_if<message::Change>(&message.body)) {
            return change->seq;
        }
        const auto* durable = std::get_if<message::Durable>(&message.body);
        return durable != nullptr ? durable->seq : 0;
    }
    /// The first event may come before start() has returned.
    std::uint64_t link_generation() {
        std::unique_lock lock{mutex};
        changed.wait(lock, [this] { return link != nullptr; });
        return link->generation();
    }
    void note(Said one) {
        const std::lock_guard lock{mutex};
        said.push_back(std::move(one));
        changed.notify_all();
    }
    template <class Predicate>
    [[nodiscard]] bool wait(Predicate predicate) {
        std::unique_lock lock{mutex};
        return changed.wait_for(lock, seconds{200}, [&] { return predicate(said); });
    }
    [[nodiscard]] std::size_t count(Said::What what) {
        const std::lock_guard lock{mutex};
        return counted(said, what);
    }
    static std::size_t counted(const std::deque<Said>& all, Said::What what) {
        return static_cast<std::size_t>(
            std::count_if(all.begin(), all.end(), [&](const Said& one) { return one.what == what; }));
    }
    [[nodiscard]] bool wait_for(Said::What what, std::size_t times) {
        return wait([&](const auto& all) { return counted(all, what) >= times; });
    }
    [[nodiscard]] bool wait_up(std::size_t times = 1) { return wait_for(Said::What::up, times); }
    /// Generation of the last connection that came up.
    [[nodiscard]] std::uint64_t up_generation() {
        const std::lock_guard lock{mutex};
        const auto last =
            std::find_if(said.rbegin(), said.rend(), [](const Said& one) { return one.what == Said::What::up; });
        return last == said.rend() ? 0 : last->generation;
    }
    /// Why the last connection that is gone went; "" = none has.
    [[nodiscard]] std::string reason() {
        const std::lock_guard lock{mutex};
        const auto last =
            std::find_if(said.rbegin(), said.rend(), [](const Said& one) { return one.what == Said::What::down; });
        return last == said.rend() ? "" : last->reason;
    }
    [[nodiscard]] std::vector<Seq> received() {
        const std::lock_guard lock{mutex};
        std::vector<Seq> result;
        for (const Said& one : said) {
            if (one.what == Said::What::received) {
                result.push_back(one.seq);
            }
        }
        return result;
    }

    std::function<void(std::uint64_t, const Message&)> on_message; ///< set before anything is sent
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Said> said;
    std::unique_ptr<Link> link; ///< last: its events use the rest
};
using What = End::Said::What;

struct Pair {
    End accepts{accepting()};
    End connects{connecting(accepts.link->port())};
    Pair() { EXPECT_TRUE(accepts.wait_up() && connects.wait_up()); }
};

} // namespace stead::mirror::test

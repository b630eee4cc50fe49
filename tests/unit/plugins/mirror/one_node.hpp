// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/core.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace stead::mirror {

/// One core of a pair, node 1, a clean secondary in sync as it starts. What it writes down or flushes is on disk at
/// once, unless `hold_records` or `log_error` say otherwise.
class OneNode : public testing::Test {
protected:
    OneNode() {
        record.mirror = {1, 1};
        record.node = 1;
        record.epoch = epoch_after(0, 0);
        record.current = {2, 2};
        record.role = Role::second;
        record.in_sync = record.clean = true;
    }

    Start start() const { return Start{record, {}, {7, 7}}; }

    void feed(const Input& input) {
        now += milliseconds{1};
        for (const Output& output : core.step(now, input)) {
            outputs.push_back(output);
            std::visit([this](const auto& what) { complete(what); }, output);
        }
    }
    /// The other node, of the same generation.
    Facts peer_as(Role role) const {
        Facts peer;
        peer.incarnation = {9, 9};
        peer.record = record;
        peer.record.node = 0;
        peer.record.role = role;
        peer.dirty_known = true;
        return peer;
    }
    void receive(message::Body body) { feed(Received{{std::max(record.epoch, core.record().epoch), std::move(body)}}); }

    template <class What>
    std::size_t count() const {
        return static_cast<std::size_t>(
            std::ranges::count_if(outputs, [](const Output& output) { return std::holds_alternative<What>(output); }));
    }
    /// The latest; outputs must have one.
    template <class What>
    What last() const {
        const auto at = std::find_if(outputs.rbegin(), outputs.rend(),
                                     [](const Output& output) { return std::holds_alternative<What>(output); });
        return at == outputs.rend() ? What{} : std::get<What>(*at);
    }
    bool purges_all() const {
        return std::ranges::any_of(outputs, [](const Output& output) {
            const auto* purge = std::get_if<Purge>(&output);
            return purge != nullptr && purge->through == ~Seq{0};
        });
    }

    Options options{.node = 1};
    Record record;
    Core core{options};
    Instant now{seconds{1}};
    std::vector<Output> outputs;
    bool hold_records{};
    int log_error{};

private:
    template <class What>
    void complete(const What& what) {
        if constexpr (std::is_same_v<What, LogReset>) {
            feed(Done{.ticket = what.ticket, .error = log_error});
        } else if constexpr (std::is_same_v<What, Persist>) {
            if (!hold_records) {
                feed(Done{.ticket = what.ticket});
            }
        } else if constexpr (std::is_same_v<What, Flush> || std::is_same_v<What, LogAppend>) {
            feed(Done{.ticket = what.ticket});
        }
    }
};

} // namespace stead::mirror

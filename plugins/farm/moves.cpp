// SPDX-License-Identifier: Apache-2.0
// Views and messages into the core, its tables into the filter.
#include "plugin.hpp"

namespace stead::farm {
namespace {
constexpr std::uint64_t ns_per_ms = 1'000'000;
} // namespace

void FarmPlugin::on_view(const stead_view& view) {
    FarmView farm_view;
    farm_view.epoch = view.epoch;
    farm_view.id = view.id;
    farm_view.members = NodeSet{view.members};
    farm_view.lease_kept = !lease_lapsed_.exchange(false) && lease_until_.load() > host_.now();
    for (std::uint32_t i = 0; i < view.member_count; ++i) {
        const auto& member = view.member[i];
        const std::string name{plugin::to_view(member.name)};
        mover_.set_name(NodeId(member.node), name);
        names_[member.node] = name;
        farm_view.weights[member.node] = static_cast<std::uint16_t>(member.weight);
    }
    mover_.on_view(now(), farm_view);
    push_members();
    pump();
    missing_ = (missing_ | NodeSet{view.dead}) - NodeSet{view.members};
    network_.set_contested(!missing_.empty(), host_.now());
    on_timer(announce_timer);
    if (view.dead != 0 && !clients_.empty()) {
        announce_after_death();
    }
}

void FarmPlugin::on_message(std::uint32_t from, std::string_view kind, std::uint32_t version, std::string_view body) {
    if (version != message_version || from >= limits::nodes_max) {
        host_.debug("message '" + std::string{kind} + "' of version " + std::to_string(version) + " ignored");
        return;
    }
    if (kind == "farm.power") {
        if (const auto wish = decode_power_wish(body)) {
            std::string answer;
            static_cast<void>(set_power(host_.self(), *wish, answer));
            host_.event(answer);
        }
        return;
    }
    mover_.on_message(now(), NodeId(from), kind, body);
    pump();
}

void FarmPlugin::pump() {
    if (mover_.wants_held()) {
        mover_.set_held(now(), held());
    }
    // The filter first, then the word that it is done: that is what makes a step a barrier.
    if (mover_.take_changed()) {
        push_tables();
        update_receivers();
        report_shares();
        tell_clients(false);
    }
    for (const auto& message : mover_.take_messages()) {
        if (!host_.send(message.to.bits(), message.kind, message_version, message.body)) {
            host_.debug("'" + message.kind + "' could not be sent; it is repeated");
        }
    }
    const Instant next = mover_.next_deadline();
    if (next == never) {
        host_.cancel_timer(mover_timer);
    } else {
        host_.set_timer(mover_timer, std::max(static_cast<std::uint64_t>(std::max<std::int64_t>(to_ns(next), 0)),
                                              host_.now() + ns_per_ms));
    }
    poll_transition();
}

void FarmPlugin::push_tables() {
    if (!filter_) {
        return;
    }
    std::vector<shim::Bucket> buckets(shim::buckets);
    for (std::size_t group = 0; group < mover_.groups(); ++group) {
        const auto& table = mover_.table(group);
        for (std::size_t b = 0; b < buckets.size(); ++b) {
            buckets[b] = {table.owner[b], table.next[b], table.holders[b]};
        }
        const shim::GroupTable out{static_cast<std::uint8_t>(group), static_cast<shim::Step>(mover_.plan().step),
                                   mover_.view().members | NodeSet{self()}, buckets};
        if (auto done = filter_->set_table(out); !done) {
            host_.error("table of group " + options_.groups[group].name + ": " + done.error().text());
            host_.request("stopstart", "the packet filter refused a table: " + done.error().text());
        }
    }
}

std::vector<std::vector<std::uint16_t>> FarmPlugin::held() const {
    std::vector<std::vector<std::uint16_t>> result(mover_.groups());
    for (std::size_t group = 0; filter_ && group < result.size(); ++group) {
        const auto held = filter_->held(static_cast<std::uint8_t>(group));
        if (!held) {
            host_.warning("connections held: " + held.error().text());
            // Unknown is not none: say "all".
            for (std::uint32_t b = 0; b < shim::buckets; ++b) {
                result[group].push_back(static_cast<std::uint16_t>(b));
            }
            continue;
        }
        for (const auto& entry : held.value()) {
            result[group].push_back(entry.bucket);
        }
    }
    return result;
}

std::size_t FarmPlugin::connections() const {
    std::size_t count = 0;
    for (std::size_t group = 0; filter_ && group < mover_.groups(); ++group) {
        if (const auto held = filter_->held(static_cast<std::uint8_t>(group))) {
            for (const auto& entry : held.value()) {
                count += entry.connections;
            }
        }
    }
    return count;
}

} // namespace stead::farm

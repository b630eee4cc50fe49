// SPDX-License-Identifier: Apache-2.0
#include <stead/farm/messages.hpp>

#include "farm.pb.h"

#include <algorithm>

namespace stead::farm {
namespace {

constexpr int powers_max = 16; // lists of a report
constexpr int groups_max = 16; // as the filter's

void put(const Weights& from, v1::Weights& to) {
    NodeSet members;
    for (std::size_t node = 0; node < from.size(); ++node) {
        if (from[node] != 0) {
            members.insert(NodeId(node));
            to.add_weight(from[node]);
        }
    }
    to.set_members(members.bits());
}

bool get(const v1::Weights& from, Weights& to) {
    const NodeSet members{from.members()};
    if (from.weight_size() != members.size()) {
        return false;
    }
    int at = 0;
    for (const NodeId node : members) {
        const std::uint32_t weight = from.weight(at++);
        if (weight == 0 || weight > UINT16_MAX) {
            return false;
        }
        to[index(node)] = static_cast<std::uint16_t>(weight);
    }
    return true;
}

bool get(const v1::Powers& from, PowerList& to) {
    to.tag = static_cast<std::uint16_t>(from.tag());
    to.powers.assign(from.power().begin(), from.power().end());
    return from.tag() <= UINT16_MAX && from.power_size() <= groups_max &&
           std::all_of(to.powers.begin(), to.powers.end(), [](auto power) { return power <= limits::power_max; });
}

template <class Message>
std::optional<Message> parse(std::string_view bytes) {
    Message message;
    return message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ? std::optional{std::move(message)}
                                                                                : std::nullopt;
}

} // namespace

std::string encode(const Report& report) {
    v1::Report message;
    message.set_view_id(report.view_id);
    message.set_in_line(report.in_line);
    message.set_exchanged(report.exchanged);
    message.set_holding(report.holding);
    message.set_reached(report.reached);
    v1::Plan& plan = *message.mutable_plan();
    plan.set_seq(report.plan.seq);
    plan.set_lineage(report.plan.lineage);
    plan.set_step(static_cast<std::uint32_t>(report.plan.step));
    put(report.plan.base, *plan.mutable_base());
    put(report.plan.target, *plan.mutable_target());
    for (const auto& list : report.powers) {
        v1::Powers& powers = *message.add_powers();
        powers.set_tag(list.tag);
        powers.mutable_power()->Assign(list.powers.begin(), list.powers.end());
    }
    return message.SerializeAsString();
}

std::optional<Report> decode_report(std::string_view bytes) {
    const auto message = parse<v1::Report>(bytes);
    Report report;
    if (!message || message->plan().step() > static_cast<std::uint32_t>(MoveStep::release) ||
        message->powers_size() > powers_max || !get(message->plan().base(), report.plan.base) ||
        !get(message->plan().target(), report.plan.target)) {
        return std::nullopt;
    }
    report.view_id = message->view_id();
    report.in_line = message->in_line();
    report.exchanged = message->exchanged();
    report.holding = message->holding();
    report.reached = message->reached();
    report.plan.seq = message->plan().seq();
    report.plan.lineage = message->plan().lineage();
    report.plan.step = static_cast<MoveStep>(message->plan().step());
    for (const v1::Powers& powers : message->powers()) {
        if (!get(powers, report.powers.emplace_back())) {
            return std::nullopt;
        }
    }
    return report;
}

std::string encode(const HeldReport& held) {
    v1::Held message;
    message.set_view_id(held.view_id);
    message.set_seq(held.seq);
    message.set_group(held.group);
    message.set_buckets(held.bits);
    return message.SerializeAsString();
}

std::optional<HeldReport> decode_held(std::string_view bytes) {
    auto message = parse<v1::Held>(bytes);
    if (!message) {
        return std::nullopt;
    }
    return HeldReport{message->view_id(), message->seq(), message->group(), std::move(*message->mutable_buckets())};
}

std::string encode(const PowerWish& wish) {
    v1::PowerWish message;
    if (wish.power) {
        message.set_power(*wish.power);
    } else {
        message.set_as_configured(true);
    }
    return message.SerializeAsString();
}

std::optional<PowerWish> decode_power_wish(std::string_view bytes) {
    const auto message = parse<v1::PowerWish>(bytes);
    if (!message || message->wish_case() == v1::PowerWish::WISH_NOT_SET || message->power() > limits::power_max) {
        return std::nullopt;
    }
    return message->has_power() ? PowerWish{message->power()} : PowerWish{};
}

} // namespace stead::farm

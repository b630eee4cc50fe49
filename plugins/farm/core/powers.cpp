// SPDX-License-Identifier: Apache-2.0
#include <stead/farm/powers.hpp>

#include <algorithm>
#include <functional>

namespace stead::farm {
namespace {

// Below the bit: 32 * power + twentieths of it. From it on: 32 * tag + twentieths. 0 twentieths = closed.
constexpr std::uint16_t list_bit = 0x8000;
constexpr std::uint16_t twentieths_mask = 31;
constexpr std::uint16_t tags = list_bit / (twentieths_mask + 1);
constexpr unsigned percent_per_twentieth = 5;
static_assert(limits::power_max < tags, "a power and its twentieths fit below the bit");

std::uint16_t twentieths(unsigned percent) {
    return static_cast<std::uint16_t>(std::max(std::clamp(percent, 1u, 100u) / percent_per_twentieth, 1u));
}

std::uint16_t tag_of(std::uint16_t weight) { return (weight & ~list_bit) / (twentieths_mask + 1); }

} // namespace

std::uint16_t weight_of_power(unsigned percent, std::uint32_t power) noexcept {
    return static_cast<std::uint16_t>(std::min(power, limits::power_max) * 32 + twentieths(percent));
}

std::uint16_t weight_of_list(unsigned percent, std::uint16_t tag) noexcept {
    return static_cast<std::uint16_t>(list_bit | (tag % tags) * 32 | twentieths(percent));
}

std::uint16_t PowerLists::weight(unsigned percent, const std::vector<std::uint32_t>& powers) {
    const bool alike = std::adjacent_find(powers.begin(), powers.end(), std::not_equal_to<>{}) == powers.end();
    if (alike) {
        return weight_of_power(percent, powers.empty() ? 1 : powers.front());
    }
    const auto latest = lists_.find({self_, last_tag_});
    if (latest == lists_.end() || latest->second != powers) {
        last_tag_ = static_cast<std::uint16_t>((last_tag_ + 1) % tags);
        lists_[{self_, last_tag_}] = powers;
    }
    return weight_of_list(percent, last_tag_);
}

std::vector<PowerList> PowerLists::own(std::vector<std::uint16_t> weights,
                                       std::initializer_list<std::uint16_t> more) const {
    std::vector<PowerList> result;
    weights.insert(weights.end(), more);
    for (const auto weight : weights) {
        const auto found = lists_.find({self_, tag_of(weight)});
        if ((weight & list_bit) == 0 || found == lists_.end()) {
            continue;
        }
        PowerList list{found->first.second, found->second};
        if (std::find(result.begin(), result.end(), list) == result.end()) {
            result.push_back(std::move(list));
        }
    }
    return result;
}

bool PowerLists::learn(NodeId node, const std::vector<PowerList>& lists) {
    bool changed = false;
    for (const auto& list : lists) {
        auto& known = lists_[{node, list.tag}];
        changed |= !known.empty() && known != list.powers;
        known = list.powers;
    }
    return changed;
}

std::uint32_t PowerLists::effective(NodeId node, std::uint16_t weight, std::size_t group) const {
    const std::uint32_t percent = std::min<std::uint32_t>(weight & twentieths_mask, 20) * percent_per_twentieth;
    if ((weight & list_bit) == 0) {
        return std::min<std::uint32_t>(weight / 32, limits::power_max) * percent;
    }
    const auto found = lists_.find({node, tag_of(weight)});
    const bool known = found != lists_.end() && group < found->second.size();
    return known ? std::min(found->second[group], limits::power_max) * percent : 0;
}

} // namespace stead::farm

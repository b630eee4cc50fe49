// SPDX-License-Identifier: Apache-2.0
#include <stead/farm/mover.hpp>

#include <algorithm>
#include <utility>

namespace stead::farm {
namespace {

constexpr auto repeat_every = milliseconds{250};
constexpr std::uint32_t buckets_per_held_bit = 8;
constexpr std::size_t cache_entries_max = 64;
constexpr std::size_t said_max = 8;

Weights cut(const Weights& weights, NodeSet to) {
    Weights result{};
    for (const NodeId node : to) {
        result[index(node)] = weights[index(node)];
    }
    return result;
}

} // namespace

Mover::Mover(Options options)
    : options_(std::move(options)), powers_(options_.self), rendezvous_(options_.seed, options_.buckets),
      tables_(options_.groups) {
    become_blank();
    changed_ = false;
}

void Mover::become_blank() {
    blank_ = true;
    exchanged_ = false;
    plan_ = {};
    for (auto& table : tables_) {
        table.owner.assign(options_.buckets, no_owner);
        table.next.assign(options_.buckets, no_owner);
        table.holders.assign(options_.buckets, NodeSet{options_.self});
    }
    changed_ = true;
}

void Mover::on_view(Instant now, const FarmView& view) {
    const FarmView previous = std::exchange(view_, view);
    view_.weights = cut(view.weights, view.members);
    reports_.clear();
    exchanged_ = false;
    deadline_ = never;
    wants_held_ = false;
    if (view.members.empty()) {
        become_blank();
        repeat_at_ = held_at_ = never;
        return;
    }
    const bool in_line = !blank_ && !previous.members.empty() && (view.lease_kept || options_.mutant_always_in_line);
    if (in_line) {
        restrict_plan(view.members & previous.members, NodeSet{});
    } else {
        become_blank();
    }
    step_since_ = now;
    const auto self = index(options_.self);
    own_ = Report{view.id, in_line, plan_, {}, false, holding_, plan_.seq};
    said_.push_back(view_.weights[self]);
    if (said_.size() > said_max) {
        said_.erase(said_.begin());
    }
    own_.powers = powers_.own(said_, {plan_.base[self], plan_.target[self]});
    announce(now);
    if (early_.first == view.id) {
        for (const auto& [node, report] : std::exchange(early_.second, {})) {
            reports_[node] = report;
        }
    }
    repeat_at_ = now + repeat_every;
    set_deadline(repeat_at_);
    try_exchange(now);
}

void Mover::restrict_plan(NodeSet to, NodeSet stay_holders) {
    for (auto& table : tables_) {
        for (std::uint32_t b = 0; b < options_.buckets; ++b) {
            const auto owner = table.owner[b];
            if (owner != no_owner && !to.contains(NodeId{owner}) && stay_holders.contains(NodeId{owner})) {
                table.holders[b].insert(NodeId{owner});
            }
            // The owner dies in the middle of a move: whoever comes after it must know that N took some already.
            const auto next = table.next[b];
            if (next != owner && next != no_owner && plan_.step != MoveStep::settled) {
                table.holders[b].insert(NodeId{next});
            }
        }
    }
    plan_.base = cut(plan_.base, to);
    plan_.target = cut(plan_.target, to);
    rebuild();
}

std::vector<std::uint8_t> Mover::owners(const Weights& weights, std::size_t group) {
    for (const auto& entry : cache_) {
        if (entry.group == group && entry.weights == weights) {
            return entry.owner;
        }
    }
    Powers powers{};
    for (std::size_t node = 0; node < powers.size(); ++node) {
        powers[node] = powers_.effective(NodeId(node), weights[node], group);
    }
    if (cache_.size() >= std::min(cache_entries_max, 4 * tables_.size())) {
        cache_.erase(cache_.begin());
    }
    cache_.push_back({weights, group, rendezvous_.owners(powers)});
    return cache_.back().owner;
}

void Mover::rebuild() {
    for (std::size_t group = 0; group < tables_.size(); ++group) {
        auto& table = tables_[group];
        table.owner = owners(plan_.base, group);
        table.next = plan_.step == MoveStep::settled ? table.owner : owners(plan_.target, group);
        for (std::uint32_t b = 0; b < options_.buckets; ++b) {
            auto& holders = table.holders[b];
            const auto owner = table.owner[b];
            if (owner != no_owner && owner != table.next[b]) {
                holders.insert(NodeId{owner}); // still serves what it has, also after the move
            } else if (owner != no_owner) {
                holders.erase(NodeId{owner});
            }
            holders = holders & view_.members;
            if (options_.mutant_forget_holders) {
                holders = NodeSet{};
            }
        }
    }
    changed_ = true;
    note_holding();
}

void Mover::note_holding() {
    holding_ = std::any_of(tables_.begin(), tables_.end(), [](const OwnerTable& table) {
        return std::any_of(table.holders.begin(), table.holders.end(), [](NodeSet h) { return !h.empty(); });
    });
}

void Mover::try_exchange(Instant now) {
    if (exchanged_ || view_.members.empty()) {
        return;
    }
    std::map<std::uint64_t, NodeSet> lineages;
    for (const NodeId node : view_.members) {
        const auto found = reports_.find(node);
        if (node != options_.self && found == reports_.end()) {
            return;
        }
        const Report& report = node == options_.self ? own_ : found->second;
        if (report.in_line) {
            lineages[report.plan.lineage].insert(node);
        }
    }
    // Two lineages in one view: membership promises that the outranked side left its view first. Should it ever break
    // that, the larger one goes on and the other starts blank.
    NodeSet in_line;
    for (const auto& [lineage, nodes] : lineages) {
        if (nodes.size() > in_line.size() || (nodes.size() == in_line.size() && nodes.first() < in_line.first())) {
            in_line = nodes;
        }
    }
    learn_powers();
    Plan best;
    for (const NodeId node : in_line) {
        const Plan& plan = node == options_.self ? own_.plan : reports_[node].plan;
        if (best.lineage == 0 || plan.seq > best.seq) {
            best = plan;
        }
    }
    for (const NodeId node : in_line) {
        meet(best, node == options_.self ? own_.plan : reports_[node].plan);
    }
    if (!blank_ && !in_line.contains(options_.self)) {
        become_blank();
    }
    exchanged_ = true;
    said_.erase(said_.begin(), said_.end() - 1);
    if (in_line.empty()) {
        best.base = best.target = view_.weights;
        best.seq = view_.epoch << 20;
        best.lineage = view_.id;
        in_line = view_.members;
    }
    adopt(now, best, in_line);
    announce(now);
    try_advance(now);
}

/// One of two in line may have finished an exchange, in a view that the other left before, and cut a blank member. That
/// member is in line now, but owns nothing: what any report has cut is cut for all.
void Mover::meet(Plan& best, const Plan& other) {
    const bool moved_on = other.seq != best.seq && best.step == MoveStep::settled;
    const bool new_target = other.seq != best.seq && best.step == MoveStep::accept_forwarded;
    for (std::size_t node = 0; node < best.base.size(); ++node) {
        if ((moved_on ? other.target : other.base)[node] == 0) {
            best.base[node] = 0;
        }
        if (!new_target && other.target[node] == 0) {
            best.target[node] = 0;
        }
    }
}

/// Only here: the word of all members is known to all, so that a list means the same to everyone.
void Mover::learn_powers() {
    bool changed = false;
    for (const auto& [node, report] : reports_) {
        changed |= !options_.mutant_ignore_lists && powers_.learn(node, report.powers);
    }
    if (changed) {
        cache_.clear();
    }
}

void Mover::adopt(Instant now, const Plan& plan, NodeSet in_line) {
    if (!blank_ && plan.seq == plan_.seq + 1) {
        if (plan.step == MoveStep::settled) {
            settle(now);
        } else {
            step_since_ = now;
        }
        plan_ = plan;
    } else if (blank_ || plan.seq != plan_.seq) {
        plan_ = plan;
        blank_ = false;
        settled_at_ = step_since_ = now;
        settled_seq_ = plan.seq;
        held_at_ = now + options_.first_report_after;
        set_deadline(held_at_);
        // What happened before is unknown here: everyone may hold anything, until it says otherwise.
        for (auto& table : tables_) {
            table.holders.assign(options_.buckets, view_.members);
        }
    } else {
        plan_ = plan;
    }
    restrict_plan(in_line, view_.members - in_line);
}

void Mover::try_advance(Instant now) {
    while (exchanged_) {
        if (plan_.step == MoveStep::settled && plan_.base == view_.weights) {
            return;
        }
        for (const NodeId node : view_.members) {
            if (node == options_.self || options_.mutant_skip_barrier) {
                continue;
            }
            const auto found = reports_.find(node);
            if (found == reports_.end() || !found->second.exchanged || found->second.reached < plan_.seq) {
                return;
            }
        }
        if (plan_.step == MoveStep::release && now < step_since_ + options_.duplicate_window) {
            set_deadline(step_since_ + options_.duplicate_window);
            return;
        }
        advance(now);
        announce(now);
    }
}

void Mover::advance(Instant now) {
    ++plan_.seq;
    step_since_ = now;
    switch (plan_.step) {
    case MoveStep::settled:
        plan_.target = view_.weights;
        plan_.step = options_.mutant_take_first ? MoveStep::take : MoveStep::accept_forwarded;
        break;
    case MoveStep::accept_forwarded: plan_.step = MoveStep::forward; break;
    case MoveStep::forward: plan_.step = MoveStep::take; break;
    case MoveStep::take: plan_.step = MoveStep::release; break;
    case MoveStep::release: settle(now); break;
    }
    rebuild();
}

/// Ends a move: the target is the base now. The caller counts seq and rebuilds.
void Mover::settle(Instant now) {
    plan_.base = plan_.target;
    plan_.step = MoveStep::settled;
    step_since_ = settled_at_ = now;
    settled_seq_ = plan_.seq;
    held_at_ = now + options_.first_report_after;
    set_deadline(held_at_);
}

bool Mover::arrived() const noexcept {
    return exchanged_ && plan_.step == MoveStep::settled && plan_.base == view_.weights;
}

NodeSet Mover::participants() const noexcept {
    NodeSet result;
    for (std::size_t node = 0; node < plan_.base.size(); ++node) {
        for (std::size_t group = 0; group < tables_.size(); ++group) {
            if (powers_.effective(NodeId(node), plan_.base[node], group) > 0) {
                result.insert(NodeId(node));
            }
        }
    }
    return result;
}

// ---- Conversation ---------------------------------------------------------------------------------------------------

std::string Mover::encode_own() const {
    Report report = own_;
    report.exchanged = exchanged_;
    report.holding = holding_;
    report.reached = plan_.seq;
    return encode(report);
}

void Mover::announce(Instant now) {
    const NodeSet others = view_.members - NodeSet{options_.self};
    if (!others.empty()) {
        messages_.push_back({others, "farm.plan", encode_own()});
    }
    told_holding_ = holding_;
    repeat_at_ = now + repeat_every;
    set_deadline(repeat_at_);
}

void Mover::on_message(Instant now, NodeId from, std::string_view kind, std::string_view body) {
    if (kind == "farm.held") {
        if (const auto held = decode_held(body)) {
            on_held(from, *held);
        }
        return;
    }
    const bool asks = kind == "farm.plan?"; // a repetition: its sender misses something, perhaps ours
    const auto report = asks || kind == "farm.plan" ? decode_report(body) : std::nullopt;
    if (!report) {
        return;
    }
    if (report->view_id != view_.id || !view_.members.contains(from)) {
        if (early_.first != report->view_id) {
            early_ = {report->view_id, {}};
        }
        early_.second[from] = *report;
        return;
    }
    auto& known = reports_[from];
    if (known.view_id == view_.id && known.reached > report->reached) {
        return; // overtaken on the way
    }
    known = *report;
    if (asks) {
        messages_.push_back({NodeSet{from}, "farm.plan", encode_own()});
    }
    try_exchange(now);
    try_advance(now);
    if (report->holding && held_at_ == never && exchanged_) {
        held_at_ = std::max(now, settled_at_ + options_.first_report_after);
        set_deadline(held_at_);
    }
}

void Mover::tick(Instant now) {
    deadline_ = never;
    if (options_.movecap > nanoseconds{0} && holding_ && plan_.step == MoveStep::settled &&
        now >= settled_at_ + options_.movecap) {
        for (auto& table : tables_) {
            std::fill(table.holders.begin(), table.holders.end(), NodeSet{});
        }
        changed_ = true;
        note_holding();
    }
    try_advance(now);
    const bool others_hold =
        std::any_of(reports_.begin(), reports_.end(), [](const auto& r) { return r.second.holding; });
    if (held_at_ != never && now >= held_at_) {
        wants_held_ = exchanged_ && plan_.step == MoveStep::settled && (holding_ || others_hold);
        held_at_ = holding_ || others_hold ? now + repeat_every * std::max(1, view_.members.size() / 8) : never;
    }
    const NodeSet others = view_.members - NodeSet{options_.self};
    bool behind = false;
    for (const NodeId node : others) {
        const auto found = reports_.find(node);
        behind |= found == reports_.end() || !found->second.exchanged || found->second.reached < plan_.seq;
    }
    if (holding_ != told_holding_) {
        announce(now);
    } else if (now >= repeat_at_) {
        repeat_at_ = never;
        const bool unsettled = behind || !exchanged_ || plan_.step != MoveStep::settled;
        if (!others.empty() && (unsettled || holding_)) { // holding: so that the others go on reporting
            messages_.push_back({others, "farm.plan?", encode_own()});
            repeat_at_ = now + (unsettled ? repeat_every : 4 * repeat_every);
        }
    }
    set_deadline(std::min(repeat_at_, held_at_));
    if (options_.movecap > nanoseconds{0} && holding_) {
        set_deadline(std::max(settled_at_ + options_.movecap, now + repeat_every));
    }
}

std::vector<Mover::Message> Mover::take_messages() { return std::exchange(messages_, {}); }

// ---- Who still holds what -------------------------------------------------------------------------------------------

void Mover::set_held(Instant now, const std::vector<std::vector<std::uint16_t>>& held) {
    wants_held_ = false;
    if (!exchanged_ || plan_.step != MoveStep::settled) {
        return;
    }
    const NodeSet others = view_.members - NodeSet{options_.self};
    for (std::size_t group = 0; group < tables_.size() && group < held.size(); ++group) {
        std::string bits;
        for (const auto bucket : held[group]) {
            if (bucket >= options_.buckets || tables_[group].owner[bucket] == index(options_.self)) {
                continue; // own buckets would blur those beside them
            }
            bits.resize((options_.buckets / buckets_per_held_bit + 7) / 8);
            const auto bit = bucket / buckets_per_held_bit;
            bits[bit / 8] = static_cast<char>(bits[bit / 8] | 1 << (bit % 8));
        }
        const HeldReport report{view_.id, plan_.seq, static_cast<std::uint32_t>(group), std::move(bits)};
        if (!others.empty()) {
            messages_.push_back({others, "farm.held", encode(report)});
        }
        on_held(options_.self, report);
    }
    if (holding_ != told_holding_) {
        announce(now);
    }
}

void Mover::on_held(NodeId from, const HeldReport& held) {
    const std::string& bits = held.bits;
    const std::size_t full = (options_.buckets / buckets_per_held_bit + 7) / 8;
    // An older one says nothing about what its sender took since.
    if (held.view_id != view_.id || !exchanged_ || held.seq < settled_seq_ || held.group >= tables_.size() ||
        (!bits.empty() && bits.size() != full)) {
        return;
    }
    auto& table = tables_[held.group];
    bool removed = false;
    for (std::uint32_t b = 0; b < options_.buckets; ++b) {
        const auto bit = b / buckets_per_held_bit;
        const bool holds = !bits.empty() && (bits[bit / 8] >> (bit % 8) & 1) != 0;
        if (!holds && table.holders[b].contains(from) && table.owner[b] != index(from)) {
            table.holders[b].erase(from);
            removed = true;
        }
    }
    if (removed) {
        changed_ = true;
        note_holding();
        if (holding_ != told_holding_) {
            deadline_ = Instant{}; // told with the next tick, which is due
        }
    }
}

} // namespace stead::farm

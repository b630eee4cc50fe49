// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/ids.hpp>
#include <stead/base/time.hpp>
#include <stead/farm/messages.hpp>
#include <stead/farm/rendezvous.hpp>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Which node takes which bucket, and how buckets change hands: docs/farm-moves.md. Pure.
namespace stead::farm {

struct FarmView {
    std::uint64_t epoch{};
    std::uint64_t id{};
    NodeSet members; ///< empty: no view holds this node
    Weights weights{};
    bool lease_kept{}; ///< this node's lease never lapsed since its previous view was installed
};

/// One group as the filter wants it.
struct OwnerTable {
    std::vector<std::uint8_t> owner, next;
    std::vector<NodeSet> holders;
};

class Mover {
public:
    struct Options {
        NodeId self{};
        std::array<std::uint64_t, 2> seed{};
        std::uint32_t buckets{65536};
        std::size_t groups{1};
        nanoseconds duplicate_window{milliseconds{100}};
        nanoseconds first_report_after{seconds{2}};
        nanoseconds movecap{}; ///< 0 = none
        // Protocol mutants, for tests/sim only: each must be caught there.
        bool mutant_skip_barrier{}, mutant_always_in_line{}, mutant_forget_holders{}, mutant_take_first{},
            mutant_ignore_lists{};
    };
    struct Message {
        NodeSet to;
        std::string kind; ///< "farm.plan", "farm.plan?" (wants an answer), "farm.held"
        std::string body;
    };

    explicit Mover(Options options);

    /// Before the first view with this node.
    void set_name(NodeId node, const std::string& name) { rendezvous_.set_name(node, name); }
    /// The weight by which this node says that it takes `percent` of these powers, one per group.
    [[nodiscard]] std::uint16_t weight(unsigned percent, const std::vector<std::uint32_t>& powers) {
        return powers_.weight(percent, powers);
    }
    void on_view(Instant now, const FarmView& view);
    void on_message(Instant now, NodeId from, std::string_view kind, std::string_view body);
    /// Call at next_deadline() or later.
    void tick(Instant now);
    [[nodiscard]] Instant next_deadline() const noexcept { return deadline_; }
    /// Whether the caller should give set_held() now: asked for at most every 250 ms while in transition.
    [[nodiscard]] bool wants_held() const noexcept { return wants_held_; }
    /// Buckets in which this node holds connections, per group.
    void set_held(Instant now, const std::vector<std::vector<std::uint16_t>>& held);

    /// Effects since the last call, in order.
    [[nodiscard]] std::vector<Message> take_messages();
    /// True once after tables or step changed: give them to the filter at once.
    [[nodiscard]] bool take_changed() noexcept { return std::exchange(changed_, false); }

    [[nodiscard]] const Plan& plan() const noexcept { return plan_; }
    [[nodiscard]] const FarmView& view() const noexcept { return view_; }
    [[nodiscard]] const OwnerTable& table(std::size_t group) const noexcept { return tables_[group]; }
    [[nodiscard]] std::size_t groups() const noexcept { return tables_.size(); }
    [[nodiscard]] bool blank() const noexcept { return blank_; }
    [[nodiscard]] bool exchanged() const noexcept { return exchanged_; }
    /// The view's target is in force: nothing is on the move (old connections may still be held elsewhere).
    [[nodiscard]] bool arrived() const noexcept;
    /// Some bucket still has holders.
    [[nodiscard]] bool in_transition() const noexcept { return holding_; }
    /// What a member's weight in the view makes of its power, in hundredths. 0 before the exchange told a list.
    [[nodiscard]] std::uint32_t effective_power(NodeId node, std::size_t group) const {
        return powers_.effective(node, view_.weights[index(node)], group);
    }
    /// Members that own something now, in some group.
    [[nodiscard]] NodeSet participants() const noexcept;
    [[nodiscard]] const Rendezvous& rendezvous() const noexcept { return rendezvous_; }

private:
    void become_blank();
    void try_exchange(Instant now);
    void adopt(Instant now, const Plan& plan, NodeSet in_line);
    static void meet(Plan& best, const Plan& other);
    void try_advance(Instant now);
    void advance(Instant now);
    void settle(Instant now);
    void restrict_plan(NodeSet to, NodeSet stay_holders);
    void rebuild();
    void note_holding();
    void announce(Instant now);
    void set_deadline(Instant at) noexcept { deadline_ = std::min(deadline_, at); }
    [[nodiscard]] std::vector<std::uint8_t> owners(const Weights& weights, std::size_t group);
    [[nodiscard]] std::string encode_own() const;
    void on_held(NodeId from, const HeldReport& held);
    void learn_powers();

    Options options_;
    PowerLists powers_;
    Rendezvous rendezvous_;
    FarmView view_;
    Plan plan_;
    bool blank_{true};
    bool exchanged_{};
    bool changed_{}, holding_{}, told_holding_{}, wants_held_{};
    Report own_;
    std::vector<std::uint16_t> said_; ///< own weights of the views since the last exchange: a plan may name any of them
    std::map<NodeId, Report> reports_;
    std::vector<OwnerTable> tables_;
    std::uint64_t settled_seq_{};
    Instant step_since_{}, settled_at_{}, repeat_at_{never}, held_at_{never}, deadline_{never};
    std::vector<Message> messages_;
    std::pair<std::uint64_t, std::map<NodeId, Report>> early_; ///< of one view that is not installed here yet
    struct CacheEntry {
        Weights weights{};
        std::size_t group{};
        std::vector<std::uint8_t> owner;
    };
    std::vector<CacheEntry> cache_; ///< the last few tables
};

} // namespace stead::farm

// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/handshake.hpp>

#include <algorithm>
#include <optional>

namespace stead::mirror {
namespace {

/// What is decided before anybody is called self or peer.
struct Outcome {
    const Facts* source{}; ///< nullptr: `otherwise`
    Extent extent{Extent::marks};
    Verdict otherwise{Verdict::nobody};
    std::string reason;
};

bool lived_on(const Facts& facts) noexcept { return !facts.peer_incarnation.none(); }
bool flushed(const Facts& facts) noexcept { return facts.record.clean || facts.record.since_clean; }

/// Whether what `facts`' disk had not synced when both were last equal may be lost by now.
bool may_have_lost(const Facts& facts, const Facts& other) noexcept {
    const bool same_life =
        lived_on(other) ? other.peer_incarnation == facts.incarnation : lived_on(facts) && !facts.sync_failed;
    return !same_life && !(flushed(facts) && facts.record.inconsistent.none());
}

/// Whether both sides' marks hold everything in which two related trees may differ.
bool marks_suffice(const Facts& a, const Facts& b) noexcept {
    if (!a.dirty_known || !b.dirty_known || a.may_be_ahead || b.may_be_ahead) {
        return false;
    }
    const Facts& last_primary = a.record.node == holder(std::max(a.record.epoch, b.record.epoch)) ? a : b;
    return a.memory || b.memory || (flushed(a) && flushed(b)) || last_primary.intent_known;
}

Extent marks_or_all(const Facts& a, const Facts& b) noexcept {
    return marks_suffice(a, b) ? Extent::marks : Extent::compare_all;
}

/// The one for which `better` holds, if it holds for exactly one.
template <class Better>
const Facts* only(const Facts& a, const Facts& b, Better better) {
    return better(a) == better(b) ? nullptr : better(a) ? &a : &b;
}

/// `asked` had the other one call itself outdated, and then died before it went on: nothing was changed alone, or its
/// generation would be another one. What it had not synced is lost, and the other one has it.
bool never_went_on(const Facts& asked, const Facts& other) noexcept {
    const bool went_on = asked.serving || asked.record.role == Role::alone || !asked.record.base.none();
    const bool whole = lived_on(other) && other.record.in_sync && !other.sync_failed;
    return std::min(asked.version, other.version) >= 2 && !went_on && whole && may_have_lost(asked, other);
}

/// Nothing was changed alone, or one side missed the end of a resync: nobody may lose what it answered.
Outcome same_generation(const Facts& a, const Facts& b) {
    const Extent extent = marks_or_all(a, b);
    if (const Facts* s = only(a, b, [](const Facts& f) { return !f.record.outdated; })) {
        const Facts& other = s == &a ? b : a;
        if (never_went_on(*s, other)) {
            return {&other, extent, {}, "it lived on, and the other one never went on alone"};
        }
        return {s, extent, {}, "the other one is outdated"};
    }
    if (const Facts* s = only(a, b, [](const Facts& f) { return f.record.in_sync; })) {
        return {s, extent, {}, "the other one was not in sync"};
    }
    if (const Facts* s = only(a, b, [](const Facts& f) { return f.serving; })) {
        return {s, extent, {}, "it serves"};
    }
    if (const Facts* s = only(a, b, [](const Facts& f) { return f.record.role == Role::alone; })) {
        return {s, extent, {}, "it was the last holder"};
    }
    if (const Facts* s = only(a, b, lived_on)) {
        return {s, extent, {}, "it lived on"};
    }
    if (const Facts* s = only(a, b, [](const Facts& f) { return !f.record.base.none(); })) {
        return {s, extent, {}, "it has changes of its own"};
    }
    const Epoch highest = std::max(a.record.epoch, b.record.epoch);
    return {a.record.node == holder(highest) ? &a : &b, extent, {}, "it was the last primary"};
}

bool related(const Record& a, const Record& b) noexcept {
    const auto in_b = [&](const Gen& gen) { return !gen.none() && (gen == b.current || b.has_been(gen)); };
    return in_b(a.current) || std::any_of(a.history.begin(), a.history.end(), in_b);
}

Outcome by_generation(const Facts& a, const Facts& b) {
    if (a.record.current == b.record.current) {
        return same_generation(a, b);
    }
    for (const auto& [one, other] : {std::pair{&a, &b}, std::pair{&b, &a}}) {
        if (!one->record.base.none() && one->record.base == other->record.current) {
            return {one, marks_or_all(a, b), {}, "it went on from the other's generation"};
        }
    }
    for (const auto& [one, other] : {std::pair{&a, &b}, std::pair{&b, &a}}) {
        if (one->record.has_been(other->record.current)) {
            return {one, Extent::compare_all, {}, "the other's generation is in its history"};
        }
    }
    if (!a.record.base.none() && a.record.base == b.record.base) {
        return {nullptr, marks_or_all(a, b), Verdict::split, "both were changed since they were equal"};
    }
    if (related(a.record, b.record)) {
        return {nullptr, Extent::compare_all, Verdict::split, "both were changed since a common ancestor"};
    }
    return {nullptr, Extent::compare_all, Verdict::refuse, "the two have no generation in common"};
}

Outcome one_inconsistent(const Facts& source, const Facts& target) {
    const Record& s = source.record;
    const Record& t = target.record;
    const bool near = t.current == s.current || (!s.base.none() && (t.current == s.base || t.base == s.base));
    return {&source, near ? marks_or_all(source, target) : Extent::compare_all, {}, "the other one is half resynced"};
}

/// An order to follow makes no primary: where nobody serves, an older copy does not come before a newer one by it.
bool gives_up_for_nobody(const Facts& loser, const Facts& other, const Outcome& found) noexcept {
    return std::min(loser.version, other.version) >= 3 && found.source == &loser && !other.serving &&
           loser.record.current != other.record.current;
}

Outcome outcome(const Facts& a, const Facts& b) {
    const bool a_empty = a.record.current.none(), b_empty = b.record.current.none();
    if (a_empty && b_empty) {
        return {nullptr, {}, Verdict::nobody, "no node has data: say prim on one"};
    }
    if (a_empty || b_empty) {
        // A person may have copied the data there, with their FIDs: then what is the same need not be sent.
        const Facts& target = a_empty ? a : b;
        return {a_empty ? &b : &a,
                target.dirty_known ? Extent::everything : Extent::compare_all,
                {},
                "the other one has no data"};
    }
    if (a.record.mirror != b.record.mirror || a.record.node == b.record.node) {
        return {nullptr, {}, Verdict::refuse, "the other node belongs to another mirror"};
    }
    const bool a_half = !a.record.inconsistent.none(), b_half = !b.record.inconsistent.none();
    if (a_half && b_half) {
        return {nullptr, {}, Verdict::refuse, "both nodes are half resynced"};
    }
    if (a_half || b_half) {
        return one_inconsistent(a_half ? b : a, a_half ? a : b);
    }
    Outcome result = by_generation(a, b);
    if (const Facts* loser = only(a, b, [](const Facts& f) { return f.accept_loss; })) {
        if (gives_up_for_nobody(*loser, loser == &a ? b : a, result)) {
            return {nullptr, result.extent, Verdict::nobody,
                    "the newer copy is where an administrator said second, and the other node does not serve: say prim "
                    "on one"};
        }
        return {loser == &a ? &b : &a, result.extent, {}, "an administrator said so"};
    }
    return result;
}

} // namespace

void Record::push_history(const Gen& gen) noexcept {
    std::copy_backward(history.begin(), history.end() - 1, history.end());
    history.front() = gen;
}

bool Record::has_been(const Gen& gen) const noexcept {
    return !gen.none() && std::find(history.begin(), history.end(), gen) != history.end();
}

Decision decide(const Facts& self, const Facts& peer) {
    // In the order of the nodes, so that both compute the same.
    const bool first = self.record.node <= peer.record.node;
    const Outcome found = first ? outcome(self, peer) : outcome(peer, self);
    Decision decision;
    decision.extent = found.extent;
    decision.reason = found.reason;
    decision.unsynced_self = may_have_lost(self, peer);
    decision.unsynced_peer = may_have_lost(peer, self);
    decision.both_flushed = flushed(self) && flushed(peer);
    if (found.source == nullptr) {
        decision.verdict = found.otherwise;
    } else {
        decision.verdict = found.source == &self ? Verdict::source : Verdict::target;
        constexpr std::string_view other = "the other one"; // as the source sees it
        if (found.source != &self && decision.reason.starts_with(other)) {
            decision.reason.replace(0, other.size(), "this node");
        }
    }
    return decision;
}

} // namespace stead::mirror

// SPDX-License-Identifier: Apache-2.0
// Who may act when not all nodes are here: the partition policies. docs/protocol-membership.md, section 6.
#include "state.hpp"

#include <algorithm>

namespace stead::membership {
namespace {

constexpr nanoseconds reading_period = std::chrono::seconds{10};

} // namespace

std::string names(NodeSet set) {
    std::string text = "{";
    for (const NodeId node : set) {
        text += (text.size() > 1 ? "," : "") + std::to_string(index(node));
    }
    return text + "}";
}

/// Once; to who has no view, it is what the node waits for.
void Core::State::tell_policy(NodeSet members, const std::string& more) {
    std::string why = "only " + std::to_string(members.size()) + " of " + std::to_string(options.nodes.size()) +
                      " nodes are here; " + more;
    if (why == policy_said) {
        return;
    }
    policy_said = why;
    view.id != 0 ? note("view " + names(members) + " waits: " + why)
                 : static_cast<void>(out.emplace_back(std::in_place_type<Excluded>, Excluded{std::move(why)}));
}

bool Core::State::policy_allows(NodeSet members) {
    if (is_half(members)) {
        return true; // witness_allows() decides
    }
    if (options.partition == Options::Partition::serve || outnumbers(members)) {
        policy_said.clear();
        return true;
    }
    tell_policy(members, options.partition == Options::Partition::majority
                             ? "partition=\"majority\" needs more than half"
                             : "partition=\"witness\" needs more than half, or half and the word of the witness");
    return false;
}

/// Of how many other members: one that would wait for us, or all that the policy wants, so that no other view can
/// come to be without one who renews us.
std::size_t Core::State::echoes_needed() const noexcept {
    if (options.partition == Options::Partition::serve) {
        return view.members.size() == 1 ? 0 : 1;
    }
    const auto half = static_cast<std::size_t>(options.nodes.size()) / 2;
    return is_half(view.members) ? half - 1 : half;
}

std::uint64_t Core::State::holder_of(const View& wanted) const noexcept {
    Digest digest_of;
    digest_of.add(wanted.id);
    for (const NodeId node : wanted.members) {
        const SessionId& session = node == options.self ? options.session : peers[index(node)].session;
        digest_of.add(session.high);
        digest_of.add(session.low);
    }
    return digest_of.value;
}

void Core::State::ask(const Grant& claim) { out.emplace_back(std::in_place_type<AskWitness>, AskWitness{claim}); }

/// Everything else is there to install `proposal`.
bool Core::State::witness_allows() {
    if (!is_half(proposal.members) || mutant == Mutant::half_without_witness) {
        return true;
    }
    const std::uint64_t holder = holder_of(proposal);
    if (witness.granted == holder) {
        return true;
    }
    witness.awaited = true;
    if (witness.asked_for == holder && now - witness.asked < witness_patience) {
        return false;
    }
    if (witness.asked_for == holder && !witness.refused) {
        tell_policy(proposal.members, "the witness has not answered");
    }
    witness.refused = witness.refused && witness.asked_for == holder;
    witness.asked = now;
    witness.asked_for = holder;
    // What these same nodes held is over as well: all of them are here and have voted.
    const bool own = witness.held.members == proposal.members;
    ask({std::max(witness.ended, own ? witness.held.counter : 0) + 1, holder, proposal.members});
    return false;
}

void Core::State::handle(const WitnessAnswer& input) {
    if (std::max(input.asked.counter, input.held.counter) > epoch_limit) {
        return;
    }
    if (input.asked.counter == 0) {
        witness.reading = input.held.counter;
        witness.read_at = is_half(proposal.members) ? Instant{} : now; // it may be our own claim
        if (mutant == Mutant::unconfirmed_reading) {
            witness.ended = std::max(witness.ended, witness.reading);
        }
        return;
    }
    const bool ours = proposal.id != 0 && input.asked.holder == holder_of(proposal);
    if (!ours) {
        return;
    }
    if (input.held.holder == input.asked.holder) {
        witness.granted = input.held.holder;
        return;
    }
    const bool news = witness.held != input.held;
    witness.held = input.held;
    if (input.held.members != proposal.members) {
        witness.refused = true;
        tell_policy(proposal.members, "the witness gave its word to " + names(input.held.members));
    } else if (news) {
        witness.asked_for = 0; // at once, with a higher counter
    }
}

/// A majority learns what the witness holds, so that the next half to ask can name a higher counter.
void Core::State::read_witness_if_due() {
    if (options.partition != Options::Partition::witness || options.nodes.size() % 2 != 0 || view.id == 0 ||
        !outnumbers(view.members) || lease_until <= now || now < witness.read_due) {
        return;
    }
    witness.read_due = now + reading_period;
    ask({});
}

/// More than half of all nodes echoed what we sent at `echoed`, in a view of more than half. If that was after the
/// witness told what it holds, then no half could have claimed in between: one of them would have had to vote for it.
void Core::State::confirm_reading(Instant echoed) {
    if (witness.read_at == Instant{} || !outnumbers(view.members) || echoed <= witness.read_at) {
        return;
    }
    witness.ended = std::max(witness.ended, witness.reading);
    witness.read_at = Instant{};
}

} // namespace stead::membership

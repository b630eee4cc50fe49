// SPDX-License-Identifier: Apache-2.0
#include "state.hpp"

#include <algorithm>

/// What a person asks for: judged when it can be judged, done or refused, and always answered.
namespace stead::mirror {
namespace {

bool means_prim(Command what) noexcept {
    return what == Command::prim || what == Command::primforce || what == Command::prim_full;
}

} // namespace

void Core::State::handle(const Command& input) {
    if (dead || role == Role::none) {
        out.emplace_back(CommandDone{input, false, "this node is not running", {}});
        return;
    }
    if (compares(input)) {
        verify_all(input);
        return;
    }
    if (input == Command::stop) {
        finish_order(false, "the module stops");
        stop_wanted = true;
        return;
    }
    if (order || stop_wanted) {
        out.emplace_back(CommandDone{input, false, "another command is on its way", {}});
        return;
    }
    order = input;
    order_begun = false;
    order_until = now + options.command_wait;
}

void Core::State::finish_order(bool ok, const std::string& reason) {
    if (!order) {
        return;
    }
    if (!ok) {
        note("command refused or failed: " + reason, true);
    }
    out.emplace_back(CommandDone{*order, ok, reason, {}});
    order.reset();
    order_until = never;
}

/// Whether the peer serves, as far as this node can know.
Core::State::PeerServes Core::State::peer_serves() const {
    if (link_up && phase == Phase::equal) { // since the Hello the roles may have been exchanged
        return role == Role::second ? PeerServes::yes : PeerServes::no;
    }
    if (link_up && hello_received) {
        const bool follows = phase == Phase::marked || phase == Phase::receiving;
        return follows || hello_received->serving ? PeerServes::yes : PeerServes::no;
    }
    const bool gone = peer == PeerState::silent || peer == PeerState::died;
    return gone && !link_up ? PeerServes::not_heard : PeerServes::unknown;
}

/// Called after every input: the order goes on, or is done.
void Core::State::follow_order() {
    if (!order) {
        return;
    }
    if (*order == Command::swap) {
        follow_swap();
    } else if (means_prim(*order)) {
        follow_prim();
    } else {
        follow_second();
    }
}

void Core::State::follow_swap() {
    if (!order_begun) {
        if (phase != Phase::equal || role != Role::prim || claim != Claim::none || frozen) {
            finish_order(false, "swap: only a primary whose peer is in sync can hand over");
            return;
        }
        order_begun = true;
        hand_over();
    } else if (claim == Claim::none) {
        const bool handed = role == Role::second && link_up && phase == Phase::equal;
        finish_order(handed, handed ? "the peer is primary now" : "swap: the stream broke, or a disk failed");
    }
}

void Core::State::follow_prim() {
    if (serving() && !frozen && claim == Claim::none) {
        finish_order(true, order_begun ? "this node serves now" : "this node serves already");
        return;
    }
    if (order_begun) {
        if (claim == Claim::none) {
            finish_order(false, "prim: the undo log or the change log cannot be used");
        }
        return;
    }
    const bool late = now >= order_until;
    const bool force = *order == Command::primforce;
    if (claim != Claim::none || frozen) {
        if (late) {
            finish_order(false, "prim: another decision is on its way");
        }
        return;
    }
    const PeerServes theirs = peer_serves();
    if (!force && theirs == PeerServes::yes) {
        finish_order(false, "prim: the peer is primary; swap, or stop it first, or say primforce");
    } else if (!force && record.current.none() && !record.inconsistent.none()) {
        finish_order(false, "prim: this node has only a part of its first copy; primforce would serve that");
    } else if (!force && theirs == PeerServes::unknown && !late) {
        return;
    } else if (!force && theirs == PeerServes::unknown && peer == PeerState::present) {
        finish_order(false, "prim: the peer is heard and may serve, but does not connect; stop it, or say primforce");
    } else {
        begin_prim();
    }
}

void Core::State::begin_prim() {
    order_begun = true;
    if (peer == PeerState::silent || peer == PeerState::unknown) {
        note("an administrator makes this node primary while the peer is not heard: if it serves, that is a split",
             true);
    }
    reset_link("an administrator said prim");
    claim = Claim::emptying;
}

/// What was received is applied first: it would come over what was rolled back, or over what the application writes.
void Core::State::go_on_prim() {
    if (claim != Claim::emptying || (!incoming.empty() && !mutant(Mutant::promote_without_drain))) {
        return;
    }
    if (!order) { // the module stops
        claim = Claim::none;
        return;
    }
    const bool force = *order == Command::primforce;
    if (!record.inconsistent.none() && !(force && record.current.none())) {
        roll_back_and_serve(force);
        return;
    }
    serve_by_order("an administrator said prim");
}

/// What is here counts. By force: as a generation that goes on from everything this node knows of, so that nobody's is
/// better, with nothing accounted for, so that everything is compared.
void Core::State::serve_by_order(const std::string& reason) {
    const bool force = *order == Command::primforce;
    record.inconsistent = Gen{};
    if (record.current.none()) {
        record.mirror = record.mirror.none() ? fresh() : record.mirror;
        record.current = fresh();
        record.since_clean = !force; // the other one is empty as well, or not of this mirror
    } else if (force && options.data) {
        for (const Gen& known : {peer_current, record.base, record.current}) {
            if (!known.none() && !record.has_been(known)) {
                record.push_history(known);
            }
        }
        record.current = fresh();
        record.base = Gen{};
        record.log = 0;
        record.log_is_intent = log_usable = false;
    }
    record.unknown = options.data && (record.unknown || *order != Command::prim);
    become_alone(epoch_after(std::max(record.epoch, peer_epoch), options.node), reason);
    if (force) {
        out.emplace_back(BusSend{{record.epoch, message::Stale{}}});
    }
}

void Core::State::follow_second() {
    const bool late = now >= order_until;
    if (claim != Claim::none || frozen) {
        if (late) {
            finish_order(false, "second: another decision is on its way");
        }
        return;
    }
    const bool full = *order == Command::second_full;
    const PeerServes theirs = peer_serves();
    if (theirs == PeerServes::no) {
        finish_order(false, "second: the peer is not primary; say prim there first");
    } else if (theirs != PeerServes::yes && serving()) {
        finish_order(false, "second: this node serves, and no primary is connected");
    } else if (theirs == PeerServes::unknown && link_up && !late) {
        return;
    } else if (role == Role::second && theirs == PeerServes::yes && !full) {
        finish_order(true, "this node follows already");
    } else if (waits_for_schedule() && theirs == PeerServes::yes && !full) {
        handle(LetIn{});
        finish_order(true, "this node is let in now");
    } else {
        accept_loss = true;
        outside = false;
        if (full) {
            record.unknown = true;
            persist([] {});
        }
        reset_link("an administrator said second");
        if (claim == Claim::none && serving()) {
            step_down("an administrator said second", false);
        }
        finish_order(true,
                     theirs == PeerServes::yes ? "this node follows" : "this node follows once a primary connects");
    }
}

// ---- Verify -------------------------------------------------------------------------------------------------------

void Core::State::verify_all(Command what) {
    if (verify_order || phase != Phase::equal || !serving() || frozen || claim != Claim::none) {
        out.emplace_back(CommandDone{what,
                                     false,
                                     verify_order ? "another comparison is on its way"
                                                  : "only a primary whose peer is in sync can compare",
                                     {}});
        return;
    }
    verify_order = what;
    full_counts = verify_counts;
    verify_counts = {};
    verify_moving = 0;
    if (what == Command::verify_sent) {
        to_verify = copied;
        verify_counts.total = copied.size();
        return;
    }
    differing.clear();
    listing = true;
    const Ticket ticket = expect([this, mine = conversation](const Done& done) {
        if (mine != conversation) {
            return;
        }
        listing = false;
        if (verify_order) {
            verify_counts.total = done.targets.size();
            to_verify.insert(done.targets.begin(), done.targets.end());
        }
    });
    out.emplace_back(List{ticket, std::nullopt});
}

void Core::State::finish_verify(const std::string& broken_off) {
    to_verify.clear();
    if (!verify_order) {
        return;
    }
    const bool ok = broken_off.empty();
    out.emplace_back(CommandDone{*verify_order, ok, ok ? "everything was compared" : broken_off, verify_counts});
    if (verify_order == Command::verify_sent && verify_counts.differing == 0) {
        verify_counts = full_counts; // a part proves nothing of all
        if (ok) {
            copied.clear();
        }
    }
    verify_order.reset();
}

void Core::State::follow_verify() {
    if (verify_order && !listing && to_verify.empty() && verify_moving == 0) {
        finish_verify("");
    }
}

void Core::State::verify_differs(const Target& target) {
    ++counters.verify_mismatches;
    ++verify_counts.differing;
    if (verify_counts.differing <= 20) { // more would say no more
        differing.push_back(target);
        note("verify: the copies differ in " + name_of(target), true);
    }
    if (verify_order != Command::repair) {
        uncertain.insert(target); // the next resync sends it
    }
}

} // namespace stead::mirror

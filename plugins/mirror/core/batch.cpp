// SPDX-License-Identifier: Apache-2.0
#include "state.hpp"

/// A target that is only let in from time to time (`syncat`), and a node that serves although it is behind
/// (`syncdelta`).
namespace stead::mirror {

/// The handshake made this node a target, and its time has not come.
bool Core::State::waits_for_schedule() const {
    return phase == Phase::apart && hello_sent && hello_sent->held && decision.verdict == Verdict::target;
}

/// What the peer knows is what was said in Hello, so it is said anew.
void Core::State::handle(const LetIn&) {
    if (!options.batch || dead || !outside) {
        return;
    }
    outside = false;
    if (waits_for_schedule() || (phase == Phase::up && hello_sent && !serving())) {
        reset_link("the time of the next synchronisation has come");
    }
}

void Core::State::handle(const StartBehind&) {
    const bool lost = peer == PeerState::died || peer == PeerState::silent;
    const bool complete = !record.current.none() && record.in_sync && record.inconsistent.none();
    if (dead || behind || link_up || !options.data || role != Role::waiting || may_promote() || !lost || !complete ||
        !options.failover || claim != Claim::none || frozen || order || stop_wanted) {
        return;
    }
    behind = true;
    note("this node is not up to date and takes over all the same (syncdelta): what was acknowledged since it last "
         "was is lost here",
         true);
}

} // namespace stead::mirror

// SPDX-License-Identifier: Apache-2.0
// What the host asks at the moments of a change of state.
#include "plugin.hpp"

#include <unistd.h>

namespace stead::mirror {
namespace {
constexpr auto probe_again = milliseconds{300};
constexpr int probes = 10; ///< a stranger may just be giving the address up; the peer's MAC is none
constexpr auto unmount_again = milliseconds{200};
constexpr int unmounts = 25; ///< then whoever has files open loses them
} // namespace

void MirrorPlugin::moment(const stead_transition& transition) {
    transition_.reset(); // the host has overruled an older one
    switch (transition.moment) {
    case STEAD_MOMENT_PREPARE: prepare(transition, probes); break;
    case STEAD_MOMENT_OPEN:
        network_.begin_announcing(host_.now());
        announce();
        host_.transition_done(transition.token);
        break;
    case STEAD_MOMENT_RELEASE: release(transition); break;
    case STEAD_MOMENT_RETIRE: retire(transition); break;
    default: host_.transition_done(transition.token); break;
    }
}

/// File systems first, then the address: who can be reached can serve.
void MirrorPlugin::prepare(const stead_transition& transition, int probes_left) {
    transition_ = transition;
    if (const std::string foreign = network_.foreign_owner(peer_macs_); !foreign.empty()) {
        if (probes_left == 0) {
            transition_.reset();
            host_.transition_failed(transition.token, foreign);
            return;
        }
        retry_timer_.expires_after(probe_again);
        retry_timer_.async_wait([this, transition, probes_left](boost::system::error_code error) {
            if (!error && transition_ && transition_->token == transition.token) {
                prepare(transition, probes_left - 1);
            }
        });
        return;
    }
    ask({{"do", "mount"}}, [this, transition](bool ok, const std::string& text) {
        if (!transition_ || transition_->token != transition.token) {
            return;
        }
        transition_.reset();
        mounted_ = mounted_ || ok;
        const std::string error = ok ? network_.add() : text;
        if (error.empty() || !serving()) { // a node that does not serve any more was told to WAIT before
            host_.transition_done(transition.token);
        } else {
            host_.transition_failed(transition.token, error);
        }
    });
}

void MirrorPlugin::announce() {
    const std::uint64_t now = host_.now();
    if (const std::uint64_t next = network_.announce(now); next != 0) {
        announce_timer_.expires_after(nanoseconds{next > now ? next - now : 0});
        announce_timer_.async_wait([this](boost::system::error_code error) {
            if (!error) {
                announce();
            }
        });
    }
}

void MirrorPlugin::release(const stead_transition& transition) {
    transition_ = transition;
    network_.remove(options_.tcp_reset);
    announce_timer_.cancel();
    unmount(transition, transition.at_once != 0 || !serving() ? 0 : unmounts);
}

void MirrorPlugin::unmount(const stead_transition& transition, int tries_left) {
    const bool force = tries_left == 0;
    if (!mounted_ || !child_) {
        released(transition);
        return;
    }
    ask({{"do", "unmount"}, {"force", force}}, [this, transition, tries_left](bool ok, const std::string& text) {
        if (!transition_ || transition_->token != transition.token) {
            return;
        }
        if (ok || tries_left == 0) {
            mounted_ = false;
            released(transition);
            return;
        }
        if (tries_left == 1) {
            host_.warning("the replicated directories are still in use (" + text + "): who uses them loses them now");
        }
        retry_timer_.expires_after(unmount_again);
        retry_timer_.async_wait([this, transition, tries_left](boost::system::error_code error) {
            if (!error && transition_ && transition_->token == transition.token) {
                unmount(transition, tries_left - 1);
            }
        });
    });
}

/// The application has stopped and nothing is mounted: now the role may move.
void MirrorPlugin::released(const stead_transition& transition) {
    if (transition.to == STEAD_SECOND && serving()) {
        ask({{"do", "command"}, {"name", "swap"}}, [this](bool ok, const std::string& text) {
            if (!ok) {
                host_.warning("swap: " + text);
            }
            swap_over(ok, text);
            transition_over();
            lead();
        });
        return;
    }
    if (swap_wanted_) {
        swap_over(false, "the module left its state meanwhile");
    }
    if (transition.to == STEAD_WAIT && !ready_ && child_) {
        say_stop(); // hands over to a peer in sync; transition_over() when stead-fs has ended
    } else {
        transition_over();
    }
}

void MirrorPlugin::retire(const stead_transition& transition) {
    if (!child_) {
        host_.transition_done(transition.token);
        return;
    }
    transition_ = transition;
    say_stop();
}

void MirrorPlugin::transition_over() {
    if (transition_) {
        const std::uint64_t token = transition_->token;
        transition_.reset();
        host_.transition_done(token);
    }
}

} // namespace stead::mirror

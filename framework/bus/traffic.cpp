// SPDX-License-Identifier: Apache-2.0
// What arrives, and what views, whiteboard and messages make of it.
#include "engine.hpp"

#include <algorithm>

namespace stead::bus {
namespace {

constexpr nanoseconds challenge_age_max = seconds{10};
constexpr std::size_t delta_bytes_max = 1200;

} // namespace

void Engine::datagram_in(LanId lan, std::span<const std::uint8_t> bytes) {
    ++counters_.datagrams_in;
    counters_.bytes_in += bytes.size();
    const Instant now = BootClock::now();
    const wire::Opened opened = opener_.open(now, lan, bytes);
    const std::string& where = options_.lans[index(lan)].name;
    switch (opened.drop) {
    case wire::Drop::none: break;
    case wire::Drop::version:
        ++counters_.dropped_version;
        return note_quietly(Quiet::version, "LAN '" + where + "': datagrams of another protocol version are dropped");
    case wire::Drop::foreign:
        ++counters_.dropped_foreign;
        return note_quietly(Quiet::foreign, "LAN '" + where +
                                                "': datagrams of another cluster.xml, module or node list are "
                                                "dropped; is the configuration the same on all nodes?");
    case wire::Drop::unauthentic:
        ++counters_.dropped_unauthentic;
        return note_quietly(Quiet::unauthentic,
                            "LAN '" + where + "': datagrams that were not made with our cluster key are dropped");
    case wire::Drop::replayed: ++counters_.dropped_replayed; return;
    }
    clocks_[index(options_.self)] = {session_, now};
    auto datagram = codec_.decode(opened.node, opened.session, opened.payload, clocks_);
    if (!datagram) {
        ++counters_.dropped_malformed;
        return note_quietly(Quiet::malformed,
                            "node '" + options_.node_names[index(opened.node)] + "': " + datagram.error().text());
    }
    const SessionId session = opened.session;
    const NodeId from = opened.node;
    if (datagram->heartbeat) {
        heartbeat_in(lan, std::move(*datagram->heartbeat));
    }
    if (peers_[index(from)].session != session) {
        return; // has not answered a challenge of ours yet
    }
    if (datagram->delta || datagram->request || datagram->message || datagram->ack) {
        be_lively();
    }
    whiteboard_in(from, *datagram);
    message_in(from, *datagram);
}

void Engine::heartbeat_in(LanId lan, membership::Heartbeat&& received) {
    const membership::Input input{membership::Received{lan, std::move(received)}};
    const membership::Heartbeat& heartbeat = std::get<membership::Received>(input).heartbeat;
    Peer& peer = peers_[index(heartbeat.sender)];
    wire::PeerClock& clock = clocks_[index(heartbeat.sender)];
    if (clock.session != heartbeat.session || heartbeat.sent > clock.sent) {
        clock = {heartbeat.session, heartbeat.sent};
    }
    const Instant now = BootClock::now();
    const bool answered = std::ranges::any_of(heartbeat.echoes, [&](const membership::Heartbeat::Echo& echo) {
        return echo.peer == options_.self && echo.session == session_ && echo.sent <= now &&
               now - echo.sent <= challenge_age_max;
    });
    if (answered && peer.session != heartbeat.session) {
        opener_.confirm(heartbeat.sender, heartbeat.session);
        lower_in_flight(heartbeat.sender, peer.mailbox.reset(heartbeat.session.low));
        tell_changes(board_.drop(heartbeat.sender));
        peer.session = heartbeat.session;
        peer.state_known = false;
        peer.last_sent = {};
        peer.asked = {};
    }
    step(input);
    if (peer.session != heartbeat.session || heartbeat.sent <= peer.last_sent) {
        return;
    }
    peer.last_sent = heartbeat.sent;
    if (!peer.state_known || peer.state != heartbeat.state) {
        peer.state_known = true;
        peer.state = heartbeat.state;
        post_([events = events_, node = heartbeat.sender, state = heartbeat.state] {
            if (events->peer_state) {
                events->peer_state(node, state);
            }
        });
    }
    if (!is_member(heartbeat.sender) || (peer.asked != Instant{} && now - peer.asked < options_.timing.period)) {
        return;
    }
    if (const auto request = board_.check(heartbeat.sender, heartbeat.session, heartbeat.whiteboard_digest)) {
        peer.asked = now;
        wire::Datagram question;
        question.request = wire::Request{heartbeat.session.low, request->from};
        transmit(NodeSet{heartbeat.sender}, question);
    }
}

void Engine::whiteboard_in(NodeId from, const wire::Datagram& datagram) {
    if (datagram.delta && is_member(from)) {
        tell_changes(board_.apply(*datagram.delta));
    }
    if (datagram.request && datagram.request->session_low == session_.low) {
        for (whiteboard::Delta& delta : board_.deltas_since(datagram.request->from, delta_bytes_max)) {
            wire::Datagram answer;
            answer.delta = std::move(delta);
            transmit(NodeSet{from}, answer);
        }
    }
}

void Engine::publish(const std::string& name, const std::optional<std::string>& value) {
    const std::uint64_t before = board_.version();
    const auto change =
        board_.write(name, value ? std::optional<std::string_view>{*value} : std::optional<std::string_view>{});
    if (!change || !*change) {
        return;
    }
    for (whiteboard::Delta& delta : board_.deltas_since(before, delta_bytes_max)) {
        wire::Datagram news;
        news.delta = std::move(delta);
        transmit(core_.view().members, news);
    }
    tell_changes({**change});
    set_local([this](membership::SetLocal& local) { local.whiteboard_digest = board_.digest(); });
}

void Engine::tell_changes(const std::vector<whiteboard::Change>& changes) {
    for (const whiteboard::Change& change : changes) {
        post_([events = events_,
               resource = Resource{change.owner, change.entry.name, change.entry.value, change.entry.version},
               removed = change.entry.removed] {
            if (events->resource) {
                events->resource(resource, removed);
            }
        });
    }
}

std::vector<Resource> Engine::resources() const {
    std::vector<Resource> out;
    for (whiteboard::Change& change : board_.all()) {
        out.push_back(
            {change.owner, std::move(change.entry.name), std::move(change.entry.value), change.entry.version});
    }
    return out;
}

void Engine::view_installed(const membership::ViewInstalled& installed) {
    be_lively();
    urgency_.lend(BootClock::now());
    post_([events = events_, installed] {
        if (events->view) {
            events->view(installed);
        }
    });
    for (const NodeId gone : installed.previous.members - installed.view.members) {
        lower_in_flight(gone, peers_[index(gone)].mailbox.give_up());
        tell_changes(board_.drop(gone));
    }
    const NodeSet fresh = installed.view.members - installed.previous.members - NodeSet{options_.self};
    if (!fresh.empty() && board_.version() > 0) {
        for (whiteboard::Delta& delta : board_.deltas_since(0, delta_bytes_max)) {
            wire::Datagram all;
            all.delta = std::move(delta);
            transmit(fresh, all);
        }
    }
    for (const NodeId node : installed.view.members) {
        deliver(node); // what came before this view was installed here
    }
}

void Engine::send(NodeSet to, const PeerMessage& message) {
    be_lively();
    for (const NodeId node : to) {
        if (!is_member(node) || peers_[index(node)].session.is_zero()) {
            lower_in_flight(node, 1);
            continue;
        }
        peers_[index(node)].mailbox.post({.session_low = 0,
                                          .sequence = 0,
                                          .base = 0,
                                          .kind = message.kind,
                                          .version = message.version,
                                          .body = message.body});
    }
    send_due(BootClock::now());
}

void Engine::send_due(Instant now) {
    for (const NodeId node : core_.view().members) {
        Mailbox& mailbox = peers_[index(node)].mailbox;
        if (mailbox.next_deadline() > now) {
            continue;
        }
        for (wire::Message& message : mailbox.due(now, options_.timing.period)) {
            wire::Datagram datagram;
            datagram.message = std::move(message);
            transmit(NodeSet{node}, datagram);
        }
    }
}

void Engine::message_in(NodeId from, wire::Datagram& datagram) {
    Peer& peer = peers_[index(from)];
    if (datagram.ack && datagram.ack->session_low == session_.low) {
        lower_in_flight(from, peer.mailbox.acknowledged(datagram.ack->up_to));
    }
    if (datagram.message && datagram.message->session_low == session_.low) {
        peer.mailbox.received(std::move(*datagram.message));
        deliver(from);
    }
}

void Engine::deliver(NodeId from) {
    Peer& peer = peers_[index(from)];
    if (from == options_.self || !is_member(from)) {
        return;
    }
    for (wire::Message& message : peer.mailbox.take()) {
        post_([events = events_,
               out = PeerMessage{from, std::move(message.kind), message.version, std::move(message.body)}] {
            if (events->message) {
                events->message(out);
            }
        });
    }
    if (peer.mailbox.delivered_up_to() == 0) {
        return;
    }
    wire::Datagram answer;
    answer.ack = wire::Ack{peer.session.low, peer.mailbox.delivered_up_to()};
    transmit(NodeSet{from}, answer);
}

} // namespace stead::bus

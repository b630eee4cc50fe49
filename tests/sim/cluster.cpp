// SPDX-License-Identifier: Apache-2.0
#include "cluster.hpp"

#include <algorithm>
#include <cstdio>

namespace stead::sim {

std::uint64_t Random::next() noexcept {
    state_ += 0x9e3779b97f4a7c15u;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

nanoseconds Random::between(nanoseconds low, nanoseconds high) noexcept {
    const auto span = static_cast<std::uint64_t>((high - low).count()) + 1;
    return low + nanoseconds{static_cast<std::int64_t>(below(span))};
}

std::string names(NodeSet set) {
    std::string text = "{";
    for (const NodeId node : set) {
        text += (text.size() > 1 ? "," : "") + std::to_string(index(node));
    }
    return text + "}";
}

Cluster::Cluster(const Setup& setup)
    : setup_(setup), network_(setup.seed * 3 + 1), faults_(setup.seed * 3 + 2), steadds_(setup.seed * 104'723 + 3),
      claims_(setup.seed * 15'485'863 + 4), nodes_(setup.nodes) {
    for (Node& node : nodes_) {
        node.offset = faults_.between(seconds{1000}, seconds{100'000});
        if (setup.drift_ppm_max > 0) {
            node.drift_ppm =
                static_cast<std::int64_t>(faults_.below(2 * setup.drift_ppm_max + 1)) - setup.drift_ppm_max;
        }
    }
}

Instant Cluster::local(const Node& node, nanoseconds at) const noexcept {
    const nanoseconds mine = node.frozen ? node.frozen_at : at;
    return from_ns((node.offset + mine + nanoseconds{mine.count() / 1000 * node.drift_ppm / 1000}).count());
}

void Cluster::fail(const std::string& what) {
    if (failure_.empty()) {
        failure_ =
            "seed " + std::to_string(setup_.seed) + " at " + std::to_string(now_.count() / 1000) + " us: " + what;
    }
}

void Cluster::log(std::uint8_t node, const std::string& text) {
    if (setup_.record) {
        events.push_back(std::to_string(node) + ": " + text);
    }
    if (setup_.trace) {
        std::fprintf(stderr, "%10.3f ms  %d: %s\n", static_cast<double>(now_.count()) / 1e6, node, text.c_str());
    }
}

void Cluster::trace(std::uint8_t node, const std::string& text) {
    if (setup_.trace) {
        log(node, "** " + text);
    }
}

void Cluster::push(Event event) {
    event.order = order_++;
    heap_.push(std::move(event));
}

void Cluster::start(std::uint8_t id, std::uint16_t weight, std::uint64_t config) {
    trace(id, "start");
    Node& node = nodes_[id];
    Options options;
    options.self = NodeId{id};
    node.session = SessionId{++sessions_, setup_.seed};
    options.session = node.session;
    options.nodes = NodeSet{setup_.nodes == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << setup_.nodes) - 1};
    options.lans = setup_.lans;
    options.timing = setup_.timing;
    options.config = config;
    options.random_seed = faults_.next();
    options.partition = setup_.partition;
    node.past_over = gate_closed(node);
    options.past_over = node.past_over && steadds_.chance(700'000);
    node.core = std::make_unique<Core>(options, local(node, now_));
    node.weight = weight;
    node.config = config;
    node.paused = false;
    node.running_since = now_;
    node.inbox.clear();
    node.proposal_id = 0;
    node.epoch = 0;
    step(id, SetLocal{weight, 0, config, 0});
    tell_pasts(id);
}

bool Cluster::gate_closed(const Node& node) const noexcept { return node.mine == 0 || local(node, now_) >= node.lease; }

void Cluster::tell_pasts(std::uint8_t started) {
    for (std::uint8_t other = 0; other < setup_.nodes; ++other) {
        if (other != started) {
            tell_past(other, started);
            tell_past(started, other);
        }
    }
}

void Cluster::tell_past(std::uint8_t of, std::uint8_t to) {
    const Node& node = nodes_[of];
    const bool over = node.core ? node.past_over : gate_closed(node);
    if (over && links_[0][of][to].up && links_[0][to][of].up && steadds_.chance(800'000)) {
        const PeerPast word{NodeId{of}, node.core ? node.session : SessionId{}};
        push({now_ + steadds_.between(setup_.delay_min, 2 * setup_.timing.period), 0, Happens::deliver, to, 0,
              Packet{0, nullptr, word, {}, {}}});
    }
}

void Cluster::take(std::uint8_t id, const Packet& packet) {
    if (packet.beat) {
        step(id, Received{LanId{packet.lan}, *packet.beat});
    } else if (packet.answer) {
        if (packet.to == nodes_[id].session) {
            step(id, *packet.answer);
        }
    } else {
        step(id, packet.word);
    }
}

void Cluster::start_all() {
    for (std::uint8_t id = 0; id < setup_.nodes; ++id) {
        start(id);
    }
}

void Cluster::crash(std::uint8_t id, bool machine) {
    trace(id, "crash");
    Node& node = nodes_[id];
    node.core.reset();
    ++node.timer;
    node.frozen = false;
    node.paused = false;
    node.inbox.clear();
    if (machine) {
        node.mine = 0;
    }
}

void Cluster::pause(std::uint8_t id, nanoseconds length) {
    trace(id, "pause " + std::to_string(length.count() / 1000) + " us");
    Node& node = nodes_[id];
    if (!node.core || node.paused) {
        return;
    }
    node.paused = true;
    push({now_ + length, 0, Happens::resume, id, node.timer, {}});
}

void Cluster::pause_machine(std::uint8_t id, nanoseconds length) {
    Node& node = nodes_[id];
    if (!node.core || node.paused) {
        return;
    }
    node.frozen = true;
    node.frozen_at = now_;
    pause(id, length);
}

void Cluster::jump_clock(std::uint8_t id, nanoseconds forward) {
    trace(id, "clock jumps");
    nodes_[id].offset += forward;
    if (nodes_[id].core && !nodes_[id].paused) {
        step(id, Tick{});
    }
}

void Cluster::resume(std::uint8_t id) {
    trace(id, "resume");
    Node& node = nodes_[id];
    if (node.frozen) {
        const Instant stood = local(node, now_);
        node.frozen = false;
        node.offset -= local(node, now_) - stood;
        node.excused_until = now_ + setup_.timing.lease + setup_.timing.period;
    }
    node.paused = false;
    node.running_since = now_;
    const std::vector<Packet> inbox = std::move(node.inbox);
    node.inbox.clear();
    if (faults_.chance(500'000)) {
        step(id, Tick{});
    }
    for (const Packet& packet : inbox) {
        if (nodes_[id].core) {
            take(id, packet);
        }
    }
    if (nodes_[id].core) {
        step(id, Tick{});
    }
}

void Cluster::leave(std::uint8_t id) {
    trace(id, "leave");
    if (up(id) && !nodes_[id].paused) {
        step(id, Leave{});
    }
}

void Cluster::set_weight(std::uint8_t id, std::uint16_t weight) {
    if (up(id) && !nodes_[id].paused) {
        nodes_[id].weight = weight;
        step(id, SetLocal{weight, 0, nodes_[id].config, 0});
    }
}

void Cluster::set_config(std::uint8_t id, std::uint64_t config) {
    if (up(id) && !nodes_[id].paused) {
        nodes_[id].config = config;
        step(id, SetLocal{nodes_[id].weight, 0, config, 0});
    }
}

void Cluster::seen_dead(std::uint8_t id) {
    const SessionId session = nodes_[id].session;
    crash(id, true);
    for (std::uint8_t other = 0; other < setup_.nodes; ++other) {
        if (other != id && up(other) && !nodes_[other].paused) {
            step(other, PeerDied{NodeId{id}, session});
        }
    }
}

void Cluster::cut(NodeSet from, NodeSet to, int only) {
    trace(0, "cut " + names(from) + " to " + names(to) + " lan " + std::to_string(only));
    for (const NodeId a : from) {
        for (const NodeId b : to) {
            for (std::uint8_t lan = 0; lan < setup_.lans; ++lan) {
                if (a != b && (only < 0 || only == lan)) {
                    links_[lan][index(a)][index(b)] = Link{false, now_};
                }
            }
        }
    }
}

void Cluster::cut_witness(NodeSet from) {
    trace(0, "cut " + names(from) + " from the witness");
    cut_from_witness_ = cut_from_witness_ | from;
}

void Cluster::heal() {
    trace(0, "heal");
    cut_from_witness_ = NodeSet{};
    for (auto& lan : links_) {
        for (auto& row : lan) {
            for (Link& link : row) {
                link = link.up ? link : Link{true, now_};
            }
        }
    }
}

void Cluster::run_for(nanoseconds length) {
    const nanoseconds until = now_ + length;
    while (!failed() && !heap_.empty() && heap_.top().at <= until) {
        const Event event = heap_.top();
        heap_.pop();
        now_ = event.at;
        handle(event);
        if (++steps_ > step_limit) {
            fail("step limit");
        }
    }
    now_ = std::max(now_, until);
}

void Cluster::handle(const Event& event) {
    if (event.kind == Happens::claim) {
        return take_claim(event);
    }
    Node& node = nodes_[event.node];
    if (!node.core) {
        return;
    }
    switch (event.kind) {
    case Happens::deliver:
        if (const nanoseconds next = node.read_at + longest_wait();
            setup_.gather && !node.paused && node.core->at_rest() && node.read_at < now_ && now_ < next) {
            Event later = event;
            later.at = next;
            push(std::move(later));
            break;
        }
        node.read_at = now_;
        ++node.received;
        if (!node.paused) {
            take(event.node, event.packet);
        } else if (node.inbox.size() < 400) { // a socket buffer is finite
            node.inbox.push_back(event.packet);
        }
        break;
    case Happens::timer:
        if (!node.paused && event.timer == node.timer) {
            step(event.node, Tick{});
        }
        break;
    case Happens::resume:
        if (node.paused) {
            resume(event.node);
        }
        break;
    case Happens::claim: break; // handled above: who asked may be dead by now
    }
}

void Cluster::step(std::uint8_t id, const Input& input) {
    Node& node = nodes_[id];
    const std::vector<Output> outputs = node.core->step(local(node, now_), input);
    for (const Output& output : outputs) {
        perform(id, output);
    }
    const View& proposal = node.core->proposal();
    if (proposal.id != node.proposal_id) {
        node.proposal_id = proposal.id;
        if (proposal.id != 0) {
            node.mine &= owned(proposal, id); // what the next view takes away is given up with the vote
            check_view(id, proposal);
        }
    }
    arm(id);
    check_buckets();
}

void Cluster::arm(std::uint8_t id) {
    Node& node = nodes_[id];
    const nanoseconds wait = std::max<nanoseconds>(node.core->next_deadline() - local(node, now_), nanoseconds{1});
    // Timers are never early, on any clock rate.
    push({now_ + wait + nanoseconds{wait.count() / 1000} + microseconds{1}, 0, Happens::timer, id, ++node.timer, {}});
}

void Cluster::perform(std::uint8_t id, const Output& output) {
    Node& node = nodes_[id];
    if (const auto* out = std::get_if<Send>(&output)) {
        send(id, *out);
    } else if (const auto* installed = std::get_if<ViewInstalled>(&output)) {
        ++views_;
        check_view(id, installed->view);
        if (installed->view.epoch <= node.epoch) {
            fail("epoch of node " + std::to_string(id) + " goes back");
        }
        node.epoch = installed->view.epoch;
        node.mine = owned(installed->view, id);
        last_install[id] = *installed;
        installed_at[id] = now_;
        log(id, "view " + names(installed->view.members) +
                    (installed->dead.empty() ? "" : " dead " + names(installed->dead)) +
                    (installed->left.empty() ? "" : " left " + names(installed->left)));
    } else if (const auto* lease = std::get_if<LeaseChanged>(&output)) {
        node.lease = lease->until;
    } else if (const auto* excluded = std::get_if<Excluded>(&output)) {
        ++node.exclusions;
        node.mine = 0;
        log(id, "excluded, " + excluded->reason);
    } else if (std::holds_alternative<LeaveDone>(output)) {
        log(id, "leave done");
    } else if (const auto* question = std::get_if<AskWitness>(&output)) {
        ask_witness(id, question->claim);
    } else if (const auto* said = std::get_if<Note>(&output); said != nullptr && setup_.trace) {
        log(id, "(" + said->text + ")");
    }
}

void Cluster::send(std::uint8_t from, const Send& out) {
    const auto beat = std::make_shared<const Heartbeat>(out.heartbeat);
    for (std::uint8_t lan = 0; lan < setup_.lans; ++lan) {
        for (const NodeId to : out.to) {
            if (!links_[lan][from][index(to)].up || network_.chance(setup_.loss_ppm)) {
                continue;
            }
            const int copies = network_.chance(setup_.duplicate_ppm) ? 2 : 1;
            for (int copy = 0; copy < copies; ++copy) {
                const nanoseconds delay = network_.between(setup_.delay_min, setup_.delay_max);
                push({now_ + delay, 0, Happens::deliver, index(to), 0, Packet{lan, beat, {}, {}, {}}});
            }
        }
    }
}

/// Mostly quick; sometimes a connection hangs for longer than any other time here.
nanoseconds Cluster::way_of_witness() {
    return claims_.chance(setup_.slow_witness_ppm) ? claims_.between(setup_.timing.period, 20 * setup_.timing.takeover)
                                                   : claims_.between(setup_.delay_min, setup_.timing.period / 2);
}

void Cluster::ask_witness(std::uint8_t from, const Grant& claim) {
    if (claim.counter != 0) {
        log(from, "claims " + std::to_string(claim.counter) + " for " + names(claim.members));
    }
    if (!cut_from_witness_.contains(NodeId{from})) {
        const Packet question{0, nullptr, {}, WitnessAnswer{claim, {}}, nodes_[from].session};
        push({now_ + way_of_witness(), 0, Happens::claim, from, 0, question});
    }
}

void Cluster::take_claim(const Event& event) {
    Packet packet = event.packet;
    const Grant& claim = packet.answer->asked;
    if (claim.counter > held_.counter) {
        held_ = claim;
        trace(event.node, "the witness grants " + std::to_string(claim.counter) + " to " + names(claim.members));
    }
    packet.answer->held = held_;
    if (!cut_from_witness_.contains(NodeId{event.node})) {
        push({now_ + way_of_witness(), 0, Happens::deliver, event.node, 0, packet});
    }
}

void Cluster::check_view(std::uint8_t id, const View& view) {
    const auto [at, fresh] = views_seen_.try_emplace(view.id, view);
    if (!fresh && !(at->second == view)) {
        fail("view id of node " + std::to_string(id) + " means two things");
    }
    if (!view.members.contains(NodeId{id})) {
        fail("node " + std::to_string(id) + " holds a view without itself");
    }
}

/// Owner by cumulative weight: crude, and moves far more buckets than the real table, which is harder.
std::uint64_t Cluster::owned(const View& view, std::uint8_t node) const {
    std::uint64_t total = 0;
    for (const NodeId member : view.members) {
        total += view.weights[index(member)];
    }
    std::uint64_t mine = 0;
    for (std::uint32_t bucket = 0; total > 0 && bucket < buckets; ++bucket) {
        std::uint64_t place = Random{bucket * 77 + 5}.next() % total;
        for (const NodeId member : view.members) {
            const std::uint64_t share = view.weights[index(member)];
            if (place < share) {
                mine |= index(member) == node ? std::uint64_t{1} << bucket : 0;
                break;
            }
            place -= share;
        }
    }
    return mine;
}

bool Cluster::accepting(std::uint8_t id) const {
    const Node& node = nodes_[id];
    return node.mine != 0 && !node.frozen && local(node, now_) < node.lease;
}

bool Cluster::link_settled(std::uint8_t a, std::uint8_t b) const {
    const nanoseconds settled = setup_.timing.takeover + 4 * setup_.timing.period;
    for (std::uint8_t lan = 0; lan < setup_.lans; ++lan) {
        const Link& there = links_[lan][a][b];
        const Link& back = links_[lan][b][a];
        if (there.up && back.up && now_ - there.since >= settled && now_ - back.since >= settled) {
            return true;
        }
    }
    return false;
}

/// Two-way path that has been there long enough to be known: direct, or over nodes that run.
bool Cluster::joined(std::uint8_t a, std::uint8_t b) const {
    const nanoseconds settled = setup_.timing.takeover + 4 * setup_.timing.period;
    NodeSet reached{NodeId{a}};
    NodeSet open = reached;
    while (!open.empty()) {
        const NodeId from = open.first();
        open.erase(from);
        const Node& relay = nodes_[index(from)];
        const bool relays = relay.core && !relay.paused && relay.core->phase() != Phase::leaving &&
                            now_ - relay.running_since >= settled; // who has said goodbye passes nothing on
        if (index(from) != a && !relays) {
            continue;
        }
        for (std::uint8_t to = 0; to < setup_.nodes; ++to) {
            if (!reached.contains(NodeId{to}) && link_settled(index(from), to)) {
                reached.insert(NodeId{to});
                open.insert(NodeId{to});
            }
        }
    }
    return reached.contains(NodeId{b});
}

void Cluster::check_buckets() {
    std::uint64_t taken = 0;
    std::uint64_t twice = 0;
    for (std::uint8_t id = 0; id < setup_.nodes; ++id) {
        if (accepting(id)) {
            twice |= taken & nodes_[id].mine;
            taken |= nodes_[id].mine;
        }
    }
    if (twice == 0) {
        overlap_since_.clear();
        return;
    }
    for (std::uint8_t a = 0; a < setup_.nodes; ++a) {
        for (std::uint8_t b = static_cast<std::uint8_t>(a + 1); b < setup_.nodes; ++b) {
            check_pair(a, b);
        }
    }
}

/// How long news takes over relays: each passes it on at once; where datagrams are lost, with its next heartbeats.
nanoseconds Cluster::news_time() const noexcept {
    const int hops = setup_.nodes;
    const nanoseconds hop = 2 * setup_.delay_max + setup_.timing.period / 50;
    const nanoseconds late = setup_.gather ? longest_wait() : nanoseconds{0}; // who has news is not at rest
    return late + hops * hop + (setup_.loss_ppm > 0 ? 3 : 0) * setup_.timing.period;
}

void Cluster::check_pair(std::uint8_t a, std::uint8_t b) {
    const bool excused = now_ < nodes_[a].excused_until || now_ < nodes_[b].excused_until;
    const bool both = accepting(a) && accepting(b) && (nodes_[a].mine & nodes_[b].mine) != 0;
    const bool strict = setup_.partition != Options::Partition::serve;
    if (both && !excused && strict) {
        fail("nodes " + std::to_string(a) + " and " + std::to_string(b) +
             " accept the same bucket, which the policy forbids");
    }
    if (!both || excused || !joined(a, b)) {
        overlap_since_.erase({a, b});
        return;
    }
    const nanoseconds lasting = now_ - overlap_since_.try_emplace({a, b}, now_).first->second;
    overlap_max_ = std::max(overlap_max_, lasting);
    if (link_settled(a, b) || lasting > news_time()) {
        fail("nodes " + std::to_string(a) + " and " + std::to_string(b) + " accept the same bucket");
    }
}

bool Cluster::one_view() const {
    std::uint64_t id = 0;
    NodeSet running;
    for (std::uint8_t node = 0; node < setup_.nodes; ++node) {
        if (up(node)) {
            running.insert(NodeId{node});
            id = core(node)->view().id;
        }
    }
    return std::all_of(nodes_.begin(), nodes_.end(), [&](const Node& node) {
        return !node.core || (node.core->view().id == id && id != 0 && node.core->view().members == running);
    });
}

bool Cluster::all_owned() const {
    std::uint64_t taken = 0;
    for (std::uint8_t node = 0; node < setup_.nodes; ++node) {
        taken |= accepting(node) ? nodes_[node].mine : 0;
    }
    return taken == ~std::uint64_t{0};
}

} // namespace stead::sim

// SPDX-License-Identifier: Apache-2.0
#include "plugin.hpp"

#include "schema.hpp"

#include <algorithm>
#include <charconv>
#include <stdexcept>

namespace stead::farm {
namespace {

enum TimerId : std::uint64_t {
    mover_timer = 1,
    second_timer,
    announce_timer,
    transition_timer,
    slow_start_timer,
    clients_timer
};

constexpr std::uint64_t ns_per_ms = 1'000'000;
constexpr std::uint64_t settle_limit = 2000 * ns_per_ms; ///< OPEN and CLOSE do not wait longer for a move
constexpr std::uint64_t probe_limit = 3000 * ns_per_ms;  ///< a member's MAC may still be on its way to us
constexpr std::uint64_t canary_silence_max = 16'000 * ns_per_ms;
constexpr unsigned slow_start_steps = 10;

Mover::Options mover_options(const plugin::Host& host, const FarmOptions& options) {
    Mover::Options result;
    result.self = NodeId(host.self());
    result.seed = host.seed();
    result.groups = options.groups.size();
    result.duplicate_window = 2 * options.period;
    result.movecap = options.movecap;
    return result;
}

FarmOptions read_checked(const plugin::Config& config) {
    return read_options(config, [](std::uint32_t line, bool warning, const std::string& text) {
        if (!warning) {
            throw std::runtime_error("line " + std::to_string(line) + ": " + text);
        }
    });
}

/// Places of the addresses that are not external, in configuration order, as the filter numbers them.
std::vector<shim::Rule> filter_rules(const FarmOptions& options, const std::vector<Network::Place>& places) {
    std::vector<shim::Rule> rules;
    for (std::size_t group = 0; group < options.groups.size(); ++group) {
        for (const auto& rule : options.groups[group].rules) {
            if (rule.arp) {
                continue;
            }
            shim::Rule out{std::nullopt, rule.protocol, rule.port,
                           rule.key,     rule.track,    static_cast<std::uint8_t>(group)};
            for (std::size_t i = 0; rule.address && i < places.size(); ++i) {
                if (places[i].vip.address == *rule.address) {
                    out.vip = i;
                }
            }
            rules.push_back(out);
        }
    }
    return rules;
}

bool has_arp_rule(const FarmOptions& options) {
    return std::any_of(options.groups.begin(), options.groups.end(), [](const auto& group) {
        return std::any_of(group.rules.begin(), group.rules.end(), [](const auto& rule) { return rule.arp; });
    });
}

std::unique_ptr<shim::PacketFilter> open_filter(plugin::Host& host, const FarmOptions& options,
                                                const Network& network) {
    if (network.places().empty()) {
        return nullptr; // type="external"
    }
    shim::FilterOptions filter;
    filter.module_id = static_cast<std::uint8_t>(host.module_id());
    filter.self = NodeId(host.self());
    filter.backend = options.backend;
    filter.seed = host.seed();
    filter.vips = network.filter_vips(has_arp_rule(options));
    filter.rules = filter_rules(options, network.places());
    filter.groups = static_cast<std::uint8_t>(std::max<std::size_t>(options.groups.size(), 1));
    filter.duplicate_window = 2 * options.period;
    auto opened = shim::PacketFilter::open(filter);
    if (!opened) {
        throw std::runtime_error("packet filter: " + opened.error().text());
    }
    host.event("packet filter: " + opened.value()->backend_note());
    return std::move(opened).value();
}

} // namespace

FarmPlugin::FarmPlugin(plugin::Host host, plugin::Config config)
    : host_(host), options_(read_checked(config)), network_(host, options_), mover_(mover_options(host, options_)),
      filter_(open_filter(host_, options_, network_)) {
    for (const auto& place : network_.places()) {
        if (place.vip.delivery == shim::Delivery::invisible && !canary_) {
            auto opened =
                Canary::open(place.ifindex, place.mac, place.vip.vmac, static_cast<std::uint8_t>(host_.module_id()));
            if (opened) {
                canary_ = std::move(opened).value();
            } else {
                host_.warning(opened.error().text());
            }
        }
    }
    configured_power_ = options_.dynamic_power(std::string{host_.node()});
    listen_to_clients();
    host_.set_config(options_.digest(host_.seed()));
}

FarmPlugin::~FarmPlugin() {
    if (filter_ && released_) {
        complain(filter_->detach(), "detaching the filter");
    } // else the addresses are still up: the filter stays, closed
}

void FarmPlugin::complain(const Result<void>& result, const char* what) {
    if (!result) {
        host_.error(std::string{what} + ": " + result.error().text());
    }
}

void FarmPlugin::start() {
    running_ = true;
    host_.watch("farm.mac.");
    apply_weight();
    second();
}

void FarmPlugin::stop() {
    running_ = false;
    for (const auto id :
         {mover_timer, second_timer, announce_timer, transition_timer, slow_start_timer, clients_timer}) {
        host_.cancel_timer(id);
    }
}

void FarmPlugin::on_lease(std::uint64_t until_boottime_ns) noexcept {
    if (filter_) {
        filter_->write_lease(until_boottime_ns);
    }
    if (lease_until_.exchange(until_boottime_ns) < static_cast<std::uint64_t>(to_ns(BootClock::now()))) {
        lease_lapsed_.store(true);
    }
}

std::int32_t FarmPlugin::lease_fd() noexcept { return filter_ ? filter_->lease_fd() : -1; }

// ---- Views, moves, tables -------------------------------------------------------------------------------------------

void FarmPlugin::on_view(const stead_view& view) {
    FarmView farm_view;
    farm_view.epoch = view.epoch;
    farm_view.id = view.id;
    farm_view.members = NodeSet{view.members};
    farm_view.lease_kept = !lease_lapsed_.exchange(false) && lease_until_.load() > host_.now();
    for (std::uint32_t i = 0; i < view.member_count; ++i) {
        const auto& member = view.member[i];
        const std::string name{plugin::to_view(member.name)};
        std::vector<std::uint32_t> powers;
        for (const auto& group : options_.groups) {
            powers.push_back(group.power_of(name));
        }
        mover_.set_member(NodeId(member.node), name, powers);
        names_[member.node] = name;
        farm_view.weights[member.node] = static_cast<std::uint16_t>(member.weight);
    }
    if (farm_view.members.size() < 2) {
        alone_until_ = host_.now();
    }
    mover_.on_view(now(), farm_view);
    push_members();
    pump();
    missing_ = (missing_ | NodeSet{view.dead}) - NodeSet{view.members};
    network_.set_contested(!missing_.empty(), host_.now());
    on_timer(announce_timer);
    if (view.dead != 0 && !clients_.empty()) {
        announce_after_death();
    }
}

void FarmPlugin::on_message(std::uint32_t from, std::string_view kind, std::uint32_t version, std::string_view body) {
    if (version != 1 || from >= limits::nodes_max) {
        host_.debug("message '" + std::string{kind} + "' of version " + std::to_string(version) + " ignored");
        return;
    }
    if (kind == "farm.power") {
        std::string answer;
        static_cast<void>(set_power(host_.self(), std::string{body}, answer));
        host_.event(answer);
        return;
    }
    mover_.on_message(now(), NodeId(from), kind, body);
    pump();
}

void FarmPlugin::pump() {
    if (mover_.wants_held()) {
        mover_.set_held(now(), held());
    }
    // The filter first, then the word that it is done: that is what makes a step a barrier.
    if (mover_.take_changed()) {
        push_tables();
        update_receivers();
        report_shares();
        tell_clients(false);
    }
    for (const auto& message : mover_.take_messages()) {
        if (!host_.send(message.to.bits(), message.kind, 1, message.body)) {
            host_.debug("'" + message.kind + "' could not be sent; it is repeated");
        }
    }
    const Instant next = mover_.next_deadline();
    if (next == never) {
        host_.cancel_timer(mover_timer);
    } else {
        host_.set_timer(mover_timer, std::max(static_cast<std::uint64_t>(std::max<std::int64_t>(to_ns(next), 0)),
                                              host_.now() + ns_per_ms));
    }
    poll_transition();
}

void FarmPlugin::push_tables() {
    if (!filter_) {
        return;
    }
    std::vector<shim::Bucket> buckets(shim::buckets);
    for (std::size_t group = 0; group < mover_.groups(); ++group) {
        const auto& table = mover_.table(group);
        for (std::size_t b = 0; b < buckets.size(); ++b) {
            buckets[b] = {table.owner[b], table.next[b], table.holders[b]};
        }
        const shim::GroupTable out{static_cast<std::uint8_t>(group), static_cast<shim::Step>(mover_.plan().step),
                                   mover_.view().members | NodeSet{self()}, buckets};
        if (auto done = filter_->set_table(out); !done) {
            host_.error("table of group " + options_.groups[group].name + ": " + done.error().text());
            host_.request("stopstart", "the packet filter refused a table: " + done.error().text());
        }
    }
}

std::vector<std::vector<std::uint16_t>> FarmPlugin::held() const {
    std::vector<std::vector<std::uint16_t>> result(mover_.groups());
    for (std::size_t group = 0; filter_ && group < result.size(); ++group) {
        const auto held = filter_->held(static_cast<std::uint8_t>(group));
        if (!held) {
            host_.warning("connections held: " + held.error().text());
            // Unknown is not none: say "all".
            for (std::uint32_t b = 0; b < shim::buckets; ++b) {
                result[group].push_back(static_cast<std::uint16_t>(b));
            }
            continue;
        }
        for (const auto& entry : held.value()) {
            result[group].push_back(entry.bucket);
        }
    }
    return result;
}

std::size_t FarmPlugin::connections() const {
    std::size_t count = 0;
    for (std::size_t group = 0; filter_ && group < mover_.groups(); ++group) {
        if (const auto held = filter_->held(static_cast<std::uint8_t>(group))) {
            for (const auto& entry : held.value()) {
                count += entry.connections;
            }
        }
    }
    return count;
}

void FarmPlugin::report_shares() {
    if (mover_.plan().step != MoveStep::settled) {
        return;
    }
    for (std::size_t group = 0; group < mover_.groups(); ++group) {
        std::array<std::uint32_t, 256> count{};
        for (const auto owner : mover_.table(group).owner) {
            ++count[owner];
        }
        std::string members;
        for (const auto& [node, name] : names_) {
            if (count[node] > 0) {
                members += " " + name;
            }
        }
        const auto mine = count[host_.self()];
        const std::string suffix = " (group " + options_.groups[group].name + ")";
        if (!members.empty() || mine > 0) { // a node that still waits for its first view has nothing to say
            log_once("membership " + options_.groups[group].name, "farm membership:" + members + suffix);
            log_once("load " + options_.groups[group].name,
                     "farm load: " + std::to_string(mine) + "/" + std::to_string(shim::buckets) + suffix);
        }
        const std::string share = std::to_string((mine * 100 + shim::buckets / 2) / shim::buckets) + "%";
        if (std::exchange(share_lines_["share " + options_.groups[group].name], share) != share) {
            host_.publish("farm." + options_.groups[group].name, share);
        }
    }
}

void FarmPlugin::log_once(const std::string& key, const std::string& line) {
    if (std::exchange(share_lines_[key], line) != line) {
        host_.event(line);
    }
}

std::string FarmPlugin::describe() const {
    const auto& plan = mover_.plan();
    std::string text = filter_ ? "packet filter: " + filter_->backend_note() : "packet filter: none (external)";
    constexpr const char* steps[]{"settled", "accept_forwarded", "forward", "take", "release"};
    text += std::string{"\nmove: "} + steps[static_cast<std::size_t>(plan.step)] +
            (mover_.blank() ? ", waiting for the plan of the others" : "") +
            (mover_.in_transition() ? ", connections still held by earlier owners" : "");
    text += "\nconnections held: " + std::to_string(connections());
    for (std::size_t group = 0; group < mover_.groups(); ++group) {
        const auto& configured = options_.groups[group];
        text += "\ngroup " + configured.name + ": power";
        for (const auto& [node, name] : names_) {
            if (mover_.view().members.contains(NodeId(node))) {
                const auto power = effective_power(mover_.view().weights[node], configured.power_of(name));
                text += " " + name + "=" + std::to_string(power / 100);
                text += power % 100 == 0 ? "" : "." + std::to_string(power % 100 + 100).substr(1);
            }
        }
        const auto stats = filter_ ? filter_->stats(static_cast<std::uint8_t>(group))
                                   : Result<shim::GroupStats>{Error{Errc::unsupported, "external", ""}};
        if (stats) {
            const auto& n = stats.value();
            text += "; packets accepted " + std::to_string(n.accepted) + ", rejected " + std::to_string(n.rejected) +
                    ", forwarded " + std::to_string(n.forwarded) + ", in transition " +
                    std::to_string(n.in_transition) + ", lease-closed " + std::to_string(n.lease_closed) +
                    ", duplicates " + std::to_string(n.duplicates) + ", without rule " + std::to_string(n.no_rule) +
                    ", fragments dropped " + std::to_string(n.fragments_dropped);
        }
    }
    return text;
}

// ---- Members, receivers, flooding -----------------------------------------------------------------------------------

void FarmPlugin::on_resource(std::uint32_t node, std::string_view name, std::optional<std::string_view> value) {
    if (node == host_.self() || node >= limits::nodes_max || !name.starts_with("farm.mac.")) {
        return;
    }
    if (value) {
        member_resources_[{node, std::string{name}}] = *value;
    } else {
        member_resources_.erase({node, std::string{name}});
    }
    push_members();
}

void FarmPlugin::push_members() {
    if (!filter_) {
        return;
    }
    std::vector<shim::Member> members;
    for (const auto& [key, value] : member_resources_) {
        std::size_t ordinal = 0;
        std::from_chars(key.second.data() + 9, key.second.data() + key.second.size(), ordinal);
        const auto member = network_.parse_member(NodeId(key.first), ordinal, value);
        if (member && mover_.view().members.contains(member->node)) {
            members.push_back(*member);
        }
    }
    complain(filter_->set_members(members), "members");
}

void FarmPlugin::update_receivers() {
    const NodeSet candidates = mover_.blank() ? NodeSet{} : mover_.participants() & mover_.view().members;
    const bool per_client = has_arp_rule(options_);
    for (std::size_t i = 0; i < network_.places().size(); ++i) {
        const auto& place = network_.places()[i];
        const bool chosen = mover_.rendezvous().choose(place.vip.address, candidates) == host_.self();
        const bool everyone = place.vip.delivery == shim::Delivery::invisible || per_client;
        // Invisible: all may answer, one announces. Directed: one does both.
        complain(filter_->set_receiver(i, everyone ? candidates.contains(self()) : chosen), "receiver");
        const bool announces = chosen && !per_client;
        if (announces != place.receiver) {
            host_.event(announces ? "announcing " + place.vip.address : "no longer announcing " + place.vip.address);
            network_.set_receiver(i, announces, host_.now());
        }
    }
    on_timer(announce_timer);
}

void FarmPlugin::listen_to_clients() {
    for (const auto ifindex : has_arp_rule(options_) ? network_.ifindexes() : std::vector<std::uint32_t>{}) {
        auto opened = Clients::open(ifindex);
        if (opened) {
            clients_.push_back(std::move(opened).value());
        } else {
            host_.warning(opened.error().text() + "; clients learn of a new receiver when their ARP entry is stale");
        }
    }
}

void FarmPlugin::tell_clients(bool all) {
    if (clients_.empty() || mover_.blank() || mover_.groups() == 0) {
        return;
    }
    std::vector<shim::Ip> vips;
    for (const auto& place : network_.places()) {
        vips.push_back(*parse_address(place.vip.address));
    }
    const auto& table = mover_.table(0); // as the filter: whoever owns the client's bucket of the first group
    for (const auto& tap : clients_) {
        tap->poll(vips);
        for (auto& [address, client] : tap->all()) {
            const auto bucket = shim::bucket_of(host_.seed(), shim::Key::address, client.ip, 0, 0);
            const bool mine = table.owner[bucket] == host_.self();
            const bool gained = mine && (all || !client.mine);
            client.mine = mine;
            for (const auto& place : network_.places()) {
                if (!gained || place.ifindex != tap->ifindex() || place.vip.address.find(':') != std::string::npos) {
                    continue;
                }
                complain(net::announce_to(place.ifindex, place.vip.address, place.mac, address, client.mac),
                         "announcement");
            }
        }
    }
}

/// proto="arp": the dead node's clients must not wait until their entries are stale. One node tells everybody, which is
/// right for nobody's share but reaches clients that never asked here; then each node tells its own.
void FarmPlugin::announce_after_death() {
    const NodeSet candidates = mover_.blank() ? NodeSet{} : mover_.participants() & mover_.view().members;
    for (const auto& place : network_.places()) {
        if (mover_.rendezvous().choose(place.vip.address, candidates) == host_.self()) {
            if (const auto error = host_.announce({place.interface, place.vip.address}, place.mac)) {
                host_.warning("announcement of " + place.vip.address + ": " + *error);
            }
        }
    }
    host_.set_timer_in(clients_timer, milliseconds{20});
}

void FarmPlugin::watch_flooding() {
    const std::uint64_t at = host_.now();
    if (canary_->heard()) {
        canary_heard_ = at;
    }
    if (at >= canary_sent_ + 5000 * ns_per_ms && open_) {
        canary_sent_ = at;
        canary_->send();
    }
    if (mover_.participants().size() < 2) {
        alone_until_ = at;
    }
    const std::uint64_t since = std::max(canary_heard_, alone_until_);
    const bool works = at < since + canary_silence_max;
    if (flooding_ != works && (canary_heard_ != 0 || !works)) {
        flooding_ = works;
        host_.publish("farm.flooding", works ? "up" : "down");
        if (!works) {
            host_.warning(
                "frames to the virtual MAC do not reach this node: the switch does not flood unknown unicast; "
                "use type=\"vmac_directed\", or allow flooding on these ports");
        } else {
            host_.event("frames to the virtual MAC reach this node");
        }
    }
}

void FarmPlugin::on_link(std::uint32_t ifindex, bool up) {
    network_.set_link(ifindex, up, host_.now());
    apply_weight();
    publish_verdicts();
    on_timer(announce_timer);
}

/// `check="on"` of virtual_addr and interface: resources for failover rules, while the addresses should be there.
void FarmPlugin::publish_verdicts() {
    const auto verdicts = addresses_up_ ? network_.verdicts() : std::map<std::string, bool>{};
    for (const auto& [name, up] : verdicts) {
        const auto known = verdicts_.find(name);
        if (known == verdicts_.end() || known->second != up) {
            host_.publish(name, up ? "up" : "down");
        }
    }
    for (const auto& [name, up] : verdicts_) {
        if (!verdicts.contains(name)) {
            host_.publish(name, "init");
        }
    }
    verdicts_ = verdicts;
}

void FarmPlugin::second() {
    if (filter_) {
        const std::string missing = filter_->audit();
        if (missing != audit_) {
            audit_ = missing;
            host_.publish("farm.filter", missing.empty() ? "up" : "down");
            if (!missing.empty()) {
                host_.error("packet filter: " + missing);
            }
            if (missing.find("gone") != std::string::npos || missing.find("replaced") != std::string::npos) {
                host_.request("stopstart", "packet filter: " + missing); // unfiltered, this node would answer for all
            }
        }
        const auto published = network_.published();
        for (std::size_t i = 0; i < published.size(); ++i) {
            if (i >= published_.size() || published_[i] != published[i]) {
                host_.publish("farm.mac." + std::to_string(i), published[i]);
            }
        }
        published_ = published;
    }
    publish_verdicts();
    tell_clients(false);
    if (canary_) {
        watch_flooding();
    }
    host_.set_timer_in(second_timer, seconds{1});
}

void FarmPlugin::on_timer(std::uint64_t id) {
    switch (id) {
    case mover_timer:
        mover_.tick(now());
        pump();
        break;
    case second_timer: second(); break;
    case announce_timer:
        if (const auto next = network_.announce_due(host_.now()); next != 0) {
            host_.set_timer(announce_timer, next);
        }
        break;
    case transition_timer: poll_transition(); break;
    case slow_start_timer: step_slow_start(); break;
    case clients_timer: tell_clients(true); break;
    default: break;
    }
}

// ---- Weight ---------------------------------------------------------------------------------------------------------

void FarmPlugin::apply_weight() {
    // A node whose network is down must not own buckets, even when it is heard on another LAN.
    const auto power = power_override_ ? power_override_ : configured_power_;
    const std::uint32_t wanted = open_ && network_.links_up() ? encode_weight(percent_, power) : 0;
    if (wanted != weight_ || wanted == 0) {
        weight_ = wanted;
        host_.set_weight(wanted);
    }
}

void FarmPlugin::on_update(plugin::Config config) {
    const FarmOptions fresh = read_checked(config);
    const auto power = fresh.dynamic_power(std::string{host_.node()});
    if (!power || !configured_power_) {
        for (std::size_t group = 0; group < options_.groups.size() && group < fresh.groups.size(); ++group) {
            if (fresh.groups[group].powers != options_.groups[group].powers) {
                throw std::runtime_error("powers that differ between groups cannot change while the module runs");
            }
        }
        return;
    }
    if (configured_power_ != power) {
        configured_power_ = power;
        power_override_.reset();
        host_.event("power of this node is now " + std::to_string(*power));
        apply_weight();
    }
}

void FarmPlugin::step_slow_start() {
    if (!open_ || percent_ >= 100) {
        return;
    }
    percent_ += 100 / slow_start_steps;
    apply_weight();
    host_.set_timer_in(slow_start_timer, options_.slowstart / slow_start_steps);
}

plugin::Answer FarmPlugin::set_power(std::uint32_t node, const std::string& value, std::string& answer) {
    std::uint32_t power = 0;
    const auto parsed = std::from_chars(value.data(), value.data() + value.size(), power);
    const bool number = parsed.ec == std::errc{} && parsed.ptr == value.data() + value.size();
    if (value != "default" && (!number || power > limits::power_max)) {
        answer = "power '" + value + "': allowed are 0.." + std::to_string(limits::power_max) +
                 ", or default for the configured one";
        return plugin::Answer::refused;
    }
    if (node != host_.self()) {
        if (!host_.send(NodeSet{NodeId(node)}.bits(), "farm.power", 1, value)) {
            answer = names_[node] + " cannot be told now; try again";
            return plugin::Answer::refused;
        }
    } else {
        power_override_ = value == "default" ? std::nullopt : std::optional{power};
        apply_weight();
    }
    answer = "power of " + std::string{node == host_.self() ? host_.node() : names_[node]} + ": " +
             (value == "default" ? "as configured" : value);
    return plugin::Answer::done;
}

plugin::Answer FarmPlugin::on_command(std::string_view verb, std::span<const std::string_view> arguments,
                                      std::string& answer) {
    if (verb == "describe") {
        answer = describe();
        return plugin::Answer::done;
    }
    if (verb != "power") {
        return plugin::Answer::not_mine;
    }
    if (arguments.size() != 2) {
        answer = "usage: power NODE N (0.." + std::to_string(limits::power_max) + ", or default)";
        return plugin::Answer::refused;
    }
    if (arguments[0] == host_.node()) {
        return set_power(host_.self(), std::string{arguments[1]}, answer);
    }
    std::string known{host_.node()};
    for (const auto& [node, name] : names_) {
        if (name == arguments[0] && mover_.view().members.contains(NodeId(node))) {
            return set_power(node, std::string{arguments[1]}, answer);
        }
        if (name != host_.node() && mover_.view().members.contains(NodeId(node))) {
            known += ", " + name;
        }
    }
    answer = "node '" + std::string{arguments[0]} + "' is not in this farm now; there are: " + known;
    return plugin::Answer::refused;
}

// ---- State changes --------------------------------------------------------------------------------------------------

void FarmPlugin::on_transition(const stead_transition& transition) {
    pending_.reset(); // the host overruled an older one
    const std::uint64_t at = host_.now();
    switch (transition.moment) {
    case STEAD_MOMENT_PREPARE: pending_ = Pending{transition, at, at + probe_limit}; break;
    case STEAD_MOMENT_OPEN:
        if (filter_) {
            complain(filter_->set_draining(false), "draining");
        }
        open_ = true;
        percent_ = options_.slowstart > nanoseconds{0} ? 100 / slow_start_steps : 100;
        if (percent_ < 100) {
            host_.set_timer_in(slow_start_timer, options_.slowstart / slow_start_steps);
        }
        apply_weight();
        pending_ = Pending{transition, at, at + settle_limit};
        break;
    case STEAD_MOMENT_CLOSE:
        open_ = false;
        apply_weight();
        pending_ = Pending{transition, at, at + settle_limit};
        break;
    case STEAD_MOMENT_RELEASE: release(transition); return;
    default: host_.transition_done(transition.token); return;
    }
    poll_transition();
}

void FarmPlugin::poll_transition() {
    if (!pending_ || !running_) {
        return;
    }
    switch (pending_->transition.moment) {
    case STEAD_MOMENT_PREPARE: poll_prepare(); break;
    case STEAD_MOMENT_OPEN: {
        const bool in_force = mover_.arrived() && mover_.view().weights[host_.self()] == weight_;
        if (in_force || host_.now() >= pending_->limit) {
            finish();
        }
        break;
    }
    case STEAD_MOMENT_CLOSE: poll_close(); break;
    default: break;
    }
    if (pending_) {
        const bool probing = pending_->transition.moment == STEAD_MOMENT_PREPARE;
        host_.set_timer_in(transition_timer, probing ? milliseconds{300} : milliseconds{50});
    }
}

void FarmPlugin::poll_prepare() {
    std::vector<shim::Mac> friends;
    for (const auto& [key, value] : member_resources_) {
        if (const auto mac = parse_mac(std::string_view{value}.substr(0, 17))) {
            friends.push_back(*mac);
        }
    }
    const std::string foreign = network_.foreign_owner(friends);
    if (!foreign.empty()) {
        if (host_.now() >= pending_->limit) {
            finish(foreign);
        }
        return;
    }
    released_ = false;
    addresses_up_ = true;
    const std::string error = network_.add_addresses();
    publish_verdicts();
    finish(error);
}

void FarmPlugin::poll_close() {
    auto& close = *pending_;
    const std::uint64_t at = host_.now();
    if (close.transition.at_once != 0 || mover_.view().members.empty()) {
        finish();
        return;
    }
    const bool moved = mover_.arrived() && mover_.view().weights[host_.self()] == 0;
    if (!close.draining && (moved || at >= close.limit)) {
        if (!moved) {
            host_.warning("this node's part was not handed over within 2 s; stopping without");
        }
        close.draining = true;
        close.drain_until = at + static_cast<std::uint64_t>(options_.drain.count());
        if (filter_) {
            complain(filter_->set_draining(true), "draining");
        }
    }
    if (close.draining) {
        const auto left = connections();
        if (left == 0 || at >= close.drain_until) {
            host_.event(left == 0 ? "drained: no connection left"
                                  : "drain time is over, connections still open: " + std::to_string(left));
            finish();
        }
    }
}

void FarmPlugin::finish(const std::string& error) {
    const auto token = pending_->transition.token;
    pending_.reset();
    host_.cancel_timer(transition_timer);
    if (error.empty()) {
        host_.transition_done(token);
    } else {
        host_.transition_failed(token, error);
    }
}

void FarmPlugin::release(const stead_transition& transition) {
    open_ = false;
    apply_weight();
    network_.remove_addresses();
    addresses_up_ = false;
    publish_verdicts();
    for (std::size_t i = 0; i < network_.places().size(); ++i) {
        complain(filter_->set_receiver(i, false), "receiver");
    }
    released_ = true;
    host_.transition_done(transition.token);
}

// ---- Without an instance --------------------------------------------------------------------------------------------

void FarmPlugin::check(plugin::Config config, const plugin::Report& report) {
    static_cast<void>(read_options(config, [&](std::uint32_t line, bool warning, const std::string& text) {
        warning ? report.warning(line, text) : report.error(line, text);
    }));
}

void FarmPlugin::cleanup(plugin::Host host, plugin::Config config) {
    const auto options = read_options(config, [](std::uint32_t, bool, const std::string&) {});
    std::vector<std::uint32_t> ifindexes;
    for (const auto& vip : options.vips) {
        const auto found = vip.external ? std::nullopt : host.find_interface({vip.interface, vip.address});
        if (!found) {
            continue;
        }
        host.remove_address({found->name, vip.address});
        if (vip.delivery == shim::Delivery::invisible) {
            static_cast<void>(net::remove_unicast_filter(found->index, vip.vmac));
        }
        ifindexes.push_back(found->index);
    }
    // The filter goes last: while an address is up it keeps this node from answering for all.
    if (auto done = shim::remove_leftovers(static_cast<std::uint8_t>(host.module_id()), ifindexes); !done) {
        throw std::runtime_error(done.error().text());
    }
}

void FarmPlugin::bus_wish(plugin::Config config, stead_bus_wish& wish) {
    const auto farm = config.child("farm");
    if (!farm) {
        return;
    }
    if (farm->attribute("port")) {
        wish.port = static_cast<std::uint32_t>(farm->integer("port"));
    }
    if (farm->attribute("pulse") || farm->attribute("slost_count")) {
        wish.pulse_ns = farm->attribute("pulse") ? static_cast<std::uint64_t>(farm->duration("pulse").count())
                                                 : 100 * ns_per_ms; // the classic default
        wish.slost_count =
            farm->attribute("slost_count") ? static_cast<std::uint32_t>(farm->integer("slost_count")) : 10;
    }
    wish.profile = plugin::to_c(farm->attribute("profile").value_or(std::string_view{}));
    const auto partition = farm->attribute("partition").value_or("serve");
    wish.partition = partition == "majority"  ? STEAD_PARTITION_MAJORITY
                     : partition == "witness" ? STEAD_PARTITION_WITNESS
                                              : STEAD_PARTITION_SERVE;
    for (const auto& lan : farm->children("lan")) {
        if (wish.lan_count == STEAD_LANS_MAX) {
            throw std::runtime_error("farm: more than 8 lans");
        }
        wish.lans[wish.lan_count++] = plugin::to_c(lan.string("name"));
    }
}

} // namespace stead::farm

STEAD_EXPORT_SERVICE(stead::farm::FarmPlugin, "farm", "1.0.0", stead::farm::schema)

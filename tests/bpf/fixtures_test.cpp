// SPDX-License-Identifier: Apache-2.0
// One set of packets, node states and expected fates, through all three back ends.
#include "judges.hpp"

#include <functional>
#include <optional>

namespace stead::shim::test {
namespace {

const Ip client4 = ip4(10, 0, 0, 200);
const Ip vip4 = ip4(10, 0, 0, 100);
const NodeId n1{1}, n2{2}, n3{3};

Spec v4(std::uint8_t flags = syn) {
    Spec s;
    s.destination = own_mac;
    s.source = client_mac;
    s.client = client4;
    s.vip = vip4;
    s.tcp_flags = flags;
    return s;
}

Spec v6(std::uint8_t flags = syn) {
    Spec s = v4(flags);
    s.client = ip6(200);
    s.vip = ip6(100);
    return s;
}

Spec with(Spec s, const std::function<void(Spec&)>& change) {
    change(s);
    return s;
}

Spec udp(Spec s) {
    s.protocol = 17;
    s.port = 53;
    return s;
}

Spec echo(Spec s) {
    s.protocol = s.client[0] == 0xfd ? 58 : 1;
    s.icmp_type = s.client[0] == 0xfd ? 128 : 8;
    return s;
}

Spec flooded(Spec s) {
    s.destination = vmac4;
    return s;
}

/// As member 1 sends it on to us.
Spec forwarded(Spec s) {
    s.destination = own_mac;
    s.source = mac_of(1);
    return s;
}

struct Shot {
    Bytes frame;
    Outcome expected;
};

struct Fixture {
    std::string name;
    State state;
    std::vector<Shot> shots;
};

State state(const std::function<void(State&)>& change = {}) {
    State s;
    if (change) {
        change(s);
    }
    return s;
}

State invisible(const std::function<void(State&)>& change = {}) {
    State s = state(change);
    s.delivery = Delivery::invisible;
    return s;
}

State moving(Step step, bool is_invisible, std::uint8_t owner, std::uint8_t next) {
    State s;
    s.delivery = is_invisible ? Delivery::invisible : Delivery::directed;
    s.step = step;
    s.bucket = {owner, next, {}};
    return s;
}

const Outcome pass{Fate::pass, {}}, take{Fate::take, {}}, drop{Fate::drop, {}}, answer{Fate::answer, {}};
Outcome forward(std::set<int> nodes) { return {Fate::forward, std::move(nodes)}; }

const auto others = [](State& s) { s.bucket = {1, 1, {}}; };
const auto nobodys = [](State& s) { s.bucket = {}; };

std::vector<Fixture> settled_fixtures() {
    const auto closed = [](State& s) { s.lease = false; };
    const auto closed_others = [](State& s) { s.lease = false, s.bucket = {1, 1, {}}; };
    const auto elsewhere = with(v4(), [](Spec& s) { s.vip = ip4(10, 0, 0, 101); });
    const auto stranger = with(v4(), [](Spec& s) { s.destination = mac_of(2); });
    const auto to_all = with(v4(), [](Spec& s) { s.destination = broadcast; });
    const auto other_port = with(v4(), [](Spec& s) { s.port = 81; });
    const auto sctp = with(v4(), [](Spec& s) { s.protocol = 132; });
    const auto members_own = with(v4(), [](Spec& s) { s.source = mac_of(1), s.client = address_of(1); });
    return {
        {"mine", state(), {{frame(v4()), take}, {frame(v4(ack)), take}, {frame(udp(v4())), take}}},
        {"mine, IPv6", state(), {{frame(v6()), take}, {frame(v6(ack)), take}, {frame(udp(v6())), take}}},
        {"another's, directed", state(others), {{frame(v4()), forward({1})}, {frame(udp(v6())), forward({1})}}},
        {"another's, forwarded already", state(others), {{frame(forwarded(v4())), drop}}},
        {"another's, from a member itself", state(others), {{frame(members_own), forward({1})}}},
        {"mine, forwarded", state(), {{frame(forwarded(v4())), take}}},
        {"nobody's", state(nobodys), {{frame(v4()), drop}, {frame(v4(ack)), drop}}},
        {"mine, flooded", invisible(), {{frame(flooded(v4())), take}, {frame(flooded(v6())), take}}},
        {"another's, flooded", invisible(others), {{frame(flooded(v4())), drop}, {frame(flooded(v6(ack))), drop}}},
        {"another's, to our own MAC, invisible", invisible(others), {{frame(v4()), drop}}},
        {"lease over", state(closed), {{frame(v4()), drop}, {frame(v4(ack)), drop}}},
        {"lease over, flooded", invisible(closed), {{frame(flooded(v4())), drop}}},
        {"lease over: nothing is sent on", state(closed_others), {{frame(v4()), drop}}},
        {"no rule", state(), {{frame(other_port), drop}, {frame(sctp), drop}}},
        {"another address", state(), {{frame(elsewhere), pass}}},
        {"another host's frame", state(others), {{frame(stranger), pass}}},
        {"broadcast frame, another's", state(others), {{frame(to_all), drop}}},
        {"echo", state(), {{frame(echo(v4())), take}, {frame(echo(v6())), take}}},
        {"echo, another's", state(others), {{frame(echo(v4())), forward({1})}, {frame(echo(v6())), forward({1})}}},
    };
}

std::vector<Fixture> header_fixtures() {
    const auto tagged = with(v4(), [](Spec& s) { s.vlans = 1; });
    const auto twice = with(v6(), [](Spec& s) { s.vlans = 2; });
    const auto options = with(v4(), [](Spec& s) { s.option_words = 10; });
    const auto extended = with(v6(), [](Spec& s) { s.extensions = {0, 43, 60, 51}; });
    const auto endless = with(v6(), [](Spec& s) { s.extensions = {60, 60, 60, 60, 60, 60, 60, 60, 60}; });
    const Bytes whole = frame(v4());
    Bytes short_ihl = whole;
    short_ihl[14] = 0x44;
    return {
        {"VLAN tags", state(others), {{frame(tagged), forward({1})}, {frame(twice), forward({1})}}},
        {"IPv4 options", state(others), {{frame(options), forward({1})}}},
        {"IPv6 extension headers", state(others), {{frame(extended), forward({1})}}},
        {"too many extension headers", state(), {{frame(endless), drop}}},
        {"cut short", state(), {{cut(whole, 14 + 20 + 10), drop}, {cut(frame(v6()), 14 + 40 + 4), drop}}},
        {"cut in the IP header", state(), {{cut(frame(tagged), 18 + 12), pass}}},
        {"impossible header length", state(), {{short_ihl, drop}}},
        {"ICMP error",
         state(others),
         {{icmp_error(v4(), ip4(10, 0, 0, 1)), forward({1})},
          {icmp_error(udp(v4()), ip4(10, 0, 0, 1)), forward({1})},
          {icmp_error(v6(), ip6(1)), forward({1})}}},
        {"ICMP error, mine", state(), {{icmp_error(v4(), ip4(10, 0, 0, 1)), take}}},
        {"ICMP error about a packet with options, with extension headers",
         state(others),
         {{icmp_error(with(v4(), [](Spec& s) { s.option_words = 10; }), ip4(10, 0, 0, 1)), forward({1})},
          {icmp_error(extended, ip6(1)), forward({1})}}},
        {"ICMP error about an echo, about a later fragment",
         state(others),
         {{icmp_error(echo(v4()), ip4(10, 0, 0, 1)), forward({1})},
          {icmp_error(with(udp(v4()), [](Spec& s) { s.fragment = 3; }), ip4(10, 0, 0, 1)), drop}}},
        {"ICMP error, cut", state(), {{cut(icmp_error(v4(), ip4(10, 0, 0, 1)), 14 + 20 + 8 + 20 + 2), drop}}},
        {"ICMP error about another's packet",
         state(),
         {{icmp_error(with(v4(), [](Spec& s) { s.port = 99; }), ip4(10, 0, 0, 1)), drop}}},
    };
}

std::vector<Fixture> fragment_fixtures() {
    const auto first = with(udp(v4()), [](Spec& s) { s.more_fragments = true, s.id = 9; });
    const auto later = with(udp(v4()), [](Spec& s) { s.fragment = 3, s.id = 9; });
    const auto unknown = with(udp(v4()), [](Spec& s) { s.fragment = 3, s.id = 10; });
    const auto first6 = with(udp(v6()), [](Spec& s) { s.more_fragments = true, s.id = 9; });
    const auto later6 = with(udp(v6()), [](Spec& s) { s.fragment = 3, s.id = 9; });
    const auto by_address = [](State& s) {
        s.rules = {Rule{{}, 17, 53, Key::address, Track::none, 0}};
        s.bucket = {1, 1, {}};
    };
    const auto by_id = [](State& s) {
        s.rules = {Rule{{}, 17, 53, Key::ip_id, Track::none, 0}};
        s.bucket = {1, 1, {}};
    };
    const auto two = [](State& s) {
        s.rules = {Rule{{}, 17, 53, Key::address, Track::none, 0}, Rule{{}, 17, 54, Key::port, Track::none, 0}};
    };
    return {
        {"fragments follow the first", state(), {{frame(unknown), drop}, {frame(first), take}, {frame(later), take}}},
        {"fragments follow the first to another",
         state(others),
         {{frame(first), forward({1})}, {frame(later), forward({1})}}},
        {"IPv6 fragments", state(), {{frame(later6), drop}, {frame(first6), take}, {frame(later6), take}}},
        {"fragments by address", state(by_address), {{frame(later), forward({1})}, {frame(first), forward({1})}}},
        {"fragments by IP id", state(by_id), {{frame(later), forward({1})}}},
        {"rules that differ: fragments need their first",
         state(two),
         {{frame(later), drop}, {frame(first), take}, {frame(later), take}}},
        {"ICMP errors under on_ipid go to all",
         state(by_id),
         {{icmp_error(udp(v4()), ip4(10, 0, 0, 1)), Outcome{Fate::forward_and_take, {1, 2, 3}}}}},
    };
}

std::vector<Fixture> transition_fixtures() {
    // We own the bucket, member 1 may have connections of before; and the other way round.
    const auto owner = [](State& s) { s.bucket = {0, 0, NodeSet{n1}}; };
    const auto holder = [](State& s) { s.bucket = {1, 1, NodeSet{NodeId{0}}}; };
    const auto bystander = [](State& s) { s.bucket = {1, 1, NodeSet{n2}}; };
    const auto orphan = [](State& s) { s.bucket = {0, 0, NodeSet{n1}}, s.live = NodeSet{std::uint64_t{0xd}}; };
    const auto has = [](auto change) { return [change](State& s) { change(s), s.socket = true; }; };
    const auto draining = [](State& s) { s.draining = true, s.socket = true; };
    const auto by_address = [&](auto change) {
        return [change](State& s) {
            change(s);
            s.socket = true;
            s.rules = {Rule{{}, 6, 80, Key::address, Track::socket, 0}};
        };
    };
    const auto first = with(v4(ack), [](Spec& s) { s.more_fragments = true, s.id = 9; });
    const auto later = with(v4(ack), [](Spec& s) { s.fragment = 3, s.id = 9; });
    const auto draining_moved = [](State& s) { s.draining = true, s.bucket = {1, 1, NodeSet{NodeId{0}}}; };
    return {
        {"owner, no socket, holder lives: a copy to it",
         state(owner),
         {{frame(v4(ack)), forward({1})}, {frame(v4(syn)), take}}},
        {"owner, flooded, holder lives: silence",
         invisible(owner),
         {{frame(flooded(v4(ack))), drop}, {frame(flooded(v4(rst))), drop}, {frame(flooded(v4(syn))), take}}},
        {"owner, forwarded, holder lives: silence", state(owner), {{frame(forwarded(v4(ack))), drop}}},
        {"owner, holder dead: the reset gets out", invisible(orphan), {{frame(flooded(v4(ack))), take}}},
        {"owner, holder dead, directed", state(orphan), {{frame(v4(ack)), take}, {frame(forwarded(v4(ack))), take}}},
        {"holder with the socket",
         state(has(holder)),
         {{frame(v4(ack)), take}, {frame(forwarded(v4(ack))), take}, {frame(v4(syn)), forward({1})}}},
        {"holder with the socket, flooded",
         invisible(has(holder)),
         {{frame(flooded(v4(ack))), take}, {frame(flooded(v4(syn))), drop}}},
        {"holder with the socket, IPv6", invisible(has(holder)), {{frame(flooded(v6(ack))), take}}},
        {"holder without the socket",
         state(holder),
         {{frame(v4(ack)), forward({1})}, {frame(forwarded(v4(ack))), drop}}},
        {"receiver only: copies to owner and holder",
         state(bystander),
         {{frame(v4(ack)), forward({1, 2})}, {frame(v4(syn)), forward({1})}}},
        {"ICMP error finds the socket", state(has(holder)), {{icmp_error(v4(), ip4(10, 0, 0, 1)), take}}},
        {"datagrams go by the table", state(holder), {{frame(udp(v4())), forward({1})}}},
        {"draining: connections only",
         state(draining),
         {{frame(v4(ack)), take}, {frame(v4(syn)), drop}, {frame(udp(v4())), drop}}},
        {"draining, flooded", invisible(draining), {{frame(flooded(v4(ack))), take}, {frame(flooded(v4())), drop}}},
        {"holder with the socket: later fragments follow the first",
         state(by_address(holder)),
         {{frame(later), forward({1})}, {frame(first), take}, {frame(later), take}}},
        {"draining: later fragments of a connection",
         state(by_address(draining)),
         {{frame(later), drop}, {frame(first), take}, {frame(later), take}}},
        {"draining: new ones to the new owner", state(draining_moved), {{frame(v4(syn)), forward({1})}}},
    };
}

/// What each role does with a new flow that comes by itself, and with one that a member forwarded, at each step.
std::vector<Fixture> move_fixtures() {
    std::vector<Fixture> out;
    struct Row {
        Step step;
        Outcome old_alone, old_forwarded, new_alone, new_forwarded, receiver;
    };
    const Row directed[] = {
        {Step::accept_forwarded, take, take, forward({1}), take, forward({1})},
        {Step::forward, forward({1}), take, take, take, forward({2})},
        {Step::take, forward({1}), drop, take, take, forward({2})},
        {Step::release, forward({1}), drop, take, take, forward({2})},
    };
    const Row flood[] = {
        {Step::accept_forwarded, take, take, drop, take, drop},
        {Step::forward, forward({1}), take, drop, take, drop},
        {Step::take, forward({1}), drop, take, take, drop},
        {Step::release, drop, drop, take, take, drop},
    };
    for (const bool is_invisible : {false, true}) {
        for (const Row& row : is_invisible ? flood : directed) {
            const auto alone = [&](std::uint16_t id) {
                Spec s = with(udp(v4()), [id](Spec& x) { x.id = id; });
                return frame(is_invisible ? flooded(s) : s);
            };
            const auto sent_on = [&](std::uint16_t id) {
                return frame(forwarded(with(udp(v4()), [id](Spec& x) { x.id = id; })));
            };
            const std::string name = std::string{is_invisible ? "flood" : "directed"} + ", step " +
                                     std::to_string(static_cast<int>(row.step));
            out.push_back({"old owner, " + name,
                           moving(row.step, is_invisible, 0, 1),
                           {{alone(1), row.old_alone}, {sent_on(2), row.old_forwarded}}});
            out.push_back({"new owner, " + name,
                           moving(row.step, is_invisible, 1, 0),
                           {{alone(1), row.new_alone}, {sent_on(2), row.new_forwarded}}});
            out.push_back({"third, " + name, moving(row.step, is_invisible, 1, 2), {{alone(1), row.receiver}}});
        }
    }
    const Bytes direct = frame(flooded(udp(v4()))), copy = frame(forwarded(udp(v4())));
    out.push_back({"copies, each datagram once",
                   moving(Step::take, true, 1, 0),
                   {{direct, take},
                    {copy, drop},
                    {copy, take},
                    {direct, drop},
                    {direct, take},
                    {direct, take},
                    {copy, drop},
                    {copy, drop},
                    {copy, take}}});
    out.push_back(
        {"copies after the old owner's last step", moving(Step::release, true, 1, 0), {{copy, take}, {direct, drop}}});
    out.push_back({"accepted early, its copy comes late", moving(Step::forward, true, 1, 0), {{copy, take}}});
    out.push_back({"a move: silence for segments nobody here knows",
                   moving(Step::release, true, 0, 1),
                   {{frame(flooded(v4(ack))), drop}}});
    return out;
}

std::vector<Fixture> flow_fixtures() {
    const auto tracked = [](Bucket bucket) {
        return [bucket](State& s) {
            s.rules = {Rule{{}, 6, 80, Key::port, Track::flow, 0}, Rule{{}, 17, 53, Key::port, Track::flow, 0}};
            s.bucket = bucket;
        };
    };
    const auto other_client = with(udp(v4()), [](Spec& s) { s.client_port = 5; });
    State held = state(tracked({0, 1, {}}));
    held.step = Step::accept_forwarded;
    State flood = invisible(tracked({0, 1, {}}));
    flood.step = Step::accept_forwarded;
    return {
        {"tracked, settled", state(tracked({0, 0, {}})), {{frame(udp(v4())), take}, {frame(v4(syn)), take}}},
        {"tracked, owner, holder first",
         state(tracked({0, 0, NodeSet{n1}})),
         {{frame(udp(v4())), forward({1})}, {frame(forwarded(udp(v4()))), take}, {frame(v4(ack)), forward({1})}}},
        {"tracked, flooded, owner waits for the holder",
         invisible(tracked({0, 0, NodeSet{n1}})),
         {{frame(flooded(udp(v4()))), drop}, {frame(forwarded(udp(v4()))), take}}},
        {"tracked, holder does not know it",
         state(tracked({1, 1, NodeSet{NodeId{0}}})),
         {{frame(udp(v4())), forward({1})}, {frame(v4(ack)), forward({1})}}},
        {"tracked, SYN accepted, then its segments",
         state(tracked({0, 0, NodeSet{n1}})),
         {{frame(v4(syn)), take}, {frame(v4(ack)), take}, {frame(forwarded(v4(ack))), take}}},
        {"tracked, two holders in turn",
         invisible(tracked({3, 3, NodeSet{NodeId{0}, n2}})),
         {{frame(flooded(other_client)), forward({2})}}},
    };
}

std::vector<Fixture> neighbour_fixtures() {
    const Mac none{};
    const Bytes request = arp(broadcast, client_mac, 1, client4, vip4);
    const Mac group{0x33, 0x33, 0xff, 0, 0, 0x64};
    Ip solicited{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0x64};
    const Bytes ns = neighbour(group, client_mac, 135, ip6(200), solicited, ip6(100), client_mac);
    const Bytes bare_ns = neighbour(group, client_mac, 135, ip6(200), solicited, ip6(100), none, false);
    const Bytes na = neighbour(own_mac, client_mac, 136, ip6(100), ip6(10), ip6(100), client_mac);
    const auto not_receiver = [](State& s) { s.receiver = false; };
    const auto closed = [](State& s) { s.lease = false; };
    const auto per_client = [](State& s) { s.receiver = false, s.arp_per_client = true; };
    const auto per_client_other = [](State& s) { s.arp_per_client = true, s.bucket = {1, 1, {}}; };
    return {
        {"receiver answers", state(), {{request, pass}, {ns, pass}}},
        {"others stay silent", state(not_receiver), {{request, drop}, {ns, drop}}},
        {"lease over: silence", state(closed), {{request, drop}, {ns, drop}}},
        {"invisible answers by itself", invisible(), {{request, answer}, {ns, answer}, {bare_ns, answer}}},
        {"invisible, lease over", invisible(closed), {{request, drop}, {ns, drop}}},
        {"claims are not believed",
         state(),
         {{arp(broadcast, client_mac, 2, vip4, client4), drop},
          {arp(broadcast, client_mac, 1, vip4, vip4), drop},
          {na, drop}}},
        {"other addresses",
         state(),
         {{arp(broadcast, client_mac, 1, client4, ip4(10, 0, 0, 10)), pass},
          {neighbour(group, client_mac, 135, ip6(200), solicited, ip6(10), client_mac), pass}}},
        {"one receiver per client", state(per_client), {{request, pass}}},
        {"one receiver per client, another's", state(per_client_other), {{request, drop}}},
    };
}

/// The key decides the bucket: only the bucket that the key's bytes name is mine. `around` that one: all go elsewhere.
void by_key(std::vector<Fixture>& out, const std::string& name, Key key, const std::vector<Bytes>& frames,
            std::uint16_t bucket) {
    for (const bool around : {false, true}) {
        State s;
        s.rules = {Rule{{}, 6, 80, Key::port, Track::socket, 0}, Rule{{}, 17, 53, Key::port, Track::none, 0}};
        for (Rule& rule : s.rules) {
            rule.key = key == Key::ip_id && rule.protocol == 6 ? Key::port : key;
        }
        s.only = around ? static_cast<std::uint16_t>(bucket ^ 1) : bucket;
        Fixture fixture{name + (around ? ", the bucket beside" : ", its bucket"), s, {}};
        for (const Bytes& bytes : frames) {
            fixture.shots.push_back({bytes, around ? forward({1}) : take});
        }
        out.push_back(std::move(fixture));
    }
}

std::vector<Fixture> key_fixtures() {
    std::vector<Fixture> out;
    for (const bool six : {false, true}) {
        const Spec plain = six ? v6() : v4();
        const Ip client = plain.client, router = six ? ip6(1) : ip4(10, 0, 0, 1);
        const std::string family = six ? "IPv6, " : "IPv4, ";
        const auto each = [&](Spec s) { // in every wrapping
            return std::vector<Bytes>{frame(s), frame(with(s, [](Spec& x) { x.vlans = 1; })),
                                      frame(with(s, [](Spec& x) { x.vlans = 2; })), frame(with(s, [&](Spec& x) {
                                          x.option_words = six ? 0 : 7;
                                          x.extensions = {0, 60, 43, 51};
                                      }))};
        };
        std::vector<Bytes> both = each(plain);
        for (const auto& bytes : each(udp(plain))) {
            both.push_back(bytes);
        }
        both.push_back(icmp_error(plain, router));
        both.push_back(icmp_error(udp(plain), router));
        both.push_back(frame(with(udp(plain), [](Spec& s) { s.more_fragments = true, s.id = 9; })));
        both.push_back(frame(with(udp(plain), [](Spec& s) { s.fragment = 3, s.id = 9; })));
        by_key(out, family + "on_port", Key::port, both, bucket_of(hash_seed, Key::port, client, 40000, 0));
        const auto by_address = bucket_of(hash_seed, Key::address, client, 0, 0);
        by_key(out, family + "on_addr", Key::address, both, by_address);
        by_key(out, family + "echo under on_port", Key::port, each(echo(plain)), by_address);
    }
    const auto numbered = with(udp(v4()), [](Spec& s) { s.id = 0x1234; });
    by_key(out, "on_ipid", Key::ip_id,
           {frame(numbered), frame(with(numbered, [](Spec& s) { s.client_port = 7, s.client = ip4(10, 0, 0, 201); })),
            frame(with(numbered, [](Spec& s) { s.fragment = 3; }))},
           bucket_of(hash_seed, Key::ip_id, client4, 0, 0x1234));
    by_key(out, "on_ipid without an id", Key::ip_id,
           {frame(with(numbered, [](Spec& s) { s.id = 0, s.do_not_fragment = true; }))},
           bucket_of(hash_seed, Key::port, client4, 40000, 0));
    by_key(out, "on_ipid, IPv6", Key::ip_id, {frame(udp(v6()))}, bucket_of(hash_seed, Key::port, ip6(200), 40000, 0));
    return out;
}

/// Rules of one address, of any port, of groups with tables of their own.
std::vector<Fixture> rule_fixtures() {
    const auto port = [](Spec s, std::uint16_t number) { return frame(with(s, [&](Spec& x) { x.port = number; })); };
    const auto one_address = [](State& s) { s.rules = {Rule{1, 6, 80, Key::port, Track::socket, 0}}; };
    const auto any_port = [](State& s) {
        s.rules = {Rule{{}, 6, 80, Key::port, Track::socket, 0}, Rule{1, 6, 443, Key::address, Track::none, 2},
                   Rule{{}, 6, 0, Key::port, Track::socket, 1}, Rule{{}, 6, 443, Key::port, Track::socket, 0}};
        s.more_groups = {Bucket{1, 1, {}}, Bucket{2, 2, {}}};
    };
    return {
        {"a rule of one address", state(one_address), {{frame(v4()), drop}, {frame(v6()), take}}},
        {"the first rule that matches wins, each group has its table",
         state(any_port),
         {{port(v4(), 80), take},
          {port(v4(), 8080), forward({1})},
          {port(v4(), 443), forward({1})},
          {port(v6(), 443), forward({2})},
          {port(v6(), 80), take},
          {frame(udp(v4())), drop}}},
    };
}

std::vector<Fixture> all() {
    std::vector<Fixture> out;
    for (auto group : {settled_fixtures(), header_fixtures(), key_fixtures(), rule_fixtures(), fragment_fixtures(),
                       transition_fixtures(), move_fixtures(), flow_fixtures(), neighbour_fixtures()}) {
        out.insert(out.end(), group.begin(), group.end());
    }
    return out;
}

class Namespace : public testing::Environment {
public:
    void SetUp() override { ASSERT_EQ(prepare_namespace(), "") << "this command failed"; }
};
[[maybe_unused]] const auto* environment = testing::AddGlobalTestEnvironment(new Namespace);

class Fixtures : public testing::TestWithParam<std::size_t> {};

TEST_P(Fixtures, AllBackEndsAgree) {
    const Fixture fixture = all()[GetParam()];
    SCOPED_TRACE(fixture.name);
    std::optional<Connection> connection4, connection6;
    if (fixture.state.socket) {
        connection4.emplace(false);
        connection6.emplace(true);
    }
    for (auto* make : {direct_judge, nfqueue_judge, tc_judge}) {
        const auto judge = make(fixture.state);
        SCOPED_TRACE(judge->name());
        for (std::size_t i = 0; i < fixture.shots.size(); ++i) {
            EXPECT_EQ(judge->judge(fixture.shots[i].frame), fixture.shots[i].expected) << "frame " << i;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Packets, Fixtures, testing::Range<std::size_t>(0, all().size()));

// What XDP drops spares the whole stack; what it must leave to tc needs a socket, the clock or a memory.
TEST(Xdp, DropsEarlyWhatIsSurelyAnothers) {
    const auto first = with(udp(v4()), [](Spec& s) { s.more_fragments = true; });
    const auto extended = with(v6(), [](Spec& s) { s.extensions = {60}; });
    const auto options = with(v4(), [](Spec& s) { s.option_words = 10; });
    const auto tagged = with(v4(), [](Spec& s) { s.vlans = 2; });
    const auto judge = xdp_judge(invisible(others));
    for (const Spec& spec : {v4(), v4(ack), udp(v4()), echo(v4()), v6(), udp(v6()), echo(v6()), options, tagged}) {
        EXPECT_EQ(judge->judge(frame(flooded(spec))), drop);
    }
    EXPECT_EQ(judge->stats(0).rejected, 9u);
    for (const Bytes& bytes :
         {frame(v4()), frame(flooded(first)), frame(flooded(extended)), icmp_error(flooded(v4()), ip4(10, 0, 0, 1)),
          frame(flooded(with(v4(), [](Spec& s) { s.port = 81; }))), arp(broadcast, client_mac, 1, client4, vip4)}) {
        EXPECT_EQ(judge->judge(bytes), pass);
    }
    for (const State& s : {invisible(), invisible([](State& x) {
                               x.bucket = {1, 1, NodeSet{NodeId{0}}};
                           }),
                           invisible([](State& x) {
                               x.bucket = {1, 1, {}}, x.draining = true;
                           })}) {
        EXPECT_EQ(xdp_judge(s)->judge(frame(flooded(v4(ack)))), pass);
    }
}

TEST(SynCookies, WithoutAKernelTheNodeThatTookTheSynTakesItsAck) {
    State s;
    s.delivery = Delivery::invisible;
    s.bucket = {0, 0, NodeSet{n1}};
    const auto judge = direct_judge(s);
    const auto segment = [](std::uint16_t port, std::uint8_t flags) {
        return frame(with(v4(), [&](Spec& x) {
            x.destination = vmac4;
            x.client_port = port;
            x.tcp_flags = flags;
        }));
    };
    EXPECT_EQ(judge->judge(segment(41000, ack)), (Outcome{Fate::drop, {}})) << "a living holder may have it";
    EXPECT_EQ(judge->judge(segment(41000, syn)), (Outcome{Fate::take, {}}));
    EXPECT_EQ(judge->judge(segment(41000, ack)), (Outcome{Fate::take, {}}));
    EXPECT_EQ(judge->judge(segment(41001, ack)), (Outcome{Fate::drop, {}}));
}

TEST(Statistics, CountWhatHappened) {
    for (auto* make : {direct_judge, tc_judge}) {
        State s = state(others);
        auto judge = make(s);
        SCOPED_TRACE(judge->name());
        (void)judge->judge(frame(v4()));
        (void)judge->judge(frame(forwarded(v4())));
        (void)judge->judge(frame(with(v4(), [](Spec& x) { x.port = 81; })));
        (void)judge->judge(frame(with(udp(v4()), [](Spec& x) { x.fragment = 3; })));
        const GroupStats got = judge->stats(0);
        EXPECT_EQ(got.forwarded, 1u);
        EXPECT_EQ(got.rejected, 3u);
        EXPECT_EQ(got.no_rule, 1u);
        EXPECT_EQ(got.fragments_dropped, 1u);
        EXPECT_EQ(got.accepted, 0u);
        s.bucket = {0, 0, NodeSet{n1}};
        s.lease = false;
        judge = make(s);
        (void)judge->judge(frame(v4()));
        EXPECT_EQ(judge->stats(0).lease_closed, 1u);
        EXPECT_EQ(judge->stats(0).in_transition, 1u);
        s = state([](State& x) {
            x.rules = {Rule{{}, 6, 80, Key::port, Track::socket, 0}, Rule{{}, 17, 53, Key::port, Track::none, 1}};
            x.more_groups = {Bucket{1, 1, {}}};
        });
        judge = make(s);
        (void)judge->judge(frame(v4()));
        (void)judge->judge(frame(udp(v4())));
        EXPECT_EQ(judge->stats(0).accepted, 1u);
        EXPECT_EQ(judge->stats(0).forwarded, 0u);
        EXPECT_EQ(judge->stats(1).accepted, 0u);
        EXPECT_EQ(judge->stats(1).forwarded, 1u);
    }
}

} // namespace
} // namespace stead::shim::test

// SPDX-License-Identifier: Apache-2.0
#include "frames.hpp"

namespace stead::shim::test {

namespace {

bool is_v4(const Ip& ip) { return ip[10] == 0xff && ip[11] == 0xff && ip[0] == 0; }

void put16(Bytes& out, unsigned value) {
    out.push_back(static_cast<std::uint8_t>(value >> 8));
    out.push_back(static_cast<std::uint8_t>(value));
}

void put(Bytes& out, const Bytes& more) { out.insert(out.end(), more.begin(), more.end()); }

template <class Array>
void put_array(Bytes& out, const Array& more, std::size_t from = 0) {
    out.insert(out.end(), more.begin() + static_cast<std::ptrdiff_t>(from), more.end());
}

std::uint16_t checksum(const Bytes& bytes, std::uint32_t sum = 0) {
    for (std::size_t i = 0; i < bytes.size(); i += 2) {
        sum += static_cast<std::uint32_t>(bytes[i] << 8) + (i + 1 < bytes.size() ? bytes[i + 1] : 0u);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
}

Bytes transport(const Spec& s) {
    Bytes out;
    if (s.protocol == 6) {
        put16(out, s.client_port);
        put16(out, s.port);
        put(out, {0, 0, 0, 1, 0, 0, 0, 1, 0x50, s.tcp_flags, 0x10, 0, 0x12, 0x34, 0, 0});
    } else if (s.protocol == 17) {
        put16(out, s.client_port);
        put16(out, s.port);
        put16(out, static_cast<unsigned>(8 + s.payload.size()));
        put16(out, 0xabcd);
    } else {
        put(out, {s.icmp_type, 0, 0x11, 0x22, 0, 7, 0, 1});
    }
    put(out, s.payload);
    return out;
}

Bytes ip4_packet(const Spec& s, const Ip& from, const Ip& to, std::uint8_t protocol, const Bytes& body) {
    Bytes out;
    out.push_back(static_cast<std::uint8_t>(0x45 + s.option_words));
    out.push_back(0);
    put16(out, static_cast<unsigned>(20 + 4 * s.option_words + static_cast<int>(body.size())));
    put16(out, s.id);
    put16(out, static_cast<unsigned>(s.fragment | (s.more_fragments ? 0x2000 : 0) | (s.do_not_fragment ? 0x4000 : 0)));
    put(out, {64, protocol, 0, 0});
    put_array(out, from, 12);
    put_array(out, to, 12);
    for (int i = 0; i < s.option_words; ++i) {
        put(out, {1, 1, 1, 1});
    }
    const std::uint16_t sum = checksum(out);
    out[10] = static_cast<std::uint8_t>(sum >> 8);
    out[11] = static_cast<std::uint8_t>(sum);
    put(out, body);
    return out;
}

Bytes ip6_packet(const Spec& s, const Ip& from, const Ip& to, std::uint8_t protocol, const Bytes& body) {
    std::vector<std::uint8_t> chain = s.extensions;
    if (s.fragment != 0 || s.more_fragments) {
        chain.push_back(44);
    }
    chain.push_back(protocol);
    Bytes rest;
    for (std::size_t i = 0; i + 1 < chain.size(); ++i) {
        const std::uint8_t next = chain[i + 1];
        if (chain[i] == 44) {
            put(rest, {next, 0});
            put16(rest, static_cast<unsigned>(s.fragment * 8 + (s.more_fragments ? 1 : 0)));
            put(rest, {0, 0});
            put16(rest, s.id);
        } else if (chain[i] == 51) {
            put(rest, {next, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
        } else {
            put(rest, {next, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
        }
    }
    put(rest, body);
    Bytes out{0x60, 0, 0, 0};
    put16(out, static_cast<unsigned>(rest.size()));
    put(out, {chain.front(), 64});
    put_array(out, from);
    put_array(out, to);
    put(out, rest);
    return out;
}

Bytes ethernet(const Mac& destination, const Mac& source, int vlans, unsigned type) {
    Bytes out;
    put_array(out, destination);
    put_array(out, source);
    for (int i = 0; i < vlans; ++i) {
        put16(out, i == 0 && vlans == 2 ? 0x88a8 : 0x8100);
        put16(out, static_cast<unsigned>(100 + i));
    }
    put16(out, type);
    return out;
}

Bytes ip_packet(const Spec& s, const Ip& from, const Ip& to, std::uint8_t protocol, const Bytes& body) {
    return is_v4(from) ? ip4_packet(s, from, to, protocol, body) : ip6_packet(s, from, to, protocol, body);
}

} // namespace

Ip ip4(int a, int b, int c, int d) {
    Ip ip{};
    ip[10] = ip[11] = 0xff;
    ip[12] = static_cast<std::uint8_t>(a);
    ip[13] = static_cast<std::uint8_t>(b);
    ip[14] = static_cast<std::uint8_t>(c);
    ip[15] = static_cast<std::uint8_t>(d);
    return ip;
}

Ip ip6(std::uint8_t last) {
    Ip ip{};
    ip[0] = 0xfd;
    ip[15] = last;
    return ip;
}

Bytes frame(const Spec& s) {
    Bytes out = ethernet(s.destination, s.source, s.vlans, is_v4(s.client) ? 0x0800 : 0x86dd);
    put(out, ip_packet(s, s.client, s.vip, s.protocol, transport(s)));
    return out;
}

Bytes icmp_error(const Spec& s, const Ip& router) {
    Spec inner = s;
    std::swap(inner.client_port, inner.port);
    Bytes quoted = ip_packet(inner, s.vip, s.client, s.protocol, transport(inner));
    quoted.resize(quoted.size() - s.payload.size());
    const bool v4 = is_v4(s.client);
    Bytes body = v4 ? Bytes{3, 4, 0, 0, 0, 0, 5, 0xdc} : Bytes{2, 0, 0, 0, 0, 0, 5, 0xdc};
    put(body, quoted);
    Spec outer;
    outer.id = 77;
    Bytes out = ethernet(s.destination, s.source, 0, v4 ? 0x0800 : 0x86dd);
    put(out, ip_packet(outer, router, s.vip, v4 ? 1 : 58, body));
    return out;
}

Bytes cut(Bytes whole, std::size_t size) {
    whole.resize(size);
    return whole;
}

Bytes arp(const Mac& destination, const Mac& source, std::uint16_t operation, const Ip& sender, const Ip& target) {
    Bytes out = ethernet(destination, source, 0, 0x0806);
    put(out, {0, 1, 8, 0, 6, 4});
    put16(out, operation);
    put_array(out, source);
    put_array(out, sender, 12);
    put_array(out, Mac{});
    put_array(out, target, 12);
    return out;
}

Bytes neighbour(const Mac& destination, const Mac& source, std::uint8_t type, const Ip& from, const Ip& to,
                const Ip& target, const Mac& option, bool with_option) {
    Bytes body{type, 0, 0, 0, static_cast<std::uint8_t>(type == 136 ? 0x60 : 0), 0, 0, 0};
    put_array(body, target);
    if (with_option) {
        put(body, {static_cast<std::uint8_t>(type == 136 ? 2 : 1), 1});
        put_array(body, option);
    }
    Bytes pseudo;
    put_array(pseudo, from);
    put_array(pseudo, to);
    put(pseudo, {0, 0, 0, static_cast<std::uint8_t>(body.size()), 0, 0, 0, 58});
    put(pseudo, body);
    const std::uint16_t sum = checksum(pseudo);
    body[2] = static_cast<std::uint8_t>(sum >> 8);
    body[3] = static_cast<std::uint8_t>(sum);
    Bytes out = ethernet(destination, source, 0, 0x86dd);
    Spec s;
    Bytes packet = ip6_packet(s, from, to, 58, body);
    packet[7] = 255;
    put(out, packet);
    return out;
}

} // namespace stead::shim::test

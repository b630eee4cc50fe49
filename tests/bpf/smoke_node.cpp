// SPDX-License-Identifier: Apache-2.0
// One node of a small farm with real packets: smoke_node BACKEND DELIVERY SELF NODES MAC... ; opens the filter on eth0
// with 10.0.0.100, owns every bucket whose number modulo NODES is its own, echoes UDP port 53 with its name.
#include <stead/base/time.hpp>
#include <stead/filter/packet_filter.hpp>

#include <arpa/inet.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

using namespace stead;
using namespace stead::shim;

namespace {
Ip mapped(int last) { return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, static_cast<std::uint8_t>(last)}; }
} // namespace

int main(int argc, char** argv) {
    if (argc < 6) {
        return 2;
    }
    const int self = std::atoi(argv[3]), nodes = std::atoi(argv[4]);
    FilterOptions o;
    o.module_id = 9;
    o.self = NodeId(static_cast<std::uint8_t>(self));
    o.backend = std::string{argv[1]} == "nfqueue" ? Backend::nfqueue : Backend::ebpf;
    o.seed = {11, 12};
    o.duplicate_window = milliseconds{100};
    Vip vip;
    vip.address = mapped(100);
    vip.ifindex = if_nametoindex("eth0");
    vip.delivery = std::string{argv[2]} == "invisible" ? Delivery::invisible : Delivery::directed;
    vip.vmac = {0x5a, 0xfe, 10, 0, 0, 100};
    o.vips.push_back(vip);
    o.rules = {Rule{{}, 17, 53, Key::port, Track::none, 0}, Rule{{}, 6, 80, Key::port, Track::socket, 0}};
    auto filter = PacketFilter::open(o);
    if (!filter) {
        std::fprintf(stderr, "%s\n", filter.error().text().c_str());
        return 1;
    }
    std::vector<Bucket> table(buckets);
    std::vector<Member> members;
    GroupTable group;
    for (std::size_t i = 0; i < table.size(); ++i) {
        table[i].owner = table[i].next = static_cast<std::uint8_t>(i % static_cast<std::size_t>(nodes));
    }
    for (int i = 0; i < nodes && 5 + i < argc; ++i) {
        Member m{NodeId(static_cast<std::uint8_t>(i)), vip.ifindex, {}, {mapped(10 + i)}};
        unsigned b[6]{};
        std::sscanf(argv[5 + i], "%x:%x:%x:%x:%x:%x", b, b + 1, b + 2, b + 3, b + 4, b + 5);
        for (std::size_t k = 0; k < 6; ++k) {
            m.mac[k] = static_cast<std::uint8_t>(b[k]);
        }
        members.push_back(m);
        group.live.insert(m.node);
    }
    group.table = table;
    if (!(*filter)->set_table(group) || !(*filter)->set_members(members) ||
        !(*filter)->set_receiver(0, self == 0 || vip.delivery == Delivery::invisible)) {
        return 1;
    }
    std::fprintf(stderr, "%d: %s; audit '%s'\n", self, (*filter)->backend_note().c_str(),
                 (*filter)->audit().missing.c_str());
    const int fd = ::socket(AF_INET, SOCK_DGRAM, 0);
    sockaddr_in here{};
    here.sin_family = AF_INET;
    here.sin_port = htons(53);
    here.sin_addr.s_addr = inet_addr("10.0.0.100");
    if (::bind(fd, reinterpret_cast<sockaddr*>(&here), sizeof(here)) != 0) {
        return 1;
    }
    timeval patience{0, 100000};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    (*filter)->write_lease(static_cast<std::uint64_t>(to_ns(BootClock::now())) + 1'000'000'000);
    std::puts("ready");
    std::fflush(stdout);
    for (;;) {
        (*filter)->write_lease(static_cast<std::uint64_t>(to_ns(BootClock::now())) + 1'000'000'000);
        char buffer[2048];
        sockaddr_in from{};
        socklen_t size = sizeof(from);
        const ssize_t got = ::recvfrom(fd, buffer, sizeof(buffer), 0, reinterpret_cast<sockaddr*>(&from), &size);
        if (got > 0) {
            const std::string answer = std::string{buffer, static_cast<std::size_t>(got)} + " " + std::to_string(self);
            (void)::sendto(fd, answer.data(), answer.size(), 0, reinterpret_cast<sockaddr*>(&from), size);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
// Says whether the farm answered as its table says, computed here from the seed, the names and the powers alone.
// usage: stead-owners SEED_FILE on_addr|on_port NODE=POWER... < lines of "address port name answers"
// The nodes in the order of the cluster (by name). Prints {"flows":N,"elsewhere":M}; names the first flows elsewhere.
#include <stead/base/files.hpp>
#include <stead/farm/rendezvous.hpp>
#include <stead/filter/packet_filter.hpp>

#include <arpa/inet.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

namespace {

using namespace stead;

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "stead-owners: %s\n", what.c_str());
    std::exit(2);
}

std::array<std::uint64_t, 2> read_seed(const char* file) {
    const auto bytes = read_file(file, 4096);
    if (!bytes || bytes->size() != 16) {
        fail(std::string{file} + ": not a seed of 16 bytes");
    }
    std::array<std::uint64_t, 2> seed{};
    for (std::size_t i = 0; i < 16; ++i) {
        seed[i / 8] = seed[i / 8] << 8U | static_cast<unsigned char>((*bytes)[i]);
    }
    return seed;
}

shim::Ip parse_ip(const std::string& text) {
    shim::Ip ip{};
    if (::inet_pton(AF_INET6, text.c_str(), ip.data()) == 1) {
        return ip;
    }
    ip[10] = ip[11] = 0xff;
    if (::inet_pton(AF_INET, text.c_str(), ip.data() + 12) != 1) {
        fail("'" + text + "' is no address");
    }
    return ip;
}

} // namespace

int main(int argc, char** argv) {
    if (argc < 4) {
        fail("usage: stead-owners SEED_FILE on_addr|on_port NODE=POWER... < flows");
    }
    const auto seed = read_seed(argv[1]);
    const shim::Key key = std::strcmp(argv[2], "on_addr") == 0 ? shim::Key::address : shim::Key::port;
    farm::Rendezvous rendezvous(seed, shim::buckets);
    farm::Powers powers{};
    std::vector<std::string> names;
    for (int i = 3; i < argc; ++i) {
        const std::string text = argv[i];
        const std::size_t equals = text.find('=');
        names.push_back(text.substr(0, equals));
        powers[names.size() - 1] = static_cast<std::uint32_t>(std::strtoul(text.c_str() + equals + 1, nullptr, 10));
        rendezvous.set_name(NodeId(static_cast<std::uint8_t>(names.size() - 1)), names.back());
    }
    const std::vector<std::uint8_t> owner = rendezvous.owners(powers);
    std::string address, name;
    unsigned port = 0, answers = 0, flows = 0, elsewhere = 0;
    while (std::cin >> address >> port >> name >> answers) {
        const auto bucket = shim::bucket_of(seed, key, parse_ip(address), static_cast<std::uint16_t>(port), 0);
        ++flows;
        if (owner[bucket] >= names.size() || names[owner[bucket]] != name) {
            if (++elsewhere <= 5) {
                std::fprintf(stderr, "%s port %u, bucket %u: answered by %s\n", address.c_str(), port, bucket,
                             name.c_str());
            }
        }
    }
    std::printf("{\"flows\":%u,\"elsewhere\":%u}\n", flows, elsewhere);
    return flows > 0 && elsewhere == 0 ? 0 : 1;
}

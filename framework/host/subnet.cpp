// SPDX-License-Identifier: Apache-2.0
#include "subnet.hpp"

#include <arpa/inet.h>

#include <charconv>

namespace stead::host {
namespace {

using Bytes = std::array<std::uint8_t, 16>;

Bytes cut(Bytes bytes, unsigned prefix, bool fill) {
    for (unsigned bit = prefix; bit < 8 * bytes.size(); ++bit) {
        const auto mask = static_cast<std::uint8_t>(0x80U >> (bit % 8));
        bytes[bit / 8] = static_cast<std::uint8_t>(fill ? bytes[bit / 8] | mask : bytes[bit / 8] & ~mask);
    }
    return bytes;
}

std::string text_of(int family, const Bytes& bytes) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    ::inet_ntop(family, bytes.data(), text.data(), text.size());
    return text.data();
}

} // namespace

bool Subnet::holds(const Subnet& address) const {
    return family == address.family && cut(address.bytes, prefix, false) == cut(bytes, prefix, false);
}

bool Subnet::single() const { return prefix == (family == AF_INET ? 32U : 128U); }

std::string Subnet::network() const { return text_of(family, cut(bytes, prefix, false)); }

std::string Subnet::last() const { return text_of(family, cut(bytes, prefix, true)); }

std::optional<Subnet> parse_subnet(const std::string& text) {
    const auto slash = text.find('/');
    const std::string address = text.substr(0, slash);
    Subnet subnet;
    subnet.family = address.find(':') == std::string::npos ? AF_INET : AF_INET6;
    const unsigned bits = subnet.family == AF_INET ? 32 : 128;
    subnet.prefix = bits;
    if (::inet_pton(subnet.family, address.c_str(), subnet.bytes.data()) != 1) {
        return std::nullopt;
    }
    if (slash != std::string::npos) {
        std::from_chars(text.data() + slash + 1, text.data() + text.size(), subnet.prefix);
    }
    return subnet.prefix <= bits ? std::optional{subnet} : std::nullopt;
}

} // namespace stead::host

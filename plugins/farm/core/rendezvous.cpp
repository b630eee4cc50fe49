// SPDX-License-Identifier: Apache-2.0
#include <stead/base/assert.hpp>
#include <stead/farm/rendezvous.hpp>

#include <bit>

namespace stead::farm {
namespace {

constexpr int fraction_bits = 25;
constexpr int segment_bits = 10;

/// log2 of a number in [1, 2) given with 31 fraction bits, by squaring: one result bit per step.
constexpr std::uint32_t log2_by_squaring(std::uint64_t x) {
    std::uint32_t result = 0;
    for (int bit = 0; bit < 31; ++bit) {
        x = (x * x) >> 31;
        result <<= 1;
        if (x >= (std::uint64_t{2} << 31)) {
            x >>= 1;
            result |= 1;
        }
    }
    return result; // 31 fraction bits
}

constexpr auto make_log2_table() {
    std::array<std::uint32_t, (1u << segment_bits) + 1> table{};
    for (std::uint64_t i = 0; i < (1u << segment_bits); ++i) {
        table[i] = log2_by_squaring((std::uint64_t{1} << 31) + (i << (31 - segment_bits)));
    }
    table[1u << segment_bits] = 1u << 31;
    return table;
}
constexpr auto log2_table = make_log2_table();

/// A full-avalanche mix of 64 bits (two multiply-xorshift rounds round a second secret word).
constexpr std::uint64_t mix(std::uint64_t x, std::uint64_t secret) noexcept {
    x ^= x >> 32;
    x *= 0x9fb21c651e98df25u;
    x ^= (x >> 29) ^ secret;
    x *= 0xd6e8feb86659fd93u;
    return x ^ (x >> 32);
}

struct Sip {
    std::uint64_t a, b, c, d;
    void round() noexcept {
        a += b;
        b = std::rotl(b, 13) ^ a;
        a = std::rotl(a, 32);
        c += d;
        d = std::rotl(d, 16) ^ c;
        a += d;
        d = std::rotl(d, 21) ^ a;
        c += b;
        b = std::rotl(b, 17) ^ c;
        c = std::rotl(c, 32);
    }
    void word(std::uint64_t m) noexcept {
        d ^= m;
        round();
        round();
        a ^= m;
    }
};

} // namespace

std::uint64_t sip_hash(const std::array<std::uint64_t, 2>& key, std::span<const char> text) noexcept {
    Sip s{key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du, key[0] ^ 0x6c7967656e657261u,
          key[1] ^ 0x7465646279746573u};
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        word |= std::uint64_t{static_cast<unsigned char>(text[i])} << (8 * (i % 8));
        if (i % 8 == 7) {
            s.word(word);
            word = 0;
        }
    }
    s.word(word | std::uint64_t{text.size()} << 56);
    s.c ^= 0xff;
    for (int i = 0; i < 4; ++i) {
        s.round();
    }
    return s.a ^ s.b ^ s.c ^ s.d;
}

std::uint32_t minus_log2(std::uint64_t u) noexcept {
    if (u == 0) {
        return 64u << fraction_bits;
    }
    const int shift = std::countl_zero(u);
    const std::uint64_t mantissa = (u << shift) << 1; // the fraction of [1, 2), 64 bits
    const auto segment = static_cast<std::size_t>(mantissa >> (64 - segment_bits));
    const std::uint64_t rest = (mantissa << segment_bits) >> 32;
    const std::uint64_t low = log2_table[segment];
    const std::uint64_t log2 = low + (((log2_table[segment + 1] - low) * rest) >> 32); // 31 fraction bits
    const auto integer = static_cast<std::uint64_t>(shift + 1) << 31;
    return static_cast<std::uint32_t>((integer - log2) >> (31 - fraction_bits));
}

Rendezvous::Rendezvous(std::array<std::uint64_t, 2> seed, std::uint32_t buckets) : seed_(seed), buckets_(buckets) {}

void Rendezvous::set_name(NodeId node, const std::string& name) {
    if (names_[index(node)] == name) {
        return;
    }
    names_[index(node)] = name;
    const std::string second = name + '\1';
    const std::uint64_t start = sip_hash(seed_, name);
    const std::uint64_t secret = sip_hash(seed_, second);
    auto& cost = cost_[index(node)];
    cost.resize(buckets_);
    for (std::uint32_t bucket = 0; bucket < buckets_; ++bucket) {
        cost[bucket] = minus_log2(mix(start + bucket * 0x9e3779b97f4a7c15u, secret));
    }
}

std::vector<std::uint8_t> Rendezvous::owners(const Powers& powers) const {
    std::vector<std::uint8_t> owner(buckets_, no_owner);
    std::vector<std::uint64_t> best(buckets_);
    std::uint64_t best_power_of[256]{}; // power of the node that holds `best`
    for (std::size_t node = 0; node < powers.size(); ++node) {
        const std::uint64_t power = powers[node];
        if (power == 0) {
            continue;
        }
        STEAD_ASSERT(cost_[node].size() == buckets_); // set_name first
        best_power_of[node] = power;
        const auto& cost = cost_[node];
        for (std::uint32_t bucket = 0; bucket < buckets_; ++bucket) {
            // cost / power < best / best_power, without division. Nodes ascend by name, so a tie keeps the lower one.
            const std::uint8_t holder = owner[bucket];
            if (holder == no_owner || cost[bucket] * best_power_of[holder] < best[bucket] * power) {
                owner[bucket] = static_cast<std::uint8_t>(node);
                best[bucket] = cost[bucket];
            }
        }
    }
    return owner;
}

std::uint8_t Rendezvous::choose(const std::string& subject, NodeSet candidates) const {
    std::uint8_t chosen = no_owner;
    std::uint64_t highest = 0;
    for (const NodeId node : candidates) {
        const std::uint64_t score = sip_hash(seed_, subject + '\2' + names_[index(node)]);
        if (chosen == no_owner || score > highest) {
            chosen = index(node);
            highest = score;
        }
    }
    return chosen;
}

} // namespace stead::farm

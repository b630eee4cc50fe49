// SPDX-License-Identifier: Apache-2.0
#include "farm_model.hpp"

#include <stead/shim/hash.h>

#include <arpa/inet.h>

#include <cstring>

namespace stead::shim {

namespace {
bool is_v6(const std::uint32_t* words) {
    return words[0] != 0 || words[1] != 0 || words[2] != STEAD_MAPPED_BE;
}
} // namespace

std::uint16_t bucket_of(const std::array<std::uint64_t, 2>& seed, Key key, const Ip& client, std::uint16_t client_port,
                        std::uint16_t ip_id) noexcept {
    std::uint32_t words[4];
    std::memcpy(words, client.data(), 16);
    const __u64 raw_seed[2] = {seed[0], seed[1]};
    return stead_bucket(raw_seed, static_cast<std::uint8_t>(key), is_v6(words) ? 1 : 0, words,
                        htons(key == Key::ip_id ? ip_id : client_port));
}

std::uint16_t bucket_of_flow(const FarmModel& model, const stead_rule& rule, const void* client16,
                             std::uint16_t client_port_be) {
    std::uint32_t words[4];
    std::memcpy(words, client16, 16);
    const std::uint8_t key = rule.key == STEAD_KEY_ADDRESS ? STEAD_KEY_ADDRESS : STEAD_KEY_PORT;
    return stead_bucket(model.config.seed, key, is_v6(words) ? 1 : 0, words, client_port_be);
}

} // namespace stead::shim

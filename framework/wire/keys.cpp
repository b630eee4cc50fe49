// SPDX-License-Identifier: Apache-2.0
#include <stead/wire/keys.hpp>

#include <stead/base/assert.hpp>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

namespace stead::wire {
namespace {

DerivedKey hmac(const void* key, std::size_t size, std::string_view text) {
    DerivedKey out{};
    unsigned length = 0;
    const auto* made = HMAC(EVP_sha256(), key, static_cast<int>(size),
                            reinterpret_cast<const unsigned char*>(text.data()), text.size(), out.data(), &length);
    STEAD_ASSERT(made != nullptr && length == out.size());
    return out;
}

DerivedKey key_digest(std::string_view cluster_key) { return derive("stead key id v1", cluster_key, "name"); }

} // namespace

DerivedKey expand(const DerivedKey& from, std::string_view info) {
    std::string block{info};
    block.push_back('\x01');
    return hmac(from.data(), from.size(), block);
}

DerivedKey derive(std::string_view salt, std::string_view input_key, std::string_view info) {
    return expand(hmac(salt.data(), salt.size(), input_key), info);
}

std::string key_name(std::string_view cluster_key) {
    static constexpr char digits[] = "0123456789abcdef";
    const DerivedKey digest = key_digest(cluster_key);
    std::string name;
    for (std::size_t i = 0; i < 4; ++i) {
        name.push_back(digits[digest[i] >> 4]);
        name.push_back(digits[digest[i] & 15]);
    }
    return name;
}

std::uint8_t key_byte(std::string_view cluster_key) { return key_digest(cluster_key)[0]; }

SessionId new_session() {
    SessionId session;
    while (session.is_zero()) {
        STEAD_ASSERT(RAND_bytes(reinterpret_cast<unsigned char*>(&session), sizeof session) == 1);
    }
    return session;
}

} // namespace stead::wire

// SPDX-License-Identifier: Apache-2.0
#include <stead/wire/keys.hpp>
#include <stead/wire/sealed.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <chrono>
#include <numeric>

namespace stead::wire {
namespace {

using std::chrono::seconds;

const std::string key_a(32, 'a');
const std::string key_b(32, 'b');
const Place place{0x1122334455667788, GroupId{3}};
const SessionId session_1{1, 11};
const SessionId session_2{2, 22};
constexpr LanId lan{0};

struct Pair {
    Sealer sealer{place, NodeId{1}, session_1, key_a};
    Opener opener{place, NodeId{2}, session_2, NodeSet{NodeId{1}, NodeId{2}}, {key_a}};
    Instant now{seconds{100}};

    std::vector<std::uint8_t> sealed(std::string_view text, LanId on = lan) {
        const Bytes out = sealer.seal(on, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
        return {out.begin(), out.end()};
    }
    Opened open(const std::vector<std::uint8_t>& bytes, LanId on = lan) { return opener.open(now, on, bytes); }
};

std::string text_of(const Opened& opened) { return {opened.payload.begin(), opened.payload.end()}; }

TEST(Keys, DerivationIsHkdfSha256) {
    const std::string salt = "salt";
    const std::string info = "info";
    DerivedKey expected{};
    EVP_KDF* kdf = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
    EVP_KDF_CTX* context = EVP_KDF_CTX_new(kdf);
    char digest[] = "SHA256";
    const std::array<OSSL_PARAM, 5> parameters{
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, const_cast<char*>(key_a.data()), key_a.size()),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, const_cast<char*>(salt.data()), salt.size()),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, const_cast<char*>(info.data()), info.size()),
        OSSL_PARAM_construct_end()};
    ASSERT_EQ(EVP_KDF_derive(context, expected.data(), expected.size(), parameters.data()), 1);
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    EXPECT_EQ(derive(salt, key_a, info), expected);
}

TEST(Sealed, OpensWhatWasSealed) {
    Pair pair;
    const auto bytes = pair.sealed("hello");
    EXPECT_EQ(bytes.size(), header_bytes + 5 + tag_bytes);
    const Opened opened = pair.open(bytes);
    EXPECT_EQ(opened.drop, Drop::none);
    EXPECT_EQ(opened.node, NodeId{1});
    EXPECT_EQ(opened.session, session_1);
    EXPECT_EQ(text_of(opened), "hello");
    EXPECT_EQ(text_of(pair.open(pair.sealed(""))), "");
    EXPECT_EQ(text_of(pair.open(pair.sealed(std::string(payload_bytes_max, 'x')))),
              std::string(payload_bytes_max, 'x'));
}

TEST(Sealed, EveryChangedBitIsRefused) {
    Pair pair;
    const auto good = pair.sealed("some text to protect");
    for (std::size_t at = 0; at < good.size(); ++at) {
        for (int bit = 0; bit < 8; ++bit) {
            auto bad = good;
            bad[at] = static_cast<std::uint8_t>(bad[at] ^ (1 << bit));
            pair.now += seconds{1}; // the limit on trials of unknown sessions is another test
            EXPECT_NE(pair.open(bad).drop, Drop::none) << "byte " << at << " bit " << bit;
        }
    }
    EXPECT_EQ(pair.open(good).drop, Drop::none) << "refused ones must not touch the window";
}

TEST(Sealed, EveryTruncationAndExtensionIsRefused) {
    Pair pair;
    const auto good = pair.sealed("some text to protect");
    for (std::size_t size = 0; size < good.size(); ++size) {
        EXPECT_EQ(pair.open({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)}).drop, Drop::unauthentic);
    }
    auto longer = good;
    longer.push_back(0);
    EXPECT_EQ(pair.open(longer).drop, Drop::unauthentic);
    EXPECT_EQ(pair.open(std::vector<std::uint8_t>(3000, 1)).drop, Drop::unauthentic);
    EXPECT_EQ(pair.open(good).drop, Drop::none);
}

TEST(Sealed, SaysWhyItRefuses) {
    Pair pair;
    const auto drop_of = [&](const Place& where, NodeId from, const std::string& key, LanId on) {
        Sealer other{where, from, SessionId{7, index(from)}, key};
        const Bytes bytes = other.seal(on, {});
        return pair.open({bytes.begin(), bytes.end()}).drop;
    };
    EXPECT_EQ(drop_of(place, NodeId{1}, key_b, lan), Drop::unauthentic);
    EXPECT_EQ(drop_of({place.cluster + 1, place.group}, NodeId{1}, key_a, lan), Drop::foreign);
    EXPECT_EQ(drop_of({place.cluster ^ (std::uint64_t{1} << 40), place.group}, NodeId{1}, key_a, lan),
              Drop::unauthentic);
    EXPECT_EQ(drop_of({place.cluster, GroupId{4}}, NodeId{1}, key_a, lan), Drop::foreign);
    EXPECT_EQ(drop_of(place, NodeId{9}, key_a, lan), Drop::foreign) << "not a node of this group";
    EXPECT_EQ(drop_of(place, NodeId{2}, key_a, lan), Drop::foreign) << "a second session of our own name";
    EXPECT_EQ(drop_of(place, NodeId{1}, key_a, LanId{1}), Drop::foreign);
    auto version = pair.sealed("x");
    version[0] = 2;
    EXPECT_EQ(pair.open(version).drop, Drop::version);
    EXPECT_EQ(drop_of(place, NodeId{1}, key_a, lan), Drop::none);
}

TEST(Sealed, ReplaysAreRefusedAndReorderingWithinTheWindowIsNot) {
    Pair pair;
    std::vector<std::vector<std::uint8_t>> sent;
    for (std::size_t i = 0; i < 2 * Opener::window_bits; ++i) {
        sent.push_back(pair.sealed("x"));
    }
    ASSERT_GE(Opener::window_bits, 1024U);
    EXPECT_EQ(pair.open(sent[Opener::window_bits]).drop, Drop::none);
    EXPECT_EQ(pair.open(sent[0]).drop, Drop::replayed) << "older than the window";
    for (std::size_t i = Opener::window_bits - 1; i >= 1; --i) {
        ASSERT_EQ(pair.open(sent[i]).drop, Drop::none) << i;
        ASSERT_EQ(pair.open(sent[i]).drop, Drop::replayed) << i;
    }
    EXPECT_EQ(pair.open(sent.back()).drop, Drop::none);
    for (const auto& old : sent) {
        if (&old != &sent.back() && &old <= &sent[Opener::window_bits]) {
            ASSERT_EQ(pair.open(old).drop, Drop::replayed);
        }
    }
}

TEST(Sealed, LansHaveWindowsOfTheirOwn) {
    Pair pair;
    const auto on_second = pair.sealed("x", LanId{1});
    for (std::size_t i = 0; i < 2 * Opener::window_bits; ++i) {
        ASSERT_EQ(pair.open(pair.sealed("y")).drop, Drop::none);
    }
    EXPECT_EQ(pair.open(on_second, LanId{1}).drop, Drop::none);
    EXPECT_EQ(pair.open(on_second, LanId{1}).drop, Drop::replayed);
}

TEST(Sealed, RotationNeedsNoCommonMoment) {
    Pair pair;
    pair.opener.set_keys({key_a, key_b});
    const auto before = pair.sealed("old key");
    EXPECT_EQ(pair.open(before).drop, Drop::none);
    pair.sealer.set_key(key_b);
    EXPECT_EQ(text_of(pair.open(pair.sealed("new key"))), "new key");
    EXPECT_EQ(pair.open(before).drop, Drop::replayed);
    pair.opener.set_keys({key_b});
    EXPECT_EQ(text_of(pair.open(pair.sealed("still"))), "still");
    EXPECT_EQ(pair.open(before).drop, Drop::replayed) << "windows survive a rotation";
    pair.sealer.set_key(key_a);
    EXPECT_EQ(pair.open(pair.sealed("old key again")).drop, Drop::unauthentic);
}

TEST(Sealed, AReplacedSessionIsRetired) {
    Pair pair;
    ASSERT_EQ(pair.open(pair.sealed("first")).drop, Drop::none);
    pair.opener.confirm(NodeId{1}, session_1);
    const auto late = pair.sealed("from the dead");
    Sealer restarted{place, NodeId{1}, SessionId{9, 9}, key_a};
    const Bytes bytes = restarted.seal(lan, {});
    ASSERT_EQ(pair.open({bytes.begin(), bytes.end()}).drop, Drop::none);
    EXPECT_EQ(pair.open(late).drop, Drop::none) << "the new session has not yet answered a challenge";
    pair.opener.confirm(NodeId{1}, SessionId{9, 9});
    EXPECT_EQ(pair.open(pair.sealed("again")).drop, Drop::replayed);
}

TEST(Sealed, InventedSessionsNeitherEvictTheLiveOneNorCostWithoutLimit) {
    Pair pair;
    const auto first = pair.sealed("x");
    ASSERT_EQ(pair.open(first).drop, Drop::none);
    pair.opener.confirm(NodeId{1}, session_1);
    for (std::uint64_t i = 1; i < 100; ++i) { // authentic ones, recorded from earlier lives
        Sealer old{place, NodeId{1}, SessionId{i, 77}, key_a};
        const Bytes bytes = old.seal(lan, {});
        ASSERT_EQ(pair.open({bytes.begin(), bytes.end()}).drop, Drop::none);
    }
    EXPECT_EQ(pair.open(first).drop, Drop::replayed);
    EXPECT_EQ(pair.open(pair.sealed("y")).drop, Drop::none);
    for (std::uint64_t i = 0; i < Opener::trials_per_second; ++i) {
        auto invented = first;
        for (std::size_t b = 0; b < 8; ++b) {
            invented[1 + b] = static_cast<std::uint8_t>(i >> (8 * b) ^ 0x55);
        }
        ASSERT_EQ(pair.open(invented).drop, Drop::unauthentic);
    }
    Sealer late{place, NodeId{1}, SessionId{5555, 1}, key_a};
    auto bytes = late.seal(lan, {});
    EXPECT_EQ(pair.open({bytes.begin(), bytes.end()}).drop, Drop::unauthentic) << "no trials left in this second";
    EXPECT_EQ(pair.open(pair.sealed("known sessions go on")).drop, Drop::none);
    pair.now += seconds{1};
    bytes = late.seal(lan, {});
    EXPECT_EQ(pair.open({bytes.begin(), bytes.end()}).drop, Drop::none);
}

TEST(Sealed, CostOfOneDatagram) {
    Pair pair;
    const std::string text(370, 'x');
    constexpr int rounds = 20000;
    const Instant before = BootClock::now();
    int opened = 0;
    for (int i = 0; i < rounds; ++i) {
        const Bytes bytes = pair.sealer.seal(lan, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
        opened += pair.opener.open(pair.now, lan, bytes).drop == Drop::none ? 1 : 0;
    }
    const auto each = (BootClock::now() - before) / rounds;
    RecordProperty("ns_sealed_and_opened", static_cast<int>(each.count()));
    EXPECT_EQ(opened, rounds);
    EXPECT_LT(each, std::chrono::milliseconds{1});
}

} // namespace
} // namespace stead::wire

// SPDX-License-Identifier: Apache-2.0
#include <stead/wire/sealed.hpp>

#include <stead/base/assert.hpp>
#include <stead/wire/keys.hpp>

#include <openssl/evp.h>

#include <algorithm>
#include <bitset>
#include <cstring>
#include <optional>

namespace stead::wire {
namespace {

constexpr char datagram_label[] = "stead datagram v1";

// Offsets in the clear header; docs/protocol-wire.md has the picture.
constexpr std::size_t at_session = 1, at_key = 17, at_node = 18, at_group = 19, at_lan = 20, at_cluster = 21,
                      at_sequence = 23;
static_assert(at_sequence + 6 == header_bytes);

using Aad = std::array<std::uint8_t, header_bytes + 8>; // the header, then the whole cluster id
using Nonce = std::array<std::uint8_t, 12>;

void put(std::uint8_t* to, std::uint64_t value, std::size_t bytes) noexcept {
    for (std::size_t i = 0; i < bytes; ++i) {
        to[i] = static_cast<std::uint8_t>(value >> (8 * (bytes - 1 - i)));
    }
}

std::uint64_t get(const std::uint8_t* from, std::size_t bytes) noexcept {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i) {
        value = value << 8 | from[i];
    }
    return value;
}

Aad make_aad(const std::uint8_t* header, std::uint64_t cluster) noexcept {
    Aad aad;
    std::copy_n(header, header_bytes, aad.begin());
    put(aad.data() + header_bytes, cluster, 8);
    return aad;
}

Nonce make_nonce(std::uint64_t sequence) noexcept {
    Nonce nonce{};
    put(nonce.data() + 4, sequence, 8);
    return nonce;
}

DerivedKey root_key(const std::string& cluster_key) { return derive(datagram_label, cluster_key, "root"); }

DerivedKey session_key(const DerivedKey& root, NodeId node, const SessionId& session) {
    std::array<std::uint8_t, 17> info{};
    info[0] = index(node);
    put(info.data() + 1, session.high, 8);
    put(info.data() + 9, session.low, 8);
    return expand(root, {reinterpret_cast<const char*>(info.data()), info.size()});
}

struct FreeCipher {
    void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
};
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeCipher>;

CipherContext make_cipher(const DerivedKey& key, bool sealing) {
    CipherContext context{EVP_CIPHER_CTX_new()};
    STEAD_ASSERT(context != nullptr);
    STEAD_ASSERT(EVP_CipherInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key.data(), nullptr, sealing ? 1 : 0) ==
                 1);
    return context;
}

/// Writes the plain text to `out`; false when the tag does not fit.
bool open_into(EVP_CIPHER_CTX* context, std::uint64_t sequence, const Aad& aad, Bytes sealed, std::uint8_t* out) {
    const Nonce nonce = make_nonce(sequence);
    const int size = static_cast<int>(sealed.size() - tag_bytes);
    std::array<std::uint8_t, tag_bytes> tag;
    std::copy_n(sealed.data() + size, tag_bytes, tag.begin());
    int done = 0;
    return EVP_DecryptInit_ex(context, nullptr, nullptr, nullptr, nonce.data()) == 1 &&
           EVP_DecryptUpdate(context, nullptr, &done, aad.data(), static_cast<int>(aad.size())) == 1 &&
           EVP_DecryptUpdate(context, out, &done, sealed.data(), size) == 1 &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, tag_bytes, tag.data()) == 1 &&
           EVP_DecryptFinal_ex(context, out + done, &done) == 1;
}

} // namespace

struct Sealer::Cipher {
    CipherContext context;
    std::uint8_t key{};
};

Sealer::Sealer(const Place& place, NodeId self, const SessionId& session, const std::string& cluster_key)
    : place_(place), self_(self), session_(session), cipher_(std::make_unique<Cipher>()) {
    set_key(cluster_key);
}

Sealer::~Sealer() = default;

void Sealer::set_key(const std::string& cluster_key) {
    cipher_->context = make_cipher(session_key(root_key(cluster_key), self_, session_), true);
    cipher_->key = key_byte(cluster_key);
}

Bytes Sealer::seal(LanId lan, Bytes payload) {
    STEAD_ASSERT(payload.size() <= payload_bytes_max);
    STEAD_ASSERT(sequence_ < sequence_max);
    ++sequence_;
    std::uint8_t* head = out_.data();
    head[0] = version_major;
    put(head + at_session, session_.high, 8);
    put(head + at_session + 8, session_.low, 8);
    head[at_key] = cipher_->key;
    head[at_node] = index(self_);
    head[at_group] = index(place_.group);
    head[at_lan] = index(lan);
    put(head + at_cluster, place_.cluster & 0xffffU, 2);
    put(head + at_sequence, sequence_, 6);
    const Aad aad = make_aad(head, place_.cluster);
    const Nonce nonce = make_nonce(sequence_);
    EVP_CIPHER_CTX* context = cipher_->context.get();
    const int size = static_cast<int>(payload.size());
    int done = 0;
    bool good = EVP_EncryptInit_ex(context, nullptr, nullptr, nullptr, nonce.data()) == 1;
    good = good && EVP_EncryptUpdate(context, nullptr, &done, aad.data(), static_cast<int>(aad.size())) == 1;
    good = good && EVP_EncryptUpdate(context, head + header_bytes, &done, payload.data(), size) == 1;
    good = good && EVP_EncryptFinal_ex(context, head + header_bytes + done, &done) == 1;
    good = good && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, tag_bytes, head + header_bytes + size) == 1;
    STEAD_ASSERT(good);
    return {out_.data(), header_bytes + payload.size() + tag_bytes};
}

namespace {

/// Which sequence numbers of one session were seen on one LAN.
class Window {
public:
    [[nodiscard]] bool fresh(std::uint64_t sequence) const noexcept {
        if (sequence > top_) {
            return true;
        }
        return top_ - sequence < Opener::window_bits && !seen_[sequence % Opener::window_bits];
    }
    void mark(std::uint64_t sequence) noexcept {
        if (sequence > top_) {
            if (sequence - top_ >= Opener::window_bits) {
                seen_.reset();
            } else {
                for (std::uint64_t at = top_ + 1; at < sequence; ++at) {
                    seen_.reset(at % Opener::window_bits);
                }
            }
            top_ = sequence;
        }
        seen_.set(sequence % Opener::window_bits);
    }

private:
    std::uint64_t top_{}; // sequences begin at 1, so 0 is never asked for
    std::bitset<Opener::window_bits> seen_;
};

struct SessionState {
    SessionId id;
    std::array<CipherContext, 2> ciphers; // by index of the cluster key; made at first use
    std::array<Window, limits::lans_max> windows;
    std::uint64_t used{}; // for eviction: larger is more recent
    bool confirmed{};
};

struct NodeState {
    std::vector<std::unique_ptr<SessionState>> sessions;
    std::vector<SessionId> retired; // oldest first
};

} // namespace

struct Opener::State {
    Place place;
    NodeId self{};
    SessionId session;
    NodeSet nodes;
    struct Key {
        DerivedKey root;
        std::uint8_t byte{};
    };
    std::vector<Key> keys;
    std::array<NodeState, limits::nodes_max> peers;
    std::uint64_t uses{};
    Instant trials_since{};
    std::uint32_t trials{};
    std::array<std::uint8_t, limits::datagram_bytes_max> plain{};

    bool may_try(Instant now) {
        if (now - trials_since >= seconds{1}) {
            trials_since = now;
            trials = 0;
        }
        return ++trials <= trials_per_second;
    }

    SessionState* find(NodeState& peer, const SessionId& id) {
        for (auto& candidate : peer.sessions) {
            if (candidate->id == id) {
                return candidate.get();
            }
        }
        return nullptr;
    }

    /// A confirmed session is never evicted by unconfirmed ones.
    void remember(NodeState& peer, std::unique_ptr<SessionState> fresh) {
        if (peer.sessions.size() >= sessions_per_node) {
            const auto oldest = std::min_element(
                peer.sessions.begin(), peer.sessions.end(), [](const auto& a, const auto& b) {
                    return a->confirmed != b->confirmed ? !a->confirmed : a->used < b->used;
                });
            peer.sessions.erase(oldest);
        }
        peer.sessions.push_back(std::move(fresh));
    }

    /// Tries the keys that the header's key byte names.
    bool try_open(SessionState& sender, NodeId node, Bytes datagram) {
        const Aad aad = make_aad(datagram.data(), place.cluster);
        const std::uint64_t sequence = get(datagram.data() + at_sequence, 6);
        for (std::size_t i = 0; i < keys.size(); ++i) {
            if (keys[i].byte != datagram[at_key]) {
                continue;
            }
            if (sender.ciphers[i] == nullptr) {
                sender.ciphers[i] = make_cipher(session_key(keys[i].root, node, sender.id), false);
            }
            if (open_into(sender.ciphers[i].get(), sequence, aad, datagram.subspan(header_bytes), plain.data())) {
                return true;
            }
        }
        return false;
    }
};

Opener::Opener(const Place& place, NodeId self, const SessionId& session, NodeSet nodes,
               const std::vector<std::string>& cluster_keys)
    : state_(std::make_unique<State>()) {
    state_->place = place;
    state_->self = self;
    state_->session = session;
    state_->nodes = nodes;
    set_keys(cluster_keys);
}

Opener::~Opener() = default;

void Opener::set_keys(const std::vector<std::string>& cluster_keys) {
    STEAD_ASSERT(cluster_keys.size() <= 2);
    state_->keys.clear();
    for (const std::string& key : cluster_keys) {
        state_->keys.push_back({root_key(key), key_byte(key)});
    }
    for (NodeState& peer : state_->peers) {
        for (auto& session : peer.sessions) {
            session->ciphers = {};
        }
    }
}

Opened Opener::open(Instant now, LanId lan, Bytes datagram) {
    State& s = *state_;
    if (datagram.size() < header_bytes + tag_bytes || datagram.size() > limits::datagram_bytes_max) {
        return {.drop = Drop::unauthentic, .node = {}, .session = {}, .payload = {}};
    }
    const std::uint8_t* head = datagram.data();
    Opened out{.drop = Drop::none,
               .node = NodeId{head[at_node]},
               .session = {get(head + at_session, 8), get(head + at_session + 8, 8)},
               .payload = {}};
    const auto dropped = [&out](Drop why) {
        out.drop = why;
        return out;
    };
    if (head[0] != version_major) {
        return dropped(Drop::version);
    }
    if (head[at_group] != index(s.place.group) || head[at_lan] != index(lan) ||
        get(head + at_cluster, 2) != (s.place.cluster & 0xffffU) || head[at_node] >= limits::nodes_max ||
        !s.nodes.contains(out.node) || out.session == s.session) {
        return dropped(Drop::foreign);
    }
    NodeState& peer = s.peers[index(out.node)];
    if (std::ranges::find(peer.retired, out.session) != peer.retired.end()) {
        return dropped(Drop::replayed);
    }
    const std::uint64_t sequence = get(head + at_sequence, 6);
    SessionState* sender = s.find(peer, out.session);
    std::unique_ptr<SessionState> fresh;
    if (sender == nullptr) {
        if (!s.may_try(now)) {
            return dropped(Drop::unauthentic);
        }
        fresh = std::make_unique<SessionState>();
        fresh->id = out.session;
        sender = fresh.get();
    } else if (!sender->windows[index(lan)].fresh(sequence)) {
        return dropped(Drop::replayed);
    }
    if (sequence == 0 || !s.try_open(*sender, out.node, datagram)) {
        return dropped(Drop::unauthentic);
    }
    if (out.node == s.self) { // a second live session of our own name: authentic, but not a peer
        return dropped(Drop::foreign);
    }
    sender->windows[index(lan)].mark(sequence);
    sender->used = ++s.uses;
    if (fresh != nullptr) {
        s.remember(peer, std::move(fresh));
    }
    out.payload = {s.plain.data(), datagram.size() - header_bytes - tag_bytes};
    return out;
}

void Opener::confirm(NodeId node, const SessionId& session) {
    NodeState& peer = state_->peers[index(node)];
    SessionState* present = state_->find(peer, session);
    if (present == nullptr || present->confirmed) {
        return;
    }
    for (auto at = peer.sessions.begin(); at != peer.sessions.end();) {
        if ((*at)->confirmed) {
            peer.retired.push_back((*at)->id);
            at = peer.sessions.erase(at);
        } else {
            ++at;
        }
    }
    if (peer.retired.size() > retired_per_node) {
        peer.retired.erase(peer.retired.begin());
    }
    present->confirmed = true;
}

} // namespace stead::wire

// SPDX-License-Identifier: Apache-2.0
// The datagram path on both sides of the tag. First byte: 0 = the bytes arrive from a stranger and meet the opener;
// odd = a peer that has our key seals them, so they reach the decoder; even = as odd, then one byte is changed.
#include <stead/base/assert.hpp>
#include <stead/core/whiteboard.hpp>
#include <stead/wire/messages.hpp>
#include <stead/wire/sealed.hpp>

#include <memory>
#include <vector>

namespace {

using namespace stead;

const std::string key(32, 'k');
const wire::Place place{0x0123456789abcdef, GroupId{1}};
const NodeSet nodes{NodeId{0}, NodeId{1}, NodeId{2}};
const SessionId own_session{1, 2};
const SessionId peer_session{3, 4};

struct World {
    wire::Sealer sealer{place, NodeId{1}, peer_session, key};
    wire::Opener opener{place, NodeId{0}, own_session, nodes, {key, std::string(32, 'n')}};
    wire::Codec codec;
    wire::Codec second;
    whiteboard::Board board{NodeId{0}, own_session};
    wire::PeerClocks clocks{};
    std::int64_t now_ns{1'000'000'000};
};

void decode(World& world, const wire::Opened& opened) {
    world.clocks[0] = {own_session, from_ns(world.now_ns)};
    auto datagram = world.codec.decode(opened.node, opened.session, opened.payload, world.clocks);
    if (!datagram) {
        return;
    }
    if (datagram->heartbeat) {
        world.clocks[index(opened.node)] = {opened.session, datagram->heartbeat->sent};
    }
    if (datagram->delta) {
        (void)world.board.apply(*datagram->delta);
        (void)world.board.check(opened.node, opened.session, 1);
    }
    // What was understood can be said again and is understood the same.
    const auto bytes = world.second.encode(*datagram);
    STEAD_ASSERT(static_cast<bool>(world.codec.decode(opened.node, opened.session, bytes, world.clocks)));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static auto world = std::make_unique<World>();
    static unsigned runs = 0;
    if (++runs % 50000 == 0) {
        world = std::make_unique<World>();
    }
    world->now_ns += 10'000'000;
    if (size == 0) {
        return 0;
    }
    const std::uint8_t mode = data[0];
    std::span<const std::uint8_t> bytes{data + 1, size - 1};
    std::vector<std::uint8_t> sealed;
    if (mode != 0) {
        bytes = bytes.first(std::min(bytes.size(), wire::payload_bytes_max));
        const auto out = world->sealer.seal(LanId{0}, bytes);
        sealed.assign(out.begin(), out.end());
        if (mode % 2 == 0) {
            sealed[mode * 7U % sealed.size()] ^= mode;
        }
        bytes = sealed;
    }
    const wire::Opened opened = world->opener.open(from_ns(world->now_ns), LanId{0}, bytes);
    STEAD_ASSERT(mode % 2 == 0 || opened.drop == wire::Drop::none);
    STEAD_ASSERT(mode == 0 || mode % 2 == 1 || opened.drop != wire::Drop::none);
    if (opened.drop == wire::Drop::none) {
        decode(*world, opened);
    }
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
// A peer that has the cluster key and tells lies: any heartbeat at any time. The core must not stop, must not hold a
// lease beyond its length, never a view without itself, and epochs only grow. Each record of the input is one step.
#include <stead/base/assert.hpp>
#include <stead/core/membership.hpp>

#include <algorithm>
#include <cstring>

namespace {

using namespace stead;
using namespace stead::membership;

class Bytes {
public:
    Bytes(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}
    [[nodiscard]] bool empty() const noexcept { return at_ == end_; }
    std::uint8_t byte() noexcept { return empty() ? 0 : *at_++; }
    /// Mostly small numbers, for those hit what the core knows; now and then any.
    std::uint64_t number() noexcept {
        const std::uint8_t kind = byte();
        if (kind < 250) {
            return kind % 16;
        }
        std::uint64_t value = 0;
        const std::size_t count = std::min<std::size_t>(sizeof value, static_cast<std::size_t>(end_ - at_));
        std::memcpy(&value, at_, count);
        at_ += count;
        return value;
    }

private:
    const std::uint8_t* at_;
    const std::uint8_t* end_;
};

const SessionId own_session{1, 2};

View any_view(Bytes& in) {
    View view{.epoch = in.number(), .id = in.number(), .members = NodeSet{in.number()}, .weights = {}};
    for (const NodeId node : view.members) {
        view.weights[index(node)] = static_cast<std::uint16_t>(in.number());
    }
    return view;
}

Heartbeat any_heartbeat(Bytes& in, const Core& core, Instant now) {
    Heartbeat beat;
    beat.sender = NodeId{in.byte()};
    beat.session = {3, in.number()};
    // A lie about the time is possible only about the own clock; echoes of ours are checked against our clock.
    beat.sent = from_ns(static_cast<std::int64_t>(in.number() >> 1));
    beat.sent = in.byte() % 4 != 0 ? now : beat.sent;
    beat.phase = Phase{static_cast<std::uint8_t>(in.byte() % 5)};
    beat.weight = static_cast<std::uint16_t>(in.number());
    beat.config = in.number();
    for (std::uint8_t lan = 0; lan < 2; ++lan) {
        beat.heard[lan] = NodeSet{in.number()};
    }
    const View view = in.byte() % 2 == 0 ? core.view() : any_view(in);
    beat.view_epoch = view.epoch;
    beat.view_id = view.id;
    beat.view_members = view.members;
    beat.proposal = in.byte() % 2 == 0 ? core.proposal() : any_view(in);
    beat.clear_in = nanoseconds{static_cast<std::int64_t>(in.number() >> 1)};
    beat.known = {in.number(), in.number(), NodeSet{in.number()},
                  nanoseconds{static_cast<std::int64_t>(in.number() >> 24)}};
    beat.witness_ended = in.byte() % 4u;
    beat.dropped = NodeSet{in.byte() % 16u};
    for (unsigned count = in.byte() % 4; count > 0; --count) {
        const Instant echoed =
            in.byte() % 4 != 0 ? now - milliseconds{in.byte()} : from_ns(static_cast<std::int64_t>(in.number() >> 1));
        beat.echoes.push_back({NodeId{in.byte()}, in.byte() % 2 == 0 ? own_session : SessionId{3, in.number()}, echoed,
                               milliseconds{in.byte()}});
    }
    return beat;
}

Input any_input(Bytes& in, const Core& core, Instant now) {
    switch (in.byte() % 16) {
    case 0: return SetLocal{static_cast<std::uint16_t>(in.number()), in.byte(), in.number() % 3, in.number()};
    case 1: return PeerDied{NodeId{in.byte()}, {3, in.number()}};
    case 2: { // of the claim that this node would make, or of any
        const Grant asked{in.byte() % 4u, in.number(), core.proposal().members};
        return WitnessAnswer{asked,
                             in.byte() % 2 == 0 ? asked : Grant{in.byte() % 4u, in.number(), NodeSet{in.number()}}};
    }
    case 3: return in.byte() == 7 ? Input{Leave{}} : Input{Tick{}};
    case 4: return PeerPast{NodeId{in.byte()}, in.byte() % 2 == 0 ? SessionId{} : SessionId{3, in.number()}};
    case 5:
    case 6: return Tick{};
    default: return Received{LanId{static_cast<std::uint8_t>(in.byte() % 3)}, any_heartbeat(in, core, now)};
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes in(data, size);
    Instant now = from_ns(3'600'000'000'000);
    Options options;
    options.self = NodeId{static_cast<std::uint8_t>(in.byte() % 4)};
    options.session = own_session;
    options.nodes = NodeSet{std::uint64_t{in.byte()} | std::uint64_t{1} << index(options.self)};
    options.lans = 2;
    options.timing = default_timing();
    options.partition = Options::Partition{static_cast<std::uint8_t>(in.byte() % 3)};
    Core core(options, now);
    std::uint64_t epoch = 0;
    while (!in.empty()) {
        const std::uint8_t wait = in.byte();
        now = wait % 3 == 0 ? std::max(now, core.next_deadline()) : now + milliseconds{wait / 4};
        for (const Output& output : core.step(now, any_input(in, core, now))) {
            if (const auto* installed = std::get_if<ViewInstalled>(&output)) {
                STEAD_ASSERT(installed->view.members.contains(options.self) && installed->view.epoch > epoch);
                epoch = installed->view.epoch;
            }
        }
        STEAD_ASSERT(core.lease_until() <= now + options.timing.lease);
        STEAD_ASSERT(core.next_deadline() > now);
    }
    return 0;
}

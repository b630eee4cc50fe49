// SPDX-License-Identifier: Apache-2.0
// A farm's peer messages. The first byte chooses who reads the rest: a decoder alone, or a node of a view of two that
// gets it as each kind of message; a wrong peer may confuse a farm, but never crash or hang a node.
#include <stead/base/assert.hpp>
#include <stead/farm/mover.hpp>

#include <memory>

namespace {

using namespace stead;
using namespace stead::farm;

std::unique_ptr<Mover> node_of_two() {
    Mover::Options options;
    options.self = NodeId{0};
    options.buckets = 64;
    options.groups = 2;
    auto mover = std::make_unique<Mover>(options);
    mover->set_name(NodeId{0}, "node0");
    mover->set_name(NodeId{1}, "node1");
    FarmView view;
    view.epoch = 45;
    view.id = 0x1122334455667788;
    view.members = NodeSet{std::uint64_t{3}};
    view.weights[0] = mover->weight(100, {1, 2});
    view.weights[1] = weight_of_power(100, 3);
    mover->on_view(Instant{seconds{1}}, view);
    return mover;
}

void decode(std::string_view bytes) {
    if (const auto report = decode_report(bytes)) {
        STEAD_ASSERT(decode_report(encode(*report)) == report);
    }
    if (const auto held = decode_held(bytes)) {
        STEAD_ASSERT(decode_held(encode(*held)) == held);
    }
    if (const auto wish = decode_power_wish(bytes)) {
        STEAD_ASSERT(decode_power_wish(encode(*wish)) == wish);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static auto mover = node_of_two();
    static auto now = Instant{seconds{1}};
    static unsigned runs = 0;
    if (++runs % 5000 == 0) {
        mover = node_of_two();
    }
    if (size == 0) {
        return 0;
    }
    const std::string_view bytes{reinterpret_cast<const char*>(data) + 1, size - 1};
    decode(bytes);
    constexpr const char* kinds[]{"farm.plan", "farm.held", "farm.plan?"};
    now += milliseconds{10};
    mover->on_message(now, NodeId{1}, kinds[data[0] % 3], bytes);
    mover->tick(now);
    static_cast<void>(mover->take_messages());
    return 0;
}

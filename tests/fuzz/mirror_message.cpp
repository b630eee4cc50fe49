// SPDX-License-Identifier: Apache-2.0
// Messages of a mirror's stream and bus: whatever is understood can be said again, in the same bytes.
#include <stead/base/assert.hpp>
#include <stead/mirror/codec.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace stead::mirror;
    const std::string_view bytes{reinterpret_cast<const char*>(data), size};
    if (const auto message = decode_message(bytes)) {
        const std::string again = encode(*message);
        const auto back = decode_message(again);
        STEAD_ASSERT(back && encode(*back) == again && back->epoch == message->epoch);
    }
    if (const auto message = decode_bus_message(bytes)) {
        const std::string again = encode(*message);
        STEAD_ASSERT(decode_bus_message(again) && again.size() <= codec_limits::bus_message_max);
    }
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
// Changes and copies: what is understood passes check(), can be said again, and names no more targets than may be sent.
#include <stead/base/assert.hpp>
#include <stead/mirror/codec.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace stead::mirror;
    const auto content = decode_content({reinterpret_cast<const char*>(data), size});
    if (!content) {
        return 0;
    }
    STEAD_ASSERT(check(*content));
    const std::string again = encode(*content);
    const auto back = decode_content(again);
    STEAD_ASSERT(back && encode(*back) == again);
    const stead::mirror::Operation operation = operation_of(*content);
    STEAD_ASSERT(operation.targets.size() <= codec_limits::targets_max);
    if (!operation.targets.empty()) { // a change: it can be sent
        STEAD_ASSERT(decode_message(encode(Message{1, message::Change{1, operation, Level::applied}})));
    }
    return 0;
}

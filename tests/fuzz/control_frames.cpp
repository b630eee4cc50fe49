// SPDX-License-Identifier: Apache-2.0
// The control sockets of steadd and stead-host: bytes in pieces of any size become frames, frames become requests.
// What was understood as a request can be sent on to a peer and is understood the same there.
#include <stead/base/assert.hpp>
#include <stead/control/channel.hpp>
#include <stead/node/call.hpp>

#include <algorithm>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    const std::size_t piece = 1 + data[0];
    std::string_view bytes{reinterpret_cast<const char*>(data + 1), size - 1};
    stead::control::FrameDecoder decoder;
    while (!bytes.empty()) {
        decoder.feed(bytes.substr(0, piece));
        bytes.remove_prefix(std::min(piece, bytes.size()));
        for (;;) {
            const auto frame = decoder.next();
            if (!frame) {
                return 0; // the connection would be closed
            }
            if (!*frame) {
                break;
            }
            STEAD_ASSERT((*frame)->body.is_object() && (*frame)->fds.empty());
            const auto request = stead::node::parse_request((*frame)->body);
            if (request) {
                const auto again = stead::node::parse_request(request->to_json());
                STEAD_ASSERT(again && again->verb == request->verb && again->options == request->options &&
                             again->arguments == request->arguments);
            }
        }
    }
    return 0;
}

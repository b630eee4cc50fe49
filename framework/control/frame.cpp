// SPDX-License-Identifier: Apache-2.0
#include <stead/control/channel.hpp>

#include <stead/base/utf8.hpp>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace stead::control {
namespace {

constexpr std::size_t header_bytes = 4;
constexpr std::size_t descriptors_waiting_max = 8 * frame_descriptors_max; // of frames that came at once

std::uint32_t read_length(std::string_view bytes) {
    std::uint32_t length = 0;
    for (std::size_t i = 0; i < header_bytes; ++i) {
        length = length << 8 | static_cast<std::uint8_t>(bytes[i]);
    }
    return length;
}

Error too_long(std::size_t length) {
    return Error{Errc::out_of_range, "control socket",
                 "a frame of " + std::to_string(length) + " bytes; at most " +
                     std::to_string(limits::stream_frame_bytes_max) + " are allowed"};
}

Result<std::size_t> announced_descriptors(const boost::json::object& body) {
    const boost::json::value* count = body.if_contains("fds");
    if (count == nullptr) {
        return 0u;
    }
    if (!count->is_int64() || count->as_int64() < 0 ||
        count->as_int64() > static_cast<std::int64_t>(frame_descriptors_max)) {
        return Error{Errc::malformed, "control socket", "field \"fds\" is not a number from 0 to 8"};
    }
    return static_cast<std::size_t>(count->as_int64());
}

} // namespace

Result<std::string> encode_frame(const boost::json::value& body) {
    const std::string text = utf8_json(boost::json::serialize(body)); // else the peer would close
    if (text.size() > limits::stream_frame_bytes_max) {
        return too_long(text.size());
    }
    std::string frame;
    frame.reserve(header_bytes + text.size());
    for (int shift = 24; shift >= 0; shift -= 8) {
        frame.push_back(static_cast<char>(text.size() >> shift & 0xff));
    }
    return frame.append(text);
}

Result<std::optional<Frame>> FrameDecoder::next() {
    if (fds_.size() > descriptors_waiting_max) {
        return Error{Errc::out_of_range, "control socket", "descriptors came that no frame announces"};
    }
    const std::string_view rest = std::string_view(buffer_).substr(offset_);
    const std::uint32_t length = rest.size() < header_bytes ? 0 : read_length(rest);
    if (length > limits::stream_frame_bytes_max) {
        return too_long(length);
    }
    if (rest.size() < header_bytes + length) { // what is kept is the beginning of one frame
        buffer_.erase(0, offset_);
        offset_ = 0;
        return std::optional<Frame>{};
    }
    boost::json::error_code error;
    boost::json::parse_options options;
    options.max_depth = 32;
    Frame frame{boost::json::parse(rest.substr(header_bytes, length), error, {}, options), {}};
    if (error || !frame.body.is_object()) {
        return Error{Errc::malformed, "control socket", "a frame that is not a JSON object"};
    }
    const Result<std::size_t> count = announced_descriptors(frame.body.get_object());
    if (!count) {
        return count.error();
    }
    if (*count > fds_.size()) {
        return Error{Errc::malformed, "control socket", "descriptors announced that did not come"};
    }
    for (std::size_t i = 0; i < *count; ++i) {
        frame.fds.push_back(std::move(fds_.front()));
        fds_.pop_front();
    }
    offset_ += header_bytes + length;
    return std::optional<Frame>(std::move(frame));
}

} // namespace stead::control

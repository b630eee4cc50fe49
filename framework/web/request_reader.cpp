// SPDX-License-Identifier: Apache-2.0
#include <stead/web/request_reader.hpp>

#include <stead/base/assert.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>

namespace stead::web {
namespace http = boost::beast::http;
namespace {

Malformed malformed(const boost::beast::error_code& error) {
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
        return {431, "the header is longer than " + std::to_string(header_bytes_max) + " bytes"};
    }
    if (error == http::error::body_limit) {
        return {413, "requests with a body are not read here"};
    }
    if (error == http::error::bad_version) {
        return {505, "only HTTP/1.0 and HTTP/1.1 are spoken here"};
    }
    return {400, "not an HTTP request: " + error.message()};
}

} // namespace

struct RequestReader::Parser : http::request_parser<http::empty_body> {};

RequestReader::RequestReader() = default;
RequestReader::~RequestReader() = default;
RequestReader::RequestReader(RequestReader&&) noexcept = default;
RequestReader& RequestReader::operator=(RequestReader&&) noexcept = default;

void RequestReader::feed(std::string_view bytes) {
    STEAD_ASSERT(bytes.size() <= room());
    buffer_.append(bytes);
}

std::variant<NeedMore, Request, Malformed> RequestReader::next() {
    if (buffer_.empty()) {
        return NeedMore{};
    }
    if (!parser_) {
        parser_ = std::make_unique<Parser>();
        parser_->header_limit(header_bytes_max);
    }
    boost::beast::error_code error;
    const std::size_t used = parser_->put(boost::asio::buffer(buffer_), error);
    if (error == http::error::need_more) {
        buffer_.erase(0, used); // nothing, or empty lines before a request
        if (room() == 0) {
            return Malformed{431, "the header is longer than " + std::to_string(header_bytes_max) + " bytes"};
        }
        return NeedMore{};
    }
    if (error) {
        return malformed(error);
    }
    buffer_.erase(0, used);
    const std::unique_ptr<Parser> done = std::move(parser_);
    if (!done->is_header_done()) {
        return malformed(http::error::partial_message);
    }
    const auto& header = done->get();
    Request request;
    request.method = std::string(header.method_string());
    request.target = std::string(header.target());
    request.host = std::string(header[http::field::host]);
    request.authorization = std::string(header[http::field::authorization]);
    request.version = header.version();
    request.keep_alive = header.keep_alive();
    request.has_body = done->chunked() || done->content_length().value_or(0) > 0;
    if (buffer_.empty()) {
        buffer_.shrink_to_fit();
    }
    return request;
}

} // namespace stead::web

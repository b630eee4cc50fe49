// SPDX-License-Identifier: Apache-2.0
#include "http_check.hpp"

#include <algorithm>

namespace stead::checkers {

namespace {

/// The request line and headers are made of these: nothing in them may end a line.
void check_visible(const char* attribute, std::string_view text) {
    if (text.empty() || !std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f; })) {
        std::string shown{text}; // on one line
        std::ranges::replace_if(
            shown, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; }, '?');
        throw std::invalid_argument(std::string{"to/@"} + attribute + ": '" + shown +
                                    "' is malformed; allowed: visible ASCII characters, others as %XX");
    }
}

} // namespace

std::string authority(const std::string& host, std::uint16_t port) {
    const std::string name = host.find(':') != std::string::npos ? "[" + host + "]" : host;
    return port == 0 ? name : name + ":" + std::to_string(port);
}

void HttpCheckBase::set_request(std::string_view method, std::string_view host, std::string_view target) {
    check_visible("host", host);
    check_visible("path", target);
    if (!target.starts_with('/')) {
        throw std::invalid_argument("to/@path: '" + std::string{target} + "' does not begin with '/'");
    }
    head_ = method == "HEAD";
    request_ = std::string{method} + " " + std::string{target} + " HTTP/1.1\r\nHost: " + std::string{host} +
               "\r\nUser-Agent: stead-check\r\nAccept: */*\r\nConnection: close\r\n\r\n";
    place_ = (connection.tls ? "https://" : "http://") + authority(connection.host, connection.port) +
             std::string{target} + ": ";
}

void HttpCheckBase::begin() {
    exchange_ = std::make_unique<Exchange>(*expectation, head_);
    open_ = std::make_shared<Connection>(
        loop(), connection,
        Connection::Callbacks{.on_open = [this] { open_->send(request_); },
                              .on_data = [this](std::string_view bytes) { done(exchange_->received(bytes)); },
                              .on_end = [this](const std::string& reason) { done(exchange_->ended(reason)); }});
    open_->open();
}

void HttpCheckBase::abandon() {
    if (open_ != nullptr) {
        std::exchange(open_, nullptr)->close();
    }
}

void HttpCheckBase::done(std::optional<checker::Outcome> outcome) {
    if (!outcome) {
        return;
    }
    abandon();
    if (!outcome->good) {
        outcome->reason = place_ + outcome->reason;
    }
    if (outcome->good) {
        answered(exchange_->validator());
    }
    finish(*outcome);
}

void HttpCheckBase::answered(const std::string& /*validator*/) {}

} // namespace stead::checkers

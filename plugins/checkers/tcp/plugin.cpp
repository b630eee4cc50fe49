// SPDX-License-Identifier: Apache-2.0
// <check><tcp ident="web80" when="prim" action="restart"><to addr="127.0.0.1" port="80"/></tcp></check>
#include "connection.hpp"

#include <stead/checker.hpp>

#include <charconv>

namespace stead::checkers {

namespace {

namespace attribute = checker::attribute;

/// "PING\r\n": \r \n \t \0 \\ and \xHH. Throws std::invalid_argument.
std::string unescaped(std::string_view attribute_name, std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\') {
            out += text[i];
            continue;
        }
        constexpr std::string_view letters = "rnt0\\";
        constexpr std::string_view bytes{"\r\n\t\0\\", 5};
        const std::string_view rest = text.substr(i + 1);
        unsigned value = 0;
        if (const auto known = rest.empty() ? std::string_view::npos : letters.find(rest[0]);
            known != std::string_view::npos) {
            out += bytes[known];
            ++i;
        } else if (rest.size() >= 3 && rest[0] == 'x' &&
                   std::from_chars(rest.data() + 1, rest.data() + 3, value, 16).ptr == rest.data() + 3) {
            out += static_cast<char>(value);
            i += 3;
        } else {
            throw std::invalid_argument("to/@" + std::string{attribute_name} + ": '" + std::string{text.substr(i, 4)} +
                                        "' is no escape; allowed: \\r \\n \\t \\0 \\\\ \\xHH");
        }
    }
    return out;
}

/// Up when a connection comes about; with TLS, when the handshake does; with `expect`, when it is received.
class TcpCheck final : public checker::PolledCheck {
public:
    static constexpr const char* path = "check/tcp";
    static constexpr const char* label = "t_";

    explicit TcpCheck(plugin::Config element) {
        const auto to = element.child("to");
        if (!to) {
            throw std::invalid_argument("<tcp> needs the element <to addr port/>");
        }
        options_.host = to->string("addr");
        options_.port = static_cast<std::uint16_t>(to->integer("port"));
        options_.tls = to->boolean("tls");
        options_.verify = to->boolean("verify");
        options_.server_name = to->string("servername");
        send_ = unescaped("send", to->string("send"));
        expect_ = unescaped("expect", to->string("expect"));
        if (options_.verify && !options_.tls) {
            throw std::invalid_argument("to/@verify: on needs tls=\"on\"");
        }
    }
    ~TcpCheck() override { abandon(); }

private:
    static constexpr std::size_t received_bytes_max = 16384;

    void begin() override {
        received_.clear();
        connection_ = std::make_shared<Connection>(
            loop(), options_,
            Connection::Callbacks{
                .on_open = [this] { opened(); },
                .on_data = [this](std::string_view bytes) { received(bytes); },
                .on_end = [this](const std::string& reason) { done(checker::bad(about() + reason)); }});
        connection_->open();
    }
    void abandon() override {
        if (connection_ != nullptr) {
            std::exchange(connection_, nullptr)->close();
        }
    }
    void opened() {
        if (expect_.empty() && send_.empty()) {
            done(checker::good());
            return;
        }
        if (!send_.empty()) {
            connection_->send(send_);
        }
        if (expect_.empty() && connection_ != nullptr) {
            done(checker::good());
        }
    }
    void received(std::string_view bytes) {
        received_ += bytes;
        if (received_.find(expect_) != std::string::npos) {
            done(checker::good());
        } else if (received_.size() > received_bytes_max) {
            done(checker::bad(about() + "the text expected is not in the first " + std::to_string(received_bytes_max) +
                              " bytes"));
        }
    }
    void done(const checker::Outcome& outcome) {
        abandon();
        finish(outcome);
    }
    [[nodiscard]] std::string about() const override {
        return options_.host + " port " + std::to_string(options_.port) + ": ";
    }

    Connection::Options options_;
    std::string send_, expect_, received_;
    std::shared_ptr<Connection> connection_;
};

constexpr stead_attr_schema check_attributes[] = {
    attribute::ident("names the resource tcp.<ident> and the rule t_<ident>"),
    attribute::when("prim"),
    attribute::action(),
    attribute::rise(),
    attribute::fall(),
};
constexpr stead_attr_schema to_attributes[] = {
    {"addr", STEAD_TYPE_ADDRESS, STEAD_ATTR_REQUIRED | attribute::dynamic, nullptr, nullptr, nullptr, 0, 0,
     "where to connect to; a name is resolved at each probe"},
    {"port", STEAD_TYPE_PORT, STEAD_ATTR_REQUIRED | attribute::dynamic, nullptr, nullptr, nullptr, 0, 0, "TCP port"},
    attribute::interval(),
    attribute::timeout(),
    attribute::text("send", "", "what to send; \\r \\n \\t \\0 \\\\ \\xHH; empty: nothing"),
    attribute::text("expect", "", "up only when this is in the first 16 KiB received; escapes as in send"),
    attribute::flag("tls", "off", "up only after a TLS handshake"),
    attribute::flag("verify", "off", "with tls: the certificate must be valid, and for the server's name"),
    attribute::text("servername", "", "with tls: the name to ask and verify for; empty: addr"),
};
constexpr stead_elem_schema schema[] = {
    checker::element("check/tcp", check_attributes, "up while a TCP connection can be had"),
    checker::element("check/tcp/to", to_attributes, "where, and how often", STEAD_ELEM_REQUIRED),
};

} // namespace

} // namespace stead::checkers

STEAD_EXPORT_CHECKS(stead::checkers::TcpCheck, "checkers.tcp", "1.0.0", stead::checkers::schema)

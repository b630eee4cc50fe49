// SPDX-License-Identifier: Apache-2.0
// <check><http ident="shop" when="prim"><to addr="127.0.0.1" port="80" path="/health" body="OK"/></http></check>
#include "http_check.hpp"

namespace stead::checkers {

namespace {

namespace attribute = checker::attribute;

/// "shop.example:8443" and "[2001:db8::1]:8443" without port and brackets.
std::string name_in(const std::string& host) {
    if (host.starts_with('[')) {
        return host.substr(1, host.find(']') - 1);
    }
    return std::ranges::count(host, ':') == 1 ? host.substr(0, host.find(':')) : host;
}

/// Up when the answer has a wanted status, and a body that matches.
class HttpCheck final : public HttpCheckBase {
public:
    static constexpr const char* path = "check/http";
    static constexpr const char* label = "h_";

    explicit HttpCheck(plugin::Config element) {
        const auto to = element.child("to");
        if (!to) {
            throw std::invalid_argument("<http> needs the element <to addr/>");
        }
        expectation = std::make_unique<const Expectation>(to->string("status"), std::string{to->string("body")});
        connection.host = to->string("addr");
        connection.tls = to->boolean("tls");
        connection.verify = to->boolean("verify");
        if (connection.verify && !connection.tls) {
            throw std::invalid_argument("to/@verify: on needs tls=\"on\"");
        }
        const bool has_port = to->attribute("port").has_value();
        connection.port = has_port ? static_cast<std::uint16_t>(to->integer("port")) : connection.tls ? 443 : 80;
        const std::string host{to->string("host")};
        connection.server_name = name_in(host);
        set_request(to->string("method"),
                    host.empty() ? authority(connection.host, has_port ? connection.port : 0) : host,
                    to->string("path"));
    }
};

constexpr stead_attr_schema check_attributes[] = {
    attribute::ident("names the resource http.<ident> and the rule h_<ident>"),
    attribute::when("prim"),
    attribute::action(),
    attribute::rise(),
    attribute::fall(),
};
constexpr stead_attr_schema to_attributes[] = {
    {"addr", STEAD_TYPE_ADDRESS, STEAD_ATTR_REQUIRED | attribute::dynamic, nullptr, nullptr, nullptr, 0, 0,
     "where to connect to; a name is resolved at each probe"},
    {"port", STEAD_TYPE_PORT, attribute::dynamic, nullptr, nullptr, nullptr, 0, 0,
     "TCP port; none given: 80, with tls 443"},
    attribute::text("path", "/", "target of the request, with its query"),
    {"method", STEAD_TYPE_CHOICE, attribute::dynamic, "GET", "GET|HEAD|OPTIONS", nullptr, 0, 0, "of the request"},
    attribute::text("host", "", "header Host, and the server's name for tls; empty: addr and port"),
    attribute::interval(),
    attribute::timeout(),
    attribute::text("status", "200-399", "statuses that are up: numbers and ranges, as in 200-299,401"),
    attribute::text("body", "", "extended regular expression that the first 64 KiB of the body must match"),
    attribute::flag("tls", "off", "HTTPS"),
    attribute::flag("verify", "off", "with tls: the certificate must be valid, and for the server's name"),
};
constexpr stead_elem_schema schema[] = {
    checker::element("check/http", check_attributes, "up while an HTTP server answers as it should"),
    checker::element("check/http/to", to_attributes, "what to ask for, and how often", STEAD_ELEM_REQUIRED),
};

} // namespace

} // namespace stead::checkers

STEAD_EXPORT_CHECKS(stead::checkers::HttpCheck, "checkers.http", "1.0.0", stead::checkers::schema)

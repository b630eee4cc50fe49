// SPDX-License-Identifier: Apache-2.0
// <check><module name="db"><to addr="192.0.2.12"/></module></check>
#include "http_check.hpp"

namespace stead::checkers {

namespace {

namespace attribute = checker::attribute;

constexpr std::uint16_t port_plain = 9010;
constexpr std::uint16_t port_secure = 9453;

/// Up while the health URL of a module says that it is ready. When the module there became ready anew between two good
/// probes (its ETag changed), ours is to begin anew as well: what it holds of the other (connections, caches) is stale.
/// Where it was seen down meanwhile, module_failure has taken care of that.
class ModuleCheck final : public HttpCheckBase {
public:
    explicit ModuleCheck(plugin::Config element) : name_(element.string("name")) {
        const auto to = element.child("to");
        connection.host = to ? std::string{to->attribute("addr").value_or(local)} : std::string{local};
        connection.tls = to && to->boolean("secure");
        const bool has_port = to && to->attribute("port");
        connection.port = has_port         ? static_cast<std::uint16_t>(to->integer("port"))
                          : connection.tls ? port_secure
                                           : port_plain;
        expectation = std::make_unique<const Expectation>("200", "");
        set_request("GET", authority(connection.host, connection.port), "/var/modules/" + name_ + "/ready.txt");
    }

    /// The resource is module.<ident>, else module.<name>_<addr>. The default rule module_failure is for all of them.
    static std::vector<checker::Plan<ModuleCheck>> plan(plugin::Config service) {
        std::vector<checker::Plan<ModuleCheck>> all;
        for (const plugin::Config& element : checker::elements_of(service, "check/module")) {
            const std::string other = std::string{element.string("name")} + "_" +
                                      std::string{checker::attribute_of(element, "addr").value_or(local)};
            all.push_back({checker::read_spec(element, element.attribute("ident").value_or(other), ""),
                           [element] { return std::make_shared<ModuleCheck>(element); }});
        }
        return all;
    }

private:
    static constexpr std::string_view local = "127.0.0.1";

    void on_arm() override {
        seen_.clear();
        HttpCheckBase::on_arm();
    }
    void answered(const std::string& validator) override {
        const std::string before = std::exchange(seen_, validator);
        const bool seen_down = verdict() == checker::Verdict::down;
        if (!before.empty() && !validator.empty() && before != validator && !seen_down) {
            host().request("stopstart", "module " + name_ + " of " + connection.host + " was restarted");
        }
    }

    std::string name_, seen_;
};

constexpr stead_attr_schema check_attributes[] = {
    {"name", STEAD_TYPE_NAME, STEAD_ATTR_REQUIRED | attribute::dynamic, nullptr, nullptr, nullptr, 0, 0,
     "the other module"},
    {"ident", STEAD_TYPE_NAME, attribute::dynamic, nullptr, nullptr, nullptr, 0, 0,
     "names the resource module.<ident>; none given: <name>_<addr>"},
    attribute::when("pre"),
    attribute::rise(),
    attribute::fall(),
};
constexpr stead_attr_schema to_attributes[] = {
    {"addr", STEAD_TYPE_ADDRESS, attribute::dynamic, nullptr, nullptr, nullptr, 0, 0,
     "its server; none given: this one"},
    {"port", STEAD_TYPE_PORT, attribute::dynamic, nullptr, nullptr, nullptr, 0, 0,
     "of the health URL; none given: 9010, secure 9453"},
    attribute::interval(),
    attribute::timeout(),
    attribute::flag("secure", "off", "HTTPS"),
};
constexpr stead_elem_schema schema[] = {
    checker::element("check/module", check_attributes, "up while another module is ready"),
    checker::element("check/module/to", to_attributes, "where, and how often", 0),
};

} // namespace

} // namespace stead::checkers

STEAD_EXPORT_CHECKS(stead::checkers::ModuleCheck, "checkers.module", "1.0.0", stead::checkers::schema)

// SPDX-License-Identifier: Apache-2.0
// <intf ident="10.42.0.0" when="pre"><to local_addr="10.42.0.11"/></intf>: up while the interface with that address
// has a carrier.
#include <stead/checker.hpp>
#include <stead/net/net.hpp>

#include <algorithm>
#include <memory>

namespace {

using stead::checker::Verdict;
namespace net = stead::net;
namespace plugin = stead::plugin;

class IntfCheck final : public stead::checker::Check {
public:
    static constexpr const char* path = "check/intf";
    static constexpr const char* label = ""; // the default rule interface_failure is for all of them

    explicit IntfCheck(plugin::Config element)
        : address_(stead::checker::attribute_of(element, "local_addr").value_or("")),
          name_(stead::checker::attribute_of(element, "name").value_or("")) {
        if (address_.empty() && name_.empty()) {
            throw std::invalid_argument("intf." + std::string{element.string("ident")} +
                                        ": <to> needs local_addr, an address of this node, or name, an interface");
        }
    }

    void on_arm() override {
        auto opened = net::Watch::open({
            .link = [this](std::uint32_t index, const std::string&, bool up) { link(index, up); },
            .address = [this](std::uint32_t, const std::string& address, bool added) { changed(address, added); },
        });
        if (!opened) {
            report(Verdict::down, opened.error().text());
            return;
        }
        watch_ = std::move(*opened);
        loop().watch(watch_->fd(), EPOLLIN, [this](std::uint32_t) {
            watch_->poll();
            look();
        });
        look();
    }
    void on_disarm() override {
        if (watch_) {
            loop().unwatch(watch_->fd());
            watch_.reset();
        }
    }

private:
    // Events count even when the state is good again by the time that we look: a flap is a failure.
    void link(std::uint32_t index, bool up) {
        if (index == index_ && !up) {
            report(Verdict::down, "no carrier on " + found_);
        }
    }
    void changed(const std::string& address, bool added) {
        if (address == address_ && !added) {
            report(Verdict::down, address_ + " was removed");
        }
    }
    void look() {
        const auto all = net::interfaces();
        if (!all) {
            report(Verdict::down, all.error().text());
            return;
        }
        const auto found = std::ranges::find_if(*all, [&](const net::Interface& one) {
            return (name_.empty() || one.name == name_) &&
                   (address_.empty() || std::ranges::any_of(one.addresses, [&](const std::string& with_prefix) {
                        return with_prefix.substr(0, with_prefix.find('/')) == address_;
                    }));
        });
        if (found == all->end()) {
            report(Verdict::down, address_.empty() ? "there is no interface " + name_
                                  : name_.empty()  ? "no interface has " + address_
                                                   : name_ + " does not have " + address_);
            return;
        }
        index_ = found->index;
        found_ = found->name;
        report(found->up ? Verdict::up : Verdict::down, found->up ? "carrier on " + found_ : "no carrier on " + found_);
    }

    std::string address_, name_, found_;
    std::uint32_t index_{};
    std::unique_ptr<net::Watch> watch_;
};

namespace attribute = stead::checker::attribute;

constexpr stead_attr_schema intf_attributes[] = {
    attribute::ident("names the resource intf.<ident>; by use the address of the network"),
    attribute::when("pre", "pre|prim|second|sec|both"),
};
constexpr stead_attr_schema to_attributes[] = {
    {"local_addr", STEAD_TYPE_ADDRESS, STEAD_ATTR_NUMERIC | attribute::dynamic, nullptr, nullptr, nullptr, 0, 0,
     "an address of this node: its interface is checked, and that it is there"},
    {"name", STEAD_TYPE_STRING, attribute::dynamic, nullptr, nullptr, nullptr, 0, 0,
     "an interface, instead of or beside an address"},
};
constexpr stead_elem_schema schema[] = {
    {"check/intf", nullptr, STEAD_ELEM_REPEATABLE | STEAD_ELEM_DYNAMIC, std::size(intf_attributes), intf_attributes,
     "up while an interface has a carrier and its address; made for each <interface check=\"on\">"},
    {"check/intf/to", nullptr, STEAD_ELEM_REQUIRED | STEAD_ELEM_DYNAMIC, std::size(to_attributes), to_attributes,
     "which interface"},
};

} // namespace

STEAD_EXPORT_CHECKS(IntfCheck, "checkers.intf", "1.0.0", schema)

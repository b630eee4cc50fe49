// SPDX-License-Identifier: Apache-2.0
#include "netlink.hpp"

#include <stead/base/files.hpp>

#include <linux/if.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <set>

namespace stead::net {
namespace {

class NetlinkWatch final : public Watch {
public:
    NetlinkWatch(Fd socket, Events events) : socket_(std::move(socket)), events_(std::move(events)) {}

    [[nodiscard]] int fd() const noexcept override { return socket_.get(); }

    void poll() override {
        for (;;) {
            alignas(nlmsghdr) char buffer[32768];
            const ssize_t size = ::recv(socket_.get(), buffer, sizeof buffer, 0);
            if (size < 0 && errno == ENOBUFS) {
                compare_all(true);
                continue;
            }
            if (size <= 0) {
                return;
            }
            int rest = static_cast<int>(size);
            for (auto* header = reinterpret_cast<nlmsghdr*>(buffer); nlmsg_ok(header, rest);
                 header = nlmsg_next(header, &rest)) {
                handle(header);
            }
        }
    }

    /// Reads everything and takes it as the state from now on, telling the differences when asked to.
    void compare_all(bool tell) {
        const auto all = interfaces();
        if (!all) {
            return; // the next event or overflow tries again
        }
        std::map<std::uint32_t, Link> links;
        std::set<Address> addresses;
        for (const auto& link : all.value()) {
            links[link.index] = {link.name, link.up};
            for (const auto& address : link.addresses) {
                addresses.emplace(link.index, address.substr(0, address.find('/')));
            }
        }
        if (tell) {
            for (const auto& [index, link] : Map(links_)) {
                if (!links.contains(index)) {
                    set_link(index, link.name, false, true);
                }
            }
            for (const auto& [index, link] : links) {
                set_link(index, link.name, link.up, false);
            }
            for (const auto& address : std::set<Address>(addresses_)) {
                if (!addresses.contains(address)) {
                    set_address(address, false);
                }
            }
            for (const auto& address : addresses) {
                set_address(address, true);
            }
        }
        links_ = std::move(links);
        addresses_ = std::move(addresses);
    }

private:
    struct Link {
        std::string name;
        bool up{};
    };
    using Map = std::map<std::uint32_t, Link>;
    using Address = std::pair<std::uint32_t, std::string>;

    void handle(nlmsghdr* header) {
        if (header->nlmsg_type == RTM_NEWLINK || header->nlmsg_type == RTM_DELLINK) {
            handle_link(header);
        } else if (header->nlmsg_type == RTM_NEWADDR || header->nlmsg_type == RTM_DELADDR) {
            handle_address(header);
        }
    }

    void handle_link(nlmsghdr* header) {
        const auto* info = static_cast<const ifinfomsg*>(nlmsg_data(header));
        nlattr* attributes[IFLA_MAX + 1]{};
        if (info->ifi_family == AF_BRIDGE || // port events of a bridge: the link itself has not gone
            nlmsg_parse(header, sizeof *info, attributes, IFLA_MAX, nullptr) < 0) {
            return;
        }
        const bool gone = header->nlmsg_type == RTM_DELLINK;
        const bool up = !gone && (info->ifi_flags & IFF_UP) != 0 && (info->ifi_flags & IFF_LOWER_UP) != 0;
        const std::string name = attributes[IFLA_IFNAME] != nullptr ? nla_get_string(attributes[IFLA_IFNAME]) : "";
        set_link(static_cast<std::uint32_t>(info->ifi_index), name, up, gone);
    }

    void handle_address(nlmsghdr* header) {
        const auto* info = static_cast<const ifaddrmsg*>(nlmsg_data(header));
        nlattr* attributes[IFA_MAX + 1]{};
        if (nlmsg_parse(header, sizeof *info, attributes, IFA_MAX, nullptr) < 0) {
            return;
        }
        const nlattr* address = attributes[IFA_LOCAL] != nullptr ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS];
        IpBytes ip;
        ip.family = info->ifa_family;
        if (address == nullptr || nla_len(address) != static_cast<int>(ip.size())) {
            return;
        }
        std::memcpy(ip.bytes.data(), nla_data(address), ip.size());
        set_address({info->ifa_index, to_text(ip)}, header->nlmsg_type == RTM_NEWADDR);
    }

    void set_link(std::uint32_t index, const std::string& name, bool up, bool gone) {
        const auto known = links_.find(index);
        const bool was_up = known != links_.end() && known->second.up;
        const bool changed = was_up != up || (known == links_.end() && !gone);
        if (gone) {
            links_.erase(index);
        } else {
            links_[index] = {name, up};
        }
        if (changed && events_.link) {
            events_.link(index, name, up);
        }
    }

    void set_address(const Address& address, bool added) {
        const bool changed = added ? addresses_.insert(address).second : addresses_.erase(address) != 0;
        if (changed && events_.address) {
            events_.address(address.first, address.second, added);
        }
    }

    Fd socket_;
    Events events_;
    Map links_;
    std::set<Address> addresses_;
};

} // namespace

Result<std::unique_ptr<Watch>> Watch::open(Events events) {
    Fd socket{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE)};
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
    if (!socket || ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return os_error("netlink", "cannot watch links and addresses", errno);
    }
    auto watch = std::make_unique<NetlinkWatch>(std::move(socket), std::move(events));
    watch->compare_all(false); // what is there is the baseline; events that raced with it are told as no change
    return std::unique_ptr<Watch>(std::move(watch));
}

} // namespace stead::net

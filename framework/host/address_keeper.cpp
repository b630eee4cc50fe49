// SPDX-License-Identifier: Apache-2.0
#include "address_keeper.hpp"

#include <algorithm>
#include <cstring>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace stead::host {

namespace {

/// Of all processes of this network namespace one may hold an address.
Result<Fd> claim_of(const std::string& address) {
    Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    const std::string text = "stead/address/" + address; // behind a zero byte: no file
    std::memcpy(name.sun_path + 1, text.data(), std::min(text.size(), sizeof name.sun_path - 1));
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
    if (!socket || ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), length) != 0) {
        return errno == EADDRINUSE ? Error{Errc::conflict, address, "is kept by another module of this node"}
                                   : os_error(address, "cannot be claimed", errno);
    }
    return socket;
}

} // namespace

AddressKeeper::AddressKeeper(boost::asio::io_context& io, Link link, Note note)
    : descriptor_(io), link_(std::move(link)), note_(std::move(note)) {}

Result<void> AddressKeeper::open() {
    auto watch = net::Watch::open({
        .link = [this](std::uint32_t ifindex, const std::string& name, bool up) { link_changed(ifindex, name, up); },
        .address =
            [this](std::uint32_t ifindex, const std::string& address, bool added) {
                if (!added) {
                    restore(ifindex, address);
                }
            },
    });
    if (!watch) {
        return watch.error();
    }
    watch_ = std::move(*watch);
    const int copy = ::dup(watch_->fd()); // asio closes what it is given
    if (copy < 0) {
        return os_error("netlink", "dup", errno);
    }
    descriptor_.assign(copy);
    wait();
    return {};
}

void AddressKeeper::wait() {
    descriptor_.async_wait(boost::asio::posix::descriptor_base::wait_read, [this](boost::system::error_code failed) {
        if (!failed) {
            watch_->poll();
            wait();
        }
    });
}

void AddressKeeper::close() {
    boost::system::error_code ignored; // closing twice is fine
    descriptor_.close(ignored);
}

Result<net::Interface> AddressKeeper::find(const std::string& interface, const std::string& address) {
    if (interface.empty()) {
        return net::interface_for(address);
    }
    auto all = net::interfaces();
    if (!all) {
        return all.error();
    }
    const auto found = std::ranges::find(*all, interface, &net::Interface::name);
    if (found == all->end()) {
        return Error{Errc::not_found, interface, "no such interface"};
    }
    return *found;
}

Result<void> AddressKeeper::add(const std::string& interface, const std::string& address) {
    const auto found = find(interface, address);
    if (!found) {
        return found.error();
    }
    {
        const std::lock_guard lock(mutex_);
        if (std::ranges::any_of(kept_, [&](const Kept& kept) { return kept.address == address; })) {
            return Error{Errc::conflict, found->name, address + " is kept by this module already"};
        }
        auto claim = claim_of(address);
        if (!claim) {
            return claim.error();
        }
        kept_.push_back({found->name, address, found->index, std::make_shared<const Fd>(std::move(*claim))});
    }
    auto added = net::add_address(found->index, address);
    if (!added) {
        const std::lock_guard lock(mutex_);
        std::erase_if(kept_, [&](const Kept& kept) { return kept.address == address; });
    }
    return added;
}

void AddressKeeper::remove(const std::string& interface, const std::string& address) {
    std::uint32_t ifindex = 0;
    {
        const std::lock_guard lock(mutex_);
        const auto kept = std::ranges::find(kept_, address, &Kept::address);
        if (kept != kept_.end()) {
            ifindex = kept->ifindex;
            kept_.erase(kept); // first: its removal must not look like somebody else's
        }
    }
    if (ifindex == 0) {
        const auto found = find(interface, address);
        if (!found) {
            return; // the interface is gone, and the address with it
        }
        ifindex = found->index;
    }
    if (auto removed = net::remove_address(ifindex, address); !removed) {
        note_("address " + address + " could not be removed: " + removed.error().text());
    }
}

void AddressKeeper::remove_all() {
    std::vector<Kept> all;
    {
        const std::lock_guard lock(mutex_);
        all.swap(kept_);
    }
    for (const Kept& kept : all) {
        if (auto removed = net::remove_address(kept.ifindex, kept.address); !removed) {
            note_("address " + kept.address + " could not be removed: " + removed.error().text());
        }
    }
}

void AddressKeeper::restore(std::uint32_t ifindex, const std::string& address) {
    {
        const std::lock_guard lock(mutex_);
        if (std::ranges::none_of(
                kept_, [&](const Kept& kept) { return kept.address == address && kept.ifindex == ifindex; })) {
            return;
        }
    }
    const auto added = net::add_address(ifindex, address);
    note_("address " + address + " was removed by somebody else; " +
          (added ? std::string{"put back"} : "it could not be put back: " + added.error().text()));
}

void AddressKeeper::link_changed(std::uint32_t ifindex, const std::string& name, bool up) {
    std::vector<Kept> back;
    {
        const std::lock_guard lock(mutex_);
        for (Kept& kept : kept_) {
            if (kept.interface == name && up) { // a new device of the old name has another index, and no addresses
                kept.ifindex = ifindex;
                back.push_back(kept);
            }
        }
    }
    for (const Kept& kept : back) {
        if (auto added = net::add_address(ifindex, kept.address); !added) {
            note_("address " + kept.address + " could not be put back on " + name + ": " + added.error().text());
        }
    }
    link_(ifindex, up);
}

} // namespace stead::host

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/filter/packet_filter.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace stead::farm {

/// `<rule proto="arp">`: who asks for the virtual addresses on one interface. Requests are broadcast, so that every
/// node
/// knows every client of the subnet, and can tell those whose buckets it gains. IPv4; strand only.
class Clients {
public:
    struct Client {
        shim::Ip ip{};
        shim::Mac mac{};
        bool mine{}; ///< announced to: its bucket was ours at the last look
    };
    /// A tap in front of the filter, which drops the requests that another node answers. Errors: io.
    [[nodiscard]] static Result<std::unique_ptr<Clients>> open(std::uint32_t ifindex);
    /// Takes in what has arrived, for these addresses only. Never blocks.
    void poll(const std::vector<shim::Ip>& vips);
    /// By text address, at most 4096; beyond that new ones are not told, and ask when their entry is stale.
    [[nodiscard]] std::map<std::string, Client>& all() noexcept { return all_; }
    [[nodiscard]] std::uint32_t ifindex() const noexcept { return ifindex_; }

private:
    Clients(Fd socket, std::uint32_t ifindex) : socket_(std::move(socket)), ifindex_(ifindex) {}
    Fd socket_;
    std::uint32_t ifindex_;
    std::map<std::string, Client> all_;
};

} // namespace stead::farm

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/base/result.hpp>
#include <stead/net/net.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace stead::host {

/// Keeps virtual addresses on their interfaces: whoever removes one sees it put back at once (netlink events, no poll).
///
/// Threading: add and remove from any thread; events come on the io_context's thread.
class AddressKeeper {
public:
    using Link = std::function<void(std::uint32_t ifindex, bool up)>;
    using Note = std::function<void(const std::string&)>;
    AddressKeeper(boost::asio::io_context& io, Link link, Note note);

    /// Begins to watch. Errors: io.
    [[nodiscard]] Result<void> open();
    /// An empty interface: the one whose subnet carries the address. Errors: conflict when it is kept already, by this
    /// module or by another one of this node.
    [[nodiscard]] Result<void> add(const std::string& interface, const std::string& address);
    /// Also removes one that an earlier process left.
    void remove(const std::string& interface, const std::string& address);
    void remove_all();
    /// Ends the watch.
    void close();

private:
    struct Kept {
        std::string interface, address;
        std::uint32_t ifindex{};
        std::shared_ptr<const Fd> claim; ///< an abstract socket of its name: the kernel lets go of it with the process
    };
    [[nodiscard]] static Result<net::Interface> find(const std::string& interface, const std::string& address);
    void wait();
    void restore(std::uint32_t ifindex, const std::string& address);
    void link_changed(std::uint32_t ifindex, const std::string& name, bool up);

    boost::asio::posix::stream_descriptor descriptor_;
    Link link_;
    Note note_;
    std::unique_ptr<net::Watch> watch_;
    std::mutex mutex_;
    std::vector<Kept> kept_;
};

} // namespace stead::host

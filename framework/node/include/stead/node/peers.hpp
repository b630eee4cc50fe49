// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/archive/archive.hpp>
#include <stead/base/result.hpp>
#include <stead/base/time.hpp>
#include <stead/node/call.hpp>
#include <stead/node/cluster.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/json/object.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace stead::wire {
class StreamServer;
}

namespace stead::node {

/// A file that goes with a request: a package or a cluster.xml.
inline constexpr std::uint64_t attachment_bytes_max = archive::package_bytes_max;

/// Asks the steadd of another node one thing over TLS and waits for its answer. Blocks: on a worker thread only.
/// While a command takes long the peer sends signs of life; without one for 5 s it counts as gone. `attachment`: a
/// file that goes with the request, read from its beginning; -1 = none.
/// Errors: denied (it has another key), timed_out, io; `where` is the address tried last.
[[nodiscard]] Result<boost::json::object> ask_node(const ActiveCluster& cluster, NodeId node,
                                                   const boost::json::object& request, milliseconds connect_limit,
                                                   int attachment = -1);

/// Answers other nodes. Requests become calls on the main thread; a file that came with one is Request::fds[0].
class PeerServer {
public:
    using Handle = std::function<void(CallPtr)>;
    /// `inbox`: folder for the files that come, which have no name there.
    [[nodiscard]] static Result<std::unique_ptr<PeerServer>>
    start(boost::asio::io_context& io, const ActiveCluster& cluster, std::filesystem::path inbox, Handle handle);
    /// Frees the port at once and answers what was asked before, in the background: a command that replaces the server
    /// came through it.
    static void retire(std::unique_ptr<PeerServer> server);
    ~PeerServer();
    void set_keys(const std::vector<std::string>& keys);
    [[nodiscard]] std::uint64_t refused() const noexcept;

private:
    PeerServer() = default;
    std::unique_ptr<wire::StreamServer> server_;
};

} // namespace stead::node

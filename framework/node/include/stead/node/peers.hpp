// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/base/time.hpp>
#include <stead/node/call.hpp>
#include <stead/node/cluster.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/json/object.hpp>

#include <functional>
#include <memory>
#include <string>

namespace stead::wire {
class StreamServer;
}

namespace stead::node {

/// Asks the steadd of another node one thing over TLS and waits for its answer. Blocks: on a worker thread only.
/// While a command takes long the peer sends signs of life; without one for 5 s it counts as gone.
/// Errors: denied (it has another key), timed_out, io; `where` is the address tried last.
[[nodiscard]] Result<boost::json::object> ask_node(const ActiveCluster& cluster, NodeId node,
                                                   const boost::json::object& request, milliseconds connect_limit);

/// Answers other nodes. Requests become calls on the main thread.
class PeerServer {
public:
    using Handle = std::function<void(CallPtr)>;
    [[nodiscard]] static Result<std::unique_ptr<PeerServer>> start(boost::asio::io_context& io,
                                                                   const ActiveCluster& cluster, Handle handle);
    ~PeerServer();
    void set_keys(const std::vector<std::string>& keys);
    [[nodiscard]] std::uint64_t refused() const noexcept;

private:
    PeerServer() = default;
    std::unique_ptr<wire::StreamServer> server_;
};

} // namespace stead::node

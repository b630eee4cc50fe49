// SPDX-License-Identifier: Apache-2.0
#include <stead/node/peers.hpp>

#include <stead/wire/stream.hpp>

#include <boost/asio/post.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <future>

namespace stead::node {
namespace json = boost::json;
namespace {

constexpr seconds silence_max{5};
constexpr seconds life_sign_interval{1};
constexpr std::size_t request_bytes_max = 1u << 20;

Result<json::object> parse_object(const std::string& text) {
    json::error_code error;
    json::parse_options options;
    options.max_depth = 32;
    json::value value = json::parse(text, error, {}, options);
    if (error || !value.is_object()) {
        return Error{Errc::malformed, "stream", "not a JSON object"};
    }
    return std::move(value.get_object());
}

Result<json::object> converse(wire::Stream& stream, const std::string& request) {
    if (Result<void> sent = stream.write_frame(request, silence_max); !sent) {
        return sent.error();
    }
    for (;;) {
        const Result<std::string> frame = stream.read_frame(silence_max);
        if (!frame) {
            return frame.error();
        }
        Result<json::object> answer = parse_object(*frame);
        if (!answer || answer->contains("done")) {
            return answer;
        }
    }
}

void serve(boost::asio::io_context& io, const PeerServer::Handle& handle, wire::Stream& stream) {
    const Result<std::string> frame = stream.read_frame(silence_max);
    if (!frame || frame->size() > request_bytes_max) {
        return;
    }
    Result<json::object> body = parse_object(*frame);
    Result<Request> request = body ? parse_request(*body) : Result<Request>(body.error());
    if (!request) {
        [[maybe_unused]] const Result<void> sent =
            stream.write_frame(json::serialize(Answer::failed(request.error()).to_json()), silence_max);
        return;
    }
    request->from_peer = true;
    request->nodes.clear();
    request->caller = "peer " + stream.peer();
    auto promise = std::make_shared<std::promise<std::string>>();
    std::future<std::string> answer = promise->get_future();
    auto call = std::make_shared<Call>(
        std::move(*request), [](const std::string&) {},
        [promise](const Answer& a) { promise->set_value(json::serialize(a.to_json())); });
    boost::asio::post(io, [call, handle]() mutable { handle(std::move(call)); });
    call.reset();
    while (answer.wait_for(life_sign_interval) != std::future_status::ready) {
        if (!stream.write_frame(R"({"progress":""})", silence_max)) {
            return;
        }
    }
    std::string text;
    try {
        text = answer.get();
    } catch (const std::future_error&) { // steadd ends: the call was dropped unanswered
        return;
    }
    [[maybe_unused]] const Result<void> sent = stream.write_frame(text, silence_max);
}

} // namespace

Result<json::object> ask_node(const ActiveCluster& cluster, NodeId node, const json::object& request,
                              milliseconds connect_limit) {
    const std::string text = json::serialize(request);
    Error last{Errc::not_found, cluster.cluster.nodes[index(node)], "has no address"};
    for (const std::string& address : cluster.addresses_of(node)) {
        Result<std::unique_ptr<wire::Stream>> stream =
            wire::StreamClient::connect(address, cluster.cluster.port, cluster.keys, connect_limit);
        if (!stream) {
            last = stream.error();
            continue;
        }
        return converse(**stream, text); // sent once: a second try could do things twice
    }
    return last;
}

Result<std::unique_ptr<PeerServer>> PeerServer::start(boost::asio::io_context& io, const ActiveCluster& cluster,
                                                      Handle handle) {
    auto server = wire::StreamServer::start(cluster.own_addresses(), cluster.cluster.port, cluster.keys,
                                            [&io, handle](wire::Stream& stream) { serve(io, handle, stream); });
    if (!server) {
        return server.error();
    }
    std::unique_ptr<PeerServer> peers(new PeerServer);
    peers->server_ = std::move(*server);
    return peers;
}

PeerServer::~PeerServer() = default;

void PeerServer::set_keys(const std::vector<std::string>& keys) { server_->set_keys(keys); }

std::uint64_t PeerServer::refused() const noexcept { return server_->refused(); }

} // namespace stead::node

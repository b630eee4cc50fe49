// SPDX-License-Identifier: Apache-2.0
#include <stead/node/peers.hpp>

#include <stead/base/limits.hpp>
#include <stead/base/utf8.hpp>
#include <stead/wire/stream.hpp>

#include <boost/asio/post.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <optional>
#include <thread>

namespace stead::node {
namespace json = boost::json;
namespace {

constexpr seconds silence_max{5};
constexpr seconds life_sign_interval{1};
constexpr seconds drain_limit{30};
constexpr std::size_t request_bytes_max = 1u << 20;
constexpr std::size_t file_frame_bytes = 256u << 10;

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

Result<void> send_file(wire::Stream& stream, int fd, std::uint64_t size) {
    std::string part(file_frame_bytes, '\0');
    for (std::uint64_t at = 0; at < size;) {
        const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(part.size(), size - at));
        const ssize_t got = ::pread(fd, part.data(), wanted, static_cast<off_t>(at)); // the offset is shared
        if (got <= 0) {
            return os_error("file", got == 0 ? "became shorter" : "cannot read", got == 0 ? EIO : errno);
        }
        const auto bytes = static_cast<std::size_t>(got);
        if (Result<void> sent = stream.write_frame(std::string_view(part).substr(0, bytes), silence_max); !sent) {
            return sent;
        }
        at += bytes;
    }
    return {};
}

Result<Fd> receive_file(wire::Stream& stream, std::uint64_t size, const std::filesystem::path& inbox) {
    std::string name = (inbox / "incoming-XXXXXX").string();
    Fd file(::mkostemp(name.data(), O_CLOEXEC));
    if (!file) {
        return os_error(name, "cannot make a file", errno);
    }
    ::unlink(name.c_str());
    for (std::uint64_t at = 0; at < size;) {
        const Result<std::string> part = stream.read_frame(silence_max);
        if (!part) {
            return part.error();
        }
        if (part->empty() || part->size() > size - at) {
            return Error{Errc::malformed, "stream",
                         "a part of " + std::to_string(part->size()) + " bytes, " + std::to_string(size - at) +
                             " are missing"};
        }
        for (std::size_t done = 0; done < part->size();) {
            const ssize_t put = ::write(file.get(), part->data() + done, part->size() - done);
            if (put < 0) {
                return os_error(inbox.string(), "cannot write the file that came", errno);
            }
            done += static_cast<std::size_t>(put);
        }
        at += part->size();
    }
    return file;
}

/// The file that `body` announces, if any.
Result<std::optional<Fd>> receive_attachment(wire::Stream& stream, const json::object& body,
                                             const std::filesystem::path& inbox) {
    const json::value* size = body.if_contains("attachment");
    if (size == nullptr) {
        return std::optional<Fd>{};
    }
    if (!size->is_int64() || size->get_int64() < 0 ||
        static_cast<std::uint64_t>(size->get_int64()) > attachment_bytes_max) {
        return Error{Errc::out_of_range, "request",
                     "a file of at most " + std::to_string(attachment_bytes_max) + " bytes can be sent"};
    }
    Result<Fd> file = receive_file(stream, static_cast<std::uint64_t>(size->get_int64()), inbox);
    if (!file) {
        return file.error();
    }
    return std::optional<Fd>(std::move(*file));
}

Result<json::object> converse(wire::Stream& stream, const std::string& request, int attachment, std::uint64_t size) {
    if (Result<void> sent = stream.write_frame(request, silence_max); !sent) {
        return sent.error();
    }
    if (Result<void> sent = send_file(stream, attachment, size); !sent) {
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

void serve(boost::asio::io_context& io, const PeerServer::Handle& handle, const std::filesystem::path& inbox,
           wire::Stream& stream) {
    const Result<std::string> frame = stream.read_frame(silence_max);
    if (!frame || frame->size() > request_bytes_max) {
        return;
    }
    Result<json::object> body = parse_object(*frame);
    Result<Request> request = body ? parse_request(*body) : Result<Request>(body.error());
    if (request) {
        if (Result<std::optional<Fd>> file = receive_attachment(stream, *body, inbox); !file) {
            request = file.error();
        } else if (*file) {
            request->fds.push_back(std::move(**file));
        }
    }
    if (!request) {
        [[maybe_unused]] const Result<void> sent =
            stream.write_frame(utf8_json(json::serialize(Answer::failed(request.error()).to_json())), silence_max);
        return;
    }
    request->from_peer = true;
    request->nodes.clear();
    request->caller = "peer " + stream.peer() + (request->caller.empty() ? "" : ", " + request->caller);
    auto promise = std::make_shared<std::promise<std::string>>();
    std::future<std::string> answer = promise->get_future();
    auto call = std::make_shared<Call>(
        std::move(*request), [](const std::string&) {},
        [promise](const Answer& a) {
            std::string text = utf8_json(json::serialize(a.to_json()));
            const bool fits = text.size() <= limits::stream_frame_bytes_max;
            promise->set_value(fits ? std::move(text) : json::serialize(Answer::too_long().to_json()));
        });
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
                              milliseconds connect_limit, int attachment) {
    json::object announced = request;
    struct stat info {};
    if (attachment >= 0) {
        if (::fstat(attachment, &info) != 0 || static_cast<std::uint64_t>(info.st_size) > attachment_bytes_max) {
            return Error{Errc::out_of_range, "file",
                         std::to_string(info.st_size) + " bytes; at most " + std::to_string(attachment_bytes_max) +
                             " can be sent to a node"};
        }
        announced["attachment"] = static_cast<std::int64_t>(info.st_size);
    }
    const std::string text = utf8_json(json::serialize(announced));
    Error last{Errc::not_found, cluster.cluster.nodes[index(node)], "has no address"};
    for (const std::string& address : cluster.addresses_of(node)) {
        Result<std::unique_ptr<wire::Stream>> stream =
            wire::StreamClient::connect(address, cluster.cluster.port, cluster.keys, connect_limit);
        if (!stream) {
            last = stream.error();
            continue;
        }
        return converse(**stream, text, attachment,
                        static_cast<std::uint64_t>(info.st_size)); // sent once: a second try could do things twice
    }
    return last;
}

Result<std::unique_ptr<PeerServer>> PeerServer::start(boost::asio::io_context& io, const ActiveCluster& cluster,
                                                      std::filesystem::path inbox, Handle handle) {
    auto server = wire::StreamServer::start(
        cluster.own_addresses(), cluster.cluster.port, cluster.keys,
        [&io, handle, inbox = std::move(inbox)](wire::Stream& stream) { serve(io, handle, inbox, stream); });
    if (!server) {
        return server.error();
    }
    std::unique_ptr<PeerServer> peers(new PeerServer);
    peers->server_ = std::move(*server);
    return peers;
}

void PeerServer::retire(std::unique_ptr<PeerServer> server) {
    if (server) {
        server->server_->stop_listening();
        std::thread([server = std::move(server)] { server->server_->drain(drain_limit); }).detach();
    }
}

PeerServer::~PeerServer() = default;

void PeerServer::set_keys(const std::vector<std::string>& keys) { server_->set_keys(keys); }

std::uint64_t PeerServer::refused() const noexcept { return server_->refused(); }

} // namespace stead::node

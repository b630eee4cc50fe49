// SPDX-License-Identifier: Apache-2.0
#include <stead/control/command.hpp>
#include <stead/control/paths.hpp>
#include <stead/web/privileges.hpp>
#include <stead/web/server.hpp>
#include <stead/web/status_client.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <optional>
#include <vector>

namespace {

using namespace stead;
using web::HttpServer;

constexpr const char* usage_text =
    "usage: stead-web\n\n"
    "Health URL and REST API of a Stead node; started and watched by steadd ('stead boot webon' and 'weboff').\n"
    "It runs as user stead-web (else nobody), and can read states from /run/stead/status.sock but change nothing.\n";

constexpr milliseconds bind_interval{50}, slow_bind_interval{1000};
constexpr int quick_attempts = 40;
constexpr milliseconds reconnect_interval{200};
constexpr seconds orphan_max{60}; // without steadd: "not ready" for everything, then gone
constexpr std::size_t other_descriptors = 64;

Result<std::shared_ptr<control::Connection>> connect_to_steadd(boost::asio::io_context& io) {
    return control::Connection::connect(io.get_executor(), control::paths().status_socket());
}

/// A TLS client costs some ten kilobytes while it does nothing, a plain one next to nothing.
struct Limits {
    web::ServerLimits plain;
    web::ServerLimits tls{.connections_max = 2048, .per_source_max = 256};
    [[nodiscard]] std::size_t connections() const { return plain.connections_max + tls.connections_max; }
};

/// From the first word of steadd to the last.
class Program {
public:
    Program(boost::asio::io_context& io, std::shared_ptr<control::Connection> steadd, const Limits& limits)
        : io_(io), timer_(io), limits_(limits), client_(io, std::move(steadd),
                                                        {[this](const web::Setup& setup) {
                                                             setup_ = setup;
                                                             begin();
                                                         },
                                                         [this] { lost(); }}) {}

private:
    /// One port: in clear, or HTTPS.
    struct Face {
        std::uint16_t port{};
        web::TlsContext tls;
        std::string said; ///< of what it serves, for the log
        std::unique_ptr<HttpServer> server{};
    };

    void begin() {
        faces_.push_back({setup_.port, {}, "TCP " + std::to_string(setup_.port)});
        if (setup_.tls) {
            auto context = web::tls_server(setup_.tls->certificate, setup_.tls->key, setup_.tls->name);
            if (context) {
                faces_.push_back({setup_.tls->port, std::move(*context),
                                  "TCP " + std::to_string(setup_.tls->port) + " (HTTPS, " + setup_.tls->name + ")"});
            } else {
                client_.note("warning", "no HTTPS: " + context.error().text());
            }
        }
        listen(0);
    }

    void listen(int attempt) {
        bool all = true;
        for (Face& face : faces_) {
            if (face.server) {
                continue;
            }
            Result<std::unique_ptr<HttpServer>> made = HttpServer::listen(
                io_, setup_.address, face.port, backend(), face.tls ? limits_.tls : limits_.plain, face.tls);
            if (made) {
                face.server = std::move(*made);
                client_.note("event", "serves " + (setup_.address.empty() ? "every address" : setup_.address) + ", " +
                                          face.said);
                continue;
            }
            all = false;
            if (attempt == quick_attempts) {
                client_.note("warning", "health URL: " + made.error().text() + "; tried again until it is free");
            }
        }
        if (!all) {
            // The stead-web of an earlier steadd gives way within reconnect_interval; anybody else may end some day.
            after(attempt < quick_attempts ? bind_interval : slow_bind_interval,
                  [this, attempt] { listen(attempt + 1); });
        }
    }

    web::Backend backend() {
        return {[this](std::string_view module) { return client_.is_ready(module); },
                [this](const web::Question& question, std::string_view token, std::function<void(web::Reply)> done) {
                    client_.ask(question, token, std::move(done));
                },
                setup_.version,
                setup_.api,
                [this](std::string_view module) { return client_.started(module); },
                [this](std::string_view token) {
                    return !setup_.token_sha256.empty() && web::sha256_hex(token) == setup_.token_sha256;
                }};
    }

    /// Not at once: of a process that is dying, the connection may end a moment before the socket that it listened on.
    void lost() {
        const Instant end = BootClock::now() + orphan_max;
        after(reconnect_interval, [this, end] { outlive(end); });
    }

    /// steadd died: nothing is ready here. Its successor starts a stead-web of its own, to which this one gives way.
    void outlive(Instant end) {
        if (BootClock::now() >= end || connect_to_steadd(io_)) {
            return io_.stop();
        }
        after(reconnect_interval, [this, end] { outlive(end); });
    }

    void after(milliseconds delay, std::function<void()> work) {
        timer_.expires_after(delay);
        timer_.async_wait([work = std::move(work)](const boost::system::error_code& error) {
            if (!error) {
                work();
            }
        });
    }

    boost::asio::io_context& io_;
    boost::asio::steady_timer timer_;
    Limits limits_;
    web::Setup setup_;
    web::StatusClient client_;
    std::vector<Face> faces_;
};

int fail(const Error& error) {
    std::cerr << "stead-web: " << error.text() << "\n";
    return control::exit_code::of(error.code);
}

} // namespace

int main(int argc, char** argv) {
    if (argc > 1) { // it has no options of its own
        std::cout << "stead-web " << STEAD_VERSION << "\n" << usage_text;
        const std::string_view word = argv[1];
        return word == "-h" || word == "--help" || word == "--version" ? 0 : control::exit_code::usage;
    }
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);
    boost::asio::io_context io(1);
    Result<std::shared_ptr<control::Connection>> steadd = connect_to_steadd(io);
    if (!steadd) {
        return fail(steadd.error());
    }
    Limits limits;
    const std::size_t wanted = limits.connections() + other_descriptors;
    const Result<std::size_t> descriptors = web::drop_privileges(wanted);
    if (!descriptors) {
        return fail(descriptors.error());
    }
    if (*descriptors < wanted) { // a fifth of what there is for HTTPS
        const std::size_t left = *descriptors - std::min(*descriptors - 5, other_descriptors);
        limits.tls.connections_max = left / 5;
        limits.plain.connections_max = left - left / 5;
    }
    const auto program = std::make_unique<Program>(io, std::move(*steadd), limits); // what its callbacks change is it
    io.run();
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "tls_stream.hpp"

#include <stead/base/assert.hpp>
#include <stead/base/log.hpp>
#include <stead/wire/duplex_stream.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>
#include <utility>

namespace stead::wire {
namespace {

constexpr milliseconds handshake_timeout{2000};

void set(const Fd& event) {
    const std::uint64_t one = 1;
    STEAD_ASSERT(::write(event.get(), &one, sizeof one) == sizeof one); // stays readable: every poll sees it
}

/// Accepts on one thread; each connection has a thread that is joined when it has ended. Strangers cannot keep the
/// nodes of the cluster out: who has not yet shown the key makes room for those who come later.
class Server final : public StreamServer {
public:
    Server(std::vector<Fd> listeners, std::uint16_t port, const std::vector<std::string>& keys, Handler handler)
        : listeners_(std::move(listeners)), port_(port), keys_(pre_shared(keys)), handler_(std::move(handler)),
          deaf_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
          context_(make_context(true)) {
        STEAD_ASSERT(deaf_ && stop_);
        acceptor_ = std::thread{[this] { accept_all(); }};
    }
    ~Server() override {
        stop_listening();
        set(stop_);
        for (Worker& worker : workers_) {
            worker.thread.join();
        }
    }
    void stop_listening() override {
        if (acceptor_.joinable()) {
            set(deaf_);
            acceptor_.join();
            listeners_.clear();
        }
    }
    void drain(milliseconds limit) override {
        std::unique_lock lock{mutex_};
        ended_.wait_for(lock, limit, [this] {
            return std::all_of(workers_.begin(), workers_.end(), [](const Worker& one) { return one.done.load(); });
        });
    }
    std::uint16_t port() const noexcept override { return port_; }
    std::uint64_t refused() const noexcept override { return refused_.load(); }
    void set_keys(std::vector<std::string> keys) override {
        const std::lock_guard lock{mutex_};
        keys_ = pre_shared(keys);
    }

private:
    struct Worker {
        explicit Worker(std::string from, int fd) : host(std::move(from)), socket(fd) {}
        std::thread thread;
        std::string host;
        std::atomic<bool> known{}; ///< has shown the key
        std::atomic<bool> done{};
        bool evicted{};
        std::mutex mutex;
        int socket; ///< under `mutex`; -1 when closed. Owned by the thread
    };
    using Workers = std::list<Worker>;

    void accept_all() {
        std::vector<pollfd> fds;
        for (const Fd& listener : listeners_) {
            fds.push_back({listener.get(), POLLIN, 0});
        }
        fds.push_back({deaf_.get(), POLLIN, 0});
        for (;;) {
            (void)::poll(fds.data(), fds.size(), -1);
            if (fds.back().revents != 0) {
                return;
            }
            reap();
            for (std::size_t i = 0; i + 1 < fds.size(); ++i) {
                if (fds[i].revents != 0) {
                    accept_one(fds[i].fd);
                }
            }
        }
    }

    void reap() {
        for (auto at = workers_.begin(); at != workers_.end();) {
            if (at->done.load()) {
                at->thread.join();
                at = workers_.erase(at);
            } else {
                ++at;
            }
        }
    }

    /// Closes the oldest connection that has not shown the key: of this host when it has too many, else of anybody
    /// when all places are taken. False: no place for a further one.
    bool make_room(const std::string& host) {
        unsigned strangers = 0;
        unsigned used = 0;
        Worker* oldest = nullptr;
        Worker* oldest_of_host = nullptr;
        for (Worker& worker : workers_) { // in order of arrival
            if (worker.evicted) {
                continue;
            }
            ++used;
            if (!worker.known.load()) {
                oldest = oldest != nullptr ? oldest : &worker;
                if (worker.host == host) {
                    ++strangers;
                    oldest_of_host = oldest_of_host != nullptr ? oldest_of_host : &worker;
                }
            }
        }
        Worker* const leaves = strangers >= strangers_per_host_max ? oldest_of_host
                               : used >= connections_max           ? oldest
                                                                   : nullptr;
        if (leaves != nullptr) {
            leaves->evicted = true;
            const std::lock_guard lock{leaves->mutex};
            if (leaves->socket >= 0) {
                ::shutdown(leaves->socket, SHUT_RDWR);
            }
        }
        return (used < connections_max || leaves != nullptr) && workers_.size() < 2 * connections_max;
    }

    void accept_one(int listener) {
        Address from;
        from.size = sizeof from.storage;
        Fd socket{::accept4(listener, from.get(), &from.size, SOCK_NONBLOCK | SOCK_CLOEXEC)};
        if (!socket) {
            if (errno == EMFILE || errno == ENFILE) { // do not spin while descriptors are short
                pollfd stop{deaf_.get(), POLLIN, 0};
                (void)::poll(&stop, 1, 50);
            }
            return;
        }
        if (!make_room(host_text(from))) {
            refused_.fetch_add(1);
            return;
        }
        const int one = 1;
        ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Keys keys;
        {
            const std::lock_guard lock{mutex_};
            keys = keys_;
        }
        const int raw = socket.release();
        Worker& worker = workers_.emplace_back(host_text(from), raw);
        worker.thread = std::thread{[this, &worker, keys = std::move(keys), peer = endpoint_text(from), raw]() mutable {
            serve(worker, Fd{raw}, std::move(keys), std::move(peer));
            const std::lock_guard lock{mutex_};
            worker.done.store(true);
            ended_.notify_all();
        }};
    }

    void serve(Worker& worker, Fd socket, Keys keys, std::string peer) {
        TlsStream stream{std::move(socket), stop_.get(), context_.get(), std::move(keys), std::move(peer)};
        if (const auto shaken = stream.handshake(true, handshake_timeout); shaken) {
            worker.known.store(true);
            handler_(stream);
        } else {
            refused_.fetch_add(1);
            log::debug("stream", shaken.error().text());
        }
        const std::lock_guard lock{worker.mutex};
        worker.socket = -1; // its number may soon be another file's
    }

    std::vector<Fd> listeners_;
    std::uint16_t port_;
    std::mutex mutex_;
    std::condition_variable ended_; ///< some connection did; with `mutex_`
    Keys keys_;
    Handler handler_;
    Fd deaf_; ///< no more connections
    Fd stop_; ///< those that there are end
    Context context_;
    Workers workers_; // touched by the acceptor, and by the destructor after it has ended
    std::atomic<std::uint64_t> refused_{};
    std::thread acceptor_;
};

} // namespace

Result<std::unique_ptr<StreamServer>> StreamServer::start(const std::vector<std::string>& addresses, std::uint16_t port,
                                                          const std::vector<std::string>& keys, Handler handler) {
    std::vector<Fd> listeners;
    for (const std::string& address : addresses) {
        auto parsed = parse_address(address, port);
        if (!parsed) {
            return std::move(parsed).error();
        }
        auto listener = listen_on(*parsed, "TCP " + endpoint_text(*parsed));
        if (!listener) {
            return std::move(listener).error();
        }
        if (port == 0) {
            port = port_of(*listener);
        }
        listeners.push_back(std::move(*listener));
    }
    return std::unique_ptr<StreamServer>{
        std::make_unique<Server>(std::move(listeners), port, keys, std::move(handler))};
}
} // namespace stead::wire

// SPDX-License-Identifier: Apache-2.0
#include "link.hpp"

#include "eager.hpp"

#include <stead/base/assert.hpp>
#include <stead/base/log.hpp>
#include <stead/wire/duplex_stream.hpp>
#include <stead/wire/keys.hpp>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace stead::mirror {
namespace {

constexpr milliseconds handshake_limit{2000};
constexpr milliseconds first_pause{100}, longest_pause{1000};
/// When more connections than usual in a row end sooner than this, as with a peer whose disk is full, the next ones are
/// tried ever more seldom.
constexpr milliseconds short_life{2000}, longest_pause_of_short{10'000};
constexpr int short_lives_usual = 4, short_lives_max = 12;
constexpr milliseconds deaf_pause{50}; // while descriptors are short
constexpr std::size_t strangers_max = 8;
constexpr int accepted_per_turn = 8;

/// The first frame of each side: who it is, and which of its connections this is. Later versions append.
struct Greeting {
    static constexpr std::string_view magic{"STEADLNK"};
    static constexpr std::size_t bytes = 28;
    std::uint16_t version{1};
    std::uint16_t node{};     ///< 0 connects, 1 accepts
    std::uint64_t instance{}; ///< random for each Link
    std::uint64_t number{};   ///< of the attempt within the instance

    [[nodiscard]] std::string framed() const {
        std::string out(wire::DuplexStream::head_bytes, '\0');
        out += magic;
        for (int shift = 8; shift >= 0; shift -= 8) {
            out.push_back(static_cast<char>(version >> shift & 0xff));
        }
        for (int shift = 8; shift >= 0; shift -= 8) {
            out.push_back(static_cast<char>(node >> shift & 0xff));
        }
        for (const std::uint64_t value : {instance, number}) {
            for (int shift = 56; shift >= 0; shift -= 8) {
                out.push_back(static_cast<char>(value >> shift & 0xff));
            }
        }
        return out;
    }

    [[nodiscard]] static std::optional<Greeting> read(std::string_view frame) {
        if (frame.size() < bytes || !frame.starts_with(magic)) {
            return std::nullopt;
        }
        const auto number_at = [&](std::size_t at, std::size_t size) {
            std::uint64_t value = 0;
            for (const char byte : frame.substr(at, size)) {
                value = value << 8 | static_cast<unsigned char>(byte);
            }
            return value;
        };
        Greeting out{static_cast<std::uint16_t>(number_at(8, 2)), static_cast<std::uint16_t>(number_at(10, 2)),
                     number_at(12, 8), number_at(20, 8)};
        return out.version >= 1 && out.node <= 1 ? std::optional{out} : std::nullopt;
    }
};

/// One thread for everything that is received, accepted and timed; writing happens on the callers' threads.
class TcpLink final : public Link {
public:
    TcpLink(LinkOptions options, Events events, std::string peer, Fd listener)
        : options_(std::move(options)), events_(std::move(events)), peer_(std::move(peer)),
          listener_(std::move(listener)), port_(listener_ ? wire::port_of(listener_) : options_.port),
          epoll_(::epoll_create1(EPOLL_CLOEXEC)), stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        STEAD_ASSERT(epoll_ && stop_);
        watch(stop_.get(), EPOLLIN, stop_id, EPOLL_CTL_ADD);
        if (listener_) {
            watch(listener_.get(), EPOLLIN, listener_id, EPOLL_CTL_ADD);
        } else {
            attempt_at_ = BootClock::now();
        }
        thread_ = std::thread{[this] { run(); }};
    }

    ~TcpLink() override {
        const std::uint64_t one = 1;
        STEAD_ASSERT(::write(stop_.get(), &one, sizeof one) == sizeof one);
        thread_.join();
        for (auto& [id, connection] : connections_) {
            connection.stream->shut();
        }
    }

    std::uint16_t port() const noexcept override { return port_; }
    std::uint64_t generation() const noexcept override { return generation_.load(); }

    void send(std::uint64_t generation, const Message& message) override {
        std::shared_ptr<wire::DuplexStream> stream;
        {
            const std::lock_guard lock{mutex_};
            if (generation == 0 || generation != generation_.load()) {
                return;
            }
            stream = current_;
        }
        std::string framed(wire::DuplexStream::head_bytes, '\0');
        encode(message, framed);
        if (framed.size() - wire::DuplexStream::head_bytes > codec_limits::message_max) {
            log::error("mirror", "a message of " + std::to_string(framed.size()) + " bytes is too long for the peer; " +
                                     std::to_string(codec_limits::message_max) + " are allowed");
            stream->shut();
            return;
        }
        messages_out_.fetch_add(1);
        stream->send(std::move(framed));
    }

    void close(std::uint64_t generation) override {
        if (const auto stream = release(generation)) {
            stream->shut(); // wakes the link's thread, which forgets it
        }
    }

    Counters counters() const noexcept override {
        const std::lock_guard lock{mutex_};
        Counters out;
        out.bytes_in = bytes_in_ + (current_ != nullptr ? current_->bytes_in() : 0);
        out.bytes_out = bytes_out_ + (current_ != nullptr ? current_->bytes_out() : 0);
        out.queued_bytes = current_ != nullptr ? current_->queued_bytes() : 0;
        out.messages_in = messages_in_.load();
        out.messages_out = messages_out_.load();
        out.connections = count_;
        out.refused = refused_.load();
        return out;
    }

private:
    struct Connection {
        std::uint64_t id{};
        std::shared_ptr<wire::DuplexStream> stream;
        Instant deadline{never};    ///< of the handshake and greeting
        std::uint64_t generation{}; ///< 0 = has not shown who it is
        Greeting greeting{};        ///< of an accepted one
        bool unread{};              ///< had no time to read all
        bool unwanted{};            ///< did not greet as it should
    };
    static constexpr std::uint64_t stop_id = 0, listener_id = 1;
    using Ready = std::array<epoll_event, 32>;

    void watch(int fd, std::uint32_t events, std::uint64_t id, int operation) {
        epoll_event event{};
        event.events = events;
        event.data.u64 = id;
        STEAD_ASSERT(::epoll_ctl(epoll_.get(), operation, fd, &event) == 0);
    }

    // ---- The link's thread

    void run() {
        Ready events{};
        for (;;) {
            const int count = wait(events);
            bool somebody_waits = false;
            for (int i = 0; i < count; ++i) {
                const epoll_event& event = events[static_cast<std::size_t>(i)];
                if (event.data.u64 == stop_id) {
                    return;
                }
                somebody_waits = somebody_waits || event.data.u64 == listener_id;
                serve(event.data.u64, event.events);
            }
            for (const std::uint64_t id : unread()) {
                serve(id, 0);
            }
            if (somebody_waits) {
                accept_some();
            }
            keep_time(BootClock::now());
        }
    }

    /// As epoll_wait, but it looks for a while before it sleeps.
    int wait(Ready& events) {
        const auto look = [&](int limit) {
            return ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), limit);
        };
        const Instant from = BootClock::now();
        const Instant until = from + eager_.patience(from);
        int count = 0;
        for (Instant now = from, before = from; count == 0 && now < until && eager_.gave_way(now, now - before);) {
            before = now;
            ::sched_yield();
            now = BootClock::now();
            count = look(0);
        }
        count = count == 0 ? look(timeout()) : count;
        eager_.came(BootClock::now() - from);
        return count;
    }

    int timeout() const {
        Instant next = std::min(attempt_at_, listen_at_);
        for (const auto& [id, connection] : connections_) {
            if (connection.unread) {
                return 0;
            }
            next = std::min(next, connection.deadline);
        }
        if (next == never) {
            return -1;
        }
        const auto rest = std::chrono::ceil<milliseconds>(next - BootClock::now()).count();
        return static_cast<int>(std::clamp<std::int64_t>(rest, 0, 60000));
    }

    std::vector<std::uint64_t> unread() const {
        std::vector<std::uint64_t> ids;
        for (const auto& [id, connection] : connections_) {
            if (connection.unread) {
                ids.push_back(id);
            }
        }
        return ids;
    }

    void serve(std::uint64_t id, std::uint32_t events) {
        const auto found = connections_.find(id);
        if (found == connections_.end()) {
            return;
        }
        Connection& connection = found->second;
        const auto more =
            connection.stream->ready(events, [&](std::string_view frame) { return on_frame(connection, frame); });
        connection.unread = more && *more;
        const bool closed = connection.generation != 0 && connection.generation != generation_.load();
        if (!more || connection.unwanted || closed) {
            gone(id, more ? Error{} : more.error());
        }
    }

    bool on_frame(Connection& connection, std::string_view frame) {
        if (connection.generation == 0) {
            greeted(connection, frame);
        } else if (connection.generation == generation_.load()) {
            auto message = decode_message(frame);
            if (message) {
                messages_in_.fetch_add(1);
                events_.received(connection.generation, std::move(*message));
            } else {
                lose(connection, "the peer sent what cannot be: " + message.error().what);
            }
        }
        return connection.generation != 0 && connection.generation == generation_.load();
    }

    /// Newest wins: only the peer's address gets here, only a holder of the key gets a frame through, and the peer
    /// opens a connection only after it gave up the one before. So an older one is dead, whatever this node's TCP still
    /// believes; except one of the same instance that was overtaken on its way.
    void greeted(Connection& connection, std::string_view frame) {
        const auto greeting = Greeting::read(frame);
        const std::uint16_t expected = options_.connects ? 1 : 0;
        if (!greeting || greeting->node != expected) {
            log::warning("mirror", connection_text() + ": not the other node of this mirror");
            connection.unwanted = true;
            return;
        }
        for (auto& [id, other] : connections_) {
            if (other.generation == 0 || other.generation != generation_.load()) {
                continue;
            }
            if (other.greeting.instance == greeting->instance && other.greeting.number > greeting->number) {
                connection.unwanted = true;
                return;
            }
            lose(other, "the peer connected anew");
        }
        connection.greeting = *greeting;
        connection.deadline = never;
        if (!options_.connects) {
            connection.stream->send(own_greeting().framed());
        }
        {
            const std::lock_guard lock{mutex_};
            connection.generation = ++count_;
            current_ = connection.stream;
            generation_.store(connection.generation);
        }
        pause_ = first_pause;
        up_at_ = BootClock::now();
        events_.up();
    }

    Greeting own_greeting() const {
        return {1, static_cast<std::uint16_t>(options_.connects ? 0 : 1), instance_, attempts_};
    }

    std::string connection_text() const { return "replication stream with " + options_.peer; }

    /// Whoever takes the present connection away from all others is the one who ends it.
    std::shared_ptr<wire::DuplexStream> release(std::uint64_t generation) {
        const std::lock_guard lock{mutex_};
        if (generation == 0 || generation != generation_.load()) {
            return nullptr;
        }
        generation_.store(0);
        bytes_in_ += current_->bytes_in();
        bytes_out_ += current_->bytes_out();
        return std::exchange(current_, nullptr);
    }

    void lose(Connection& connection, const std::string& reason) {
        if (const auto stream = release(connection.generation)) {
            stream->shut();
            log::debug("mirror", connection_text() + " ends: " + reason);
            events_.down(connection.generation, reason);
        }
    }

    /// The connection with this id is over, if it was not given up before.
    void gone(std::uint64_t id, const Error& error) {
        const auto found = connections_.find(id);
        Connection& connection = found->second;
        const Instant now = BootClock::now();
        if (connection.generation != 0) {
            lose(connection, error.text());
            // At once, but not again and again should each be lost at once.
            const bool at_once = now - at_once_at_ >= longest_pause;
            at_once_at_ = at_once ? now : at_once_at_;
            short_lives_ = now - up_at_ < short_life ? std::min(short_lives_ + 1, short_lives_max) : 0;
            const nanoseconds pause =
                short_lives_ > short_lives_usual
                    ? std::min<nanoseconds>(first_pause * (1 << (short_lives_ - short_lives_usual)),
                                            longest_pause_of_short)
                : at_once ? nanoseconds{}
                          : first_pause;
            attempt_at_ = options_.connects ? now + pause : never;
        } else {
            if (!options_.connects || connection.unwanted || error.code == Errc::denied) {
                refused_.fetch_add(1);
            }
            key_ += error.code == Errc::denied ? 1 : 0;
            log::debug("mirror", connection_text() + ": " + error.text());
            attempt_failed(now);
        }
        connection.stream->shut();
        (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, connection.stream->fd(), nullptr);
        connections_.erase(found);
    }

    void attempt_failed(Instant now) {
        if (options_.connects) {
            attempt_at_ = now + pause_;
            pause_ = std::min<nanoseconds>(2 * pause_, longest_pause);
        }
    }

    void keep_time(Instant now) {
        std::vector<std::uint64_t> late;
        for (const auto& [id, connection] : connections_) {
            if (connection.deadline <= now) {
                late.push_back(id);
            }
        }
        for (const std::uint64_t id : late) {
            gone(id, {Errc::timed_out, options_.peer, "no handshake in time"});
        }
        if (attempt_at_ <= now) {
            attempt_at_ = never;
            attempt(now);
        }
        if (listen_at_ <= now) {
            listen_at_ = never;
            watch(listener_.get(), EPOLLIN, listener_id, EPOLL_CTL_MOD);
        }
    }

    void attempt(Instant now) {
        ++attempts_;
        auto socket = wire::begin_connect(options_.local, options_.peer, options_.port);
        if (!socket) {
            log::debug("mirror", connection_text() + ": " + socket.error().text());
            attempt_failed(now);
            return;
        }
        const std::vector<std::string> key{options_.keys[key_ % options_.keys.size()]};
        Connection& connection = add(std::move(*socket), wire::DuplexStream::Side::client, key, options_.peer);
        connection.stream->send(own_greeting().framed());
    }

    void accept_some() {
        for (int i = 0; i < accepted_per_turn; ++i) {
            wire::Accepted accepted = wire::accept_from(listener_);
            if (!accepted.socket) {
                if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                    watch(listener_.get(), 0, listener_id, EPOLL_CTL_MOD); // do not spin
                    listen_at_ = BootClock::now() + deaf_pause;
                }
                return;
            }
            if (accepted.host != peer_) {
                refused_.fetch_add(1);
                log::debug("mirror", connection_text() + ": " + accepted.endpoint + " is not the peer");
                continue;
            }
            make_room();
            add(std::move(accepted.socket), wire::DuplexStream::Side::server, options_.keys, accepted.endpoint);
        }
    }

    /// Who has not shown the key makes room for those who come later: the oldest goes.
    void make_room() {
        std::vector<std::uint64_t> strangers; // in order of arrival
        for (const auto& [id, connection] : connections_) {
            if (connection.generation == 0) {
                strangers.push_back(id);
            }
        }
        if (strangers.size() >= strangers_max) {
            gone(strangers.front(), {Errc::refused, options_.peer, "too many connections without a handshake"});
        }
    }

    Connection& add(Fd socket, wire::DuplexStream::Side side, const std::vector<std::string>& keys, std::string who) {
        wire::tune(socket, options_.dead_after);
        const std::uint64_t id = ++last_id_;
        Connection& connection = connections_[id];
        connection.id = id;
        connection.deadline = BootClock::now() + handshake_limit;
        wire::DuplexStream::Options options;
        options.frame_bytes_max = codec_limits::message_max;
        connection.stream = wire::DuplexStream::make(std::move(socket), side, keys, std::move(who), options);
        watch(connection.stream->fd(), wire::DuplexStream::epoll_events, id, EPOLL_CTL_ADD);
        return connection;
    }

    const LinkOptions options_;
    const Events events_;
    const std::string peer_; ///< canonical
    const Fd listener_;
    const std::uint16_t port_;
    const Fd epoll_, stop_;
    const std::uint64_t instance_{wire::new_session().high};

    mutable std::mutex mutex_; ///< current_, count_, bytes_in_, bytes_out_; generation_ is written under it
    std::shared_ptr<wire::DuplexStream> current_;
    std::uint64_t count_{}, bytes_in_{}, bytes_out_{};
    std::atomic<std::uint64_t> generation_{}; ///< of current_; 0 = none
    std::atomic<std::uint64_t> messages_in_{}, messages_out_{}, refused_{};

    // Of the link's thread
    std::map<std::uint64_t, Connection> connections_; ///< by id, which grows
    std::uint64_t last_id_{listener_id};
    std::uint64_t attempts_{};
    std::size_t key_{};
    Eager eager_;
    nanoseconds pause_{first_pause};
    Instant attempt_at_{never}, listen_at_{never};
    Instant at_once_at_{}, up_at_{};
    int short_lives_{}; ///< in a row

    std::thread thread_;
};

} // namespace

Result<std::unique_ptr<Link>> Link::start(LinkOptions options, Events events) {
    if (options.keys.empty()) {
        return Error{Errc::denied, "replication stream",
                     "there is no cluster key on this node; run 'stead cluster genkey'"};
    }
    auto peer = wire::canonical_address(options.peer);
    if (!peer) {
        return std::move(peer).error();
    }
    Fd listener;
    if (options.connects) {
        if (auto local = wire::canonical_address(options.local); !local) {
            return std::move(local).error();
        }
    } else {
        auto listening = wire::listen_at(options.local, options.port);
        if (!listening) {
            return std::move(listening).error();
        }
        listener = std::move(*listening);
    }
    return std::unique_ptr<Link>{
        std::make_unique<TcpLink>(std::move(options), std::move(events), std::move(*peer), std::move(listener))};
}

} // namespace stead::mirror

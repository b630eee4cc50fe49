// SPDX-License-Identifier: Apache-2.0
#include <stead/wire/duplex_stream.hpp>

#include "tls_stream.hpp"

#include <stead/base/assert.hpp>

#include <openssl/err.h>
#include <sys/epoll.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace stead::wire {
namespace {

constexpr std::size_t record_bytes = 16384; // most that one TLS record holds
constexpr std::size_t chunk_bytes = 65536;  // encrypted under one lock, sent by one call
constexpr std::size_t receive_bytes = 256 * 1024;
constexpr std::size_t turn_bytes = 4u << 20;    // read before others get their turn
constexpr std::size_t plain_start = 128 * 1024; // of the buffer in which frames become whole
constexpr std::size_t plain_keep = 4u << 20;    // a larger one is not kept

/// What TLS reads from and writes to: memory only, so that no lock is held over a system call.
struct Cipher {
    std::string_view in;
    std::string out;
};

int bio_read(BIO* bio, char* to, int size) {
    auto& cipher = *static_cast<Cipher*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    if (cipher.in.empty()) {
        BIO_set_retry_read(bio);
        return -1;
    }
    const std::size_t part = std::min(cipher.in.size(), static_cast<std::size_t>(size));
    std::memcpy(to, cipher.in.data(), part);
    cipher.in.remove_prefix(part);
    return static_cast<int>(part);
}

int bio_write(BIO* bio, const char* from, int size) {
    static_cast<Cipher*>(BIO_get_data(bio))->out.append(from, static_cast<std::size_t>(size));
    BIO_clear_retry_flags(bio);
    return size;
}

long bio_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

const BIO_METHOD* bio_method() {
    static const BIO_METHOD* const method = [] {
        BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stead duplex");
        STEAD_ASSERT(made != nullptr && BIO_meth_set_read(made, bio_read) == 1 &&
                     BIO_meth_set_write(made, bio_write) == 1 && BIO_meth_set_ctrl(made, bio_control) == 1);
        return made;
    }();
    return method;
}

SSL_CTX* context_of(DuplexStream::Side side) {
    static const Context server = make_context(true);
    static const Context client = make_context(false);
    return side == DuplexStream::Side::server ? server.get() : client.get();
}

/// Bytes that have been decrypted and are not yet a whole frame. Grows as they arrive, never by what a length claims.
class Plain {
public:
    [[nodiscard]] std::string_view view() const noexcept { return {data_.get() + begin_, end_ - begin_}; }
    [[nodiscard]] char* tail() noexcept { return data_.get() + end_; }
    [[nodiscard]] std::size_t room() const noexcept { return capacity_ - end_; }
    void added(std::size_t bytes) noexcept { end_ += bytes; }
    void drop(std::size_t bytes) {
        begin_ += bytes;
        if (begin_ == end_) {
            begin_ = end_ = 0;
            if (capacity_ > plain_keep) {
                data_.reset();
                capacity_ = 0;
            }
        }
    }
    /// Room for one more record at least.
    void make_room() {
        if (room() >= record_bytes) {
            return;
        }
        const std::size_t used = end_ - begin_;
        if (capacity_ - used >= record_bytes && used <= capacity_ / 2) {
            std::memmove(data_.get(), data_.get() + begin_, used);
        } else {
            const std::size_t capacity = std::max(plain_start, 2 * capacity_);
            std::unique_ptr<char[]> larger{new char[capacity]}; // not cleared
            if (used != 0) {
                std::memcpy(larger.get(), data_.get() + begin_, used);
            }
            data_ = std::move(larger);
            capacity_ = capacity;
        }
        begin_ = 0;
        end_ = used;
    }

private:
    std::unique_ptr<char[]> data_;
    std::size_t capacity_{}, begin_{}, end_{};
};

class Duplex final : public DuplexStream {
public:
    Duplex(Fd socket, Side side, const std::vector<std::string>& keys, std::string peer, Options options)
        : options_(options), socket_(std::move(socket)), peer_(std::move(peer)), keys_(pre_shared(keys, duplex_use)),
          ssl_(SSL_new(context_of(side))), received_(new char[receive_bytes]) {
        STEAD_ASSERT(ssl_ != nullptr && !keys_.empty());
        SSL_set_app_data(ssl_.get(), &keys_);
        BIO* bio = BIO_new(bio_method());
        STEAD_ASSERT(bio != nullptr);
        BIO_set_data(bio, &cipher_);
        BIO_set_init(bio, 1);
        SSL_set_bio(ssl_.get(), bio, bio);
        side == Side::server ? SSL_set_accept_state(ssl_.get()) : SSL_set_connect_state(ssl_.get());
    }
    int fd() const noexcept override { return socket_.get(); }
    bool shaken() const noexcept override { return shaken_.load(); }
    std::uint64_t queued_bytes() const noexcept override { return queued_.load(); }
    std::uint64_t bytes_in() const noexcept override { return bytes_in_.load(); }
    std::uint64_t bytes_out() const noexcept override { return bytes_out_.load(); }

    Result<bool> ready(std::uint32_t events, const Frame& frame) override {
        resume_writing(); // it may be room in the socket that woke us
        ends_ = ends_ || (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0; // then to the last byte
        std::size_t read = 0;
        bool goes_on = true;
        while (goes_on && read < turn_bytes && !dead()) {
            if (!shaken_.load()) {
                shake();
            }
            const std::size_t got = receive();
            read += got;
            goes_on = got == receive_bytes || (ends_ && got != 0);
            if (got != 0 && !decrypt(got, frame)) {
                return result(false);
            }
        }
        return result(goes_on);
    }

    void send(std::string framed) override {
        STEAD_ASSERT(framed.size() >= head_bytes && framed.size() - head_bytes <= options_.frame_bytes_max);
        const std::size_t size = framed.size() - head_bytes;
        for (std::size_t i = 0; i < head_bytes; ++i) {
            framed[i] = static_cast<char>(size >> (24 - 8 * i) & 0xff);
        }
        {
            const std::lock_guard lock{queue_mutex_};
            if (role_ == Role::dead) {
                return;
            }
            queued_.fetch_add(framed.size());
            queue_.push_back(std::move(framed));
            if (role_ != Role::idle) {
                return; // whoever writes, or the owner, takes it along
            }
            role_ = Role::writing;
        }
        pump();
    }

    void shut() noexcept override { fail({Errc::refused, peer_, "closed on this side"}); }

private:
    /// Who moves bytes from the queue to the socket: only a thread that has set `writing` itself.
    enum class Role : std::uint8_t { shaking, idle, writing, blocked, dead };

    void fail(Error error) noexcept {
        const std::lock_guard lock{queue_mutex_};
        if (role_ != Role::dead) {
            role_ = Role::dead;
            error_ = std::move(error);
            queue_.clear();
            queued_.store(0);
            ::shutdown(socket_.get(), SHUT_RDWR);
        }
    }

    bool dead() {
        const std::lock_guard lock{queue_mutex_};
        return role_ == Role::dead;
    }

    Result<bool> result(bool goes_on) {
        const std::lock_guard lock{queue_mutex_};
        return error_ ? Result<bool>{*error_} : Result<bool>{goes_on};
    }

    // ---- Writing

    /// There is room in the socket again, or may be.
    void resume_writing() {
        room_again_.store(true);
        {
            const std::lock_guard lock{queue_mutex_};
            if (role_ != Role::blocked) {
                return;
            }
            role_ = Role::writing;
        }
        pump();
    }

    void pump() {
        for (;;) {
            if (sending_at_ == sending_.size() && !refill()) {
                return;
            }
            room_again_.store(false);
            const ssize_t sent =
                ::send(socket_.get(), sending_.data() + sending_at_, sending_.size() - sending_at_, MSG_NOSIGNAL);
            if (sent >= 0) {
                sending_at_ += static_cast<std::size_t>(sent);
                bytes_out_.fetch_add(static_cast<std::uint64_t>(sent));
            } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
                const std::lock_guard lock{queue_mutex_};
                if (role_ == Role::dead) {
                    return;
                }
                if (!room_again_.load()) { // else the owner was told meanwhile, and will not be told again
                    role_ = Role::blocked;
                    return;
                }
            } else if (errno != EINTR) {
                fail(os_error(peer_, "send", errno));
                return;
            }
        }
    }

    /// The next bytes for the socket. False: there are none, or the stream is dead; writing is over.
    bool refill() {
        sending_.clear();
        sending_at_ = 0;
        if (plain_at_ == plain_.size() && !next_plain()) {
            return false;
        }
        const std::size_t part = std::min(plain_.size() - plain_at_, chunk_bytes);
        {
            const std::lock_guard lock{ssl_mutex_};
            ERR_clear_error();
            records_ += (part + record_bytes - 1) / record_bytes;
            if (records_ > options_.records_per_key) {
                records_ = 0;
                STEAD_ASSERT(SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
            }
            std::size_t wrote = 0;
            if (SSL_write_ex(ssl_.get(), plain_.data() + plain_at_, part, &wrote) != 1 || wrote != part) {
                fail({Errc::io, peer_, "TLS cannot encrypt"});
                return false;
            }
            std::swap(cipher_.out, sending_);
        }
        plain_at_ += part;
        return true;
    }

    /// Small frames that queued up while another was being written go out together.
    bool next_plain() {
        const std::lock_guard lock{queue_mutex_};
        if (role_ == Role::dead) {
            return false;
        }
        queued_.fetch_sub(plain_.size());
        plain_.clear();
        plain_at_ = 0;
        if (queue_.empty()) {
            role_ = Role::idle;
            return false;
        }
        plain_ = std::move(queue_.front());
        queue_.pop_front();
        while (!queue_.empty() && plain_.size() + queue_.front().size() <= chunk_bytes) {
            plain_ += queue_.front();
            queue_.pop_front();
        }
        return true;
    }

    // ---- Reading

    /// Until TLS wants more from the peer.
    void shake() {
        std::optional<Error> refused;
        bool done = false;
        {
            const std::lock_guard lock{ssl_mutex_};
            ERR_clear_error();
            const int result = SSL_do_handshake(ssl_.get());
            const int why = result == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_.get(), result);
            sending_ += std::exchange(cipher_.out, {});
            done = result == 1;
            if (!done && why != SSL_ERROR_WANT_READ) {
                refused = tls_error(Errc::denied, "; do both nodes have the same cluster key?");
            } else if (done && SSL_session_reused(ssl_.get()) != 1) { // TLS 1.3 counts the use of a key as reuse
                refused = Error{Errc::denied, peer_, "the connection was not made with the cluster key"};
            }
        }
        if (!done || refused) {
            flush_handshake(); // also the alert that tells the other side why
            if (refused) {
                fail(std::move(*refused));
            }
            return;
        }
        shaken_.store(true);
        {
            const std::lock_guard lock{queue_mutex_};
            if (role_ == Role::dead) {
                return;
            }
            role_ = Role::writing;
        }
        pump();
    }

    /// Its few hundred bytes always fit an empty socket buffer, once there is a connection.
    void flush_handshake() {
        while (sending_at_ < sending_.size()) {
            const ssize_t sent =
                ::send(socket_.get(), sending_.data() + sending_at_, sending_.size() - sending_at_, MSG_NOSIGNAL);
            if (sent >= 0) {
                sending_at_ += static_cast<std::size_t>(sent);
                bytes_out_.fetch_add(static_cast<std::uint64_t>(sent));
            } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
                return; // still connecting: ready() comes again
            } else if (errno != EINTR) {
                fail(os_error(peer_, "cannot connect", errno));
                return;
            }
        }
        sending_.clear();
        sending_at_ = 0;
    }

    /// 0: nothing there, or the stream has failed.
    std::size_t receive() {
        for (;;) {
            const ssize_t got = ::recv(socket_.get(), received_.get(), receive_bytes, 0);
            if (got > 0) {
                bytes_in_.fetch_add(static_cast<std::uint64_t>(got));
                return static_cast<std::size_t>(got);
            }
            if (got == 0) {
                fail({Errc::not_found, peer_, "the peer closed the connection"});
                return 0;
            }
            if (errno == EAGAIN || errno == EWOULDBLOCK) {
                return 0;
            }
            if (errno != EINTR) {
                fail(os_error(peer_, shaken_.load() ? "receive" : "cannot connect", errno));
                return 0;
            }
        }
    }

    /// False: `frame` wants no more, or the stream has failed.
    bool decrypt(std::size_t bytes, const Frame& frame) {
        {
            const std::lock_guard lock{ssl_mutex_};
            cipher_.in = {received_.get(), bytes};
        }
        if (!shaken_.load()) {
            shake();
        }
        while (shaken_.load() && !dead()) {
            plain_in_.make_room();
            std::size_t got = 0;
            {
                const std::lock_guard lock{ssl_mutex_};
                ERR_clear_error();
                const int done = SSL_read_ex(ssl_.get(), plain_in_.tail(), plain_in_.room(), &got);
                const int why = done == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_.get(), done);
                if (why == SSL_ERROR_WANT_READ) {
                    return true;
                }
                if (why == SSL_ERROR_ZERO_RETURN) {
                    fail({Errc::not_found, peer_, "the peer closed the connection"});
                } else if (why != SSL_ERROR_NONE) {
                    fail(tls_error(Errc::io, ""));
                }
            }
            plain_in_.added(got);
            if (!deliver(frame)) {
                return false;
            }
        }
        return !dead();
    }

    bool deliver(const Frame& frame) {
        while (plain_in_.view().size() >= head_bytes) {
            const std::string_view bytes = plain_in_.view();
            std::size_t size = 0;
            for (std::size_t i = 0; i < head_bytes; ++i) {
                size = size << 8 | static_cast<unsigned char>(bytes[i]);
            }
            if (size > options_.frame_bytes_max) {
                fail({Errc::out_of_range, peer_,
                      "frame of " + std::to_string(size) + " bytes, the maximum is " +
                          std::to_string(options_.frame_bytes_max)});
                return false;
            }
            if (bytes.size() - head_bytes < size) {
                return true;
            }
            const bool more = frame(bytes.substr(head_bytes, size));
            plain_in_.drop(head_bytes + size);
            if (!more) {
                return false;
            }
        }
        return true;
    }

    Error tls_error(Errc code, const char* hint) const {
        const char* reason = ERR_reason_error_string(ERR_peek_error());
        return {code, peer_, std::string{"TLS: "} + (reason != nullptr ? reason : "unknown failure") + hint};
    }

    const Options options_;
    const Fd socket_;
    const std::string peer_;
    Keys keys_;

    std::mutex ssl_mutex_; ///< ssl_, cipher_, records_. Taken before queue_mutex_, never after
    Cipher cipher_;
    Session ssl_;
    std::uint64_t records_{};

    std::mutex queue_mutex_; ///< role_, queue_, error_
    Role role_{Role::shaking};
    std::deque<std::string> queue_;
    std::optional<Error> error_;

    std::string plain_, sending_; ///< of whoever writes; the owner's before the handshake has ended
    std::size_t plain_at_{}, sending_at_{};
    std::atomic<bool> room_again_{};

    std::unique_ptr<char[]> received_; ///< the owner's
    Plain plain_in_;                   ///< the owner's
    bool ends_{};                      ///< the owner's

    std::atomic<bool> shaken_{};
    std::atomic<std::uint64_t> queued_{}, bytes_in_{}, bytes_out_{};
};

} // namespace

const std::uint32_t DuplexStream::epoll_events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

std::shared_ptr<DuplexStream> DuplexStream::make(Fd socket, Side side, const std::vector<std::string>& keys,
                                                 std::string peer, Options options) {
    return std::make_shared<Duplex>(std::move(socket), side, keys, std::move(peer), options);
}

} // namespace stead::wire

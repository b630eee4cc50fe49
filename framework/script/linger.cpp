// SPDX-License-Identifier: Apache-2.0
#include "linger.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

namespace stead::script {

namespace {
constexpr std::size_t streams_max = 32;
}

Lingerer::Lingerer(HookRunner::Output output, std::size_t line_bytes_max)
    : output_(std::move(output)), line_bytes_max_(line_bytes_max), changed_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void Lingerer::add(ProcessPipes pipes) {
    if (!pipes.out && !pipes.err) {
        return;
    }
    const std::lock_guard lock(mutex_);
    if (wake_.is_set()) {
        return;
    }
    add_one(std::move(pipes.out), false);
    add_one(std::move(pipes.err), true);
    if (!thread_.joinable()) {
        thread_ = std::thread([this] { run(); });
    }
    const std::uint64_t one = 1;
    (void)!::write(changed_.get(), &one, sizeof one);
}

void Lingerer::add_one(Fd fd, bool is_error) {
    if (fd) {
        added_.push_back({std::move(fd), LineSplitter(line_bytes_max_, [this, is_error](std::string_view line) {
                              if (output_) {
                                  output_(line, is_error);
                              }
                          })});
    }
}

void Lingerer::stop() {
    std::thread thread;
    {
        const std::lock_guard lock(mutex_);
        wake_.set();
        thread.swap(thread_);
    }
    if (thread.joinable()) {
        thread.join();
    }
}

void Lingerer::run() {
    while (read_once()) {
    }
}

bool Lingerer::read_once() {
    {
        const std::lock_guard lock(mutex_);
        streams_.splice(streams_.end(), added_);
    }
    while (streams_.size() > streams_max) {
        streams_.pop_front();
    }
    std::vector<pollfd> fds{{wake_.fd(), POLLIN, 0}, {changed_.get(), POLLIN, 0}};
    for (const Stream& stream : streams_) {
        fds.push_back({stream.fd.get(), POLLIN, 0});
    }
    if (::poll(fds.data(), fds.size(), -1) < 0) {
        return errno == EINTR;
    }
    if (wake_.is_set()) {
        return false;
    }
    std::uint64_t count = 0;
    (void)!::read(changed_.get(), &count, sizeof count);
    std::size_t i = 2;
    for (auto stream = streams_.begin(); stream != streams_.end(); ++i) {
        char buffer[16384];
        const ssize_t got = fds[i].revents != 0 ? ::read(stream->fd.get(), buffer, sizeof buffer) : -1;
        if (got > 0) {
            stream->lines.add(std::string_view(buffer, static_cast<std::size_t>(got)));
        }
        const bool ended = fds[i].revents != 0 && (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR));
        if (ended) {
            stream->lines.finish();
        }
        stream = ended ? streams_.erase(stream) : std::next(stream);
    }
    return true;
}

} // namespace stead::script

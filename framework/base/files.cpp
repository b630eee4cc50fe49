// SPDX-License-Identifier: Apache-2.0
#include <stead/base/files.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace stead {

namespace {

constexpr int pipe_patience_ms = 2000;

/// Of a pipe or a terminal: something came, or its end. A reader that waited for ever would take its thread with it.
bool ready_to_read(int fd) {
    pollfd one{fd, POLLIN, 0};
    int ready = 0;
    do {
        ready = ::poll(&one, 1, pipe_patience_ms);
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

} // namespace

void Fd::reset(int fd) noexcept {
    if (fd_ >= 0) {
        ::close(fd_);
    }
    fd_ = fd;
}

Result<std::string> read_file(const std::filesystem::path& path, std::size_t bytes_max) {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (!fd) {
        return os_error(path.string(), "cannot open", errno);
    }
    std::string content;
    char buffer[16384];
    for (;;) {
        const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
        if (got < 0 && (errno == EINTR || (errno == EAGAIN && ready_to_read(fd.get())))) {
            continue;
        }
        if (got < 0) {
            return os_error(path.string(), "cannot read", errno);
        }
        if (got == 0) {
            return content;
        }
        if (content.size() + static_cast<std::size_t>(got) > bytes_max) {
            return Error{Errc::out_of_range, path.string(),
                         "larger than the " + std::to_string(bytes_max) + " bytes allowed"};
        }
        content.append(buffer, static_cast<std::size_t>(got));
    }
}

Result<void> sync_folder(const std::filesystem::path& folder) {
    const Fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || ::fsync(fd.get()) != 0) {
        return os_error(folder.string(), "cannot sync folder", errno);
    }
    return {};
}

namespace {

Result<void> write_and_sync(int fd, std::string_view content, const std::string& where) {
    while (!content.empty()) {
        const ssize_t put = ::write(fd, content.data(), content.size());
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return os_error(where, "cannot write", errno);
        }
        content.remove_prefix(static_cast<std::size_t>(put));
    }
    if (::fsync(fd) != 0) {
        return os_error(where, "cannot sync", errno);
    }
    return {};
}

} // namespace

Result<void> write_file_atomically(const std::filesystem::path& path, std::string_view content, mode_t mode) {
    const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
    std::string temporary = (folder / ("." + path.filename().string() + ".XXXXXX")).string();
    const Fd fd(::mkostemp(temporary.data(), O_CLOEXEC));
    if (!fd) {
        return os_error(path.string(), "cannot create a temporary file beside it", errno);
    }
    Result<void> done = ::fchmod(fd.get(), mode) == 0 ? write_and_sync(fd.get(), content, path.string())
                                                      : os_error(path.string(), "cannot set its mode", errno);
    if (done && ::rename(temporary.c_str(), path.c_str()) != 0) {
        done = os_error(path.string(), "cannot rename into place", errno);
    }
    if (!done) {
        ::unlink(temporary.c_str());
        return done;
    }
    return sync_folder(folder);
}

} // namespace stead

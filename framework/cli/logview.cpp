// SPDX-License-Identifier: Apache-2.0
#include <stead/cli/cli.hpp>

#include <stead/base/files.hpp>
#include <stead/control/module_log.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <iostream>

namespace stead::cli {
namespace {

/// Follows one file by name: rotation opens the new one.
class Follower {
public:
    Follower(std::filesystem::path file, bool verbose) : file_(std::move(file)), verbose_(verbose) {}

    void seek_end() {
        reopen();
        if (fd_) {
            ::lseek(fd_.get(), 0, SEEK_END);
        }
    }

    void print_new() {
        drain();
        struct stat ours {};
        struct stat named {};
        if (!fd_ ||
            (::stat(file_.c_str(), &named) == 0 && ::fstat(fd_.get(), &ours) == 0 && ours.st_ino != named.st_ino)) {
            reopen();
            drain();
        }
    }

private:
    void reopen() { fd_.reset(::open(file_.c_str(), O_RDONLY | O_CLOEXEC)); }

    void drain() {
        std::array<char, 65536> bytes;
        for (ssize_t got = 0; fd_ && (got = ::read(fd_.get(), bytes.data(), bytes.size())) > 0;) {
            rest_.append(bytes.data(), static_cast<std::size_t>(got));
        }
        for (std::size_t end = 0; (end = rest_.find('\n')) != rest_.npos;) {
            const std::string line = rest_.substr(0, end + 1);
            rest_.erase(0, end + 1);
            if (verbose_ || line.find(" | D | ") == line.npos) {
                std::cout << line;
            }
        }
        std::cout.flush();
    }

    std::filesystem::path file_;
    bool verbose_;
    Fd fd_;
    std::string rest_;
};

} // namespace

int view_log(const control::Invocation& invocation, const control::Paths& paths) {
    const std::filesystem::path file = invocation.module.empty() ? paths.node_log()
                                       : invocation.has("u")     ? paths.user_log(invocation.module)
                                                                 : paths.module_log(invocation.module);
    if (!std::filesystem::is_directory(file.parent_path())) {
        std::cerr << "stead: module '" << invocation.module << "' is not installed; 'stead module list' shows those "
                  << "that are\n";
        return control::exit_code::not_found;
    }
    const std::string lines_text = invocation.option("s", "20");
    std::size_t lines = 0;
    const auto parsed = std::from_chars(lines_text.data(), lines_text.data() + lines_text.size(), lines);
    if (parsed.ec != std::errc{} || parsed.ptr != lines_text.data() + lines_text.size()) {
        std::cerr << "stead: -s " << lines_text << ": not a number of lines\n";
        return control::exit_code::usage;
    }
    Follower follower(file, invocation.has("A"));
    const Result<std::vector<std::string>> tail = control::log_tail(file, lines, invocation.has("A"));
    if (!tail) {
        std::cerr << "stead: " << tail.error().text() << "\n";
        return control::exit_code::of(tail.error().code);
    }
    follower.seek_end();
    for (const std::string& line : *tail) {
        std::cout << line << "\n";
    }
    std::cout.flush();
    const Fd watch(::inotify_init1(IN_CLOEXEC));
    if (!watch ||
        ::inotify_add_watch(watch.get(), file.parent_path().c_str(), IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0) {
        std::cerr << "stead: cannot watch " << file.parent_path().string() << "\n";
        return control::exit_code::io;
    }
    std::array<char, 16384> events;
    while (std::cout && ::read(watch.get(), events.data(), events.size()) > 0) {
        follower.print_new();
    }
    return control::exit_code::ok;
}

} // namespace stead::cli

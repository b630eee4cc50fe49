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
    Follower(std::filesystem::path file, bool verbose, bool as_json)
        : file_(std::move(file)), verbose_(verbose), as_json_(as_json) {}

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
            const std::string line = rest_.substr(0, end);
            rest_.erase(0, end + 1);
            if (verbose_ || line.find(" | D | ") == line.npos) {
                print_text(as_json_, "line", line);
            }
        }
        std::cout.flush();
    }

    std::filesystem::path file_;
    bool verbose_, as_json_;
    Fd fd_;
    std::string rest_;
};

} // namespace

int view_log(const control::Invocation& invocation, const control::Paths& paths) {
    const std::filesystem::path file = invocation.module.empty() ? paths.node_log()
                                       : invocation.has("u")     ? paths.user_log(invocation.module)
                                                                 : paths.module_log(invocation.module);
    if (!std::filesystem::is_directory(file.parent_path())) {
        return fail(invocation.json, control::exit_code::not_found,
                    "module '" + invocation.module + "' is not installed; 'stead module list' shows those that are");
    }
    const std::string lines_text = invocation.option("s", "20");
    std::size_t lines = 0;
    const auto parsed = std::from_chars(lines_text.data(), lines_text.data() + lines_text.size(), lines);
    if (parsed.ec != std::errc{} || parsed.ptr != lines_text.data() + lines_text.size()) {
        return fail(invocation.json, control::exit_code::usage, "-s " + lines_text + ": not a number of lines");
    }
    Follower follower(file, invocation.has("A"), invocation.json);
    const Result<std::vector<std::string>> tail = control::log_tail(file, lines, invocation.has("A"));
    if (!tail) {
        return fail(invocation.json, tail.error());
    }
    follower.seek_end();
    for (const std::string& line : *tail) {
        print_text(invocation.json, "line", line);
    }
    std::cout.flush();
    const Fd watch(::inotify_init1(IN_CLOEXEC));
    if (!watch ||
        ::inotify_add_watch(watch.get(), file.parent_path().c_str(), IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0) {
        return fail(invocation.json, os_error(file.parent_path().string(), "cannot be watched", errno));
    }
    std::array<char, 16384> events;
    while (std::cout && ::read(watch.get(), events.data(), events.size()) > 0) {
        follower.print_new();
    }
    return control::exit_code::ok;
}

} // namespace stead::cli

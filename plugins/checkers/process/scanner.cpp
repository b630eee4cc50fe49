// SPDX-License-Identifier: Apache-2.0
#include <stead/process/scanner.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>

namespace stead::process {
namespace {

constexpr std::size_t commands_max = 4096;    // distinct names kept; beyond that the table starts again
constexpr std::size_t arguments_max = 131072; // of one command line; the kernel allows more, nobody matches it
constexpr std::size_t pids_watched_min = 8;
constexpr std::uint32_t kernel_thread = 0x00200000; // PF_KTHREAD, include/linux/sched.h

struct Stat {
    std::string_view command;
    bool alive{};
    bool main_thread_ended{}; ///< alive all the same: others of its threads run
};

/// Moves to a later field of stat; false when there is none.
bool skip_fields(std::string_view& text, int count) {
    for (; count > 0; --count) {
        const auto blank = text.find(' ');
        if (blank == std::string_view::npos) {
            return false;
        }
        text.remove_prefix(blank + 1);
    }
    return true;
}

template <class Number>
Number number_at(std::string_view text) {
    Number number = 0;
    std::from_chars(text.data(), text.data() + text.size(), number);
    return number;
}

/// "4711 (name) S 1 …": the name may hold blanks and parentheses, so its end is the last one.
std::optional<Stat> parse_stat(std::string_view text) {
    const auto open = text.find('(');
    const auto close = text.rfind(')');
    if (open == std::string_view::npos || close == std::string_view::npos || close + 2 >= text.size()) {
        return std::nullopt;
    }
    Stat stat;
    stat.command = text.substr(open + 1, close - open - 1);
    text.remove_prefix(close + 2);
    const char state = text.front();
    if (!skip_fields(text, 6)) { // from field 3 to 9, the flags
        return std::nullopt;
    }
    const auto flags = number_at<std::uint32_t>(text);
    const unsigned threads = skip_fields(text, 11) ? number_at<unsigned>(text) : 1; // field 20
    stat.main_thread_ended = state == 'Z' && threads > 1;
    stat.alive = (stat.main_thread_ended || (state != 'Z' && state != 'X')) && (flags & kernel_thread) == 0;
    return stat;
}

} // namespace

std::size_t watched_of(const Spec& spec) noexcept { return std::max<std::size_t>(spec.atleast, pids_watched_min); }

Scanner::Scanner(std::span<const Spec> specs, const std::filesystem::path& proc)
    : specs_(specs), folder_(proc), proc_(::opendir(proc.c_str())), arguments_(arguments_max) {}

Result<void> Scanner::scan(const std::vector<bool>& wanted, std::vector<Found>& found) {
    if (!proc_) {
        return os_error(folder_, "cannot list processes", errno);
    }
    for (std::size_t i = 0; i < found.size(); ++i) {
        if (wanted[i]) {
            found[i].count = 0;
            found[i].pids.clear();
        }
    }
    ::rewinddir(proc_.get());
    while (const dirent* entry = ::readdir(proc_.get())) {
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9') {
            look(entry->d_name, wanted, found);
        }
    }
    return {};
}

void Scanner::look(const char* pid_text, const std::vector<bool>& wanted, std::vector<Found>& found) {
    std::array<char, 512> text{};
    const auto stat = parse_stat({text.data(), read(pid_text, "stat", text)});
    if (!stat || !stat->alive) {
        return; // gone meanwhile, or as good as
    }
    bool have_arguments = false;
    for (const std::uint32_t i : candidates(stat->command)) {
        if (!wanted[i]) {
            continue;
        }
        if (specs_[i].arg_regex) {
            if (!have_arguments) {
                const auto size = read_arguments(pid_text, stat->main_thread_ended);
                const auto end = arguments_.begin() + static_cast<std::ptrdiff_t>(size);
                std::replace(arguments_.begin(), end, '\0', ' ');
                // The terminator of the last argument is no blank that one could match.
                arguments_[size > 0 && arguments_[size - 1] == ' ' ? size - 1 : size] = '\0';
                have_arguments = true;
            }
            if (!specs_[i].arg_regex->matches(arguments_.data())) {
                continue;
            }
        }
        ++found[i].count;
        if (found[i].pids.size() < watched_of(specs_[i])) {
            found[i].pids.push_back(static_cast<pid_t>(std::strtol(pid_text, nullptr, 10)));
        }
    }
}

const Scanner::Candidates& Scanner::candidates(std::string_view command) {
    if (const auto known = by_command_.find(command); known != by_command_.end()) {
        return known->second;
    }
    if (by_command_.size() >= commands_max) {
        by_command_.clear();
    }
    std::string name{command};
    Candidates fitting;
    for (std::uint32_t i = 0; i < specs_.size(); ++i) {
        const Spec& spec = specs_[i];
        if (spec.name_regex ? spec.name_regex->matches(name.c_str()) : spec.command() == name) {
            fitting.push_back(i);
        }
    }
    return by_command_.emplace(std::move(name), std::move(fitting)).first->second;
}

/// The command line is gone with the main thread; the other threads still have it.
std::size_t Scanner::read_arguments(const char* pid_text, bool main_thread_ended) {
    const auto buffer = std::span(arguments_).first(arguments_max - 1);
    if (!main_thread_ended) {
        return read(pid_text, "cmdline", buffer);
    }
    std::error_code failed;
    for (std::filesystem::directory_iterator it(folder_ / pid_text / "task", failed), end; !failed && it != end;
         it.increment(failed)) {
        const std::string thread = it->path().filename().string();
        if (const auto size = read(pid_text, ("task/" + thread + "/cmdline").c_str(), buffer); size > 0) {
            return size;
        }
    }
    return 0;
}

std::size_t Scanner::read(const char* pid_text, const char* file, std::span<char> buffer) const {
    std::array<char, 64> path{};
    std::snprintf(path.data(), path.size(), "%.20s/%s", pid_text, file);
    const int fd = ::openat(::dirfd(proc_.get()), path.data(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    std::size_t size = 0;
    while (size < buffer.size()) { // a long command line comes in pages
        const ssize_t part = ::read(fd, buffer.data() + size, buffer.size() - size);
        if (part <= 0) {
            break;
        }
        size += static_cast<std::size_t>(part);
    }
    ::close(fd);
    return size;
}

} // namespace stead::process

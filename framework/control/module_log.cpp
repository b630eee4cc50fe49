// SPDX-License-Identifier: Apache-2.0
#include <stead/control/module_log.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <deque>
#include <fstream>
#include <iterator>

namespace stead::control {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t text_bytes_max = 8192; // one hook must not write a log of one line

char letter(log::Level level) {
    switch (level) {
    case log::Level::debug: return 'D';
    case log::Level::event: return 'I';
    case log::Level::warning: return 'W';
    case log::Level::error: return 'E';
    }
    return '?';
}

std::string time_stamp() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    tm local{};
    ::localtime_r(&now.tv_sec, &local);
    std::array<char, 64> text{};
    const std::size_t size = std::strftime(text.data(), text.size(), "%F %T", &local);
    std::snprintf(text.data() + size, text.size() - size, ".%06ld", now.tv_nsec / 1000);
    return text.data();
}

bool is_debug(std::string_view line) {
    std::size_t at = line.find(" | ");
    at = at == line.npos ? at : line.find(" | ", at + 3);
    return at != line.npos && line.substr(at, 5) == " | D " ;
}

/// The file, of a large one the end, from the first whole line on.
Result<std::string> read_end(const fs::path& file) {
    constexpr std::uintmax_t bytes_max = 64u << 20;
    std::error_code failed;
    const std::uintmax_t size = fs::file_size(file, failed);
    if (failed || size <= bytes_max) {
        return read_file(file, 2 * bytes_max); // it may grow meanwhile
    }
    std::ifstream stream(file);
    std::string line;
    stream.seekg(static_cast<std::streamoff>(size - bytes_max));
    std::getline(stream, line);
    std::string content{std::istreambuf_iterator<char>(stream), {}};
    return content;
}

std::string rotated(const fs::path& file) { return file.string() + ".1"; }

} // namespace

std::string log_line(std::string_view module, log::Level level, std::string_view source, std::string_view text) {
    std::string line = time_stamp();
    line.append(" | ").append(module).append(" | ").append(1, letter(level)).append(" | ");
    for (const char c : source) { // "-i NAME" is anybody's
        line.push_back(static_cast<unsigned char>(c) < 0x20 ? ' ' : c);
    }
    line.append(" | ");
    const bool cut = text.size() > text_bytes_max;
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) {
        text.remove_suffix(1);
    }
    for (const char c : text.substr(0, text_bytes_max)) {
        if (c == '\n') {
            line.append(" / ");
        } else {
            line.push_back(static_cast<unsigned char>(c) < 0x20 ? ' ' : c);
        }
    }
    return line.append(cut ? "…\n" : "\n");
}

ModuleLog::ModuleLog(fs::path file, std::string module, std::uint64_t bytes_max)
    : file_(std::move(file)), module_(std::move(module)), bytes_max_(bytes_max) {}

int ModuleLog::write(log::Level level, std::string_view source, std::string_view text) {
    const std::string line = log_line(module_, level, source, text);
    const std::lock_guard lock(mutex_);
    return append(line);
}

void ModuleLog::write_raw(std::string_view line) {
    std::string whole(line.substr(0, text_bytes_max));
    if (whole.empty() || whole.back() != '\n') {
        whole.push_back('\n');
    }
    const std::lock_guard lock(mutex_);
    append(whole);
}

void ModuleLog::set_bytes_max(std::uint64_t bytes_max) {
    const std::lock_guard lock(mutex_);
    bytes_max_ = bytes_max;
}

int ModuleLog::append(std::string_view line) {
    errno = 0;
    open_or_rotate(line.size());
    if (!fd_) {
        return errno;
    }
    const ssize_t put = ::write(fd_.get(), line.data(), line.size());
    return put == static_cast<ssize_t>(line.size()) ? 0 : put < 0 ? errno : ENOSPC;
}

void ModuleLog::open_or_rotate(std::size_t line_bytes) {
    const auto open_file = [this] {
        fd_.reset(::open(file_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640));
    };
    struct stat ours {};
    struct stat named {};
    // Another process may have rotated, or an administrator removed, the file that we hold.
    if (!fd_ || ::stat(file_.c_str(), &named) != 0 || ::fstat(fd_.get(), &ours) != 0 || ours.st_ino != named.st_ino) {
        open_file();
    }
    if (!fd_ || ::fstat(fd_.get(), &ours) != 0 ||
        static_cast<std::uint64_t>(ours.st_size) + line_bytes <= bytes_max_ || ours.st_size == 0) {
        return;
    }
    ::flock(fd_.get(), LOCK_EX); // one of several writers rotates; the others find a new file
    if (::stat(file_.c_str(), &named) == 0 && named.st_ino == ours.st_ino) {
        ::rename(file_.c_str(), rotated(file_).c_str());
    }
    open_file(); // closes the old one, and with it the lock
}

Result<std::vector<std::string>> log_tail(const fs::path& file, std::size_t lines, bool verbose) {
    std::deque<std::string> kept;
    for (const std::string& name : {rotated(file), file.string()}) {
        Result<std::string> content = read_end(name);
        if (!content) {
            if (content.error().code == Errc::not_found) {
                continue;
            }
            return content.error();
        }
        std::string_view rest = *content;
        while (!rest.empty()) {
            const std::size_t end = rest.find('\n');
            const std::string_view line = rest.substr(0, end);
            rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
            if (line.empty() || (!verbose && is_debug(line))) {
                continue;
            }
            kept.emplace_back(line);
            if (kept.size() > lines) {
                kept.pop_front();
            }
        }
    }
    return std::vector<std::string>(kept.begin(), kept.end());
}

} // namespace stead::control

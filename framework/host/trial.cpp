// SPDX-License-Identifier: Apache-2.0
#include "trial.hpp"

#include <stead/base/files.hpp>

#include <boost/dll/shared_library.hpp>

#include <csignal>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace stead::host {

namespace {

constexpr int patience_ms = 3000;
constexpr std::uint32_t all_loaded = UINT32_MAX;

/// Writes the number of each library before it is loaded.
[[noreturn]] void load_all(std::span<const std::filesystem::path> files, int progress) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (const int nowhere = ::open("/dev/null", O_RDWR); nowhere >= 0) {
        ::dup2(nowhere, STDOUT_FILENO);
        ::dup2(nowhere, STDERR_FILENO);
    }
    const auto tell = [progress](std::uint32_t number) {
        if (::write(progress, &number, sizeof number) != sizeof number) {
            ::_exit(0);
        }
    };
    for (std::uint32_t number = 0; number < files.size(); ++number) {
        tell(number);
        boost::system::error_code refused;
        static_cast<void>(new boost::dll::shared_library( // kept, as by the one who loads them in earnest
            boost::dll::fs::path(files[number].string()), refused, boost::dll::load_mode::rtld_now));
    }
    tell(all_loaded);
    ::_exit(0);
}

std::string end_of(pid_t child) {
    int status = 0;
    if (::waitpid(child, &status, 0) != child) {
        return "was not loaded";
    }
    return WIFSIGNALED(status) ? std::string("ends a program that loads it: ") + ::strsignal(WTERMSIG(status))
                               : "ends a program that loads it, with exit code " + std::to_string(WEXITSTATUS(status));
}

} // namespace

std::optional<Error> try_loading(std::span<const std::filesystem::path> files) {
    int ends[2]{-1, -1};
    if (files.empty() || ::pipe2(ends, O_CLOEXEC) != 0) {
        return std::nullopt;
    }
    const Fd progress(ends[0]);
    Fd told(ends[1]);
    const pid_t child = ::fork();
    if (child == 0) {
        load_all(files, told.get());
    }
    told.reset();
    if (child < 0) {
        return std::nullopt;
    }
    std::uint32_t number = 0, next = 0;
    bool in_time = true;
    while (in_time && number != all_loaded) {
        pollfd wait{progress.get(), POLLIN, 0};
        in_time = ::poll(&wait, 1, patience_ms) > 0;
        if (!in_time || ::read(progress.get(), &next, sizeof next) != sizeof next) {
            break;
        }
        number = next;
    }
    if (!in_time) {
        ::kill(child, SIGKILL);
    }
    const std::string how = end_of(child);
    if (number == all_loaded) {
        return std::nullopt;
    }
    return Error{Errc::malformed, files[number].string(),
                 "cannot be loaded: " +
                     (in_time ? how : "it did not end its start within " + std::to_string(patience_ms / 1000) + " s") +
                     ". Is it a whole file, and built for this system?"};
}

} // namespace stead::host

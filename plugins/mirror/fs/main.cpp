// SPDX-License-Identifier: Apache-2.0
// stead-fs: the file systems, the stream and the protocol core of one mirror module. Started by the mirror plugin in
// stead-host with two descriptors: 3 = the control channel, 4 = the lease page. The first message is its settings.
#include "driver.hpp"

#include <stead/base/utf8.hpp>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace {

using namespace stead;
using namespace stead::mirror;

constexpr int channel_fd = 3, lease_fd = 4;
constexpr int start_limit_ms = 10'000;

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

/// This process writes for others who hold memory until it has written: it must not wait for memory, nor be the one
/// that is killed for it. What the system refuses is only less safe.
void prepare_process() {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL); // an orphan must not go on serving
    ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
    // Nor for a page of its own that was swapped out. On fault: what is only reserved or mapped takes nothing.
    ::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
    ::setpriority(PRIO_PROCESS, 0, -10); // the application waits for it at every write
    ::umask(0);
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGHUP, SIG_IGN);
    ::signal(SIGINT, SIG_IGN);  // the host decides when it ends
    ::signal(SIGTERM, SIG_IGN); // (a stop of the whole session must not cut the application off)
    rlimit files{1'048'576, 1'048'576};
    if (::setrlimit(RLIMIT_NOFILE, &files) != 0 && ::getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &files);
    }
    const int score = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score >= 0) {
        [[maybe_unused]] const auto written = ::write(score, "-1000", 5);
        ::close(score);
    }
}

int fail(Channel& channel, const std::string& text) {
    channel.send({{"say", "failed"}, {"text", printable(text, "\n")}});
    std::fprintf(stderr, "stead-fs: %s\n", text.c_str());
    return exit_cannot_start;
}

int run(Channel& channel) {
    pollfd wait{channel.fd(), POLLIN, 0};
    ::poll(&wait, 1, start_limit_ms);
    const auto first = channel.receive();
    if (!first || text_of(*first, "do") != "start") {
        return fail(channel, "the first message must be the settings: this program is started by stead-host");
    }
    auto lease = LeasePage::map(Fd{lease_fd});
    if (!lease) {
        return fail(channel, lease.error().text());
    }
    Driver driver{settings_from(*first), channel, std::move(*lease)};
    if (const auto opened = driver.open(); !opened) {
        return fail(channel, opened.error().text());
    }
    const int ended = driver.run();
    if (ended != 0) {
        ::_exit(ended); // the host is gone: whoever waits for a file is released now, by the end of this process
    }
    return ended;
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2 || ::fcntl(channel_fd, F_GETFD) < 0) {
        std::fprintf(stderr, "usage: %s MODULE, with the control channel of stead-host as descriptor 3\n", argv[0]);
        return 64;
    }
    ::fcntl(channel_fd, F_SETFD, FD_CLOEXEC);
    ::fcntl(lease_fd, F_SETFD, FD_CLOEXEC);
    ::fcntl(channel_fd, F_SETFL, O_NONBLOCK);
    prepare_process();
    Channel channel{Fd{channel_fd}};
    return run(channel);
}

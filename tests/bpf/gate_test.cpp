// SPDX-License-Identifier: Apache-2.0
// The last gate of the NFQUEUE back end, renewed by a process that a busy machine keeps stopping.
#include "nft_gate.hpp"
#include "urgent.hpp"

#include <stead/base/time.hpp>

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

namespace stead::shim {
namespace {

constexpr int pauses = 20;
constexpr auto lease = milliseconds{200};

std::uint64_t in_ns(nanoseconds after) { return static_cast<std::uint64_t>(to_ns(BootClock::now() + after)); }

/// Renews without end, so that every pause meets a renewal; 0 when the gate was open after each of them.
[[noreturn]] void renew_until_told(NftGate& gate, int told) {
    make_this_thread_urgent(); // as the back end's
    int closed = 0;
    for (char byte = 0; ::read(told, &byte, 1) < 0;) {
        const __u64 until = in_ns(lease);
        closed += gate.renew(until, 0) && gate.open() ? 0 : 1;
    }
    ::_exit(closed);
}

TEST(Gate, APauseInARenewalDoesNotCloseIt) {
    ASSERT_EQ(std::system("ip link del g0 2>/dev/null; ip link add g0 type veth peer name g1 && ip link set g0 up"), 0);
    stead_farm_config config{};
    config.vip_count = 1;
    config.vips[0].ifindex = if_nametoindex("g0");
    config.vips[0].delivery = STEAD_DIRECTED;
    config.vips[0].address_be[2] = htonl(0xffff);
    config.vips[0].address_be[3] = ::inet_addr("192.0.2.100");
    const stead_farm_control control{};
    NftGate gate{7, config, control};
    ASSERT_TRUE(gate.install());
    EXPECT_EQ(gate.dropped(), 0u);
    int tell[2];
    ASSERT_EQ(::pipe2(tell, O_NONBLOCK), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        renew_until_told(gate, tell[0]);
    }
    for (int i = 0; i < pauses; ++i) {
        ::usleep(20'000);
        ASSERT_EQ(::kill(child, SIGSTOP), 0);
        ::usleep(120'000); // the pause itself
        ASSERT_EQ(::kill(child, SIGCONT), 0);
    }
    ASSERT_EQ(::write(tell[1], "x", 1), 1);
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << status;
    EXPECT_EQ(WEXITSTATUS(status), 0) << "renewals that closed the gate of a lease that stood";
    gate.remove();
    std::system("ip link del g0");
}

} // namespace
} // namespace stead::shim

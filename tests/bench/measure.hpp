// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

/// How the packet benchmarks measure on a machine that others use too: subjects take turns in short rounds, times are
/// the thread's own (a preemption costs nothing), and what is told is the median of the rounds and of the differences
/// and ratios within a round.
namespace stead::bench {

using Bytes = std::vector<std::uint8_t>;

[[noreturn]] inline void give_up(const char* what, int number) {
    std::fprintf(stderr, "%s: %s\n", what, std::strerror(number));
    std::exit(2);
}

inline double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values.empty() ? 0 : values[values.size() / 2];
}

inline double thread_ns() {
    timespec t{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

/// A program of one instruction: what everything is measured against.
inline int empty_program(bpf_prog_type type, int result) {
    const bpf_insn code[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, result}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    const int fd = bpf_prog_load(type, "empty", "GPL", code, 2, nullptr);
    return fd >= 0 ? fd : (give_up("empty program", errno), -1);
}

/// ns per run of a program on one frame, over and over: warm caches, one flow.
inline double run_ns(int fd, const Bytes& frame, bool xdp, std::uint32_t repeats) {
    __sk_buff context{};
    context.ifindex = if_nametoindex("v0");
    bpf_test_run_opts run{};
    run.sz = sizeof(run);
    run.data_in = frame.data();
    run.data_size_in = static_cast<std::uint32_t>(frame.size());
    run.repeat = repeats;
    if (!xdp) {
        run.ctx_in = &context;
        run.ctx_size_in = sizeof(context);
    }
    if (bpf_prog_test_run_opts(fd, &run) != 0) {
        give_up("test run", errno);
    }
    return static_cast<double>(run.duration);
}

/// ns of processor time per frame when the kernel takes `frames` of them as from v0: the XDP program sees them first,
/// and what it passes goes on into the stack.
inline double injected_ns(int xdp_fd, Bytes frame, std::uint32_t frames) {
    xdp_md context{};
    context.data_end = static_cast<std::uint32_t>(frame.size());
    context.ingress_ifindex = if_nametoindex("v0");
    bpf_test_run_opts run{};
    run.sz = sizeof(run);
    run.data_in = frame.data();
    run.data_size_in = static_cast<std::uint32_t>(frame.size());
    run.ctx_in = &context;
    run.ctx_size_in = sizeof(context);
    run.repeat = frames;
    run.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
    run.batch_size = 64;
    const double begin = thread_ns();
    if (bpf_prog_test_run_opts(xdp_fd, &run) != 0) {
        give_up("injected frames", errno);
    }
    return (thread_ns() - begin) / frames;
}

/// Rows for plot.py, one file a benchmark, in the folder STEAD_BENCH_OUT (none: not kept).
class Rows {
public:
    explicit Rows(const char* name) {
        if (const char* folder = std::getenv("STEAD_BENCH_OUT"); folder != nullptr) {
            file_ = std::fopen((std::string{folder} + "/" + name + ".tsv").c_str(), "w");
        }
    }
    ~Rows() {
        if (file_ != nullptr) {
            std::fclose(file_);
        }
    }
    Rows(const Rows&) = delete;
    Rows& operator=(const Rows&) = delete;
    void add(const std::string& series, double x, double y) {
        if (file_ != nullptr) {
            std::fprintf(file_, "%s\t%g\t%g\n", series.c_str(), x, y);
        }
    }

private:
    std::FILE* file_{};
};

} // namespace stead::bench

// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/core.hpp>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>

/// What the mirror's core costs: two cores back to back, every effect done at once, nothing on a disk or a network.
/// bench_mirror_core [OPERATIONS [ZONES]]
namespace stead::mirror {

struct Content {};

namespace {

double cpu_seconds() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

Target zone(std::uint64_t file, std::uint64_t index) { return {TargetKind::zone, {7, file}, index}; }

class Pair {
public:
    Pair() {
        for (std::uint8_t node = 0; node < 2; ++node) {
            Options options;
            options.node = node;
            options.zones_per_extent = 64;
            cores_.emplace_back(options);
        }
        const Payload payload = std::make_shared<Content>();
        payload_ = payload;
    }

    void run(std::uint64_t zones) {
        tree_.clear();
        for (std::uint64_t i = 0; i < zones; ++i) {
            tree_.push_back(zone(i / 4096, i % 4096));
        }
        for (unsigned node = 0; node < 2; ++node) {
            give(node, Start{std::nullopt, {}, {node + 1, 9}, {}});
            give(node, PeerBack{});
            give(node, Lease{never});
        }
        give(0, PeerLost{PeerLost::How::silent});
        give(0, Command::prim);
        drain();
        give(0, PeerBack{});
        give(0, LinkUp{});
        give(1, LinkUp{});
        drain();
    }

    /// `depth` writes on their way at a time.
    void write(std::uint64_t operations, unsigned depth, bool one_file) {
        for (std::uint64_t i = 0; i < operations; ++i) {
            Operation operation;
            operation.whole_inode = false;
            const std::uint64_t file = one_file ? 0 : i % 512;
            operation.targets = {{TargetKind::inode, {7, file}, 0}, zone(file, i * 7919 % 100'000)};
            operation.payload = payload_;
            give(0, Request{i + 1, std::move(operation)});
            if (i % depth == depth - 1) {
                drain();
            }
        }
        drain();
    }

    [[nodiscard]] bool equal() const { return cores_[0].equal() && cores_[1].equal(); }
    [[nodiscard]] std::uint64_t answers() const { return answers_; }
    [[nodiscard]] std::uint64_t copies() const { return cores_[0].counters().copies; }

private:
    void give(unsigned node, Input input) { inbox_.emplace_back(node, std::move(input)); }

    void drain() {
        while (!inbox_.empty()) {
            auto [node, input] = std::move(inbox_.front());
            inbox_.pop_front();
            now_ += nanoseconds{1};
            for (Output& output : cores_[node].step(now_, input)) {
                std::visit([this, node = node](auto& what) { perform(node, what); }, output);
            }
        }
    }

    void done(unsigned node, Ticket ticket, Payload payload = nullptr, std::vector<Target> targets = {}) {
        give(node, Done{.ticket = ticket, .payload = std::move(payload), .targets = std::move(targets)});
    }
    void perform(unsigned node, Read& output) { done(node, output.ticket, payload_); }
    void perform(unsigned node, List& output) { done(node, output.ticket, nullptr, tree_); }
    void perform(unsigned node, Send& output) { give(1 - node, Received{std::move(output.message)}); }
    void perform(unsigned, Answer&) { ++answers_; }
    template <class Effect>
    void perform(unsigned node, Effect& output) {
        if constexpr (requires { output.ticket; }) {
            done(node, output.ticket);
        }
    }

    std::vector<Core> cores_;
    std::deque<std::pair<unsigned, Input>> inbox_;
    std::vector<Target> tree_;
    Payload payload_;
    Instant now_{seconds{1}};
    std::uint64_t answers_{};
};

void resync(std::uint64_t zones) {
    Pair pair;
    const double begin = cpu_seconds();
    pair.run(zones);
    const double took = cpu_seconds() - begin;
    if (!pair.equal() || pair.copies() != zones) {
        std::fprintf(stderr, "not equal after a resync\n");
        std::exit(1);
    }
    std::printf("%-44s %9.3f s  %6.2f us a zone\n", ("resync of " + std::to_string(zones) + " zones").c_str(), took,
                took * 1e6 / static_cast<double>(zones));
}

void writes(std::uint64_t operations, unsigned depth, bool one_file, const char* name) {
    Pair pair;
    pair.run(1);
    const double begin = cpu_seconds();
    pair.write(operations, depth, one_file);
    const double took = cpu_seconds() - begin;
    if (pair.answers() != operations) {
        std::fprintf(stderr, "%llu answers\n", static_cast<unsigned long long>(pair.answers()));
        std::exit(1);
    }
    std::printf("%-44s %9.0f /s %6.2f us an operation, both sides\n", name, static_cast<double>(operations) / took,
                took * 1e6 / static_cast<double>(operations));
}

} // namespace
} // namespace stead::mirror

int main(int argc, char** argv) {
    using namespace stead::mirror;
    const std::uint64_t operations = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 500'000;
    const std::uint64_t zones = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1'000'000;
    writes(operations, 1, false, "4 KiB writes, one at a time, 512 files");
    writes(operations, 64, false, "the same, 64 at a time");
    writes(operations, 256, true, "256 at a time, one file");
    for (std::uint64_t size = zones / 100; size <= zones; size *= 10) {
        resync(size);
    }
    return 0;
}

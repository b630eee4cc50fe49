// SPDX-License-Identifier: Apache-2.0
// What one frame costs the farm filter, by bpf_prog_test_run, beside an empty program in the same rounds. Run it in a
// private network namespace as root. Prints a table with the goals; missing one is no failure.
#include "subject.hpp"

#include <optional>

namespace stead::bench {
namespace {

constexpr std::uint32_t repeats = 200'000;
constexpr int rounds = 21;

struct Row {
    const char* name;
    int fd;
    const Bytes* frame;
    bool xdp;
    bool connected; ///< needs the connection
    double goal_ns;
    std::vector<double> cost, above;
};

} // namespace

int run() {
    test::State mine, others, moving, holder;
    mine.delivery = others.delivery = moving.delivery = holder.delivery = Delivery::invisible;
    others.bucket = {1, 1, {}};
    moving.bucket = {0, 0, NodeSet{NodeId{1}}};
    holder.bucket = {1, 1, NodeSet{NodeId{0}}};
    Node node_mine{mine}, node_others{others}, node_moving{moving}, node_holder{holder};
    const int empty_tc = empty_program(BPF_PROG_TYPE_SCHED_CLS, -1);
    const int empty_xdp = empty_program(BPF_PROG_TYPE_XDP, XDP_DROP);
    const Bytes segment = test::frame(to_vip(false, test::ack, test::vmac4));
    const Bytes segment6 = test::frame(to_vip(true, test::ack, test::vmac4));
    std::vector<Row> rows{
        {"tc  settled reject", node_others.tc(), &segment, false, false, 50, {}, {}},
        {"tc  settled reject IPv6", node_others.tc(), &segment6, false, false, 50, {}, {}},
        {"XDP settled reject", node_others.xdp(), &segment, true, false, 50, {}, {}},
        {"XDP settled reject IPv6", node_others.xdp(), &segment6, true, false, 50, {}, {}},
        {"tc  settled accept", node_mine.tc(), &segment, false, false, 100, {}, {}},
        {"tc  settled accept IPv6", node_mine.tc(), &segment6, false, false, 100, {}, {}},
        {"tc  transition, no socket", node_moving.tc(), &segment, false, false, 180, {}, {}},
        {"tc  transition, socket", node_holder.tc(), &segment, false, true, 180, {}, {}},
        {"tc  transition, socket IPv6", node_holder.tc(), &segment6, false, true, 180, {}, {}},
    };
    std::optional<test::Connection> connection4, connection6;
    for (int round = 0; round < rounds; ++round) {
        for (Row& row : rows) {
            if (row.connected && !connection4) {
                connection4.emplace(false);
                connection6.emplace(true);
            } else if (!row.connected) {
                connection4.reset();
                connection6.reset();
            }
            const double empty = run_ns(row.xdp ? empty_xdp : empty_tc, *row.frame, row.xdp, repeats);
            row.cost.push_back(run_ns(row.fd, *row.frame, row.xdp, repeats));
            row.above.push_back(row.cost.back() - empty);
        }
    }
    std::printf("%-30s %8s %8s %8s %8s %8s\n", "ns per frame, medians", "cost", "above", "least", "most", "goal");
    Rows out{"cost"};
    for (const Row& row : rows) {
        const auto [least, most] = std::minmax_element(row.above.begin(), row.above.end());
        std::printf("%-30s %8.0f %8.0f %8.0f %8.0f %5s%.0f\n", row.name, median(row.cost), median(row.above), *least,
                    *most, "<= ", row.goal_ns);
        out.add(row.name, 0, median(row.above));
    }
    return 0;
}

} // namespace stead::bench

int main() { return stead::bench::in_namespace(stead::bench::run); }

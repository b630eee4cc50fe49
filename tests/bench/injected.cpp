// SPDX-License-Identifier: Apache-2.0
// Frames that come in as from the wire, from many clients, and are all rejected: our XDP and tc programs beside
// xt_cluster and nft jhash, in turns. Then the same against the number of nodes, and of buckets that the clients reach.
// Run it in a private network namespace as root.
#include "attachment.hpp"
#include "subject.hpp"

#include <stead/farm/rendezvous.hpp>

#include <chrono>
#include <memory>

namespace stead::bench {
namespace {

constexpr std::uint32_t clients_max = 65536;
constexpr std::uint32_t module = 7;

struct Subject {
    std::string name;
    std::function<bool()> begin;
    std::function<void()> end;
    const Spread* program;
    const Bytes* frame;
    std::vector<double> ns;
};

/// Rounds in which each subject has one turn. A subject that cannot begin is left out, and said to be.
void take_turns(std::vector<Subject>& subjects, int rounds, std::uint32_t frames) {
    for (int round = 0; round < rounds; ++round) {
        for (auto& subject : subjects) {
            if (subject.begin && !subject.begin()) {
                continue;
            }
            injected_ns(subject.program->fd(), *subject.frame, frames / 10); // caches, page pool
            subject.ns.push_back(injected_ns(subject.program->fd(), *subject.frame, frames));
            if (subject.end) {
                subject.end();
            }
        }
    }
    std::erase_if(subjects, [](const Subject& subject) {
        if (subject.ns.empty()) {
            std::printf("%s: not to be had here\n", subject.name.c_str());
        }
        return subject.ns.empty();
    });
}

/// Median over the rounds of other/own: both of one round met the same machine.
double ratio(const Subject& other, const Subject& own) {
    std::vector<double> all;
    for (std::size_t i = 0; i < std::min(other.ns.size(), own.ns.size()); ++i) {
        all.push_back(other.ns[i] / own.ns[i]);
    }
    return median(all);
}

class Bench {
public:
    Bench()
        : node_(others()), xdp_(node_.xdp(), XDP_DROP), dropping_(-1, XDP_DROP), passing_(-1, XDP_PASS),
          flooded_(test::frame(to_vip(false, test::ack, test::vmac4))),
          direct_(test::frame(to_vip(false, test::ack, own_addresses(if_nametoindex("v0"), FarmModel{}.config).mac))) {
        set_clients(clients_max);
    }

    void compare() {
        std::vector<Subject> all{generator(), xdp(), tc(), xt_cluster(3), nft(3)};
        take_turns(all, 9, 200'000);
        const auto of = [&](const char* name) -> const Subject* {
            const auto found = std::find_if(all.begin(), all.end(), [&](const auto& s) { return s.name == name; });
            return found == all.end() ? nullptr : &*found;
        };
        std::printf("%-28s %8s %8s %8s %8s\n", "rejecting injected frames", "ns", "least", "most", "Mpps");
        for (const Subject& subject : all) {
            const auto [least, most] = std::minmax_element(subject.ns.begin(), subject.ns.end());
            const double ns = median(subject.ns);
            std::printf("%-28s %8.0f %8.0f %8.0f %8.2f\n", subject.name.c_str(), ns, *least, *most, 1000 / ns);
        }
        const Subject* own = of("Stead, XDP");
        for (const auto& [peer, goal] : {std::pair{"xt_cluster", 4.0}, std::pair{"nft jhash", 3.0}}) {
            if (const Subject* other = of(peer); other != nullptr && own != nullptr) {
                std::printf("XDP beside %-17s %8.1f x  (goal >= %.0f)\n", peer, ratio(*other, *own), goal);
            }
        }
    }

    void against_nodes() {
        Rows rows{"nodes"};
        std::printf("\nns for a rejected frame by number of nodes\n");
        for (const int nodes : {2, 4, 8, 16, 32, 64}) {
            spread_owners(nodes);
            std::vector<Subject> all{xdp(), tc(), nft(nodes)};
            if (nodes <= 32) {
                all.push_back(xt_cluster(nodes));
            }
            run_and_tell(all, nodes, rows);
        }
        spread_owners(2);
    }

    void against_buckets() {
        Rows rows{"buckets"};
        std::printf("\nns for a rejected frame by number of buckets that the clients reach\n");
        for (std::uint32_t reached = 1; reached <= clients_max; reached *= 16) {
            set_clients(reached);
            std::vector<Subject> all{generator(), xdp(), tc(), nft(static_cast<int>(reached))};
            run_and_tell(all, reached, rows);
        }
        set_clients(clients_max);
    }

    /// What a change of the members costs once: the owners of all buckets, and the filter's switch.
    void table_against_nodes() {
        Rows rows{"tables"};
        std::printf("\nms for a table by number of nodes\n");
        for (const unsigned nodes : {2u, 4u, 8u, 16u, 32u, 64u}) {
            farm::Rendezvous rendezvous{{1, 2}, buckets};
            farm::Powers powers{};
            for (unsigned node = 0; node < nodes; ++node) {
                rendezvous.set_name(NodeId(static_cast<std::uint8_t>(node)), "node" + std::to_string(node));
                powers[node] = 100;
            }
            std::vector<double> compute, install;
            for (int round = 0; round < 9; ++round) {
                const double start = thread_ns();
                powers[round % 2] = 100 + static_cast<std::uint32_t>(round);
                const auto owner = rendezvous.owners(powers);
                const double computed = thread_ns();
                std::vector<Bucket> table(buckets);
                for (std::size_t b = 0; b < buckets; ++b) {
                    table[b].owner = table[b].next = owner[b];
                }
                node_.set_table(table);
                compute.push_back((computed - start) / 1e6);
                install.push_back((thread_ns() - computed) / 1e6);
            }
            std::printf("%6u   owners %6.2f   into the filter %6.2f\n", nodes, median(compute), median(install));
            rows.add("owners", nodes, median(compute));
            rows.add("into the filter", nodes, median(install));
        }
    }

private:
    static test::State others() {
        test::State state;
        state.delivery = Delivery::invisible;
        state.bucket = {1, 1, {}};
        state.live = NodeSet{~std::uint64_t{0}};
        return state;
    }
    void set_clients(std::uint32_t clients) {
        for (Spread* spread : {&xdp_, &dropping_, &passing_}) {
            spread->set_clients(clients);
        }
    }
    /// All buckets another's: with two nodes the other's, else by turns.
    void spread_owners(int nodes) {
        std::vector<Bucket> table(buckets);
        for (std::size_t b = 0; b < buckets; ++b) {
            const auto owner = static_cast<std::uint8_t>(1 + b % static_cast<std::size_t>(nodes - 1));
            table[b] = {owner, owner, {}};
        }
        node_.set_table(table);
    }
    static void run_and_tell(std::vector<Subject>& all, double x, Rows& rows) {
        take_turns(all, 5, 100'000);
        std::printf("%6.0f ", x);
        for (const Subject& subject : all) {
            std::printf("  %s %.0f", subject.name.c_str(), median(subject.ns));
            rows.add(subject.name, x, median(subject.ns));
        }
        std::putchar('\n');
    }

    Subject generator() { return {"generator alone", {}, {}, &dropping_, &flooded_, {}}; }
    Subject xdp() { return {"Stead, XDP", {}, {}, &xdp_, &flooded_, {}}; }
    Subject tc() {
        return {"Stead, tc",
                [this] {
                    return static_cast<bool>(attach_tc(if_nametoindex("v0"), Direction::ingress, module, node_.tc()));
                },
                [] { detach_tc(if_nametoindex("v0"), Direction::ingress, module); },
                &passing_,
                &flooded_,
                {}};
    }
    Subject xt_cluster(int nodes) {
        // As it is used: what is not this node's goes. The rest goes by a second rule, so that everything is rejected.
        const std::string rule = " PREROUTING -i v0 -m cluster --cluster-total-nodes " + std::to_string(nodes) +
                                 " ! --cluster-local-node 1 --cluster-hash-seed 1 -j DROP";
        return {"xt_cluster",
                [rule] {
                    return sh("iptables-legacy -w 5 -t mangle -A" + rule) &&
                           sh("iptables-legacy -w 5 -t mangle -A PREROUTING -i v0 -j DROP");
                },
                [] { sh("iptables-legacy -w 5 -t mangle -F PREROUTING"); },
                &passing_,
                &direct_,
                {}};
    }
    Subject nft(int modulus) {
        const std::string table =
            "nft 'table ip peer { chain in { type filter hook prerouting priority -300; iifname v0 "
            "jhash ip saddr mod " +
            std::to_string(std::max(modulus, 2)) + " seed 1 >= 0 drop; }; }'";
        return {"nft jhash", [table] { return sh(table); }, [] { sh("nft delete table ip peer"); }, &passing_, &direct_,
                {}};
    }

    Node node_;
    Spread xdp_, dropping_, passing_;
    Bytes flooded_, direct_;
};

} // namespace

int run() {
    Bench bench;
    bench.compare();
    bench.against_nodes();
    bench.against_buckets();
    bench.table_against_nodes();
    return 0;
}

} // namespace stead::bench

int main() { return stead::bench::in_namespace(stead::bench::run); }

// SPDX-License-Identifier: Apache-2.0
#include "cluster.hpp"

#include <cstdio>
#include <cstdlib>

namespace {

/// What only one history in thousands shows is looked for from where it was found.
constexpr std::uint64_t first_seed = STEAD_MEMBERSHIP_MUTANT == 12 ? 14'999 : STEAD_MEMBERSHIP_MUTANT == 13 ? 7147 : 1;

} // namespace

/// Exit 1 and the seed when a history fails; 0 when none does within the budget of seeds. STEAD_SIM_WITNESS: histories
/// of cut halves, as for the mutants from 10 on.
int main(int argc, char** argv) {
    using stead::sim::Kind;
    const Kind kind = STEAD_MEMBERSHIP_MUTANT >= 10 || std::getenv("STEAD_SIM_WITNESS") ? Kind::witness : Kind::usual;
    if (argc > 2) { // one seed, told in full
        std::puts(stead::sim::run_history(std::strtoull(argv[2], nullptr, 10), nullptr, true, kind).c_str());
        return 0;
    }
    const std::uint64_t seeds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1000;
    const char* from = std::getenv("STEAD_SIM_FIRST"); // a farm of seeds over several processes
    const bool go_on = std::getenv("STEAD_SIM_GO_ON") != nullptr;
    bool failed = false;
    const std::uint64_t first = from != nullptr ? std::strtoull(from, nullptr, 10) : first_seed;
    const std::uint64_t last = from != nullptr ? seeds : first_seed + seeds - 1;
    for (std::uint64_t seed = first; seed <= last; ++seed) {
        const std::string failure = stead::sim::run_history(seed, nullptr, false, kind);
        if (!failure.empty()) {
            std::printf("mutant %d: %s\n", STEAD_MEMBERSHIP_MUTANT, failure.c_str());
            std::fflush(stdout);
            failed = true;
            if (!go_on) {
                return 1;
            }
        }
    }
    if (failed) {
        return 1;
    }
    std::printf("mutant %d: %llu histories without a failure\n", STEAD_MEMBERSHIP_MUTANT,
                static_cast<unsigned long long>(seeds));
    return 0;
}

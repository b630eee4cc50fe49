// SPDX-License-Identifier: Apache-2.0
#include "cluster.hpp"

#include <cstdio>
#include <cstdlib>

/// Exit 1 and the seed when a history fails; 0 when none does within the budget of seeds.
int main(int argc, char** argv) {
    if (argc > 2) { // one seed, told in full
        std::puts(stead::sim::run_history(std::strtoull(argv[2], nullptr, 10), nullptr, true).c_str());
        return 0;
    }
    const std::uint64_t seeds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1000;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        const std::string failure = stead::sim::run_history(seed);
        if (!failure.empty()) {
            std::printf("mutant %d: %s\n", STEAD_MEMBERSHIP_MUTANT, failure.c_str());
            return 1;
        }
    }
    std::printf("mutant %d: %llu histories without a failure\n", STEAD_MEMBERSHIP_MUTANT,
                static_cast<unsigned long long>(seeds));
    return 0;
}

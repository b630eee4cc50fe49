// SPDX-License-Identifier: Apache-2.0
#include "world.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

namespace stead::mirror::sim {
namespace {

std::uint64_t option(const char* name, std::uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

// Goal: whatever fails, nothing that was answered is lost, one node serves, what differs is known to differ, and quiet
// makes both trees equal. Method: two cores, disks that forget, virtual time; one seed is one history.
TEST(MirrorSim, KeepsItsPromises) {
    if (std::getenv("STEAD_SIM_SEED") != nullptr) {
        const auto trace = static_cast<unsigned>(option("STEAD_SIM_TRACE", 0));
        EXPECT_EQ(run_history({.seed = option("STEAD_SIM_SEED", 0), .trace = trace}), "");
        return;
    }
    Statistics sum;
    const std::uint64_t seeds = option("STEAD_SIM_SEEDS", 1000);
    const std::uint64_t first = option("STEAD_SIM_FIRST", 0);
    for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
        EXPECT_EQ(run_history({.seed = seed}, &sum), "")
            << "replay with: STEAD_SIM_SEED=" << seed << " STEAD_SIM_TRACE=1 ctest -R sim_mirror -V";
        if (HasFailure() && std::getenv("STEAD_SIM_GO_ON") == nullptr) {
            return;
        }
    }
    EXPECT_GT(sum.answers, seeds * 10) << "a simulator that tests nothing must not pass";
    std::printf(
        "%llu steps, %llu answers, %llu syncs, %llu faults, %llu power losses, %llu resyncs, %llu copies, "
        "%llu probes, %llu promotions, %llu repairs, %llu splits, %llu changed behind the mount, %llu configured anew, "
        "%llu times updated, "
        "%llu commands "
        "(%llu refused), %llu batches\n",
        static_cast<unsigned long long>(sum.steps), static_cast<unsigned long long>(sum.answers),
        static_cast<unsigned long long>(sum.syncs), static_cast<unsigned long long>(sum.faults),
        static_cast<unsigned long long>(sum.power_losses), static_cast<unsigned long long>(sum.resyncs),
        static_cast<unsigned long long>(sum.copies), static_cast<unsigned long long>(sum.probes),
        static_cast<unsigned long long>(sum.promotions), static_cast<unsigned long long>(sum.repairs),
        static_cast<unsigned long long>(sum.splits), static_cast<unsigned long long>(sum.tampered),
        static_cast<unsigned long long>(sum.configured), static_cast<unsigned long long>(sum.updated),
        static_cast<unsigned long long>(sum.commands), static_cast<unsigned long long>(sum.refused),
        static_cast<unsigned long long>(sum.batches));
}

// Goal: without data one serves, whoever took over asked the witness, and quiet needs no administrator.
// Method: as above.
TEST(MirrorSim, RolesAloneKeepTheirPromises) {
    if (std::getenv("STEAD_SIM_SEED") != nullptr) {
        const auto trace = static_cast<unsigned>(option("STEAD_SIM_TRACE", 0));
        EXPECT_EQ(run_roles_history({.seed = option("STEAD_SIM_SEED", 0), .trace = trace}), "");
        return;
    }
    Statistics sum;
    const std::uint64_t seeds = option("STEAD_SIM_SEEDS", 1000);
    const std::uint64_t first = option("STEAD_SIM_FIRST", 0);
    for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
        EXPECT_EQ(run_roles_history({.seed = seed}, &sum), "")
            << "replay with: STEAD_SIM_SEED=" << seed << " STEAD_SIM_TRACE=1 ctest -R sim_mirror -V";
        if (HasFailure() && std::getenv("STEAD_SIM_GO_ON") == nullptr) {
            return;
        }
    }
    EXPECT_GT(sum.faults, seeds * 2) << "a simulator that tests nothing must not pass";
    std::printf("%llu steps, %llu faults, %llu power losses, %llu promotions, %llu times two served, %lld ms at most\n",
                static_cast<unsigned long long>(sum.steps), static_cast<unsigned long long>(sum.faults),
                static_cast<unsigned long long>(sum.power_losses), static_cast<unsigned long long>(sum.promotions),
                static_cast<unsigned long long>(sum.overlaps),
                static_cast<long long>(sum.overlap_max / milliseconds{1}));
}

struct Broken {
    const char* name;
    Mutant mutant;
    std::uint64_t seed{}; ///< of a history that it failed in; another change may give that seed another history
    bool lease_from_receipt{};
    bool data{true};
};

class MirrorMutant : public testing::TestWithParam<Broken> {};

// Goal: the simulator sees each broken rule. Method: histories until one fails, first the one that failed before.
TEST_P(MirrorMutant, IsCaught) {
    const std::uint64_t first = option("STEAD_SIM_FIRST", 0);
    for (std::uint64_t tried = 0; tried < 5000; ++tried) {
        const std::uint64_t seed = tried == 0 ? GetParam().seed : first + tried - 1;
        const sim::Setup setup{
            .seed = seed, .mutant = GetParam().mutant, .mutant_lease_from_receipt = GetParam().lease_from_receipt};
        const std::string failure = GetParam().data ? run_history(setup) : run_roles_history(setup);
        if (!failure.empty()) {
            std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), failure.c_str());
            return;
        }
    }
    FAIL() << "5000 histories with a broken protocol broke no promise";
}

INSTANTIATE_TEST_SUITE_P(
    All, MirrorMutant,
    testing::Values(
        Broken{"local_first", Mutant::local_first, 20}, Broken{"ack_before_log", Mutant::ack_before_log, 92},
        Broken{"apply_before_record", Mutant::apply_before_record, 1000},
        Broken{"end_before_flush", Mutant::end_before_flush, 6}, Broken{"forget_unsynced", Mutant::forget_unsynced, 1},
        Broken{"promote_without_drain", Mutant::promote_without_drain, 639},
        Broken{"lease_from_receipt", Mutant::none, 0, true}, Broken{"no_outdate", Mutant::no_outdate, 25},
        Broken{"start_without_claim", Mutant::start_without_claim, 1},
        Broken{"overwrite_before_undo", Mutant::overwrite_before_undo, 546},
        Broken{"ignore_epoch", Mutant::ignore_epoch, 16}, Broken{"answer_after_lease", Mutant::answer_after_lease, 641},
        Broken{"trust_damaged_log", Mutant::trust_damaged_log, 15}, Broken{"sync_one_side", Mutant::sync_one_side, 3},
        Broken{"forget_intents", Mutant::forget_intents, 18}, Broken{"restart_decides", Mutant::restart_decides, 0},
        Broken{"failed_change_counts", Mutant::failed_change_counts, 827},
        Broken{"ignore_configured", Mutant::ignore_configured, 359},
        Broken{"ack_changes_under_way", Mutant::ack_changes_under_way, 339},
        Broken{"ahead_of_end", Mutant::ahead_of_end, 116},
        Broken{"failed_sync_told_once", Mutant::failed_sync_told_once, 30175},
        Broken{"durable_after_failed_sync", Mutant::durable_after_failed_sync, 13570},
        Broken{"read_beside_writes", Mutant::read_beside_writes, 315},
        Broken{"ask_at_once", Mutant::ask_at_once, 165, false, false},
        Broken{"take_without_asking", Mutant::take_without_asking, 19, false, false},
        Broken{"roles_no_outdate", Mutant::no_outdate, 184, false, false}),
    [](const auto& mutant) { return std::string{mutant.param.name}; });

} // namespace
} // namespace stead::mirror::sim

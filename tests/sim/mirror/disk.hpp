// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/core.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace stead::mirror::sim {

struct Random { ///< splitmix64: our own, for standard distributions differ between libraries
    std::uint64_t state;
    std::uint64_t next() {
        std::uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    std::uint64_t below(std::uint64_t n) { return next() % n; }
    bool chance(unsigned percent) { return below(100) < percent; }
};

inline constexpr std::size_t directories = 3, names = 4, zones = 4, sectors = 4;

/// Every cell of the tree holds the id of the operation that wrote it: a later one is a greater number.
struct Name {
    std::uint64_t version{}, inode{}; ///< inode 0 = no such name
    bool operator==(const Name&) const = default;
};
struct Inode {
    std::uint64_t attributes{};
    std::array<std::array<std::uint64_t, sectors>, zones> data{};
    std::uint64_t parked{}; ///< number, 0 = not parked
    bool incomplete{};
};
struct Tree {
    std::array<std::array<Name, names>, directories> dirs{};
    std::map<std::uint64_t, Inode> inodes;

    [[nodiscard]] bool linked(std::uint64_t inode) const;
};

/// One cell changes. The first five are names: journalled in order; the others are data: written back in any order.
struct Change {
    enum class Kind : std::uint8_t { name, create, destroy, park, incomplete, attributes, touch, sector } kind{};
    std::uint64_t group{}; ///< operation of the journal
    std::uint64_t inode{};
    std::size_t at{}, index{}; ///< directory and name, or zone and sector
    std::uint64_t version{}, value{};
    [[nodiscard]] bool is_data() const noexcept { return kind >= Kind::attributes; }
};

Fid directory_fid(std::size_t directory);
Fid inode_fid(std::uint64_t inode);
Target directory_target(std::size_t directory);
Target inode_target(std::uint64_t inode);
Target zone_target(std::uint64_t inode, std::size_t zone);

} // namespace stead::mirror::sim

namespace stead::mirror {
/// What travels: the changes of an operation, or the content of one target.
struct Content {
    std::vector<sim::Change> changes;
    std::array<sim::Name, sim::names> listing{};
    std::uint64_t attributes{};
    std::array<std::uint64_t, sim::sectors> zone{};
};
} // namespace stead::mirror

namespace stead::mirror::sim {

/// A disk under a page cache. Power loss keeps a prefix of the journal and any subset of the data not yet synced,
/// sector by sector. Record, change log and undo log are on it as well.
class Disk {
public:
    Tree cache;

    // The tree. Results are errno.
    int apply(const Operation& operation, Seq park, Random& random);
    int store(const Target& target, const Content& content, Seq park, std::vector<Fid>& created);
    [[nodiscard]] Payload read(const Target& target) const;
    [[nodiscard]] std::uint64_t digest(const Target& target) const;
    [[nodiscard]] std::vector<Target> list(const std::optional<Fid>& fid) const;
    int sync(const Fid& fid, Random& random);
    int flush(Random& random);
    void purge(Seq through);
    void end_resync();
    void power_loss(Random& random);
    /// Both cache and platter, silently.
    void rot(const Target& target);

    // Undo
    void start_undo(bool go_on);
    bool saved(const Target& target) const { return undo_.contains(target); }
    int save_undo(const std::vector<Target>& targets);
    void roll_back();

    // Faults
    bool full{}, sync_fails{}, slow{};
    bool hung{};            ///< nothing completes for seconds
    std::uint64_t errors{}; ///< given so far

    // What the driver keeps beside the tree
    std::optional<Record> record;
    LoadedLog log;
    bool log_damaged{};
    std::optional<Tree> manifest; ///< of a clean stop, until the core has on record what was changed since
    [[nodiscard]] TargetSet foreign() const;
    bool configured_anew{}; ///< until the core has on record that everything is to be compared
    /// What was not replicated is now, on this disk alone, as after a change of the configuration while nothing runs:
    /// only a manifest, if there is one, tells of it. `version` is new.
    void configure(std::uint64_t version, Random& random);
    [[nodiscard]] Seq last_parked() const;
    /// Changes something behind everybody's back, while nothing runs. `version` is new.
    void tamper(std::uint64_t version, Random& random);
    [[nodiscard]] LoadedLog load_log(Random& random) const;

private:
    void write(Change change);
    void settle_data(std::uint64_t inode, bool keep, Random& random);
    void create(std::uint64_t inode, Seq park, std::vector<Fid>& created);
    static void perform(Tree& tree, const Change& change);
    static bool survives(const Change& change, unsigned percent, Random& random);
    void add_file(std::size_t directory, std::size_t name, std::uint64_t version);
    void drop_unlinked(const std::vector<Target>& targets, Seq park);

    Tree durable_;
    std::vector<Change> pending_;
    std::uint64_t group_{};
    std::set<std::uint64_t> failed_; ///< inodes of which a sync has failed since they were written
    std::map<Target, Payload> undo_; ///< nullptr: was not there
};

/// Calls `report` for each target in which the visible trees differ.
void differences(const Tree& a, const Tree& b, const std::function<void(const Target&)>& report);

} // namespace stead::mirror::sim

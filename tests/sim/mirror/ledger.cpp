// SPDX-License-Identifier: Apache-2.0
#include "world.hpp"

#include <algorithm>

/// The application, what it was told, and what must therefore be true.
namespace stead::mirror::sim {
namespace {

constexpr std::size_t requests_max = 8;
constexpr std::size_t files_max = 5;

void raise(std::uint64_t& cell, std::uint64_t version) { cell = std::max(cell, version); }

void raise(Tree& ledger, const Change& change) {
    switch (change.kind) {
    case Change::Kind::name: raise(ledger.dirs[change.at][change.index].version, change.version); break;
    case Change::Kind::attributes:
    case Change::Kind::touch: raise(ledger.inodes[change.inode].attributes, change.version); break;
    case Change::Kind::sector: raise(ledger.inodes[change.inode].data[change.at][change.index], change.version); break;
    default: break;
    }
}

void raise_inode(Inode& to, const Inode& from) {
    raise(to.attributes, from.attributes);
    for (std::size_t z = 0; z < zones; ++z) {
        for (std::size_t s = 0; s < sectors; ++s) {
            raise(to.data[z][s], from.data[z][s]);
        }
    }
}

Change name_change(std::size_t d, std::size_t i, std::uint64_t version, std::uint64_t inode) {
    return {Change::Kind::name, 0, 0, d, i, version, inode};
}

} // namespace

// ---- Client -------------------------------------------------------------------------------------------------------

bool World::busy(const Operation& operation) const {
    const bool names_changed = std::any_of(operation.targets.begin(), operation.targets.end(),
                                           [](const Target& t) { return t.kind == TargetKind::directory; });
    return std::any_of(requests_.begin(), requests_.end(), [&](const auto& entry) {
        const std::vector<Target>& theirs = entry.second.operation.targets;
        const bool names_change = names_changed || std::any_of(theirs.begin(), theirs.end(), [](const Target& t) {
                                      return t.kind == TargetKind::directory;
                                  });
        return names_change && std::any_of(theirs.begin(), theirs.end(), [&](const Target& a) {
                   return std::any_of(operation.targets.begin(), operation.targets.end(),
                                      [&](const Target& b) { return a.fid == b.fid; });
               });
    });
}

/// create, rename, link, unlink: as the kernel would send them, valid on what is there now.
Operation World::choose_name_change(unsigned n) {
    const Tree& tree = nodes_[n].disk.cache;
    const std::size_t d = random_.below(directories), i = random_.below(names);
    const std::size_t to_d = random_.below(directories), to_i = random_.below(names);
    const std::uint64_t inode = tree.dirs[d][i].inode, replaced = tree.dirs[to_d][to_i].inode;
    const std::uint64_t version = ++versions_;
    auto content = std::make_shared<Content>();
    Operation operation;
    std::set<Target> targets{directory_target(d)};
    if (inode == 0) {
        if (tree.inodes.size() < files_max) {
            targets.insert(inode_target(version));
            content->changes = {{Change::Kind::create, 0, version, 0, 0, 0, 0},
                                {Change::Kind::attributes, 0, version, 0, 0, version, 0},
                                name_change(d, i, version, version)};
        }
    } else if (random_.chance(30)) { // unlink
        targets.insert(inode_target(inode));
        content->changes = {name_change(d, i, version, 0)};
    } else if ((d != to_d || i != to_i) && inode != replaced) { // link or rename, over whatever is there
        const bool rename = random_.chance(70);
        targets.insert({directory_target(to_d), inode_target(inode)});
        if (replaced != 0) {
            targets.insert(inode_target(replaced));
        }
        content->changes = {name_change(to_d, to_i, version, inode)};
        if (rename) {
            content->changes.push_back(name_change(d, i, version, 0));
        }
    }
    operation.targets.assign(targets.begin(), targets.end());
    operation.payload = content;
    return operation;
}

Operation World::choose_write(std::uint64_t inode) {
    const std::uint64_t version = ++versions_;
    auto content = std::make_shared<Content>();
    Operation operation;
    operation.whole_inode = random_.chance(40);
    std::set<Target> targets{inode_target(inode)};
    const std::size_t first = random_.below(zones * sectors);
    const std::size_t count = random_.chance(70) ? 1 + random_.below(3) : 1 + random_.below(zones * sectors);
    for (std::size_t s = first; s < std::min(first + count, zones * sectors); ++s) {
        targets.insert(zone_target(inode, s / sectors));
        content->changes.push_back({Change::Kind::sector, 0, inode, s / sectors, s % sectors, version, 0});
    }
    content->changes.push_back(
        {operation.whole_inode ? Change::Kind::attributes : Change::Kind::touch, 0, inode, 0, 0, version, 0});
    operation.durable = random_.chance(10);
    operation.targets.assign(targets.begin(), targets.end());
    operation.payload = content;
    return operation;
}

std::optional<Operation> World::choose(unsigned n) {
    const Tree& tree = nodes_[n].disk.cache;
    std::vector<std::uint64_t> files;
    for (const auto& [number, inode] : tree.inodes) {
        if (tree.linked(number)) {
            files.push_back(number);
        }
    }
    Operation operation;
    const auto dice = random_.below(100);
    if (files.empty() || dice < 20) {
        operation = choose_name_change(n);
    } else if (dice < 85) {
        operation = choose_write(files[random_.below(files.size())]);
    } else {
        operation.kind = OpKind::sync;
        operation.targets = {random_.chance(30) ? directory_target(random_.below(directories))
                                                : inode_target(files[random_.below(files.size())])};
        return operation;
    }
    if (operation.payload->changes.empty() || busy(operation)) {
        return std::nullopt;
    }
    return operation;
}

void World::client() {
    at(microseconds{100 + random_.below(random_.chance(3) ? 200'000 : 8'000)}, [this] { client(); });
    for (unsigned n = 0; n < 2; ++n) {
        if (!load_ || !serving(n) || paused(n) || requests_.size() >= requests_max || failed()) {
            continue;
        }
        const std::optional<Operation> operation = choose(n);
        if (!operation) {
            continue;
        }
        const OpId id = ++versions_;
        Request_& request = requests_[id];
        request = {n, nodes_[n].clients, *operation, nodes_[n].ack, nodes_[n].disk.errors, {}};
        if (operation->kind == OpKind::sync) {
            request.synced = required_;
        }
        step(n, Request{id, *operation});
    }
}

/// The application heard. From now on it must stay true.
void World::on(unsigned n, const Answer& answer) {
    const auto found = requests_.find(answer.id);
    if (found == requests_.end()) {
        fail("an answer to nobody");
        return;
    }
    const Request_ request = found->second;
    requests_.erase(found);
    note(n, "answered " + describe(request.operation) + " error " + std::to_string(answer.error), 2);
    ++statistics.answers;
    const bool other_serves = serving(1 - n) && core(1 - n).answers(now_) &&
                              nodes_[1 - n].core->record().epoch > nodes_[n].core->record().epoch;
    if (other_serves && !split_ && (options_.witness || !fully_cut_)) {
        fail("I2: node" + std::to_string(n) + " answers, the other one serves in a later epoch");
    }
    if (answer.error != 0) {
        if (nodes_[n].disk.errors == request.errors) {
            fail("I8: the application got an error although its node's disk gave none");
        }
        if (request.operation.kind == OpKind::sync || request.operation.durable || request.ack == Ack::disk) {
            required_ = synced_ = {}; // a failed fsync: what is on the platter is anybody's guess
            nodes_[n].untold = false;
        }
        return;
    }
    if (core(n).role() == Role::alone && nodes_[n].session == 0) {
        nodes_[1 - n].left_behind = true; // also where the role was alone before, as at the end of a resync
    }
    if (split_) {
        return; // two histories: which one counts is decided when both are equal again
    }
    if (request.operation.kind == OpKind::change) {
        for (const Change& change : request.operation.payload->changes) {
            raise(required_, change);
            if (request.operation.durable || request.ack == Ack::disk) {
                raise(synced_, change);
            }
        }
        return;
    }
    ++statistics.syncs;
    const Target target = request.operation.targets.front();
    if (target.kind == TargetKind::directory) {
        for (std::size_t i = 0; i < names; ++i) {
            raise(synced_.dirs[target.fid.low][i].version, request.synced.dirs[target.fid.low][i].version);
        }
    } else if (const auto inode = request.synced.inodes.find(target.fid.low); inode != request.synced.inodes.end()) {
        raise_inode(synced_.inodes[target.fid.low], inode->second);
    }
}

/// More failed than one node: only what an fsync was answered for must be there.
void World::forget_unsynced() { required_ = synced_; }

void World::rot(unsigned n, const Target& target) {
    rotten_.insert(target);
    disk(n).rot(target);
}

/// I7: each target at most once per resync, except inodes that the peer had to create.
void World::count_copy(const message::Copy& copy) {
    if (end_sent_ || statistics.repairs != repairs_before_) {
        return; // repair and verify
    }
    if (++sent_[copy.target] > 1 && !created_.contains(copy.target.fid.low)) {
        fail("I7: a resync sends a target twice");
    }
}

// ---- Invariants ---------------------------------------------------------------------------------------------------

void World::check() {
    if (failed()) {
        return;
    }
    if (cut_[0][0] || cut_[0][1] || cut_[1][0] || cut_[1][1] || paused(0) || paused(1)) {
        apart_at_ = now_;
    }
    if (!options_.data) {
        check_roles();
        return;
    }
    if (!split_ && alive(0) && alive(1) && core(0).answers(now_) && core(1).answers(now_)) {
        split_ = true;
        ++statistics.splits;
        if (options_.witness || !fully_cut_) {
            fail("I2: both nodes serve, and the witness or a path could have told");
        }
    }
    if (split_ && equal()) { // the split is healed: whoever serves now is right
        split_ = false;
        const Tree& right = nodes_[serving(0) ? 0 : 1].disk.cache;
        required_ = synced_ = Tree{};
        for (std::size_t d = 0; d < directories; ++d) {
            required_.dirs[d] = right.dirs[d];
        }
        required_.inodes = right.inodes;
        for (auto& [id, request] : requests_) {
            request.synced = Tree{}; // of the other history, perhaps
        }
    }
    if (equal()) {
        fully_cut_ = silent_both_ways();
        nodes_[0].left_behind = nodes_[1].left_behind = false;
    }
    check_serving();
    check_second();
    check_accounting();
}

void World::check_content(unsigned n, const Tree& needed, bool queued_counts, const char* what) {
    const Node& node = nodes_[n];
    const Tree& tree = node.disk.cache;
    const auto missing = [&](const Target& target, std::uint64_t has, std::uint64_t needs) {
        if (has < needs && !(queued_counts && node.core->queued(target))) {
            fail(std::string(what) + ": node" + std::to_string(n) + " lacks an answered change, target kind " +
                 std::to_string(static_cast<int>(target.kind)) + " " + std::to_string(target.fid.low) + "/" +
                 std::to_string(target.index) + ": has " + std::to_string(has) + ", answered " + std::to_string(needs));
        }
    };
    for (std::size_t d = 0; d < directories; ++d) {
        for (std::size_t i = 0; i < names; ++i) {
            const Name& name = tree.dirs[d][i];
            missing(directory_target(d), name.version, needed.dirs[d][i].version);
            if (name.inode != 0 && !tree.inodes.contains(name.inode)) {
                fail("a name without inode on node" + std::to_string(n));
            }
        }
    }
    for (const auto& [number, inode] : needed.inodes) {
        const auto found = tree.inodes.find(number);
        if (found == tree.inodes.end() || !tree.linked(number)) {
            continue; // its names say whether that is right
        }
        missing(inode_target(number), found->second.attributes, inode.attributes);
        for (std::size_t z = 0; z < zones; ++z) {
            for (std::size_t s = 0; s < sectors; ++s) {
                missing(zone_target(number, z), found->second.data[z][s], inode.data[z][s]);
            }
        }
    }
}

/// I3, I4: who serves has everything that was answered and not rightly lost since.
void World::check_serving() {
    for (unsigned n = 0; n < 2 && !split_; ++n) {
        if (alive(n) && core(n).answers(now_) && nodes_[n].distrusted.empty()) {
            check_content(n, required_, false, "I3/I4");
        }
    }
}

/// I5: who may take over has it as well, or has it in its queue.
void World::check_second() {
    for (unsigned n = 0; n < 2 && !split_; ++n) {
        if (alive(n) && core(n).equal() && core(n).eligible() && !nodes_[n].left_behind) {
            check_content(n, options_.ack == Ack::commit ? synced_ : required_, true, "I5");
        }
    }
}

bool World::accounted(const Target& target, const std::array<Decision, 2>* would) const {
    const bool lost = would != nullptr && ((*would)[0].unsynced_self || (*would)[0].unsynced_peer);
    for (unsigned n = 0; n < 2; ++n) {
        if (alive(n)) {
            if (core(n).accounts_for(target, would != nullptr ? &(*would)[n] : nullptr)) {
                return true;
            }
            continue;
        }
        const Disk& disk = nodes_[n].disk;
        if (disk.foreign().contains(target)) {
            return true;
        }
        const Core::Standing standing = Core::after_restart(options_, disk.record.value_or(Record{}), disk.log);
        if (standing.marks.contains(target) || (lost && standing.unsynced.contains(target))) {
            return true;
        }
    }
    return false;
}

/// All of an inode that a copy has only made is sent as soon as that inode, or a directory that names it, comes again.
bool World::sent_with_another(const Target& target, const std::array<Decision, 2>* would) const {
    const std::uint64_t number = target.fid.low;
    const auto incomplete = [&](const Node& node) {
        const auto found = node.disk.cache.inodes.find(number);
        return found != node.disk.cache.inodes.end() && found->second.incomplete;
    };
    if (target.kind == TargetKind::directory || std::none_of(nodes_.begin(), nodes_.end(), incomplete)) {
        return false;
    }
    for (std::size_t d = 0; d < directories; ++d) {
        const bool named = std::any_of(nodes_.begin(), nodes_.end(), [&](const Node& node) {
            const auto& listing = node.disk.cache.dirs[d];
            return std::any_of(listing.begin(), listing.end(), [&](const Name& name) { return name.inode == number; });
        });
        if (named && accounted(directory_target(d), would)) {
            return true;
        }
    }
    return accounted(inode_target(number), would);
}

/// I1: what differs is known to differ, or would be compared.
void World::check_accounting() {
    std::vector<Target> differing;
    differences(nodes_[0].disk.cache, nodes_[1].disk.cache, [&](const Target& target) { differing.push_back(target); });
    std::erase_if(differing,
                  [&](const Target& target) { return rotten_.contains(target) || accounted(target, nullptr); });
    if (differing.empty()) {
        return;
    }
    std::array<Facts, 2> facts;
    for (unsigned n = 0; n < 2; ++n) {
        Options options = options_;
        options.node = static_cast<std::uint8_t>(n);
        const Disk& disk = nodes_[n].disk;
        Record record = disk.record.value_or(Record{});
        record.unknown = record.unknown || disk.configured_anew;
        facts[n] = alive(n) ? core(n).facts() : Core::after_restart(options, record, disk.log).facts;
    }
    const std::array<Decision, 2> both{decide(facts[0], facts[1]), decide(facts[1], facts[0])};
    const Decision& would = both[0];
    if (would.verdict == Verdict::refuse || would.verdict == Verdict::nobody || would.extent != Extent::marks) {
        return;
    }
    for (const Target& target : differing) {
        if (!accounted(target, &both) && !sent_with_another(target, &both)) {
            fail("I1: nobody accounts for a difference, target kind " + std::to_string(static_cast<int>(target.kind)) +
                 " " + std::to_string(target.fid.low) + "/" + std::to_string(target.index) + " (" + would.reason + ")");
            return;
        }
    }
}

/// I6, I9.
void World::check_equal_trees() {
    differences(nodes_[0].disk.cache, nodes_[1].disk.cache, [this](const Target& target) {
        fail("I9: the trees differ after all, target kind " + std::to_string(static_cast<int>(target.kind)) + " " +
             std::to_string(target.fid.low) + "/" + std::to_string(target.index));
    });
}

} // namespace stead::mirror::sim

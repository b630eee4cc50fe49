// SPDX-License-Identifier: Apache-2.0
#include "disk.hpp"

#include <algorithm>
#include <cerrno>

namespace stead::mirror::sim {

Fid directory_fid(std::size_t directory) { return {1, directory}; }
Fid inode_fid(std::uint64_t inode) { return {2, inode}; }
Target directory_target(std::size_t directory) { return {TargetKind::directory, directory_fid(directory), 0}; }
Target inode_target(std::uint64_t inode) { return {TargetKind::inode, inode_fid(inode), 0}; }
Target zone_target(std::uint64_t inode, std::size_t zone) { return {TargetKind::zone, inode_fid(inode), zone}; }

bool Tree::linked(std::uint64_t inode) const {
    return std::any_of(dirs.begin(), dirs.end(), [&](const auto& listing) {
        return std::any_of(listing.begin(), listing.end(), [&](const Name& name) { return name.inode == inode; });
    });
}

void Disk::perform(Tree& tree, const Change& change) {
    if (change.kind == Change::Kind::name) {
        tree.dirs[change.at][change.index] = {change.version, change.value};
        return;
    }
    if (change.kind == Change::Kind::create) {
        tree.inodes.try_emplace(change.inode);
        return;
    }
    const auto found = tree.inodes.find(change.inode);
    if (found == tree.inodes.end()) {
        return;
    }
    Inode& inode = found->second;
    switch (change.kind) {
    case Change::Kind::destroy: tree.inodes.erase(found); break;
    case Change::Kind::park: inode.parked = change.value; break;
    case Change::Kind::incomplete: inode.incomplete = change.value != 0; break;
    case Change::Kind::attributes: inode.attributes = change.version; break;
    // As the times of a file whose zones are written at the same time: in any order.
    case Change::Kind::touch: inode.attributes = std::max(inode.attributes, change.version); break;
    default: inode.data[change.at][change.index] = change.version; break;
    }
}

/// Without a draw for a touch: each write brings one.
bool Disk::survives(const Change& change, unsigned percent, Random& random) {
    return change.kind == Change::Kind::touch ? change.version % 100 < percent : random.chance(percent);
}

void Disk::write(Change change) {
    if (change.is_data() && !sync_fails) {
        failed_.erase(change.inode); // as Tree::sync(): until it is written anew
    }
    change.group = group_;
    perform(cache, change);
    pending_.push_back(change);
}

/// Inodes that lost their last name are gone, or parked.
void Disk::drop_unlinked(const std::vector<Target>& targets, Seq park) {
    for (const Target& target : targets) {
        const std::uint64_t inode = target.fid.low;
        const auto found = cache.inodes.find(inode);
        if (target.kind != TargetKind::inode || found == cache.inodes.end() || cache.linked(inode)) {
            continue;
        }
        if (found->second.parked == 0) {
            write({park != 0 ? Change::Kind::park : Change::Kind::destroy, 0, inode, 0, 0, 0, park});
        }
    }
}

int Disk::apply(const Operation& operation, Seq park, Random& random) {
    const std::vector<Change>& changes = operation.payload->changes;
    const bool data_only = std::all_of(changes.begin(), changes.end(), [](const Change& c) { return c.is_data(); });
    ++group_;
    if (full) { // a write may have come half the way
        ++errors;
        const std::size_t done = data_only ? random.below(changes.size() + 1) : 0;
        for (std::size_t i = 0; i < done; ++i) {
            write(changes[i]);
        }
        return ENOSPC;
    }
    for (const Change& change : changes) {
        const bool names_inode = change.kind == Change::Kind::name && change.value != 0;
        if ((change.is_data() && !cache.inodes.contains(change.inode)) ||
            (names_inode && !cache.inodes.contains(change.value))) {
            return ENOENT;
        }
        write(change);
        if (names_inode && cache.inodes.at(change.value).parked != 0) {
            write({Change::Kind::park, 0, change.value, 0, 0, 0, 0});
        }
    }
    drop_unlinked(operation.targets, park);
    return 0;
}

void Disk::create(std::uint64_t number, Seq park, std::vector<Fid>& created) {
    if (!cache.inodes.contains(number)) {
        write({Change::Kind::create, 0, number, 0, 0, 0, 0});
        write({Change::Kind::incomplete, 0, number, 0, 0, 0, 1});
        write({Change::Kind::park, 0, number, 0, 0, 0, park});
    }
    if (cache.inodes.at(number).incomplete) {
        created.push_back(inode_fid(number));
    }
}

int Disk::store(const Target& target, const Content& content, Seq park, std::vector<Fid>& created) {
    if (full) {
        ++errors;
        return ENOSPC;
    }
    ++group_;
    if (target.kind != TargetKind::directory) {
        const std::uint64_t inode = target.fid.low;
        std::vector<Fid> ignored; // a zone belongs to what an attribute or a listing reported
        create(inode, park, target.kind == TargetKind::inode ? created : ignored);
        if (target.kind == TargetKind::inode) {
            write({Change::Kind::attributes, 0, inode, 0, 0, content.attributes, 0});
        } else {
            for (std::size_t i = 0; i < sectors; ++i) {
                write({Change::Kind::sector, 0, inode, target.index, i, content.zone[i], 0});
            }
        }
        return 0;
    }
    const auto before = cache.dirs[target.fid.low];
    for (std::size_t i = 0; i < names; ++i) {
        const Name& name = content.listing[i];
        if (before[i] != name) {
            write({Change::Kind::name, 0, 0, target.fid.low, i, name.version, name.inode});
        }
        if (name.inode == 0) {
            continue;
        }
        create(name.inode, park, created);
        if (cache.inodes.at(name.inode).parked != 0) {
            write({Change::Kind::park, 0, name.inode, 0, 0, 0, 0});
        }
    }
    std::vector<Target> were_here;
    for (const Name& name : before) {
        if (name.inode != 0) {
            were_here.push_back(inode_target(name.inode));
        }
    }
    drop_unlinked(were_here, park);
    return 0;
}

Payload Disk::read(const Target& target) const {
    auto content = std::make_shared<Content>();
    if (target.kind == TargetKind::directory) {
        content->listing = cache.dirs[target.fid.low];
        return content;
    }
    const auto found = cache.inodes.find(target.fid.low);
    if (found == cache.inodes.end()) {
        return nullptr;
    }
    content->attributes = found->second.attributes;
    if (target.kind == TargetKind::zone) {
        if (target.index >= zones) {
            return nullptr;
        }
        content->zone = found->second.data[target.index];
    }
    return content;
}

/// What is parked is gone for the primary.
std::uint64_t Disk::digest(const Target& target) const {
    const Payload content = read(target);
    const bool parked =
        target.kind != TargetKind::directory && content != nullptr && cache.inodes.at(target.fid.low).parked != 0;
    if (content == nullptr || parked) {
        return 0;
    }
    std::uint64_t hash = 1469598103934665603u;
    const auto add = [&](std::uint64_t value) { hash = (hash ^ value) * 1099511628211u; };
    if (target.kind == TargetKind::directory) {
        for (const Name& name : content->listing) {
            add(name.version);
            add(name.inode);
        }
    } else if (target.kind == TargetKind::inode) {
        add(content->attributes);
    } else {
        std::for_each(content->zone.begin(), content->zone.end(), add);
    }
    return hash;
}

std::vector<Target> Disk::list(const std::optional<Fid>& fid) const {
    std::vector<Target> result;
    for (std::size_t d = 0; d < directories && !fid; ++d) {
        result.push_back(directory_target(d));
    }
    for (const auto& [number, inode] : cache.inodes) {
        if (fid ? *fid == inode_fid(number) : cache.linked(number)) {
            result.push_back(inode_target(number));
            for (std::size_t z = 0; z < zones; ++z) {
                result.push_back(zone_target(number, z));
            }
        }
    }
    return result;
}

/// Data of an inode (0 = of all): on the platter, or, after a failed sync, anybody's guess.
void Disk::settle_data(std::uint64_t inode, bool keep, Random& random) {
    for (const Change& change : pending_) {
        if (keep ? !change.is_data() || inode == 0 || change.inode == inode : !change.is_data()) {
            perform(durable_, change);
        }
    }
    std::vector<Change> rest;
    for (const Change& change : pending_) {
        if (change.is_data() && (inode != 0 && change.inode != inode)) {
            rest.push_back(change);
        } else if (change.is_data() && !keep && survives(change, 50, random)) {
            rest.push_back(change); // still dirty; the others were dropped from the cache
        }
    }
    pending_ = std::move(rest);
    if (!keep) {
        Tree now = durable_;
        for (const Change& change : pending_) {
            perform(now, change);
        }
        cache = std::move(now);
    }
}

int Disk::sync(const Fid& fid, Random& random) {
    const std::uint64_t inode = fid.high == 2 ? fid.low : ~std::uint64_t{0}; // a directory: the journal
    settle_data(inode, !sync_fails, random);
    if (sync_fails && fid.high == 2) {
        failed_.insert(inode);
    }
    const bool failed = sync_fails || failed_.erase(inode) > 0; // whoever waited for it meanwhile hears of it, too
    errors += failed ? 1 : 0;
    return failed ? EIO : 0;
}

int Disk::flush(Random& random) {
    if (sync_fails) {
        ++errors;
        return EIO;
    }
    settle_data(0, true, random);
    return 0;
}

void Disk::purge(Seq through) {
    ++group_;
    std::vector<std::uint64_t> unwanted;
    for (const auto& [number, inode] : cache.inodes) {
        if (inode.parked != 0 && inode.parked <= through && !cache.linked(number)) {
            unwanted.push_back(number);
        }
    }
    for (const std::uint64_t number : unwanted) {
        write({Change::Kind::destroy, 0, number, 0, 0, 0, 0});
    }
}

void Disk::end_resync() {
    ++group_;
    for (const auto& [number, inode] : Tree(cache).inodes) {
        if (inode.incomplete) {
            write({Change::Kind::incomplete, 0, number, 0, 0, 0, 0});
        }
    }
}

void Disk::power_loss(Random& random) {
    std::uint64_t first = group_ + 1;
    for (const Change& change : pending_) {
        first = change.is_data() ? first : std::min(first, change.group);
    }
    const std::uint64_t kept = first + random.below(group_ + 2 - first); // groups before this one
    const unsigned written_back = static_cast<unsigned>(random.below(4) * 33);
    for (const Change& change : pending_) {
        if (change.is_data() ? survives(change, written_back, random) : change.group < kept) {
            perform(durable_, change);
        }
    }
    std::erase_if(durable_.inodes, [&](const auto& entry) {
        return entry.second.parked == 0 && !durable_.linked(entry.first); // fsck
    });
    pending_.clear();
    cache = durable_;
}

void Disk::rot(const Target& target) {
    for (Tree* tree : {&cache, &durable_}) {
        if (const auto found = tree->inodes.find(target.fid.low); found != tree->inodes.end()) {
            found->second.data[target.index][0] ^= std::uint64_t{1} << 60;
        }
    }
}

void Disk::start_undo(bool go_on) {
    if (!go_on) {
        undo_.clear();
    }
}

int Disk::save_undo(const std::vector<Target>& targets) {
    if (full) {
        ++errors;
        return ENOSPC;
    }
    for (const Target& target : targets) {
        undo_.emplace(target, read(target));
    }
    return 0;
}

void Disk::roll_back() {
    const bool was_full = std::exchange(full, false); // its space is reserved
    for (const auto& [target, content] : undo_) {
        std::vector<Fid> created;
        if (content != nullptr) {
            store(target, *content, ~Seq{0}, created);
        }
    }
    full = was_full;
    Random none{0};
    settle_data(0, true, none);
}

TargetSet Disk::foreign() const {
    TargetSet result;
    if (!manifest) {
        return result;
    }
    differences(*manifest, cache, [&](const Target& target) { result.insert(target); });
    for (const auto& [number, inode] : cache.inodes) {
        if (!manifest->inodes.contains(number)) {
            for (const Target& target : list(inode_fid(number))) {
                result.insert(target);
            }
        }
    }
    return result;
}

void Disk::add_file(std::size_t directory, std::size_t name, std::uint64_t version) {
    write({Change::Kind::create, 0, version, 0, 0, 0, 0});
    write({Change::Kind::attributes, 0, version, 0, 0, version, 0});
    write({Change::Kind::name, 0, 0, directory, name, version, version});
}

void Disk::configure(std::uint64_t version, Random& random) {
    configured_anew = true;
    ++group_;
    const std::size_t d = random.below(directories), i = random.below(names);
    if (cache.dirs[d][i].inode == 0) {
        add_file(d, i, version);
    }
}

Seq Disk::last_parked() const {
    Seq last = 0;
    for (const auto& [number, inode] : cache.inodes) {
        last = inode.parked == ~Seq{0} ? last : std::max(last, inode.parked); // that is a roll-back's
    }
    return last;
}

void Disk::tamper(std::uint64_t version, Random& random) {
    ++group_;
    const std::size_t d = random.below(directories), i = random.below(names);
    const std::uint64_t old = cache.dirs[d][i].inode;
    if (old == 0) {
        add_file(d, i, version);
    } else if (random.chance(30)) {
        write({Change::Kind::name, 0, 0, d, i, version, 0});
        drop_unlinked({inode_target(old)}, 0);
    } else {
        write({Change::Kind::sector, 0, old, random.below(zones), random.below(sectors), version, 0});
        write({Change::Kind::attributes, 0, old, 0, 0, version, 0});
    }
}

LoadedLog Disk::load_log(Random& random) const {
    LoadedLog result = log;
    result.readable = !log_damaged;
    if (log_damaged) {
        std::erase_if(result.entries, [&](const LogEntry&) { return random.chance(50); });
    }
    return result;
}

void differences(const Tree& a, const Tree& b, const std::function<void(const Target&)>& report) {
    for (std::size_t d = 0; d < directories; ++d) {
        if (a.dirs[d] != b.dirs[d]) {
            report(directory_target(d));
        }
    }
    const auto look = [&](std::uint64_t number, const Tree& other, const Inode& inode) {
        const auto found = other.inodes.find(number);
        if (found == other.inodes.end()) {
            return; // its directory differs
        }
        if (inode.attributes != found->second.attributes) {
            report(inode_target(number));
        }
        for (std::size_t z = 0; z < zones; ++z) {
            if (inode.data[z] != found->second.data[z]) {
                report(zone_target(number, z));
            }
        }
    };
    for (const auto& [number, inode] : a.inodes) {
        if (a.linked(number) && b.linked(number)) {
            look(number, b, inode);
        }
    }
}

} // namespace stead::mirror::sim

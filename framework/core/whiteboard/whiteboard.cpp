// SPDX-License-Identifier: Apache-2.0
#include <stead/core/whiteboard.hpp>

#include <stead/base/assert.hpp>

#include <algorithm>

namespace stead::whiteboard {
namespace {

std::uint64_t mix(std::uint64_t value) noexcept {
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdULL;
    value ^= value >> 33;
    value *= 0xc4ceb9fe1a85ec53ULL;
    return value ^ (value >> 33);
}

std::uint64_t hash(std::string_view text) noexcept {
    std::uint64_t value = 0xcbf29ce484222325ULL;
    for (const char c : text) {
        value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    }
    return mix(value ^ text.size());
}

std::size_t encoded_bytes(const Entry& entry) noexcept { return entry.name.size() + entry.value.size() + 20; }

Error beyond(std::string_view name, std::string what) {
    return Error{Errc::out_of_range, "resource '" + std::string{name.substr(0, limits::resource_name_bytes_max)} + "'",
                 std::move(what)};
}

} // namespace

Board::Board(NodeId self, const SessionId& session) : self_(self) { own_.session = session; }

// Tombstones do not count: two boards with equal live entries are equal. A sum, so that order does not matter.
std::uint64_t Board::digest_of(const Owner& owner) noexcept {
    std::uint64_t sum = mix(owner.applied + 1);
    for (const auto& [name, stored] : owner.entries) {
        if (!stored.removed) {
            sum += mix(hash(name) ^ mix(hash(stored.value) + stored.version));
        }
    }
    return sum;
}

Result<std::optional<Change>> Board::write(std::string_view name, std::optional<std::string_view> value) {
    if (name.empty() || name.size() > limits::resource_name_bytes_max) {
        return beyond(name, "the name has " + std::to_string(name.size()) + " bytes, 1 to " +
                                std::to_string(limits::resource_name_bytes_max) + " are allowed");
    }
    if (value && value->size() > limits::resource_value_bytes_max) {
        return beyond(name, "the value has " + std::to_string(value->size()) + " bytes, at most " +
                                std::to_string(limits::resource_value_bytes_max) + " are allowed");
    }
    auto found = own_.entries.find(name);
    const bool live = found != own_.entries.end() && !found->second.removed;
    if (value ? live && found->second.value == *value : !live) {
        return std::optional<Change>{};
    }
    if (value && !live && live_ >= limits::resources_per_member_max) {
        return beyond(name, "this node has " + std::to_string(live_) + " resources already, at most " +
                                std::to_string(limits::resources_per_member_max) + " are allowed");
    }
    if (found == own_.entries.end()) {
        found = own_.entries.emplace(std::string{name}, Stored{}).first;
    }
    live_ += (value ? 1U : 0U);
    live_ -= (live ? 1U : 0U);
    found->second = {std::string{value.value_or("")}, ++own_.applied, !value, true};
    Change change{self_, {found->first, found->second.value, found->second.version, !value}};
    prune_tombstones();
    return std::optional<Change>{std::move(change)};
}

void Board::prune_tombstones() {
    if (own_.entries.size() - live_ <= tombstones_max) {
        return;
    }
    const auto oldest = std::ranges::min_element(own_.entries, {}, [](const auto& item) {
        return item.second.removed ? item.second.version : ~std::uint64_t{0};
    });
    floor_ = std::max(floor_, oldest->second.version);
    own_.entries.erase(oldest);
}

std::vector<Delta> Board::deltas_since(std::uint64_t from, std::size_t bytes_max) const {
    if (from >= own_.applied || from < floor_) {
        from = 0; // asked although nothing is missing (its copy must differ), or older than our memory of removals
    }
    const bool complete = from == 0;
    std::vector<Entry> wanted;
    for (const auto& [name, stored] : own_.entries) {
        if (stored.version > from && !(complete && stored.removed)) {
            wanted.push_back({name, stored.value, stored.version, stored.removed});
        }
    }
    std::ranges::sort(wanted, {}, &Entry::version);
    std::vector<Delta> out;
    Delta part{self_, own_.session, from, from, own_.applied, complete, {}};
    std::size_t bytes = 0;
    for (Entry& entry : wanted) {
        if (!part.entries.empty() && bytes + encoded_bytes(entry) > bytes_max) {
            out.push_back(part);
            part.from = part.to;
            part.entries.clear();
            bytes = 0;
        }
        bytes += encoded_bytes(entry);
        part.to = entry.version;
        part.entries.push_back(std::move(entry));
    }
    part.to = own_.applied;
    out.push_back(std::move(part));
    return out;
}

std::vector<Change> Board::apply(const Delta& delta) {
    std::vector<Change> changes;
    if (delta.owner == self_) {
        return changes;
    }
    if (const auto known = others_.find(delta.owner);
        known != others_.end() && known->second.session != delta.session) {
        changes = drop(delta.owner);
    }
    Owner& owner = others_[delta.owner];
    owner.session = delta.session;
    if (delta.complete && delta.top < owner.applied) {
        return changes; // an older copy that was overtaken on its way
    }
    if (delta.complete && delta.from == 0 && !owner.copying) {
        owner.copying = true;
        for (auto& [name, stored] : owner.entries) {
            stored.told = false;
        }
        owner.applied = 0;
    }
    if (delta.from > owner.applied || delta.to < owner.applied) {
        return changes;
    }
    for (const Entry& entry : delta.entries) {
        auto found = owner.entries.find(entry.name);
        if (found != owner.entries.end() && found->second.version >= entry.version) {
            found->second.told = found->second.told || found->second.version == entry.version;
            continue;
        }
        if (found == owner.entries.end()) {
            if (owner.entries.size() >= limits::resources_per_member_max + tombstones_max * 2) {
                continue; // beyond what an honest owner has; its digest will not match, and that is said by the bus
            }
            found = owner.entries.emplace(entry.name, Stored{"", 0, true, true}).first;
        }
        const bool visible = !entry.removed || !found->second.removed;
        found->second = {entry.value, entry.version, entry.removed, true};
        if (visible) {
            changes.push_back({delta.owner, entry});
        }
    }
    owner.applied = delta.to;
    if (owner.copying && delta.to >= delta.top) {
        owner.copying = false;
        for (auto at = owner.entries.begin(); at != owner.entries.end();) {
            if (at->second.told) {
                ++at;
                continue;
            }
            if (!at->second.removed) {
                changes.push_back({delta.owner, {at->first, "", at->second.version, true}});
            }
            at = owner.entries.erase(at);
        }
    }
    return changes;
}

std::optional<Request> Board::check(NodeId owner, const SessionId& session, std::uint64_t digest) const {
    if (owner == self_) {
        return std::nullopt;
    }
    const auto known = others_.find(owner);
    const Owner empty;
    const bool same = known != others_.end() && known->second.session == session;
    const Owner& present = same ? known->second : empty;
    if (!present.copying && digest_of(present) == digest) {
        return std::nullopt;
    }
    return Request{owner, session, present.applied};
}

std::vector<Change> Board::drop(NodeId owner) {
    std::vector<Change> changes;
    const auto known = others_.find(owner);
    if (known == others_.end()) {
        return changes;
    }
    for (const auto& [name, stored] : known->second.entries) {
        if (!stored.removed) {
            changes.push_back({owner, {name, "", stored.version, true}});
        }
    }
    others_.erase(known);
    return changes;
}

std::vector<Change> Board::all() const {
    std::vector<Change> out;
    const auto add = [&out](NodeId id, const Owner& owner) {
        for (const auto& [name, stored] : owner.entries) {
            if (!stored.removed) {
                out.push_back({id, {name, stored.value, stored.version, false}});
            }
        }
    };
    bool added = false;
    for (const auto& [id, owner] : others_) {
        if (!added && self_ < id) {
            add(self_, own_);
            added = true;
        }
        add(id, owner);
    }
    if (!added) {
        add(self_, own_);
    }
    return out;
}

} // namespace stead::whiteboard

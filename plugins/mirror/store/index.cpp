// SPDX-License-Identifier: Apache-2.0
#include "index.hpp"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

namespace stead::mirror {

namespace {

/// FIDs are random already; a root's is a hash. This only guards against a peer's bad generator.
std::uint64_t mixed(const Fid& fid) noexcept {
    std::uint64_t value = (fid.high ^ (fid.low << 31 | fid.low >> 33)) * 0x9e3779b97f4a7c15u;
    value ^= value >> 29;
    return value * 0xbf58476d1ce4e5b9u;
}

} // namespace

std::size_t Index::shard_of(const Fid& fid) noexcept { return mixed(fid) % shards; }

std::size_t Index::Shard::home(const Fid& fid) const noexcept {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::size_t>(static_cast<Wide>(mixed(fid)) * slots.size() >> 64);
}

std::size_t Index::Shard::slot(const Fid& fid) const noexcept {
    std::size_t at = home(fid);
    while (slots[at].fid != Fid{} && slots[at].fid != fid) {
        at = at + 1 == slots.size() ? 0 : at + 1;
    }
    return at;
}

void Index::Shard::grow() {
    std::vector<Located> old(slots.size() + slots.size() / 2 + 16);
    old.swap(slots);
    for (const Located& located : old) {
        if (located.fid != Fid{}) {
            slots[slot(located.fid)] = located;
        }
    }
}

void Index::Shard::insert(const Located& located) {
    if ((used + 1) * 8 > slots.size() * 7) {
        grow();
    }
    Located& place = slots[slot(located.fid)];
    used += place.fid == Fid{} ? 1 : 0;
    place = located;
}

std::optional<Located> Index::find(const Fid& fid) const {
    const Shard& shard = shards_[shard_of(fid)];
    const std::lock_guard lock(shard.mutex);
    if (shard.used == 0 || fid == Fid{}) {
        return std::nullopt;
    }
    const Located& found = shard.slots[shard.slot(fid)];
    return found.fid == fid ? std::optional(found) : std::nullopt;
}

void Index::put(const Located& located) {
    Shard& shard = shards_[shard_of(located.fid)];
    const std::lock_guard lock(shard.mutex);
    shard.insert(located);
}

std::optional<Located> Index::add(const Located& located) {
    Shard& shard = shards_[shard_of(located.fid)];
    const std::lock_guard lock(shard.mutex);
    if (shard.used != 0) {
        const Located& found = shard.slots[shard.slot(located.fid)];
        if (found.fid == located.fid) {
            return found;
        }
    }
    shard.insert(located);
    return std::nullopt;
}

void Index::erase(const Fid& fid) {
    Shard& shard = shards_[shard_of(fid)];
    const std::lock_guard lock(shard.mutex);
    if (shard.used == 0 || fid == Fid{}) {
        return;
    }
    std::vector<Located>& slots = shard.slots;
    std::size_t hole = shard.slot(fid);
    if (slots[hole].fid != fid) {
        return;
    }
    --shard.used;
    // What was pushed past the hole moves up, so that no search stops too early.
    for (std::size_t at = hole;;) {
        at = at + 1 == slots.size() ? 0 : at + 1;
        if (slots[at].fid == Fid{}) {
            break;
        }
        const std::size_t home = shard.home(slots[at].fid);
        const bool stays = hole < at ? (home > hole && home <= at) : (home > hole || home <= at);
        if (!stays) {
            slots[hole] = slots[at];
            hole = at;
        }
    }
    slots[hole] = {};
}

void Index::complete(const Fid& fid) {
    Shard& shard = shards_[shard_of(fid)];
    const std::lock_guard lock(shard.mutex);
    if (shard.used != 0) {
        if (Located& found = shard.slots[shard.slot(fid)]; found.fid == fid) {
            found.incomplete = 0;
        }
    }
}

std::vector<Located> Index::shard(std::size_t number) const {
    const Shard& shard = shards_[number];
    const std::lock_guard lock(shard.mutex);
    std::vector<Located> out;
    out.reserve(shard.used);
    std::copy_if(shard.slots.begin(), shard.slots.end(), std::back_inserter(out),
                 [](const Located& located) { return located.fid != Fid{}; });
    return out;
}

std::size_t Index::size() const {
    return std::accumulate(shards_.begin(), shards_.end(), std::size_t{0}, [](std::size_t sum, const Shard& shard) {
        const std::lock_guard lock(shard.mutex);
        return sum + shard.used;
    });
}

} // namespace stead::mirror

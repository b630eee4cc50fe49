// SPDX-License-Identifier: Apache-2.0
#include "locks.hpp"

#include <algorithm>
#include <set>

namespace stead::mirror {
namespace {

bool conflict(const Target& a, const Target& b) noexcept {
    return a.kind != TargetKind::zone || b.kind != TargetKind::zone || a.index == b.index;
}

bool conflict(const std::vector<Target>& a, const std::vector<Target>& b) noexcept {
    return std::any_of(a.begin(), a.end(), [&](const Target& x) {
        return std::any_of(b.begin(), b.end(), [&](const Target& y) { return conflict(x, y); });
    });
}

} // namespace

std::vector<Target> lock_targets(const Operation& operation) {
    std::vector<Target> result;
    for (const Target& target : operation.targets) {
        if (operation.whole_inode || target.kind == TargetKind::zone) {
            result.push_back(target);
        }
    }
    return result;
}

bool Locks::first(Ticket ticket) const {
    for (const Fid& fid : held_.at(ticket)) {
        const std::vector<Entry>& queue = queues_.at(fid);
        const auto mine = std::find_if(queue.begin(), queue.end(), [&](const Entry& e) { return e.ticket == ticket; });
        if (std::any_of(queue.begin(), mine, [&](const Entry& e) { return conflict(e.targets, mine->targets); })) {
            return false;
        }
    }
    return true;
}

bool Locks::request(Ticket ticket, const std::vector<Target>& targets) {
    std::map<Fid, std::vector<Target>> by_fid;
    for (const Target& target : targets) {
        by_fid[target.fid].push_back(target);
    }
    for (auto& [fid, mine] : by_fid) {
        queues_[fid].push_back({ticket, std::move(mine)});
        held_[ticket].push_back(fid);
    }
    held_.try_emplace(ticket);
    return granted_[ticket] = first(ticket);
}

std::vector<Ticket> Locks::release(Ticket ticket) {
    const auto mine = held_.find(ticket);
    if (mine == held_.end()) {
        return {};
    }
    std::set<Ticket> candidates;
    for (const Fid& fid : mine->second) {
        std::vector<Entry>& queue = queues_[fid];
        std::erase_if(queue, [&](const Entry& e) { return e.ticket == ticket; });
        for (const Entry& entry : queue) {
            if (!granted_[entry.ticket]) {
                candidates.insert(entry.ticket);
            }
        }
        if (queue.empty()) {
            queues_.erase(fid);
        }
    }
    held_.erase(mine);
    granted_.erase(ticket);
    std::vector<Ticket> result;
    for (const Ticket candidate : candidates) {
        if (first(candidate)) {
            granted_[candidate] = true;
            result.push_back(candidate);
        }
    }
    return result;
}

void Locks::clear() {
    queues_.clear();
    held_.clear();
    granted_.clear();
}

} // namespace stead::mirror

// SPDX-License-Identifier: Apache-2.0
#include "locks.hpp"

#include <algorithm>

namespace stead::mirror {

std::vector<Target> lock_targets(const Operation& operation) {
    std::vector<Target> result;
    result.reserve(operation.targets.size());
    for (const Target& target : operation.targets) {
        if (operation.whole_inode || target.kind == TargetKind::zone) {
            result.push_back(target);
        }
    }
    return result;
}

bool Locks::request(Ticket ticket, const std::vector<Target>& targets, bool follows) {
    constexpr std::uint64_t end = ~std::uint64_t{0};
    Held held;
    for (const Target& target : targets) {
        const bool zone = target.kind == TargetKind::zone;
        const Entry mine{ticket, zone ? target.index : 0, zone ? target.index : end, follows};
        std::vector<Entry>& queue = queues_[target.fid];
        if (!queue.empty() && queue.back().ticket == ticket) { // nobody asked in between
            queue.back().first = std::min(queue.back().first, mine.first);
            queue.back().last = std::max(queue.back().last, mine.last);
        } else {
            queue.push_back(mine);
            held.fids.push_back(target.fid);
        }
    }
    for (const Fid& fid : held.fids) {
        const std::vector<Entry>& queue = *queues_.find(fid);
        held.blockers += static_cast<std::size_t>(std::count_if(
            queue.begin(), queue.end() - 1, [&](const Entry& earlier) { return earlier.blocks(queue.back()); }));
    }
    const bool granted = held.blockers == 0;
    held_[ticket] = std::move(held);
    return granted;
}

std::vector<Ticket> Locks::release(Ticket ticket) {
    std::vector<Ticket> result;
    Held* mine = held_.find(ticket);
    if (mine == nullptr) {
        return result;
    }
    for (const Fid& fid : mine->fids) {
        std::vector<Entry>& queue = *queues_.find(fid);
        const auto at = std::find_if(queue.begin(), queue.end(), [&](const Entry& e) { return e.ticket == ticket; });
        for (auto later = at + 1; later != queue.end(); ++later) {
            if (at->blocks(*later) && --held_.find(later->ticket)->blockers == 0) {
                result.push_back(later->ticket);
            }
        }
        queue.erase(at);
        if (queue.empty()) {
            queues_.erase(fid);
        }
    }
    held_.erase(ticket);
    std::sort(result.begin(), result.end());
    return result;
}

void Locks::clear() {
    queues_.clear();
    held_.clear();
}

} // namespace stead::mirror

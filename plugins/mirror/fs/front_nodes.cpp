// SPDX-License-Identifier: Apache-2.0
#include "front_nodes.hpp"

#include <stead/base/assert.hpp>

#include <utility>

namespace stead::mirror::front {

Node& Nodes::acquire(const Fid& fid, bool excluded) {
    Shard& place = shard(fid);
    const std::lock_guard lock(place.mutex);
    auto& node = place.nodes[fid];
    if (!node) {
        node = std::make_unique<Node>(fid, excluded);
    }
    ++node->lookups;
    return *node;
}

void Nodes::forget(Node& node, std::uint64_t lookups) noexcept {
    Shard& place = shard(node.fid);
    std::unique_ptr<Node> last; // its descriptor is closed after the lock
    const std::lock_guard lock(place.mutex);
    STEAD_ASSERT(node.lookups >= lookups);
    node.lookups -= lookups;
    if (node.lookups == 0) {
        const auto found = place.nodes.find(node.fid);
        last = std::move(found->second);
        place.nodes.erase(found);
    }
}

std::size_t Nodes::size() const {
    std::size_t result = 0;
    for (const Shard& place : shards_) {
        const std::lock_guard lock(place.mutex);
        result += place.nodes.size();
    }
    return result;
}

void Nodes::share(Node& node, std::function<void()> go) {
    {
        const std::lock_guard lock(shard(node.fid).mutex);
        if (node.leaving) {
            if (!node.waiting) {
                node.waiting = std::make_unique<Node::Waiting>();
            }
            node.waiting->push_back([this, &node, go = std::move(go)] { share(node, go); });
            return;
        }
        ++node.pending;
    }
    go();
}

void Nodes::share_end(Node& node) {
    std::unique_ptr<Node::Waiting> leave;
    {
        const std::lock_guard lock(shard(node.fid).mutex);
        STEAD_ASSERT(node.pending > 0);
        // Only a removal waits while changes are pending: it is first in the list, those behind it wait for its end.
        if (--node.pending == 0 && node.leaving) {
            leave = std::make_unique<Node::Waiting>();
            leave->push_back(std::move(node.waiting->front()));
            node.waiting->erase(node.waiting->begin());
        }
    }
    if (leave) {
        leave->front()();
    }
}

void Nodes::leave(Node& node, std::function<void()> go) {
    {
        const std::lock_guard lock(shard(node.fid).mutex);
        STEAD_ASSERT(!node.leaving);
        node.leaving = true;
        if (node.pending > 0) {
            node.waiting = std::make_unique<Node::Waiting>();
            node.waiting->push_back(std::move(go));
            return;
        }
    }
    go();
}

void Nodes::leave_end(Node& node, bool gone) {
    std::unique_ptr<Node::Waiting> waiting;
    {
        const std::lock_guard lock(shard(node.fid).mutex);
        node.leaving = false;
        if (gone) {
            node.gone = true;
        }
        waiting = std::move(node.waiting);
    }
    if (waiting) {
        for (const auto& go : *waiting) {
            go();
        }
    }
}

void Nodes::drop_waiting() noexcept {
    for (Shard& place : shards_) {
        std::vector<std::unique_ptr<Node::Waiting>> dropped; // what ends with them may come back here
        const std::lock_guard lock(place.mutex);
        for (const auto& [fid, node] : place.nodes) {
            if (node->waiting) {
                dropped.push_back(std::move(node->waiting));
            }
        }
    }
}

int Nodes::keep(Node& node, Fd fd) noexcept {
    const std::lock_guard lock(shard(node.fid).mutex);
    if (!node.keeper && fd) {
        node.keeper = std::move(fd);
    }
    return node.keeper.get();
}

int Nodes::keeper(const Node& node) const noexcept {
    const std::lock_guard lock(shard(node.fid).mutex);
    return node.keeper.get();
}

Handle& Nodes::open(Fd fd) {
    auto handle = std::make_unique<Handle>();
    handle->fd = std::move(fd);
    Handle& result = *handle;
    const std::lock_guard lock(handles_mutex_);
    handles_.emplace(&result, std::move(handle));
    return result;
}

void Nodes::close(Handle& handle) noexcept {
    std::unique_ptr<Handle> last; // closed after the lock: the last close of an unlinked file may take long
    const std::lock_guard lock(handles_mutex_);
    const auto found = handles_.find(&handle);
    STEAD_ASSERT(found != handles_.end());
    last = std::move(found->second);
    handles_.erase(found);
}

std::size_t Nodes::handles() const {
    const std::lock_guard lock(handles_mutex_);
    return handles_.size();
}

} // namespace stead::mirror::front

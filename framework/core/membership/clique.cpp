// SPDX-License-Identifier: Apache-2.0
#include "clique.hpp"

namespace stead::membership {
namespace {

class Search {
public:
    Search(const Matrix& matrix, NodeSet present, std::uint32_t budget) noexcept
        : matrix_(matrix), present_(present), budget_(budget) {}

    /// Bron-Kerbosch with a pivot: `chosen` is a clique, `open` may extend it, `closed` has been tried.
    void run(NodeSet chosen, NodeSet open, NodeSet closed) noexcept {
        if (budget_ == 0) {
            return;
        }
        --budget_;
        if (open.empty()) {
            if (closed.empty() && better_set(chosen, best_, present_)) {
                best_ = chosen;
            }
            return;
        }
        if (chosen.size() + open.size() < best_.size()) {
            return;
        }
        const NodeSet skip = row(pivot(open, open | closed));
        for (const NodeId node : open - skip) {
            NodeSet with = chosen;
            with.insert(node);
            run(with, open & row(node), closed & row(node));
            open.erase(node);
            closed.insert(node);
        }
    }

    /// Always takes the node with most neighbours left: quick, and the same on every machine.
    [[nodiscard]] NodeSet greedy(NodeSet open) const noexcept {
        NodeSet chosen;
        while (!open.empty()) {
            const NodeId node = pivot(open, open);
            chosen.insert(node);
            open.erase(node);
            open = open & row(node);
        }
        return chosen;
    }

    [[nodiscard]] bool exhausted() const noexcept { return budget_ == 0; }
    [[nodiscard]] NodeSet best() const noexcept { return best_; }

private:
    [[nodiscard]] NodeSet row(NodeId node) const noexcept {
        NodeSet neighbours{matrix_[index(node)]};
        neighbours.erase(node);
        return neighbours;
    }
    [[nodiscard]] NodeId pivot(NodeSet open, NodeSet from) const noexcept {
        NodeId best = from.first();
        int most = -1;
        for (const NodeId node : from) {
            const int count = 2 * (open & row(node)).size() + (present_.contains(node) ? 1 : 0);
            if (count > most) {
                most = count;
                best = node;
            }
        }
        return best;
    }

    const Matrix& matrix_;
    NodeSet present_;
    std::uint32_t budget_;
    NodeSet best_;
};

} // namespace

bool better_set(NodeSet a, NodeSet b, NodeSet present) noexcept {
    if (a.size() != b.size()) {
        return a.size() > b.size();
    }
    const int kept_a = (a & present).size();
    const int kept_b = (b & present).size();
    if (kept_a != kept_b) {
        return kept_a > kept_b;
    }
    const NodeSet only_a = a - b;
    return !only_a.empty() && only_a.first() < (b - a).first(); // equal sizes: b - a is not empty either
}

void transpose(Matrix& matrix) noexcept {
    // Exchanges ever smaller blocks across the diagonal: 32 x 32 bits first, single bits last.
    std::uint64_t low = 0xffffffffu;
    for (unsigned width = 32; width != 0; width /= 2, low ^= low << width) {
        for (unsigned row = 0; row < limits::nodes_max; row = (row + width + 1) & ~width) {
            const std::uint64_t other = (matrix[row] >> width ^ matrix[row + width]) & low;
            matrix[row] ^= other << width;
            matrix[row + width] ^= other;
        }
    }
}

Clique maximum_clique(const Matrix& matrix, NodeSet nodes, NodeSet present, std::uint32_t budget) noexcept {
    // Nearly always everybody hears everybody: no search then, for this runs with every heartbeat.
    bool complete = true;
    for (const NodeId node : nodes) {
        complete = complete && (nodes - NodeSet{matrix[index(node)]} - NodeSet{node}).empty();
    }
    if (complete) {
        return {nodes, false};
    }
    Search search(matrix, present, budget);
    search.run({}, nodes, {});
    if (!search.exhausted()) {
        return {search.best(), false};
    }
    const NodeSet greedy = search.greedy(nodes);
    return {better_set(greedy, search.best(), present) ? greedy : search.best(), true};
}

} // namespace stead::membership

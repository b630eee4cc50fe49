// SPDX-License-Identifier: Apache-2.0
#include "stored_tree.hpp"
namespace stead::mirror {
Errno StoredTree::store(const Target&, const Content&, Seq, std::vector<Fid>&) { return ENOSYS; }
Errno StoredTree::start_undo(bool) { return ENOSYS; }
Errno StoredTree::save_undo(const std::vector<Target>&) { return ENOSYS; }
Errno StoredTree::roll_back() { return ENOSYS; }
void StoredTree::end_resync(bool) {}
} // namespace stead::mirror

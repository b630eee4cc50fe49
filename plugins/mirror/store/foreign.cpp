// SPDX-License-Identifier: Apache-2.0
#include "manifest.hpp"
#include "stored_tree.hpp"

#include <algorithm>

/// Indexes the tree at open, and finds what was changed behind our back since close().
namespace stead::mirror {

namespace {

void add_all(const Located& located, std::uint64_t size, TargetSet& to) {
    if (located.is_directory()) {
        to.insert({TargetKind::directory, located.fid, 0});
    }
    to.insert({TargetKind::inode, located.fid, 0});
    for (std::uint64_t zone = 0; located.is_file() && zone * zone_bytes < size; ++zone) {
        to.insert({TargetKind::zone, located.fid, zone});
    }
}

} // namespace

std::filesystem::path StoredTree::manifest_path() const { return options_.state / "manifest"; }

/// With a sound manifest, what differs from it. Data that we had closed before and of which no manifest tells may
/// have become anything. Data found aside were left by a crash: nobody else can have been there.
Result<void> StoredTree::index_all() {
    Manifest manifest;
    const Manifest::State state = manifest.load(manifest_path());
    const bool sound = state == Manifest::State::sound;
    std::mutex mutex;
    bool untold = state == Manifest::State::damaged;
    const auto seen = [&](const Seen& inode) {
        if (inode.located.incomplete) {
            const std::lock_guard lock(mutex);
            incomplete_.push_back(inode.located.fid);
        }
        if (inode.root && !inode.fresh && !sound && inodes_.roots[inode.located.root]->place.was_stopped()) {
            untold = true; // roots are scanned first, by one thread
        }
        if (!sound) {
            return;
        }
        const Manifest::Verdict verdict = manifest.compare(inode);
        if (verdict != Manifest::Verdict::same && !inode.parked && !inode.located.excluded) {
            const std::lock_guard lock(mutex);
            const auto size = static_cast<std::uint64_t>(inode.attributes.st_size);
            add_all(inode.located, std::max(size, manifest.size_of(inode.located.fid)), foreign_); // it may be cut
        }
    };
    const ScanOptions options{sound, seen,
                              [&](const Fid& fid, const sys::Handle& handle) { return manifest.owns(fid, handle); }};
    if (const auto scanned = scan(inodes_, options, parked_); !scanned) {
        return scanned;
    }
    for (const Fid& fid : manifest.gone()) {
        foreign_.insert({TargetKind::inode, fid, 0});
    }
    if (untold) {
        std::vector<Target> all;
        if (const Errno error = list(std::nullopt, all); error != 0) {
            return os_error(options_.state.string(), "the tree cannot be listed", error);
        }
        foreign_.insert(all.begin(), all.end());
        say(true, manifest_path().string() + (state == Manifest::State::damaged ? " is damaged" : " is missing") +
                      ": nobody knows what was changed while the module was stopped; everything is compared");
    }
    return foreign_.empty() ? Manifest::remove(manifest_path()) : Result<void>();
}

Errno StoredTree::foreign_accounted() { return Manifest::remove(manifest_path()) ? 0 : EIO; }

} // namespace stead::mirror

// SPDX-License-Identifier: Apache-2.0
#include "manifest.hpp"
#include "stored_tree.hpp"

#include <algorithm>

/// Indexes the tree at open, and finds what was changed behind our back since close().
namespace stead::mirror {

namespace {

constexpr std::size_t configured_bytes_max = std::size_t{16} << 20;

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
        if (inode.root >= 0 && !inode.fresh && !sound && inodes_.roots[inode.located.root]->place.was_stopped()) {
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
            if (verdict == Manifest::Verdict::unknown && inode.parent != Fid{}) { // it may have been excluded so far
                foreign_.insert({TargetKind::directory, inode.parent, 0});
            }
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
    const auto before = read_file(configured_path(), configured_bytes_max);
    configured_anew_ = before ? *before != configured() : before.error().code != Errc::not_found;
    if (configured_anew_) {
        say(true, "other directories are replicated than before, or other paths in them are not: all is compared");
    }
    return foreign_.empty() && !configured_anew_ ? account() : Result<void>();
}

/// What is replicated, as text. What was not until now is on this node only and in nobody's marks: after a crash no
/// manifest tells of it, and a clean stop's knows only what was replicated.
std::string StoredTree::configured() const {
    std::set<std::string> lines;
    for (const auto& root : inodes_.roots) {
        const std::string place = root->options.place.lexically_normal().string() + '\0';
        lines.insert(place);
        for (const std::string& path : root->options.excluded) {
            lines.insert(place + "path " + path);
        }
        for (const std::string& pattern : root->options.excluded_regex) {
            lines.insert(place + "regex " + pattern);
        }
    }
    std::string text;
    for (const std::string& line : lines) {
        text.append(line).push_back('\n');
    }
    return text;
}

bool StoredTree::was_replicated(const std::filesystem::path& place) const {
    const auto before = read_file(configured_path(), configured_bytes_max);
    const std::string line = place.lexically_normal().string() + '\0' + '\n';
    return before && (before->starts_with(line) || before->find('\n' + line) != std::string::npos);
}

std::filesystem::path StoredTree::configured_path() const { return options_.state / "replicated"; }

/// A disk that is full now costs a comparison later, or what a version before this one would have missed.
Result<void> StoredTree::account() const {
    if (const auto before = read_file(configured_path(), configured_bytes_max); !before || *before != configured()) {
        static_cast<void>(write_file_atomically(configured_path(), configured(), 0600));
    }
    return Manifest::remove(manifest_path());
}

Errno StoredTree::foreign_accounted() { return account() ? 0 : EIO; }

} // namespace stead::mirror

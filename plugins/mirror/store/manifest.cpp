// SPDX-License-Identifier: Apache-2.0
#include "manifest.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <thread>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <unistd.h>

namespace stead::mirror {

namespace {

static_assert(std::endian::native == std::endian::little, "the file is read by the machine that wrote it");

struct Header {
    std::array<char, 8> magic{};
    std::uint64_t checksum{}; ///< XXH3 of the entries
    std::uint64_t count{};
};
constexpr std::array<char, 8> magic{'S', 'T', 'M', 'A', 'N', 'I', 'F', '1'};
constexpr std::size_t bytes_max = std::size_t{16} << 30;
constexpr unsigned threads_max = 4;

std::uint64_t nanoseconds_of(const timespec& time) {
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(time.tv_nsec);
}

} // namespace

/// Of a root the exchange that moves it alters the time of its last change: there, what a change would alter besides.
Manifest::Entry Manifest::entry_of(const Located& located, const struct stat& attributes, int root) {
    Entry entry;
    entry.fid = located.fid;
    entry.handle = located.handle;
    entry.size = S_ISREG(attributes.st_mode) ? static_cast<std::uint64_t>(attributes.st_size) : 0;
    entry.stamp = nanoseconds_of(attributes.st_ctim);
    if (root >= 0) {
        const std::array<std::uint64_t, 4> parts{nanoseconds_of(attributes.st_mtim), attributes.st_mode,
                                                 attributes.st_uid, attributes.st_gid};
        std::string bytes(reinterpret_cast<const char*>(parts.data()), sizeof(parts));
        std::vector<std::string> names;
        static_cast<void>(sys::list_xattrs(root, names));
        std::sort(names.begin(), names.end());
        for (const std::string& name : names) {
            int error = 0;
            if (!std::string_view(name).starts_with(sys::own_xattrs)) {
                bytes.append(name).append(sys::xattr(root, name.c_str(), error).value_or(""));
            }
        }
        entry.stamp = XXH3_64bits(bytes.data(), bytes.size());
    }
    return entry;
}

int Manifest::collect(const Inodes& inodes, std::size_t shard, std::vector<Entry>& out) {
    for (const Located& located : inodes.index.shard(shard)) {
        const int opened = inodes.open(located, O_PATH);
        const Fd fd(opened < 0 ? -1 : opened);
        struct stat found {};
        const int error = fd ? sys::attributes(fd.get(), found) : -opened;
        if (error == ESTALE || (error == 0 && found.st_nlink == 0)) {
            continue; // it lost its last name
        }
        if (error != 0) {
            return error;
        }
        if (!located.excluded) {
            const bool root = inodes.roots[located.root]->fid == located.fid;
            out.push_back(entry_of(located, found, root ? fd.get() : -1));
        }
    }
    return 0;
}

Result<void> Manifest::write(const std::filesystem::path& file, const Inodes& inodes) {
    std::array<std::vector<Entry>, Index::shards> parts;
    std::atomic<std::size_t> next{0};
    std::atomic<int> failed{0};
    const auto work = [&] {
        for (std::size_t shard = next++; shard < parts.size() && failed == 0; shard = next++) {
            if (const int error = collect(inodes, shard, parts[shard]); error != 0) {
                failed = error;
            }
        }
    };
    std::vector<std::thread> others;
    for (unsigned i = 1; i < std::min(threads_max, std::thread::hardware_concurrency()); ++i) {
        others.emplace_back(work);
    }
    work();
    for (std::thread& other : others) {
        other.join();
    }
    if (failed != 0) {
        return os_error(file.string(), "an inode cannot be looked at", failed);
    }
    std::vector<Entry> all;
    for (std::vector<Entry>& part : parts) {
        all.insert(all.end(), part.begin(), part.end());
        std::vector<Entry>().swap(part);
    }
    std::sort(all.begin(), all.end(), [](const Entry& a, const Entry& b) { return a.fid < b.fid; });
    const std::size_t size = all.size() * sizeof(Entry);
    const Header header{magic, XXH3_64bits(all.data(), size), all.size()};
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
    bytes.append(reinterpret_cast<const char*>(all.data()), size);
    return write_file_atomically(file, bytes, 0600);
}

Result<void> Manifest::remove(const std::filesystem::path& file) {
    if (::unlink(file.c_str()) != 0 && errno != ENOENT) {
        return os_error(file.string(), "cannot be removed", errno);
    }
    return sync_folder(file.parent_path());
}

Manifest::State Manifest::load(const std::filesystem::path& file) {
    const auto bytes = read_file(file, bytes_max);
    if (!bytes) {
        return bytes.error().code == Errc::not_found ? State::missing : State::damaged;
    }
    Header header;
    if (bytes->size() < sizeof(header)) {
        return State::damaged;
    }
    std::memcpy(&header, bytes->data(), sizeof(header));
    const char* from = bytes->data() + sizeof(header);
    const std::size_t size = bytes->size() - sizeof(header);
    if (header.magic != magic || size % sizeof(Entry) != 0 || header.count != size / sizeof(Entry) ||
        XXH3_64bits(from, size) != header.checksum) {
        return State::damaged;
    }
    entries_.resize(header.count);
    if (size > 0) {
        std::memcpy(static_cast<void*>(entries_.data()), from, size);
    }
    return State::sound;
}

const Manifest::Entry* Manifest::find(const Fid& fid) const {
    const auto found = std::lower_bound(entries_.begin(), entries_.end(), fid,
                                        [](const Entry& entry, const Fid& wanted) { return entry.fid < wanted; });
    return found != entries_.end() && found->fid == fid ? &*found : nullptr;
}

bool Manifest::owns(const Fid& fid, const sys::Handle& handle) const {
    const Entry* entry = find(fid);
    return entry != nullptr && entry->handle == handle;
}

Manifest::Verdict Manifest::compare(const Seen& seen) {
    auto* entry = const_cast<Entry*>(find(seen.located.fid)); // ours, and not const
    if (entry == nullptr || entry->handle != seen.located.handle) {
        return Verdict::unknown; // of an inode that took another's place the FID is here, all of it is new
    }
    std::atomic_ref(entry->there).store(1, std::memory_order_relaxed);
    const Entry now = entry_of(seen.located, seen.attributes, seen.root);
    return entry->stamp == now.stamp && entry->size == now.size ? Verdict::same : Verdict::changed;
}

std::uint64_t Manifest::size_of(const Fid& fid) const {
    const Entry* entry = find(fid);
    return entry != nullptr ? entry->size : 0;
}

std::vector<Fid> Manifest::gone() const {
    std::vector<Fid> fids;
    for (const Entry& entry : entries_) {
        if (entry.there == 0) {
            fids.push_back(entry.fid);
        }
    }
    return fids;
}

} // namespace stead::mirror

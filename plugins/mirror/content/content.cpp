// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/content.hpp>

#include <linux/falloc.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

/// Which targets a change may alter. A resync that sends exactly these must make the peer equal, so each rule says why
/// what it leaves out is covered.
namespace stead::mirror {
namespace {

Target directory(const Fid& fid) { return {TargetKind::directory, fid, 0}; }
Target inode(const Fid& fid) { return {TargetKind::inode, fid, 0}; }
Target zone(const Fid& fid, std::uint64_t index) { return {TargetKind::zone, fid, index}; }

/// Zones [first, last] of a file.
void add_zones(std::vector<Target>& to, const Fid& file, std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t index = first; index <= last; ++index) {
        to.push_back(zone(file, index));
    }
}

void add_parent(std::vector<Target>& to, const Fid& parent) {
    to.push_back(directory(parent));
    to.push_back(inode(parent)); // its mtime
}

struct Targets {
    std::vector<Target>& to;

    void operator()(const std::monostate&) const {}
    void operator()(const change::Write& what) const {
        to.push_back(inode(what.file)); // size and mtime
        if (!what.data.empty()) {
            add_zones(to, what.file, what.offset / zone_bytes, (what.offset + what.data.size() - 1) / zone_bytes);
        }
    }
    /// Of a file that was cut, the zone with the cut in it. The zones behind it are holes from then on, should the file
    /// grow again, and the inode's copy tells which zones are.
    void operator()(const change::Attributes& what) const {
        to.push_back(inode(what.inode));
        if ((what.set & change::Attributes::size_set) != 0 && what.size % zone_bytes != 0) {
            to.push_back(zone(what.inode, what.size / zone_bytes));
        }
    }
    void operator()(const change::Make& what) const {
        add_parent(to, what.parent);
        to.push_back(inode(what.inode));
        if (S_ISDIR(what.mode)) {
            to.push_back(directory(what.inode));
        }
    }
    void operator()(const change::Link& what) const {
        add_parent(to, what.parent);
        to.push_back(inode(what.inode));
    }
    void operator()(const change::Remove& what) const {
        add_parent(to, what.parent);
        to.push_back(inode(what.inode));
    }
    /// A directory that moves keeps its listing.
    void operator()(const change::Rename& what) const {
        add_parent(to, what.parent);
        add_parent(to, what.new_parent);
        to.push_back(inode(what.inode));
        if (what.replaced != Fid{}) {
            to.push_back(inode(what.replaced));
        }
    }
    void operator()(const change::SetXattr& what) const { to.push_back(inode(what.inode)); }
    void operator()(const change::RemoveXattr& what) const { to.push_back(inode(what.inode)); }
    /// Space that is only reserved changes no byte. Of a range too long to name all its zones, those at its ends: what
    /// is between them is a hole, and the inode's copy tells which zones are.
    void operator()(const change::Allocate& what) const {
        to.push_back(inode(what.file));
        if ((what.mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) == 0 || what.length == 0) {
            return;
        }
        const std::uint64_t first = what.offset / zone_bytes;
        const std::uint64_t last = (what.offset + (what.length - 1)) / zone_bytes;
        if (last - first < operation_zones_max) {
            add_zones(to, what.file, first, last);
        } else {
            to.push_back(zone(what.file, first));
            to.push_back(zone(what.file, last));
        }
    }
    void operator()(const copy::Listing&) const {}
    void operator()(const copy::Inode&) const {}
    void operator()(const copy::Zone&) const {}
};

/// A write leaves size and times to "the larger" and "the later", so writes of other zones may overtake it. One that
/// takes rights away does not.
bool bytes_only(const Content& content) {
    const auto* write = std::get_if<change::Write>(&content.what);
    return write != nullptr && !write->kill_privileges && !write->data.empty();
}

} // namespace

Operation operation_of(Content content, bool durable) {
    Operation result;
    result.durable = durable;
    result.whole_inode = !bytes_only(content);
    std::visit(Targets{result.targets}, content.what);
    std::sort(result.targets.begin(), result.targets.end());
    result.targets.erase(std::unique(result.targets.begin(), result.targets.end()), result.targets.end());
    result.payload = std::make_shared<const Content>(std::move(content));
    return result;
}

Operation sync_of(const Fid& fid) {
    Operation result;
    result.kind = OpKind::sync;
    result.targets = {inode(fid)};
    return result;
}

} // namespace stead::mirror

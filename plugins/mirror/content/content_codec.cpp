// SPDX-License-Identifier: Apache-2.0
#include "codec.hpp"

#include <algorithm>
#include <utility>

namespace stead::mirror {
namespace codec {
namespace {

constexpr std::size_t item_bytes_guess = 64; ///< of a listing's entry or an xattr

void put(const Time& from, v1::Time& to) {
    to.set_seconds(from.seconds);
    to.set_nanoseconds(from.nanoseconds);
}

Time get(const v1::Time& from) noexcept { return {from.seconds(), from.nanoseconds()}; }

/// One item of the bulk: u32 size, protobuf.
void append_item(std::string& to, const google::protobuf::MessageLite& item) {
    put_u32(to, static_cast<std::uint32_t>(item.ByteSizeLong()));
    item.AppendToString(&to);
}

/// Calls `take(bytes)` for each item of the bulk.
template <class Take>
Result<void> for_each_item(std::string_view bulk, Take take) {
    while (!bulk.empty()) {
        const std::size_t size = bulk.size() < 4 ? bulk.size() : get_u32(bulk);
        if (size > bulk.size() - std::min<std::size_t>(4, bulk.size())) {
            return malformed("item of " + std::to_string(size) + " bytes, " + std::to_string(bulk.size()) +
                             " are left");
        }
        if (auto taken = take(bulk.substr(4, size)); !taken) {
            return taken;
        }
        bulk.remove_prefix(4 + size);
    }
    return {};
}

struct Put {
    v1::Content& to;

    void operator()(const std::monostate&) const {}
    void operator()(const change::Write& from) const {
        v1::Write& what = *to.mutable_write();
        codec::put(from.file, *what.mutable_file());
        what.set_offset(from.offset);
        what.set_kill_privileges(from.kill_privileges);
    }
    void operator()(const change::Attributes& from) const {
        v1::Attributes& what = *to.mutable_attributes();
        codec::put(from.inode, *what.mutable_inode());
        what.set_set(from.set);
        what.set_mode(from.mode);
        what.set_owner(from.owner);
        what.set_group(from.group);
        what.set_size(from.size);
        put(from.atime, *what.mutable_atime());
        put(from.mtime, *what.mutable_mtime());
        what.set_kill_privileges(from.kill_privileges);
    }
    void operator()(const change::Make& from) const {
        v1::Make& what = *to.mutable_make();
        codec::put(from.parent, *what.mutable_parent());
        what.set_name(from.name);
        codec::put(from.inode, *what.mutable_inode());
        what.set_mode(from.mode);
        what.set_owner(from.owner);
        what.set_group(from.group);
        what.set_device(from.device);
        what.set_link(from.link);
    }
    void operator()(const change::Link& from) const {
        v1::Link& what = *to.mutable_link();
        codec::put(from.inode, *what.mutable_inode());
        codec::put(from.parent, *what.mutable_parent());
        what.set_name(from.name);
    }
    void operator()(const change::Remove& from) const {
        v1::Remove& what = *to.mutable_remove();
        codec::put(from.parent, *what.mutable_parent());
        what.set_name(from.name);
        codec::put(from.inode, *what.mutable_inode());
        what.set_directory(from.directory);
    }
    void operator()(const change::Rename& from) const {
        v1::Rename& what = *to.mutable_rename();
        codec::put(from.parent, *what.mutable_parent());
        what.set_name(from.name);
        codec::put(from.new_parent, *what.mutable_new_parent());
        what.set_new_name(from.new_name);
        what.set_flags(from.flags);
        codec::put(from.inode, *what.mutable_inode());
        codec::put(from.replaced, *what.mutable_replaced());
    }
    void operator()(const change::SetXattr& from) const {
        v1::SetXattr& what = *to.mutable_set_xattr();
        codec::put(from.inode, *what.mutable_inode());
        what.set_name(from.name);
        what.set_value(from.value);
    }
    void operator()(const change::RemoveXattr& from) const {
        v1::RemoveXattr& what = *to.mutable_remove_xattr();
        codec::put(from.inode, *what.mutable_inode());
        what.set_name(from.name);
    }
    void operator()(const change::Allocate& from) const {
        v1::Allocate& what = *to.mutable_allocate();
        codec::put(from.file, *what.mutable_file());
        what.set_mode(from.mode);
        what.set_offset(from.offset);
        what.set_length(from.length);
        what.set_kill_privileges(from.kill_privileges);
    }
    void operator()(const copy::Listing&) const { to.mutable_listing(); }
    void operator()(const copy::Inode& from) const {
        v1::Inode& what = *to.mutable_inode();
        what.set_mode(from.mode);
        what.set_owner(from.owner);
        what.set_group(from.group);
        what.set_device(from.device);
        what.set_size(from.size);
        put(from.mtime, *what.mutable_mtime());
        what.set_link(from.link);
        std::uint64_t end = 0;
        for (const copy::ZoneRange& range : from.data) {
            what.add_data(range.first - end);
            what.add_data(range.count);
            end = range.first + range.count;
        }
    }
    void operator()(const copy::Zone& from) const { to.mutable_zone()->set_length(from.length); }
};

change::Write get(const v1::Write& from, std::string_view bulk) {
    return {codec::get(from.file()), from.offset(), std::string{bulk}, from.kill_privileges()};
}
change::Attributes get(const v1::Attributes& from) {
    return {codec::get(from.inode()), from.set(),        from.mode(),           from.owner(), from.group(), from.size(),
            get(from.atime()),        get(from.mtime()), from.kill_privileges()};
}
change::Make get(const v1::Make& from) {
    return {codec::get(from.parent()),
            from.name(),
            codec::get(from.inode()),
            from.mode(),
            from.owner(),
            from.group(),
            from.device(),
            from.link()};
}
change::Link get(const v1::Link& from) { return {codec::get(from.inode()), codec::get(from.parent()), from.name()}; }
change::Remove get(const v1::Remove& from) {
    return {codec::get(from.parent()), from.name(), codec::get(from.inode()), from.directory()};
}
change::Rename get(const v1::Rename& from) {
    return {codec::get(from.parent()),
            from.name(),
            codec::get(from.new_parent()),
            from.new_name(),
            from.flags(),
            codec::get(from.inode()),
            codec::get(from.replaced())};
}
change::SetXattr get(const v1::SetXattr& from) { return {codec::get(from.inode()), from.name(), from.value()}; }
change::RemoveXattr get(const v1::RemoveXattr& from) { return {codec::get(from.inode()), from.name()}; }
change::Allocate get(const v1::Allocate& from) {
    return {codec::get(from.file()), from.mode(), from.offset(), from.length(), from.kill_privileges()};
}

Result<copy::Listing> get_listing(std::string_view bulk) {
    copy::Listing to;
    v1::Entry entry;
    auto taken = for_each_item(bulk, [&](std::string_view item) -> Result<void> {
        if (!entry.ParseFromArray(item.data(), static_cast<int>(item.size())) || entry.name().empty()) {
            return malformed("entry of a listing that does not parse");
        }
        to.entries.push_back({std::move(*entry.mutable_name()),
                              {entry.high(), entry.low()},
                              entry.type(),
                              entry.device(),
                              std::move(*entry.mutable_link())});
        return {};
    });
    return taken ? Result<copy::Listing>{std::move(to)} : std::move(taken).error();
}

Result<copy::Inode> get(const v1::Inode& from, std::string_view bulk) {
    copy::Inode to{
        from.mode(), from.owner(), from.group(), from.device(), from.size(), get(from.mtime()), from.link(), {}, {}};
    if (from.data_size() % 2 != 0) {
        return malformed("zones of hole and data that are not in pairs");
    }
    std::uint64_t end = 0;
    for (int i = 0; i < from.data_size(); i += 2) {
        copy::ZoneRange range{from.data(i), from.data(i + 1)};
        constexpr std::uint64_t most = codec_limits::file_max / zone_bytes + 1;
        if (range.first > most || range.count > most || end > most) {
            return malformed("zones behind 2^63 - 1");
        }
        range.first += end;
        end = range.first + range.count;
        to.data.push_back(range);
    }
    v1::Xattr xattr;
    auto taken = for_each_item(bulk, [&](std::string_view item) -> Result<void> {
        if (!xattr.ParseFromArray(item.data(), static_cast<int>(item.size())) || xattr.name().empty()) {
            return malformed("xattr that does not parse");
        }
        to.xattrs.emplace_back(std::move(*xattr.mutable_name()), std::move(*xattr.mutable_value()));
        return {};
    });
    return taken ? Result<copy::Inode>{std::move(to)} : std::move(taken).error();
}

template <class What>
Result<void> into(Content& to, Result<What> what) {
    if (!what) {
        return std::move(what).error();
    }
    to.what = std::move(*what);
    return {};
}

Result<void> get_what(const v1::Content& from, std::string_view bulk, Content& to) {
    switch (from.what_case()) {
    case v1::Content::kWrite: to.what = get(from.write(), bulk); return {};
    case v1::Content::kAttributes: to.what = get(from.attributes()); return {};
    case v1::Content::kMake: to.what = get(from.make()); return {};
    case v1::Content::kLink: to.what = get(from.link()); return {};
    case v1::Content::kRemove: to.what = get(from.remove()); return {};
    case v1::Content::kRename: to.what = get(from.rename()); return {};
    case v1::Content::kSetXattr: to.what = get(from.set_xattr()); return {};
    case v1::Content::kRemoveXattr: to.what = get(from.remove_xattr()); return {};
    case v1::Content::kAllocate: to.what = get(from.allocate()); return {};
    case v1::Content::kListing: return into(to, get_listing(bulk));
    case v1::Content::kInode: return into(to, get(from.inode(), bulk));
    case v1::Content::kZone: to.what = copy::Zone{from.zone().length(), std::string{bulk}}; return {};
    case v1::Content::WHAT_NOT_SET: break;
    }
    return unknown_kind("content", from.kind());
}

bool may_have_bulk(v1::Content::WhatCase what) noexcept {
    return what == v1::Content::kWrite || what == v1::Content::kListing || what == v1::Content::kInode ||
           what == v1::Content::kZone;
}

} // namespace

void put(const Content& from, v1::Content& to) {
    if (from.at != Time{}) {
        put(from.at, *to.mutable_at());
    }
    std::visit(Put{to}, from.what);
    to.set_kind(static_cast<std::uint32_t>(to.what_case()));
}

std::size_t bulk_bytes(const Content& content) noexcept {
    if (const auto* write = std::get_if<change::Write>(&content.what)) {
        return write->data.size();
    }
    if (const auto* zone = std::get_if<copy::Zone>(&content.what)) {
        return zone->data.size();
    }
    const auto* listing = std::get_if<copy::Listing>(&content.what);
    return listing != nullptr ? listing->entries.size() * item_bytes_guess : 0;
}

void append_bulk(std::string& to, const Content& content) {
    if (const auto* write = std::get_if<change::Write>(&content.what)) {
        to.append(write->data);
    } else if (const auto* zone = std::get_if<copy::Zone>(&content.what)) {
        to.append(zone->data);
    } else if (const auto* listing = std::get_if<copy::Listing>(&content.what)) {
        v1::Entry item;
        for (const copy::Listing::Entry& entry : listing->entries) {
            item.set_name(entry.name);
            item.set_high(entry.inode.high);
            item.set_low(entry.inode.low);
            item.set_type(entry.type);
            item.set_device(entry.device);
            item.set_link(entry.link);
            append_item(to, item);
        }
    } else if (const auto* inode = std::get_if<copy::Inode>(&content.what)) {
        v1::Xattr item;
        for (const auto& [name, value] : inode->xattrs) {
            item.set_name(name);
            item.set_value(value);
            append_item(to, item);
        }
    }
}

Result<Content> get(const v1::Content& from, std::string_view bulk) {
    if (from.kind() != static_cast<std::uint32_t>(from.what_case())) {
        return unknown_kind("content", from.kind());
    }
    if (!bulk.empty() && !may_have_bulk(from.what_case())) {
        return malformed("content of kind " + std::to_string(from.kind()) + " with data behind it, it has none");
    }
    Content to;
    to.at = get(from.at());
    if (auto got = get_what(from, bulk, to); !got) {
        return std::move(got).error();
    }
    if (auto good = check(to); !good) {
        return std::move(good).error();
    }
    return to;
}

} // namespace codec

std::string encode(const Content& content) {
    codec::SmallArena arena;
    auto& header = arena.make<v1::Content>();
    codec::put(content, header);
    std::string out;
    codec::append_header(out, header, codec::bulk_bytes(content));
    codec::append_bulk(out, content);
    return out;
}

Result<Content> decode_content(std::string_view bytes) {
    const auto parts = codec::split(bytes);
    if (!parts) {
        return parts.error();
    }
    codec::SmallArena arena;
    auto& header = arena.make<v1::Content>();
    if (!header.ParseFromArray(parts->header.data(), static_cast<int>(parts->header.size()))) {
        return codec::malformed("header that does not parse");
    }
    return codec::get(header, parts->bulk);
}

} // namespace stead::mirror

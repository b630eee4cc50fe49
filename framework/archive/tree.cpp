// SPDX-License-Identifier: Apache-2.0
#include "tree.hpp"

#include <stead/base/utf8.hpp>

#include <algorithm>
#include <array>

namespace stead::archive {

namespace {

std::string shown(std::string_view text) {
    std::string out{text.substr(0, 100)};
    const bool utf8 = is_utf8(out);
    std::ranges::replace_if(
        out,
        [&](char c) {
            const auto byte = static_cast<unsigned char>(c);
            return byte < 0x20 || byte == 0x7F || (byte >= 0x80 && !utf8);
        },
        '?');
    return text.size() > 100 ? out + "..." : out;
}

std::vector<std::string> components(std::string_view path) {
    std::vector<std::string> parts;
    while (!path.empty()) {
        const auto at = path.find('/');
        parts.emplace_back(path.substr(0, at));
        path.remove_prefix(at == path.npos ? path.size() : at + 1);
    }
    return parts;
}

std::string parent_of(const std::string& path) {
    const auto at = path.rfind('/');
    return at == std::string::npos ? "" : path.substr(0, at);
}

} // namespace

Error Tree::error(Errc code, std::string_view path, std::string what) const {
    return Error{code, path.empty() ? package_ : package_ + ", entry '" + shown(path) + "'", std::move(what)};
}

Result<std::string> Tree::clean(std::string_view name) const {
    const auto whole = name;
    if (name.size() > path_bytes_max) {
        return error(Errc::out_of_range, whole,
                     "the path has " + std::to_string(name.size()) + " bytes; at most " +
                         std::to_string(path_bytes_max) + " are allowed");
    }
    if (name.starts_with('/') || (name.size() > 1 && name[1] == ':')) {
        return error(Errc::refused, whole, "is an absolute path; allowed: paths within the module's folder");
    }
    while (name.starts_with("./")) {
        name.remove_prefix(2);
    }
    if (name.ends_with('/')) {
        name.remove_suffix(1);
    }
    if (std::ranges::any_of(name,
                            [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F || c == '\\'; })) {
        return error(Errc::refused, whole, "has a control character or a backslash in its name");
    }
    if (!is_utf8(name)) {
        return error(Errc::refused, whole, not_utf8);
    }
    const auto parts = components(name);
    if (parts.size() > depth_max) {
        return error(Errc::out_of_range, whole,
                     "lies " + std::to_string(parts.size()) + " folders deep; at most " + std::to_string(depth_max) +
                         " are allowed");
    }
    for (const auto& part : parts) {
        if (part == "..") {
            return error(Errc::refused, whole, "holds '..'; allowed: paths within the module's folder");
        }
        if (part.empty() || part == ".") {
            return error(Errc::refused, whole, "holds an empty or '.' component");
        }
        if (part.size() > name_bytes_max) {
            return error(Errc::out_of_range, whole,
                         "a name has " + std::to_string(part.size()) + " bytes; at most " +
                             std::to_string(name_bytes_max) + " are allowed");
        }
    }
    return std::string{name};
}

Result<void> Tree::add(Entry entry) {
    if (entry.path.empty()) {
        return {}; // the module's folder itself
    }
    if (entries_.size() >= entries_max) {
        return error(Errc::out_of_range, entry.path,
                     "is one too many; at most " + std::to_string(entries_max) + " entries are allowed");
    }
    const auto above = parent_of(entry.path);
    if (!above.empty()) {
        const auto at = entries_.find(above);
        if (at == entries_.end()) {
            // Zips often leave folders out.
            if (auto made = add({above, 0, 0755, 'd', ""}); !made) {
                return made;
            }
        } else if (at->second.kind != 'd') {
            return error(Errc::refused, entry.path, "lies below '" + shown(above) + "', which is not a folder");
        }
    }
    const auto at = entries_.find(entry.path);
    if (at != entries_.end()) {
        if (at->second.kind == 'd' && entry.kind == 'd') {
            at->second.mode = entry.mode;
            return {};
        }
        return error(Errc::refused, entry.path, "is there twice");
    }
    bytes_ += entry.bytes;
    const auto path = entry.path;
    entries_.emplace(path, std::move(entry));
    return {};
}

Result<void> Tree::grow(const std::string& path, std::uint64_t more, std::uint64_t package_bytes) {
    auto& entry = entries_.at(path);
    entry.bytes += more;
    bytes_ += more;
    if (entry.bytes > file_bytes_max) {
        return error(Errc::out_of_range, path, "is larger than " + std::to_string(file_bytes_max >> 20) + " MiB");
    }
    if (bytes_ > total_bytes_max) {
        return error(Errc::out_of_range, path,
                     "the files together are larger than " + std::to_string(total_bytes_max >> 20) + " MiB");
    }
    if (bytes_ > (8u << 20) && package_bytes > 0 && bytes_ / package_bytes > ratio_max) {
        return error(Errc::refused, path,
                     "unpacks to more than " + std::to_string(ratio_max) + " times the size of the package");
    }
    return {};
}

Result<void> Tree::check_link(const Entry& link, const std::string& top) const {
    const auto& target = link.target;
    const auto refuse = [&](const std::string& why) {
        return error(Errc::refused, link.path, "the link to '" + shown(target) + "' " + why);
    };
    if (target.empty() || target.size() > path_bytes_max || target.starts_with('/')) {
        return refuse("is empty, too long or absolute; allowed: relative links within the module's folder");
    }
    auto place = components(link.path.substr(top.size()));
    place.pop_back();
    const auto steps = components(target);
    for (std::size_t i = 0; i < steps.size(); ++i) {
        if (std::ranges::any_of(steps[i], [](char c) { return static_cast<unsigned char>(c) < 0x20; })) {
            return refuse("holds a control character");
        }
        if (steps[i].empty() || steps[i] == ".") {
            continue;
        }
        if (steps[i] != "..") {
            place.push_back(steps[i]);
        } else if (place.empty()) {
            return refuse("leads out of the module's folder");
        } else {
            place.pop_back();
        }
        std::string here = top;
        for (const auto& part : place) {
            here += (here.empty() || here.ends_with('/') ? "" : "/") + part;
        }
        const auto at = entries_.find(here);
        if (i + 1 < steps.size() && at != entries_.end() && at->second.kind == 'l') {
            return refuse("leads through another link");
        }
    }
    return {};
}

Result<void> Tree::check_links(const std::string& top) const {
    for (const auto& [path, entry] : entries_) {
        if (entry.kind != 'l' || !path.starts_with(top)) {
            continue;
        }
        if (auto good = check_link(entry, top); !good) {
            return good;
        }
    }
    return {};
}

Result<std::string> Tree::top() const {
    const auto has = [&](const std::string& prefix) {
        const auto at = entries_.find(prefix + "conf/userconfig.xml");
        return at != entries_.end() && at->second.kind == 'f';
    };
    const auto module_in = [&](const std::string& prefix) -> Result<std::string> {
        const auto bin = entries_.find(prefix + "bin");
        if (bin != entries_.end() && bin->second.kind != 'd') {
            return error(Errc::malformed, bin->first, "is where scripts lie; allowed: a folder");
        }
        return prefix;
    };
    if (has("")) {
        return module_in("");
    }
    if (!entries_.empty()) {
        const auto first = entries_.begin()->first;
        const auto folder = first.substr(0, first.find('/')) + "/";
        const bool alone = std::ranges::all_of(
            entries_, [&](const auto& e) { return e.first.starts_with(folder) || e.first + "/" == folder; });
        if (alone && has(folder)) {
            return module_in(folder);
        }
    }
    return error(Errc::malformed, "",
                 "is not a module: conf/userconfig.xml is missing (at the top, or in the one "
                 "folder that holds everything)");
}

std::uint32_t safe_mode(char kind, std::uint32_t mode) noexcept {
    return kind == 'd' ? (mode & 0755u) | 0700u : (mode & 0755u) | 0600u;
}

bool is_script(std::string_view path, std::string_view first_bytes) noexcept {
    if (!path.starts_with("bin/") || !first_bytes.starts_with("#!")) {
        return false;
    }
    constexpr std::array<std::string_view, 7> texts{".lua", ".txt", ".md", ".xml", ".conf", ".html", ".json"};
    return std::ranges::none_of(texts, [&](std::string_view suffix) { return path.ends_with(suffix); });
}

} // namespace stead::archive

// SPDX-License-Identifier: Apache-2.0
#include "stored_tree.hpp"

#include <algorithm>
#include <cerrno>

#include <sys/mount.h>
#include <unistd.h>

/// The file `aside` in the state folder says of which directories the data are not at their place, and by which suffix
/// they are found: after a crash another configuration may have forgotten them. steadd removes no module that has one.
/// Each entry: the place, the suffix, an end of line, with a zero byte after the first two.
namespace stead::mirror {

namespace {

constexpr std::size_t aside_bytes_max = std::size_t{1} << 20;

std::string entry_of(const Root& root) {
    std::string entry = root.place.lexically_normal().string();
    entry.push_back('\0');
    entry.append(root.hidden_suffix).push_back('\0');
    return entry + "\n";
}

std::vector<Root> entries_in(std::string_view text) {
    std::vector<Root> found;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t place_end = text.find('\0', at);
        const std::size_t suffix_end = place_end == text.npos ? text.npos : text.find('\0', place_end + 1);
        if (suffix_end == text.npos) {
            break;
        }
        Root root;
        root.place = std::string(text.substr(at, place_end - at));
        root.hidden_suffix = text.substr(place_end + 1, suffix_end - place_end - 1);
        found.push_back(std::move(root));
        at = suffix_end + 2;
    }
    return found;
}

} // namespace

std::filesystem::path StoredTree::aside_path() const { return options_.state / "aside"; }

/// What an earlier configuration replicated, or kept aside elsewhere, goes back to its place.
void StoredTree::put_back_others() {
    const auto text = read_file(aside_path(), aside_bytes_max);
    for (const Root& other : text ? entries_in(*text) : std::vector<Root>{}) {
        const std::string entry = entry_of(other);
        if (std::any_of(options_.roots.begin(), options_.roots.end(),
                        [&](const Root& root) { return entry_of(root) == entry; })) {
            continue;
        }
        const std::string hidden = other.place.string() + other.hidden_suffix;
        struct stat found {};
        if (::lstat(hidden.c_str(), &found) != 0 && errno == ENOENT) {
            continue; // somebody has put it back
        }
        if (::lstat(other.place.c_str(), &found) != 0 && errno == ENOTCONN) { // of a stead-fs that died
            ::umount2(other.place.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
        }
        auto place = Place::find(other, options_.note);
        Result<void> back = place ? Result<void>() : place.error();
        if (place && !place->was_stopped()) {
            back = place->take();
            back = back ? place->give_back() : back;
        } else if (place) {
            ::rmdir(hidden.c_str()); // which find() may have made
        }
        if (!back) {
            others_aside_ += entry;
        }
        say(true, back ? other.place.string() + " is not replicated as before: its data, which had been left in " +
                             hidden + ", are at their place again"
                       : other.place.string() + " is not replicated as before, and its data are still in " + hidden +
                             ", for: " + back.error().text());
    }
}

/// Before the first is moved. A disk that is full now must not keep the node from starting.
void StoredTree::note_aside() const {
    std::string text = others_aside_;
    for (const Root& root : options_.roots) {
        text += entry_of(root);
    }
    if (const auto now = read_file(aside_path(), aside_bytes_max); text.empty() || (now && *now == text)) {
        return;
    }
    if (const auto written = write_file_atomically(aside_path(), text, 0600); !written) {
        say(true, written.error().text());
    }
}

/// All of this tree's are at their place again.
void StoredTree::forget_aside() const {
    if (others_aside_.empty()) {
        ::unlink(aside_path().c_str());
    } else if (const auto written = write_file_atomically(aside_path(), others_aside_, 0600); !written) {
        say(true, written.error().text());
    }
}

} // namespace stead::mirror

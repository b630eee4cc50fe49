// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/archive/archive.hpp>

#include <locale.h>

#include <map>
#include <string_view>

namespace stead::archive {

/// libarchive converts names to the locale of the thread, and loses them in "C": this thread is UTF-8 for a while.
class Utf8Locale {
public:
    Utf8Locale() : locale_(::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr)) {
        if (locale_ != nullptr) {
            before_ = ::uselocale(locale_);
        }
    }
    ~Utf8Locale() {
        if (locale_ != nullptr) {
            ::uselocale(before_);
            ::freelocale(locale_);
        }
    }
    Utf8Locale(const Utf8Locale&) = delete;
    Utf8Locale& operator=(const Utf8Locale&) = delete;

private:
    locale_t locale_{};
    locale_t before_{};
};

inline constexpr const char* not_utf8 =
    "has a name that is not UTF-8; rename the file, and pack it on a system with UTF-8";

/// The names of a package and the rules for them. Paths are relative, '/' between components, none at the end.
class Tree {
public:
    explicit Tree(std::string package) : package_(std::move(package)) {}

    /// A name as found in a package (a folder's may end in '/'), or why it may not be.
    [[nodiscard]] Result<std::string> clean(std::string_view name) const;
    /// Errors: refused, out_of_range, malformed; the folders above are added when they are missing.
    [[nodiscard]] Result<void> add(Entry entry);
    /// Links lead to places in the tree, and never through another link. `top`: the folder they must not leave.
    [[nodiscard]] Result<void> check_links(const std::string& top) const;
    /// "" when conf/userconfig.xml stands at the root, "x/" when all is in the folder x. Errors: malformed.
    [[nodiscard]] Result<std::string> top() const;
    [[nodiscard]] const std::map<std::string, Entry>& entries() const noexcept { return entries_; }
    [[nodiscard]] Error error(Errc code, std::string_view path, std::string what) const;
    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
    /// Grows an entry while it is read; every limit is checked on what really comes out.
    [[nodiscard]] Result<void> grow(const std::string& path, std::uint64_t more, std::uint64_t package_bytes);

private:
    [[nodiscard]] Result<void> check_link(const Entry& link, const std::string& top) const;
    std::string package_;
    std::map<std::string, Entry> entries_;
    std::uint64_t bytes_{};
};

/// Permissions that a package may give: no set-id, no writing by others, always usable by the owner.
[[nodiscard]] std::uint32_t safe_mode(char kind, std::uint32_t mode) noexcept;

/// bin/ files that lost their execute permission (zips made on Windows): no suffix of a text, and "#!" at the start.
[[nodiscard]] bool is_script(std::string_view path, std::string_view first_bytes) noexcept;

} // namespace stead::archive

// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/owners.hpp>

#include <charconv>
#include <cstdio>
#include <memory>
#include <set>
#include <system_error>

#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>

namespace stead::mirror {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t names_looked_at = 1000;

const char* word_of(char kind) { return kind == 'u' ? "uid " : "gid "; }

void add_owners(const fs::path& path, std::set<Owner>& to) {
    struct stat found {};
    if (::lstat(path.c_str(), &found) == 0) {
        to.insert({'u', found.st_uid});
        to.insert({'g', found.st_gid});
    }
}

} // namespace

std::string to_text(const Owner& owner) { return owner.kind + std::to_string(owner.number); }

bool parse(std::string_view text, Owner& out) {
    if (text.empty() || (text.front() != 'u' && text.front() != 'g')) {
        return false;
    }
    out.kind = text.front();
    const auto [end, failed] = std::from_chars(text.data() + 1, text.data() + text.size(), out.number);
    return failed == std::errc{} && end == text.data() + text.size();
}

Accounts Accounts::read(const fs::path& etc) {
    const auto open = [&](const char* name) {
        return std::unique_ptr<std::FILE, int (*)(std::FILE*)>(std::fopen((etc / name).c_str(), "re"), std::fclose);
    };
    Accounts read;
    if (const auto users = open("passwd")) {
        while (const passwd* one = ::fgetpwent(users.get())) {
            read.names_.try_emplace({'u', one->pw_uid}, one->pw_name);
        }
    }
    if (const auto groups = open("group")) {
        while (const group* one = ::fgetgrent(groups.get())) {
            read.names_.try_emplace({'g', one->gr_gid}, one->gr_name);
        }
    }
    return read;
}

std::string Accounts::name_of(const Owner& owner) const {
    const auto found = names_.find(owner);
    return found != names_.end() ? found->second : "";
}

std::string Accounts::disagreement(const Owner& owner, const std::string& name, const std::string& node) const {
    const std::string here = name_of(owner);
    if (name.empty() || here == name) {
        return {};
    }
    std::string text = word_of(owner.kind) + std::to_string(owner.number) + " is '" + name + "' on " + node + " and " +
                       (here.empty() ? "nobody" : "'" + here + "'") + " here";
    for (const auto& [other, named] : names_) {
        if (other.kind == owner.kind && named == name) {
            text += ", where '" + name + "' is " + std::to_string(other.number);
        }
    }
    return text;
}

std::vector<Owner> owners_in(const std::vector<fs::path>& directories) {
    std::set<Owner> found;
    for (const fs::path& directory : directories) {
        add_owners(directory, found);
        std::error_code failed;
        std::size_t looked_at = 0;
        for (auto it = fs::directory_iterator(directory, failed);
             !failed && it != fs::directory_iterator{} && looked_at < names_looked_at; it.increment(failed)) {
            add_owners(it->path(), found);
            ++looked_at;
        }
    }
    found.erase({'u', 0});
    found.erase({'g', 0});
    std::vector<Owner> owners{found.begin(), found.end()};
    owners.resize(std::min(owners.size(), owners_max));
    return owners;
}

} // namespace stead::mirror

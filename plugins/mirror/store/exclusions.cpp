// SPDX-License-Identifier: Apache-2.0
#include "exclusions.hpp"

#include <algorithm>
#include <array>
#include <filesystem>

namespace stead::mirror {

void Exclusions::Free::operator()(regex_t* regex) const noexcept {
    ::regfree(regex);
    delete regex;
}

Result<Exclusions> Exclusions::make(const std::string& where, const std::vector<std::string>& paths,
                                    const std::vector<std::string>& patterns) {
    Exclusions result;
    for (const std::string& path : paths) {
        std::string clean = std::filesystem::path(path).lexically_normal().string();
        while (!clean.empty() && clean.back() == '/') {
            clean.pop_back();
        }
        if (clean.empty() || clean == "." || clean.front() == '/' || clean == ".." || clean.starts_with("../")) {
            return Error{Errc::malformed, where,
                         "notreplicated path '" + path + "' is not a relative path below the directory"};
        }
        result.paths_.insert(std::move(clean));
    }
    for (const std::string& pattern : patterns) {
        auto regex = std::make_unique<regex_t>();
        if (const int error = ::regcomp(regex.get(), ("^(" + pattern + ")$").c_str(), REG_EXTENDED | REG_NOSUB)) {
            std::array<char, 200> text{};
            ::regerror(error, regex.get(), text.data(), text.size());
            return Error{Errc::malformed, where,
                         "notreplicated regexpath '" + pattern +
                             "' is not a POSIX extended expression: " + text.data()};
        }
        result.patterns_.emplace_back(regex.release());
    }
    return result;
}

bool Exclusions::match(const std::string& path) const {
    return paths_.contains(path) || std::any_of(patterns_.begin(), patterns_.end(), [&](const auto& pattern) {
               return ::regexec(pattern.get(), path.c_str(), 0, nullptr, 0) == 0;
           });
}

std::vector<std::string> Exclusions::below(const std::string& path) const {
    std::vector<std::string> rests;
    const std::string folder = path + "/";
    for (auto next = paths_.lower_bound(folder); next != paths_.end() && next->starts_with(folder); ++next) {
        rests.push_back(next->substr(folder.size()));
    }
    return rests;
}

bool Exclusions::any_below(const std::string& path) const {
    const auto next = paths_.lower_bound(path + "/");
    return next != paths_.end() && next->starts_with(path + "/");
}

} // namespace stead::mirror

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include <regex.h>

namespace stead::mirror {

/// Relative paths that are not replicated. Thread-safe after make().
class Exclusions {
public:
    Exclusions() = default;
    /// Errors name the pattern and what is wrong with it. `where` is the directory they belong to.
    [[nodiscard]] static Result<Exclusions> make(const std::string& where, const std::vector<std::string>& paths,
                                                 const std::vector<std::string>& patterns);

    [[nodiscard]] bool has_patterns() const noexcept { return !patterns_.empty(); }
    [[nodiscard]] bool none() const noexcept { return paths_.empty() && patterns_.empty(); }
    /// Of the path itself; what is below an excluded path is excluded as well, which the caller sees from the parent.
    [[nodiscard]] bool match(const std::string& path) const;
    /// A path below this directory is excluded by name: the directory must not get another one.
    [[nodiscard]] bool any_below(const std::string& path) const;
    /// Those paths, relative to this directory.
    [[nodiscard]] std::vector<std::string> below(const std::string& path) const;

private:
    struct Free {
        void operator()(regex_t* regex) const noexcept;
    };
    std::set<std::string> paths_;
    std::vector<std::unique_ptr<regex_t, Free>> patterns_;
};

} // namespace stead::mirror

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/tree.hpp>

#include <memory>
#include <string>
#include <vector>

namespace stead::mirror {

/// A directory of its own in the build folder, removed with all below it.
class Place {
public:
    Place();
    ~Place();
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    std::string folder_, path_;
};

/// The tree over a Place.
[[nodiscard]] std::unique_ptr<Tree> make_tree(const std::string& path, std::vector<std::string> excluded = {});

} // namespace stead::mirror

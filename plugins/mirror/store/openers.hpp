// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

namespace stead::mirror {

/// A process, other than this one, with a file below a folder open for writing, or mapped so, or with its working
/// directory there.
struct Opener {
    bool writes{};    ///< false: it only stands there
    std::string text; ///< "process 4711 (app) has FILE open for writing"
};

/// One that writes, else one that stands there. `folder`: an absolute path without symbolic links, called `shown` in
/// the text. Reads /proc: who is
/// in another pid namespace below this one is seen, who came by another mount of the same file system is not. Takes
/// some milliseconds. A process that ends meanwhile is none; what cannot be read is passed over.
[[nodiscard]] std::optional<Opener> opener_below(const std::string& folder, const std::string& shown);

} // namespace stead::mirror

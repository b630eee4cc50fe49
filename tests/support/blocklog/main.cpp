// SPDX-License-Identifier: Apache-2.0
#include "blocklog.hpp"

#include <charconv>
#include <cstdio>
#include <optional>
#include <string_view>

namespace {

std::optional<std::uint64_t> number(std::string_view text) {
    std::uint64_t value = 0;
    const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && at == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

int usage() {
    std::fputs("stead-blocklog serve MOUNTPOINT IMAGE LOG\n"
               "stead-blocklog replay BASE LOG IMAGE NANOSECONDS SEED|all\n",
               stderr);
    return 64;
}

} // namespace

int main(int argc, char** argv) {
    using namespace stead::blocklog;
    const std::string_view verb = argc > 1 ? argv[1] : "";
    if (verb == "serve" && argc == 5) {
        return serve({argv[2], argv[3], argv[4]});
    }
    if (verb == "replay" && argc == 7) {
        const auto at = number(argv[5]);
        const bool all = std::string_view(argv[6]) == "all";
        const auto seed = all ? std::optional<std::uint64_t>(0) : number(argv[6]);
        if (at && seed) {
            return replay({argv[2], argv[3], argv[4], *at, *seed, all});
        }
    }
    return usage();
}

// SPDX-License-Identifier: Apache-2.0
#include "classes.hpp"

#include <stead/base/files.hpp>
#include <stead/plugin.h>

#include <sstream>
#include <utility>

namespace stead::process {
namespace {

constexpr std::size_t file_max = 65536;

std::uint32_t bit_of(const std::string& name) {
    constexpr std::pair<const char*, std::uint32_t> automatic[]{{"pre", STEAD_WHEN_PRE},
                                                                {"both", STEAD_WHEN_BOTH},
                                                                {"prim", STEAD_WHEN_PRIM},
                                                                {"second", STEAD_WHEN_SECOND},
                                                                {"sec", STEAD_WHEN_SEC}};
    for (const auto& [class_name, bit] : automatic) {
        if (name == class_name) {
            return bit;
        }
    }
    return 0;
}

} // namespace

Classes::Classes(std::filesystem::path file) : file_(std::move(file)) {
    const auto text = read_file(file_, file_max);
    std::istringstream lines{text ? *text : std::string{}};
    std::string verb, name;
    while (lines >> verb >> name) {
        said_[name] = verb == "enable";
    }
}

bool Classes::armed(const std::string& name, std::uint32_t when) const {
    const std::uint32_t bit = bit_of(name);
    const auto said = said_.find(name);
    return bit != 0 ? (when & bit) != 0 && (said == said_.end() || said->second)
                    : (when & STEAD_WHEN_BOTH) != 0 && said != said_.end() && said->second;
}

Result<void> Classes::set(const std::string& name, bool enabled) {
    said_[name] = enabled;
    std::string text;
    for (const auto& [class_name, on] : said_) {
        text += (on ? "enable " : "disable ") + class_name + "\n";
    }
    return write_file_atomically(file_, text);
}

std::string Classes::said(const std::string& name) const {
    const auto said = said_.find(name);
    return said == said_.end() ? "" : said->second ? "enabled" : "disabled";
}

} // namespace stead::process

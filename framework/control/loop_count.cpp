// SPDX-License-Identifier: Apache-2.0
#include <stead/control/loop_count.hpp>

#include <stead/base/files.hpp>

#include <filesystem>

namespace stead::control {
namespace {

constexpr std::size_t bytes_max = 65536;

std::filesystem::path in_run(const Paths& paths, const std::string& module) {
    return paths.host_folder() / (module + ".loops");
}

} // namespace

Result<std::string> read_loop_count(const Paths& paths, const std::string& module) {
    Result<std::string> text = read_file(in_run(paths, module), bytes_max);
    return text ? text : read_file(paths.loop_count(module), bytes_max);
}

Result<void> write_loop_count(const Paths& paths, const std::string& module, const std::string& text) {
    if (!write_file_atomically(paths.loop_count(module), text)) {
        return write_file_atomically(in_run(paths, module), text);
    }
    std::error_code ignored;
    std::filesystem::remove(in_run(paths, module), ignored);
    return {};
}

void remove_loop_count(const Paths& paths, const std::string& module) {
    std::error_code ignored;
    std::filesystem::remove(paths.loop_count(module), ignored);
    std::filesystem::remove(in_run(paths, module), ignored);
}

} // namespace stead::control

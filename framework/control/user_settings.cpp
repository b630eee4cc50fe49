// SPDX-License-Identifier: Apache-2.0
#include <stead/base/files.hpp>
#include <stead/base/limits.hpp>
#include <stead/control/user_settings.hpp>

#include <system_error>

namespace stead::control {

namespace {

constexpr std::size_t value_bytes_max = 64;
constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";

bool is_setting(std::string_view name) noexcept {
    return name.starts_with(user_setting_prefix) && name.size() > user_setting_prefix.size() &&
           name.size() <= limits::resource_name_bytes_max && name.find_first_not_of(allowed) == std::string_view::npos;
}

} // namespace

std::map<std::string, std::string> read_user_settings(const std::filesystem::path& folder) {
    std::map<std::string, std::string> all;
    std::error_code failed;
    for (std::filesystem::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed)) {
        const std::string name = it->path().filename().string();
        if (!is_setting(name)) {
            continue;
        }
        if (const auto text = read_file(it->path(), value_bytes_max)) {
            all[name] = text->substr(0, text->find('\n'));
        }
    }
    return all;
}

Result<void> write_user_setting(const std::filesystem::path& folder, const std::string& name, std::string_view value) {
    if (!is_setting(name)) {
        return Error{Errc::out_of_range, "setting '" + name + "'",
                     "allowed: usersetting. and letters, digits, '_', '-', '.', at most " +
                         std::to_string(limits::resource_name_bytes_max) + " bytes"};
    }
    std::error_code ignored; // writing tells
    std::filesystem::create_directories(folder, ignored);
    return write_file_atomically(folder / name, std::string{value} + "\n");
}

} // namespace stead::control

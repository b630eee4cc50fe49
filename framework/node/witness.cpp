// SPDX-License-Identifier: Apache-2.0
#include <stead/node/witness.hpp>

#include <stead/base/files.hpp>
#include <stead/control/paths.hpp>

#include <charconv>
#include <iterator>
#include <system_error>

namespace stead::node {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t file_bytes_max = 64;

Error bad_name(const char* what, std::string_view name) {
    return {Errc::out_of_range, "claim",
            std::string{what} + " '" + std::string{name.substr(0, 80)} +
                "'; allowed: letters, digits, '_', '.', '-', at most 63, no '.' or '-' at the beginning"};
}

template <class Number>
bool take(std::string_view& text, Number& number, char end) {
    const auto [last, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
    const auto used = static_cast<std::size_t>(last - text.data());
    if (failed != std::errc{} || used >= text.size() || *last != end) {
        return false;
    }
    text.remove_prefix(used + 1);
    return true;
}

} // namespace

Result<std::optional<Claim>> WitnessStore::read(const fs::path& file) const {
    const Result<std::string> text = read_file(file, file_bytes_max);
    if (!text) {
        std::error_code failed;
        const bool missing = !fs::exists(file, failed) && !failed;
        return missing ? Result<std::optional<Claim>>(std::nullopt) : text.error();
    }
    std::string_view rest = *text;
    Claim claim;
    const bool one = take(rest, claim.counter, ' ') && take(rest, claim.holder, '\n');
    const bool many = !one && take(rest, claim.holder, ' ') && take(rest, claim.nodes, '\n');
    if ((!one && !many) || !rest.empty()) {
        return Error{Errc::malformed, file.string(),
                     "not 'COUNTER HOLDER' or 'COUNTER HOLDER NODES'; nothing is granted for this key until the file "
                     "is removed by hand"};
    }
    return std::optional(claim);
}

Result<void> WitnessStore::make_room() const {
    std::error_code failed;
    fs::create_directories(folder_, failed);
    if (failed) {
        return os_error(folder_.string(), "cannot make this folder", failed.value());
    }
    const auto files = std::distance(fs::directory_iterator(folder_, failed), fs::directory_iterator{});
    if (static_cast<std::size_t>(files) >= claims_max) {
        return Error{Errc::out_of_range, folder_.string(),
                     "holds " + std::to_string(claims_max) + " claims, and takes no other key; remove old ones"};
    }
    return {};
}

Result<WitnessStore::Verdict> WitnessStore::claim(std::string_view module, std::string_view key, const Claim& asked) {
    if (!control::is_module_name(module)) {
        return bad_name("module", module);
    }
    if (!control::is_module_name(key)) {
        return bad_name("key", key);
    }
    const fs::path file = folder_ / (std::string{module} + ":" + std::string{key}); // ':' is in neither
    const std::lock_guard lock(mutex_);
    const Result<std::optional<Claim>> stored = read(file);
    if (!stored) {
        return stored.error();
    }
    if (asked.counter == 0 || !grants(*stored, asked)) {
        return Verdict{false, stored->value_or(Claim{})};
    }
    if (!*stored) {
        if (const Result<void> room = make_room(); !room) {
            return room.error();
        }
    }
    // Also what is there already: it may have been seen before it was safe on the disk.
    const std::string text = std::to_string(asked.counter) + " " + std::to_string(asked.holder) +
                             (asked.nodes != 0 ? " " + std::to_string(asked.nodes) : "") + "\n";
    if (const Result<void> written = write_file_atomically(file, text); !written) {
        return written.error();
    }
    return Verdict{true, asked};
}

} // namespace stead::node

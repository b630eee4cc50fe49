// SPDX-License-Identifier: Apache-2.0
#include "value_or.hpp"

#include <stead/node/generation.hpp>

#include <stead/base/files.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <set>
#include <sstream>
#include <vector>

namespace stead::node {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kept_max = 3;
constexpr std::size_t file_bytes_max = 64u << 20;

unsigned number_of(const std::string& name) {
    unsigned number = 0;
    if (name.starts_with("gen.")) {
        std::from_chars(name.data() + 4, name.data() + name.size(), number);
    }
    return number;
}

std::vector<std::string> generations_in(const fs::path& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
        const std::string name = entry.path().filename().string();
        if (number_of(name) != 0 && !name.ends_with(".tmp")) {
            names.push_back(name);
        }
    }
    std::sort(names.begin(), names.end(), [](const auto& a, const auto& b) { return number_of(a) < number_of(b); });
    return names;
}

Result<void> sync_tree(const fs::path& folder) {
    std::error_code error;
    for (auto entry = fs::recursive_directory_iterator(folder, error); entry != fs::recursive_directory_iterator();
         entry.increment(error)) {
        if (error) {
            return os_error(folder.string(), "cannot list", error.value());
        }
        const fs::file_status status = entry->symlink_status(error);
        if (fs::is_regular_file(status)) {
            const Fd file(::open(entry->path().c_str(), O_RDONLY | O_CLOEXEC));
            if (!file || ::fsync(file.get()) != 0) {
                return os_error(entry->path().string(), "cannot sync", errno);
            }
        } else if (fs::is_directory(status)) {
            if (Result<void> synced = sync_folder(entry->path()); !synced) {
                return synced;
            }
        }
    }
    return sync_folder(folder);
}

void step(const Generations::AtStep& at_step, std::string_view name) {
    if (at_step) {
        at_step(name);
    }
}

class Fnv {
public:
    void add(std::string_view bytes) {
        for (const char byte : bytes) {
            hash_ = (hash_ ^ static_cast<std::uint8_t>(byte)) * 0x100000001b3u;
        }
        hash_ = (hash_ ^ 0xffu) * 0x100000001b3u; // ends the field
    }
    [[nodiscard]] std::string hex() const {
        char text[17];
        std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash_));
        return text;
    }

private:
    std::uint64_t hash_{0xcbf29ce484222325u};
};

/// What `config` made beside what it was given, relative to the folder of a generation.
std::set<fs::path> generated_in(const fs::path& folder) {
    std::set<fs::path> made{"conf/safeconf.xml"};
    std::istringstream lines(value_or(read_file(folder / "generated", file_bytes_max), std::string{}));
    for (std::string line; std::getline(lines, line);) {
        made.insert(line);
    }
    return made;
}

bool add_tree(Fnv& hash, const fs::path& folder, const std::set<fs::path>& without = {}) {
    std::error_code error;
    std::vector<fs::path> paths;
    for (auto entry = fs::recursive_directory_iterator(folder, error);
         !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
        if (!without.contains(entry->path().lexically_relative(folder.parent_path()))) {
            paths.push_back(entry->path());
        }
    }
    if (error) {
        return false;
    }
    std::sort(paths.begin(), paths.end());
    for (const fs::path& path : paths) {
        const fs::file_status status = fs::symlink_status(path, error);
        hash.add(path.lexically_relative(folder).string());
        hash.add(std::to_string(static_cast<unsigned>(status.permissions() & fs::perms::owner_exec)));
        if (fs::is_symlink(status)) {
            hash.add(fs::read_symlink(path, error).string());
        } else if (fs::is_regular_file(status)) {
            hash.add(value_or(read_file(path, file_bytes_max), std::string("unreadable")));
        }
    }
    return true;
}

Result<void> needs_configuration(const fs::path& edited) {
    std::error_code error;
    if (!fs::exists(edited / "conf/userconfig.xml", error)) {
        return Error{Errc::not_found, (edited / "conf/userconfig.xml").string(),
                     "this file is the module's configuration, and it is not there"};
    }
    return {};
}

/// Why the copy failed: a pipe, socket or device among the module's files is named.
Error copy_failed(const fs::path& edited, const fs::path& to, int number) {
    for (const char* part : {"conf", "bin"}) {
        std::error_code error;
        for (auto entry = fs::recursive_directory_iterator(edited / part, error);
             !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
            const fs::file_status status = entry->symlink_status(error);
            if (!error && fs::is_other(status)) {
                return Error{Errc::malformed, entry->path().string(),
                             "a pipe, socket or device; a module holds files, folders and symbolic links: remove it"};
            }
        }
    }
    return os_error(to.string(), "cannot copy " + edited.string(), number);
}

} // namespace

Result<void> try_out(const fs::path& edited, const fs::path& scratch, const Check& check) {
    if (Result<void> there = needs_configuration(edited); !there) {
        return there;
    }
    std::error_code error;
    fs::create_directories(scratch, error);
    std::string folder = (scratch / "XXXXXX").string();
    if (::mkdtemp(folder.data()) == nullptr) {
        return os_error(scratch.string(), "cannot make a folder here", errno);
    }
    fs::copy(edited / "conf", fs::path(folder) / "conf", fs::copy_options::recursive | fs::copy_options::copy_symlinks,
             error);
    if (!error && fs::exists(edited / "bin", error)) {
        fs::create_directory_symlink(edited / "bin", fs::path(folder) / "bin", error);
    }
    Result<void> done = error ? copy_failed(edited, folder, error.value()) : check(folder);
    fs::remove_all(folder, error);
    return done;
}

std::string signature_of(const fs::path& folder) {
    Fnv hash;
    return add_tree(hash, folder) ? hash.hex() : std::string{};
}

std::string module_signature(const fs::path& folder) {
    std::error_code error;
    if (!fs::exists(folder / "conf", error)) {
        return {};
    }
    Fnv hash;
    for (const char* part : {"conf", "bin"}) {
        hash.add(part);
        add_tree(hash, folder / part, generated_in(folder));
    }
    return hash.hex();
}

unsigned Generations::last_number() const {
    unsigned last = 0;
    for (const fs::path& place : {folder_, folder_ / "lastconfig"}) {
        for (const std::string& name : generations_in(place)) {
            last = std::max(last, number_of(name));
        }
    }
    return last;
}

std::string Generations::active_name() const {
    std::error_code error;
    const fs::path target = fs::read_symlink(folder_ / "active", error);
    return error ? std::string{} : target.filename().string();
}

Result<fs::path> Generations::prepare(const fs::path& edited, const Check& check, const std::string& name,
                                      const AtStep& at_step) const {
    const fs::path prepared = folder_ / (name + ".tmp");
    std::error_code error;
    fs::remove_all(prepared, error);
    step(at_step, "copy");
    if (Result<void> there = needs_configuration(edited); !there) {
        return there.error();
    }
    fs::create_directories(prepared, error);
    for (const char* part : {"conf", "bin"}) {
        if (!error && fs::exists(edited / part, error)) {
            fs::copy(edited / part, prepared / part, fs::copy_options::recursive | fs::copy_options::copy_symlinks,
                     error);
        }
    }
    if (error) {
        const Error failed = copy_failed(edited, prepared, error.value());
        fs::remove_all(prepared, error);
        return failed;
    }
    step(at_step, "check");
    Result<void> done = check(prepared);
    step(at_step, "sync");
    done = done ? sync_tree(prepared) : done;
    if (!done) {
        fs::remove_all(prepared, error);
        return done.error();
    }
    return prepared;
}

Result<void> Generations::switch_to(const std::string& name, const AtStep& at_step) const {
    const fs::path link = folder_ / "active.tmp";
    std::error_code error;
    fs::remove(link, error);
    step(at_step, "link");
    fs::create_symlink(name, link, error);
    if (!error) {
        step(at_step, "switch");
        fs::rename(link, folder_ / "active", error);
    }
    if (error) {
        return os_error((folder_ / "active").string(), "cannot switch", error.value());
    }
    return sync_folder(folder_);
}

Result<std::string> Generations::apply(const fs::path& edited, const Check& check, const AtStep& at_step) const {
    recover();
    const std::string name = "gen." + std::to_string(last_number() + 1);
    const Result<fs::path> prepared = prepare(edited, check, name, at_step);
    if (!prepared) {
        return prepared.error();
    }
    step(at_step, "rename");
    std::error_code error;
    fs::rename(*prepared, folder_ / name, error);
    if (error) {
        return os_error(prepared->string(), "cannot rename", error.value());
    }
    if (Result<void> switched = switch_to(name, at_step); !switched) {
        return switched.error();
    }
    step(at_step, "retire");
    retire_all_but(name);
    return name;
}

void Generations::retire_all_but(const std::string& name) const {
    std::error_code error;
    const fs::path last = folder_ / "lastconfig";
    fs::create_directories(last, error);
    for (const std::string& old : generations_in(folder_)) {
        if (old != name) {
            fs::remove_all(last / old, error);
            fs::rename(folder_ / old, last / old, error);
        }
    }
    std::vector<std::string> kept = generations_in(last);
    for (std::size_t i = 0; i + kept_max < kept.size(); ++i) {
        fs::remove_all(last / kept[i], error);
    }
}

Result<void> Generations::remove_active() const {
    std::error_code error;
    if (!fs::remove(folder_ / "active", error)) {
        return Error{Errc::not_found, "", "there is no active configuration"};
    }
    retire_all_but("");
    return sync_folder(folder_);
}

Result<void> Generations::revert() const {
    const std::vector<std::string> kept = generations_in(folder_ / "lastconfig");
    const std::string present = active_name();
    if (kept.empty()) {
        return Error{Errc::not_found, folder_.string(), "no earlier configuration to go back to"};
    }
    std::error_code error;
    fs::rename(folder_ / "lastconfig" / kept.back(), folder_ / kept.back(), error);
    if (error) {
        return os_error(kept.back(), "cannot restore", error.value());
    }
    if (Result<void> switched = switch_to(kept.back(), nullptr); !switched) {
        return switched;
    }
    fs::remove_all(folder_ / present, error);
    return {};
}

void Generations::recover() const {
    std::error_code error;
    std::vector<fs::path> leftovers;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder_, error)) {
        if (entry.path().extension() == ".tmp") {
            leftovers.push_back(entry.path());
        }
    }
    for (const fs::path& path : leftovers) {
        fs::remove_all(path, error);
    }
    const std::string active = active_name();
    for (const std::string& name : generations_in(folder_)) {
        // Complete but never switched to, or switched away from and not yet retired: by number.
        if (name != active && number_of(name) > number_of(active)) {
            fs::remove_all(folder_ / name, error);
        }
    }
    if (!active.empty()) {
        retire_all_but(active);
    }
}

} // namespace stead::node

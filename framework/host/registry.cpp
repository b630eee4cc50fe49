// SPDX-License-Identifier: Apache-2.0
#include "registry.hpp"
#include "trial.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <set>
#include <system_error>

#include <sys/stat.h>
#include <unistd.h>

namespace stead::host {

namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t size_1_0 = offsetof(stead_plugin_descriptor, on_armed); // what ABI 1.0 had
constexpr std::uint32_t elements_max = 256;
constexpr std::uint32_t attributes_max = 128;

std::string sdk_advice() {
    return "; build it with the SDK of this release (include/stead, ABI " + std::to_string(STEAD_ABI_MAJOR) + "." +
           std::to_string(STEAD_ABI_MINOR) + ")";
}

bool is_plugin_id(std::string_view id) {
    return !id.empty() && id.size() <= 63 && std::ranges::all_of(id, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    });
}

std::string check_attribute(const stead_elem_schema& element, const stead_attr_schema& attribute) {
    const std::string place = std::string{element.path} + "/@" + (attribute.name != nullptr ? attribute.name : "?");
    if (attribute.name == nullptr || attribute.name[0] == '\0') {
        return place + " has no name";
    }
    if (attribute.type < STEAD_TYPE_STRING || attribute.type > STEAD_TYPE_BOOLEAN) {
        return place + " has type " + std::to_string(attribute.type) + "; allowed: 1 to " +
               std::to_string(STEAD_TYPE_BOOLEAN);
    }
    if (attribute.type == STEAD_TYPE_CHOICE && (attribute.choices == nullptr || attribute.choices[0] == '\0')) {
        return place + " is a choice without choices";
    }
    if (attribute.type == STEAD_TYPE_DURATION && attribute.native_unit == nullptr) {
        return place + " is a duration without native_unit";
    }
    if (attribute.min > attribute.max) {
        return place + " has min " + std::to_string(attribute.min) + " above max " + std::to_string(attribute.max);
    }
    if (attribute.help == nullptr || attribute.help[0] == '\0') {
        return place + " has no help";
    }
    return {};
}

/// Empty, or what is wrong with the schema.
std::string check_schema(const stead_plugin_descriptor& found) {
    if (found.schema_count > elements_max || (found.schema_count > 0 && found.schema == nullptr)) {
        return "schema of " + std::to_string(found.schema_count) + " elements; allowed: 0 to " +
               std::to_string(elements_max) + ", not null";
    }
    for (const stead_elem_schema& element : std::span(found.schema, found.schema_count)) {
        const std::string_view path = element.path != nullptr ? element.path : "";
        if (path.empty() || path.front() == '/' || path.back() == '/' || path.find("//") != std::string_view::npos) {
            return "schema element with path '" + std::string{path} + "'; allowed: names separated by '/'";
        }
        if (element.attr_count > attributes_max || (element.attr_count > 0 && element.attrs == nullptr)) {
            return std::string{path} + " has " + std::to_string(element.attr_count) + " attributes; allowed: 0 to " +
                   std::to_string(attributes_max) + ", not null";
        }
        std::set<std::string_view> names;
        for (const stead_attr_schema& attribute : std::span(element.attrs, element.attr_count)) {
            if (std::string wrong = check_attribute(element, attribute); !wrong.empty()) {
                return wrong;
            }
            if (!names.insert(attribute.name).second) {
                return std::string{path} + "/@" + attribute.name + " is in the schema twice";
            }
        }
    }
    return {};
}

/// Empty, or which element of a checker another one has already: which of the two would probe it?
std::string taken_element(const stead_plugin_descriptor& found, std::span<const Plugin> loaded) {
    for (const stead_elem_schema& element : std::span(found.schema, found.schema_count)) {
        for (const Plugin& other : loaded) {
            const bool same = other.descriptor.kind == STEAD_KIND_CHECKER &&
                              std::ranges::any_of(other.schema(), [&](const stead_elem_schema& theirs) {
                                  const bool both = (element.flags & theirs.flags & STEAD_ELEM_REPEATABLE) != 0;
                                  return both && std::string_view{element.path} == theirs.path;
                              });
            if (same && found.kind == STEAD_KIND_CHECKER) {
                return "element " + std::string{element.path} + " is taken already, by " + other.file.string() +
                       "; remove one of the two";
            }
        }
    }
    return {};
}

/// Who may write to a folder above may put another folder in its place, except where the sticky bit forbids that.
Result<void> check_parents(const fs::path& folder) {
    for (fs::path parent = folder.parent_path(); !parent.empty(); parent = parent.parent_path()) {
        struct stat found {};
        if (::stat(parent.c_str(), &found) == 0 && (found.st_mode & S_IWOTH) != 0 && (found.st_mode & S_ISVTX) == 0) {
            return Error{Errc::denied, parent.string(),
                         "everybody may write to it, and the plugins lie below; run: chmod o-w " + parent.string()};
        }
        if (parent == parent.parent_path()) {
            break;
        }
    }
    return {};
}

/// Who may change the file may run code as us.
Result<void> check_owner(const fs::path& path) {
    struct stat found {};
    if (::stat(path.c_str(), &found) != 0) {
        return os_error(path.string(), "cannot be examined", errno);
    }
    if ((found.st_mode & S_IWOTH) != 0) {
        return Error{Errc::denied, path.string(), "everybody may write to it; run: chmod o-w " + path.string()};
    }
    // The owner of this program runs code as us already: a tree that a person built and runs by sudo.
    struct stat self {};
    const bool same_owner = ::stat("/proc/self/exe", &self) == 0 && self.st_uid == found.st_uid;
    if (::geteuid() == 0 && found.st_uid != 0 && !same_owner) {
        return Error{Errc::denied, path.string(),
                     "it belongs to uid " + std::to_string(found.st_uid) + ", not to root; run: chown root " +
                         path.string()};
    }
    return {};
}

/// Of "boost… failed (dlerror system message: FILE: invalid ELF header): Bad file descriptor": "invalid ELF header".
std::string loader_text(std::string_view what, const fs::path& file) {
    constexpr std::string_view before = "dlerror system message: ";
    const auto begin = what.find(before);
    const auto end = what.rfind("): ");
    if (begin == std::string_view::npos || end == std::string_view::npos || end < begin + before.size()) {
        return std::string{what};
    }
    what = what.substr(begin + before.size(), end - begin - before.size());
    const std::string place = file.string() + ": ";
    return std::string{what.starts_with(place) ? what.substr(place.size()) : what};
}

Result<void> check_folder(const fs::path& folder) {
    if (auto safe = check_owner(folder); !safe) {
        return safe;
    }
    std::error_code failed;
    const fs::path real = fs::canonical(folder, failed);
    return failed ? Result<void>{} : check_parents(real);
}

} // namespace

Result<stead_plugin_descriptor> check_descriptor(const stead_plugin_descriptor& found, const fs::path& file,
                                                 std::span<const Plugin> loaded) {
    const auto refuse = [&](Errc code, std::string what) { return Error{code, file.string(), std::move(what)}; };
    if (found.magic != STEAD_PLUGIN_MAGIC) {
        return refuse(Errc::malformed, "not a Stead plugin: magic " + std::to_string(found.magic) + ", expected " +
                                           std::to_string(STEAD_PLUGIN_MAGIC));
    }
    const std::string abi = std::to_string(found.abi_major) + "." + std::to_string(found.abi_minor);
    if (found.abi_major != STEAD_ABI_MAJOR) {
        return refuse(Errc::unsupported, "built for plugin ABI " + abi + sdk_advice());
    }
    if (found.abi_minor > STEAD_ABI_MINOR) {
        return refuse(Errc::unsupported, "needs the newer plugin ABI " + abi + sdk_advice() + ", or upgrade Stead");
    }
    if (found.struct_size < size_1_0 || found.struct_size > 65536) {
        return refuse(Errc::malformed, "descriptor of " + std::to_string(found.struct_size) + " bytes; ABI 1.0 has " +
                                           std::to_string(size_1_0) + sdk_advice());
    }
    const std::string_view id = found.id != nullptr ? found.id : "";
    if (!is_plugin_id(id)) {
        return refuse(Errc::malformed, "id '" + std::string{id} + "'; allowed: 1 to 63 of a-z 0-9 . _ -");
    }
    const auto other = std::ranges::find(loaded, id, &Plugin::id);
    if (id == "host" || other != loaded.end()) {
        return refuse(Errc::conflict, "id '" + std::string{id} + "' is taken already, by " +
                                          (other == loaded.end() ? "Stead itself; choose another one"
                                                                 : other->file.string() + "; remove one of the two"));
    }
    if (found.kind != STEAD_KIND_CHECKER && found.kind != STEAD_KIND_SERVICE) {
        return refuse(Errc::malformed, "kind " + std::to_string(found.kind) + "; allowed: 1 (checker), 2 (service)");
    }
    if (found.version == nullptr || found.create == nullptr || found.start == nullptr || found.stop == nullptr ||
        found.destroy == nullptr) {
        return refuse(Errc::malformed, "version, create, start, stop and destroy must not be null");
    }
    if (std::string wrong = check_schema(found); !wrong.empty()) {
        return refuse(Errc::malformed, std::move(wrong));
    }
    if (std::string taken = taken_element(found, loaded); !taken.empty()) {
        return refuse(Errc::conflict, std::move(taken));
    }
    stead_plugin_descriptor copy{};
    std::memcpy(&copy, &found, std::min<std::size_t>(found.struct_size, sizeof copy));
    return copy;
}

Result<void> Registry::load_one(const fs::path& file) {
    if (auto safe = check_owner(file); !safe) {
        return safe.error();
    }
    boost::dll::fs::path absolute(file.string());
    // Now: a missing function must stop a start, not a failover. Local: plugins do not see one another.
    boost::dll::shared_library library;
    try {
        library.load(absolute, boost::dll::load_mode::rtld_now | boost::dll::load_mode::rtld_local);
    } catch (const boost::system::system_error& e) { // what() holds dlerror's text, the code does not
        return Error{Errc::malformed, file.string(), "cannot be loaded: " + loader_text(e.what(), file)};
    }
    // Kept mapped for good: some libraries do not survive unloading, and refused ones have run constructors too.
    static std::vector<std::unique_ptr<boost::dll::shared_library>> kept;
    kept.push_back(std::make_unique<boost::dll::shared_library>(std::move(library)));
    const boost::dll::shared_library& loaded = *kept.back();
    if (!loaded.has(STEAD_PLUGIN_SYMBOL)) {
        return Error{Errc::malformed, file.string(),
                     "not a Stead plugin: no symbol " STEAD_PLUGIN_SYMBOL " (end one source file with "
                     "STEAD_EXPORT_CHECKS, STEAD_EXPORT_CHECKER or STEAD_EXPORT_SERVICE)"};
    }
    const auto& found = loaded.get<const stead_plugin_descriptor>(STEAD_PLUGIN_SYMBOL);
    auto checked = check_descriptor(found, file, plugins_);
    if (!checked) {
        return checked.error();
    }
    plugins_.push_back(Plugin{.file = file, .descriptor = *checked});
    return {};
}

Registry Registry::load(const fs::path& folder) {
    Registry registry;
    registry.folder_ = folder;
    std::error_code failed;
    if (!fs::exists(folder, failed)) {
        return registry;
    }
    if (auto safe = check_folder(folder); !safe) {
        registry.refused_.push_back(safe.error());
        return registry;
    }
    std::vector<fs::path> files;
    for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed)) {
        if (it->path().extension() != ".so") {
            continue;
        }
        if (std::error_code unknown; it->is_regular_file(unknown)) {
            files.push_back(fs::absolute(it->path()));
        } else {
            registry.refused_.push_back({Errc::malformed, fs::absolute(it->path()).string(), "is not a regular file"});
        }
    }
    std::ranges::sort(files);
    // Only what is safe to load is tried: its constructors run there as well.
    std::vector<fs::path> tried;
    std::ranges::copy_if(files, std::back_inserter(tried),
                         [](const fs::path& file) { return bool(check_owner(file)); });
    while (const auto fault = try_loading(tried)) {
        registry.refused_.push_back(*fault);
        std::erase(tried, fs::path(fault->where));
        std::erase(files, fs::path(fault->where));
    }
    for (const fs::path& file : files) {
        if (auto loaded = registry.load_one(file); !loaded) {
            registry.refused_.push_back(loaded.error());
        }
    }
    return registry;
}

} // namespace stead::host

// SPDX-License-Identifier: Apache-2.0
#include "value_or.hpp"

#include <stead/node/registry.hpp>

#include <stead/archive/archive.hpp>
#include <stead/base/files.hpp>
#include <stead/base/limits.hpp>
#include <stead/control/command.hpp>

#include <boost/json/parse.hpp>
#include <tinyxml2.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <mutex>
#include <set>

namespace stead::node {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t small_file_bytes_max = 4096;
constexpr std::size_t xml_bytes_max = 4u << 20;

Result<unsigned> read_id(const fs::path& file, const std::string& name) {
    const Result<std::string> text = read_file(file, small_file_bytes_max);
    if (!text) {
        return text.error();
    }
    const std::string_view digits = std::string_view(*text).substr(0, text->find('\n'));
    unsigned id = 0;
    const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
    const bool whole =
        failed == std::errc{} && end == digits.data() + digits.size() && text->size() <= digits.size() + 1;
    if (!whole || id < 1 || id > limits::modules_max) {
        return Error{Errc::malformed, file.string(),
                     "'" + std::string(digits) + "' is no id of a module; allowed: 1 to " +
                         std::to_string(limits::modules_max) + "; 'stead module install -m " + name +
                         " -M ID' of the stopped module, with the ID of the other nodes, writes it anew"};
    }
    return id;
}

Error no_folder(const fs::path& folder, const std::error_code& error) {
    return os_error(folder.string(), "cannot make this folder", error.value());
}

/// What a replacement replaced. No module can have such a name.
fs::path before_of(const fs::path& edited) {
    return edited.parent_path() / ("." + edited.filename().string() + ".before");
}

} // namespace

std::vector<ModulePort> ports_of(unsigned id) {
    const unsigned n = id - 1;
    return {{"farm", "udp", static_cast<std::uint16_t>(4803 + n * 3)},
            {"mirror heartbeat", "udp", static_cast<std::uint16_t>(8888 + n)},
            {"mirror replication", "tcp", static_cast<std::uint16_t>(5600 + n * 4)}};
}

std::vector<ModulePort> ports_of(unsigned id, const std::string& safeconf_xml) {
    std::vector<ModulePort> ports = ports_of(id);
    tinyxml2::XMLDocument document;
    if (document.Parse(safeconf_xml.data(), safeconf_xml.size()) != tinyxml2::XML_SUCCESS ||
        document.RootElement() == nullptr) {
        return ports;
    }
    constexpr std::array elements{"farm", "heart", "rfs"}; // in the order of `ports`
    const tinyxml2::XMLElement* service = document.RootElement()->FirstChildElement("service");
    for (std::size_t i = 0; service != nullptr && i < ports.size(); ++i) {
        const tinyxml2::XMLElement* element = service->FirstChildElement(elements[i]);
        const unsigned port = element != nullptr ? element->UnsignedAttribute("port") : 0;
        ports[i].port = port >= 1 && port <= 65535 ? static_cast<std::uint16_t>(port) : ports[i].port;
    }
    return ports;
}

boost::json::object module_settings(const fs::path& active) {
    const Result<std::string> text = read_file(active / "module.json", small_file_bytes_max);
    boost::json::error_code error;
    const boost::json::value parsed = boost::json::parse(value_or(text, std::string("{}")), error);
    return !error && parsed.is_object() ? parsed.get_object() : boost::json::object{};
}

std::string text_setting(const boost::json::object& settings, std::string_view name) {
    const boost::json::value* value = settings.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string{};
}

std::vector<InstalledModule> Registry::list() const {
    std::vector<InstalledModule> modules;
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(paths_.modules(), error)) {
        const std::string name = entry.path().filename().string();
        const Result<unsigned> id = read_id(paths_.module_id(name), name);
        if (!control::is_module_name(name) || (!id && id.error().code == Errc::not_found)) {
            continue;
        }
        const boost::json::object settings = module_settings(paths_.active(name));
        modules.push_back({name, id ? *id : 0, !settings.empty(), text_setting(settings, "mode"),
                           id ? std::nullopt : std::optional(id.error())});
    }
    std::sort(modules.begin(), modules.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    return modules;
}

Result<InstalledModule> Registry::find(const std::string& name) const {
    std::vector<std::string> names;
    for (InstalledModule& module : list()) {
        if (module.name == name) {
            return module;
        }
        names.push_back(module.name);
    }
    const std::string near = control::nearest(name, names);
    return Error{Errc::not_found, "",
                 "module '" + name + "' is not installed" +
                     (near.empty() ? "; 'stead module list' shows those that are, 'stead module install -m " + name +
                                         " FILE.safe' installs one"
                                   : "; did you mean '" + near + "'?")};
}

std::vector<ModulePort> Registry::ports(const InstalledModule& module) const {
    if (module.damage) {
        return {};
    }
    const Result<std::string> xml = read_file(paths_.active(module.name) / "safeconf.xml", xml_bytes_max);
    std::vector<ModulePort> ports = ports_of(module.id, value_or(xml, std::string{}));
    if (module.mode == "light") { // its nodes hear each other where those of a farm do
        ports[0].what = module.mode;
    }
    std::erase_if(ports, [&](const ModulePort& port) { return !port.what.starts_with(module.mode); });
    return ports;
}

Result<unsigned> Registry::choose_id(const std::string& name, std::optional<unsigned> wanted) const {
    std::set<unsigned> taken;
    for (const InstalledModule& module : list()) {
        if (module.name == name) {
            if (!wanted && module.damage) {
                return *module.damage;
            }
            if (!wanted || *wanted == module.id) {
                return module.id;
            }
            continue;
        }
        if (wanted && module.id == *wanted) {
            return Error{Errc::conflict, "",
                         "id " + std::to_string(*wanted) + " belongs to module '" + module.name +
                             "'; 'stead module listid' shows the ids in use"};
        }
        taken.insert(module.id);
    }
    if (wanted) {
        if (*wanted < 1 || *wanted > limits::modules_max) {
            return Error{Errc::out_of_range, "", "id " + std::to_string(*wanted) + " is not in 1..64"};
        }
        return *wanted;
    }
    for (unsigned id = 1; id <= limits::modules_max; ++id) {
        if (!taken.contains(id)) {
            return id;
        }
    }
    return Error{Errc::conflict, "", "all 64 ids are in use; uninstall a module first"};
}

Result<InstalledModule> Registry::install(const std::string& name, std::optional<unsigned> wanted, bool replace,
                                          const fs::path& package) const {
    static std::mutex one_at_a_time; // several workers install, and an id is free until it is written
    const std::lock_guard lock(one_at_a_time);
    const Result<unsigned> id = choose_id(name, wanted);
    if (!id) {
        return id.error();
    }
    if (const Result<InstalledModule> there = find(name); there && !there->damage && !replace) {
        return Error{Errc::conflict, "",
                     "module '" + name + "' is installed already; 'stead module uninstall -m " + name +
                         "' removes it, 'stead module install -r -m " + name + " FILE.safe' replaces it"};
    }
    std::error_code error;
    const fs::path edited = paths_.edited(name);
    fs::create_directories(paths_.edited_modules(), error);
    if (error) {
        return no_folder(paths_.edited_modules(), error);
    }
    fs::path source = package;
    if (source.empty()) {
        source = paths_.shipped_modules() / (name + ".safe");
        if (!fs::exists(source, error) && !fs::exists(edited / "conf/userconfig.xml", error)) {
            return Error{Errc::not_found, "",
                         "no package given, none shipped as " + source.string() + ", and no " +
                             (edited / "conf/userconfig.xml").string()};
        }
    }
    if (!package.empty() || fs::exists(source, error)) {
        if (!replace && fs::exists(edited, error)) {
            return Error{Errc::conflict, edited.string(),
                         "this folder exists; 'stead module install -m " + name +
                             "' without a file takes it as it is, -r replaces it"};
        }
        const fs::path backup = before_of(edited);
        if (replace) {
            fs::remove_all(backup, error);
        }
        if (replace && fs::exists(edited, error)) {
            fs::copy(edited, backup, fs::copy_options::recursive | fs::copy_options::copy_symlinks, error);
        }
        const Result<archive::Summary> unpacked =
            archive::install(source, edited, replace ? archive::Replace::yes : archive::Replace::no);
        if (!unpacked) {
            return unpacked.error();
        }
    }
    for (const char* folder : {"var", "lastconfig"}) {
        fs::create_directories(paths_.module(name) / folder, error);
        if (error) {
            return no_folder(paths_.module(name) / folder, error);
        }
    }
    if (Result<void> written = write_file_atomically(paths_.module_id(name), std::to_string(*id) + "\n"); !written) {
        return written.error();
    }
    return find(name);
}

Result<void> Registry::take_back(const std::string& name) const {
    const fs::path edited = paths_.edited(name);
    const fs::path before = before_of(edited);
    std::error_code error;
    if (!fs::exists(before, error)) {
        return uninstall(name);
    }
    fs::remove_all(edited, error);
    fs::rename(before, edited, error);
    return error ? Result<void>(os_error(before.string(), "cannot bring back", error.value())) : Result<void>{};
}

Result<void> Registry::uninstall(const std::string& name) const {
    std::error_code error;
    for (const fs::path& folder : {paths_.edited(name), paths_.module(name)}) { // all or nothing
        if (fs::exists(folder, error) && ::access(folder.parent_path().c_str(), W_OK) != 0) {
            return os_error(folder.string(), "cannot remove", errno);
        }
    }
    // The id goes first: without it the module is no longer installed, whatever else a crash leaves.
    if (!fs::remove(paths_.module_id(name), error)) {
        return Error{Errc::not_found, "", "module '" + name + "' is not installed"};
    }
    for (const fs::path& folder : {paths_.module(name), paths_.edited(name), before_of(paths_.edited(name))}) {
        fs::remove_all(folder, error);
        if (error) {
            return os_error(folder.string(), "cannot remove", error.value());
        }
    }
    return {};
}

Result<void> Registry::nothing_aside(const std::string& name) const {
    std::error_code error;
    for (const fs::directory_entry& plugin : fs::directory_iterator(paths_.module(name) / "var", error)) {
        const fs::path note = plugin.path() / "aside";
        std::error_code ignored;
        if (fs::exists(note, ignored)) {
            return Error{Errc::conflict, "",
                         "module '" + name +
                             "' ended without a stop, and data of this server are not at their place: " +
                             note.string() + " says which. 'stead start -m " + name + "', then 'stead stop -m " + name +
                             "' put them back; to leave them where they are, remove that file"};
        }
    }
    return {};
}

std::string Registry::configured_boot(const std::string& name) const {
    const std::string configured = text_setting(module_settings(paths_.active(name)), "boot");
    return configured.empty() ? "ignore" : configured;
}

std::string Registry::boot(const std::string& name) const {
    if (const std::string configured = configured_boot(name); configured != "ignore") {
        return configured;
    }
    const Result<std::string> set = read_file(paths_.module(name) / "boot", small_file_bytes_max);
    return set && (*set == "on\n" || *set == "off\n") ? set->substr(0, set->size() - 1) : "ignore";
}

nanoseconds Registry::boot_delay(const std::string& name) const {
    const boost::json::object settings = module_settings(paths_.active(name));
    const boost::json::value* value = settings.if_contains("boot_delay_ns");
    return nanoseconds{value != nullptr && value->is_int64() ? value->get_int64() : 0};
}

Result<void> Registry::set_boot(const std::string& name, bool on) const {
    return write_file_atomically(paths_.module(name) / "boot", on ? "on\n" : "off\n");
}

} // namespace stead::node

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/base/time.hpp>
#include <stead/control/paths.hpp>

#include <boost/json/object.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

/// The modules installed on this node: a folder each, with its number in the file `id`. Everything is on disk; nothing
/// is cached, so an administrator's hand and a crash leave no contradiction. Thread: any, one change at a time.
namespace stead::node {

struct InstalledModule {
    std::string name;
    unsigned id{}; ///< 0 = damaged
    bool configured{};
    std::string mode;            ///< "farm", "mirror", "light"; empty = not configured
    std::optional<Error> damage; ///< of the file `id`: what is wrong, and what to do
};

struct ModulePort {
    std::string what;     ///< "farm", "light", "mirror heartbeat", "mirror replication"
    std::string protocol; ///< "udp", "tcp"
    std::uint16_t port{};
};
/// The ports of a module that says nothing about them.
[[nodiscard]] std::vector<ModulePort> ports_of(unsigned id);
/// The same, with what the configuration in force (safeconf.xml; empty = none) says instead.
[[nodiscard]] std::vector<ModulePort> ports_of(unsigned id, const std::string& safeconf_xml);

class Registry {
public:
    explicit Registry(const control::Paths& paths) : paths_(paths) {}

    [[nodiscard]] std::vector<InstalledModule> list() const; ///< by name
    /// Errors: not_found, with the nearest installed name.
    [[nodiscard]] Result<InstalledModule> find(const std::string& name) const;
    /// Those that the module uses: of its mode, as its active configuration says; all that it may use when it has none.
    [[nodiscard]] std::vector<ModulePort> ports(const InstalledModule& module) const;

    /// Installs a package, or with an empty `package` the shipped module of that name, or takes the folder that an
    /// administrator made below /etc/stead/modules. On error nothing is left behind.
    /// Errors: conflict (name or id taken), out_of_range (id), not_found, and those of archive::install.
    [[nodiscard]] Result<InstalledModule> install(const std::string& name, std::optional<unsigned> id, bool replace,
                                                  const std::filesystem::path& package) const;
    /// Undoes an install() with `replace`: the edited configuration before it comes back, or the module goes.
    [[nodiscard]] Result<void> take_back(const std::string& name) const;
    [[nodiscard]] Result<void> uninstall(const std::string& name) const;
    /// Error: conflict, when a plugin of the module has data of this server elsewhere than at their place, since its
    /// last life ended without a stop. It says so by a file `aside` in its state folder; without the module nobody
    /// would know of them.
    [[nodiscard]] Result<void> nothing_aside(const std::string& name) const;
    /// What happens at boot: userconfig.xml's on, off or auto; where that says ignore (or nothing), what set_boot left:
    /// on, off or ignore.
    [[nodiscard]] std::string boot(const std::string& name) const;
    /// userconfig.xml's word: on, off, auto, ignore.
    [[nodiscard]] std::string configured_boot(const std::string& name) const;
    [[nodiscard]] nanoseconds boot_delay(const std::string& name) const;
    [[nodiscard]] Result<void> set_boot(const std::string& name, bool on) const;

private:
    [[nodiscard]] Result<unsigned> choose_id(const std::string& name, std::optional<unsigned> wanted) const;
    control::Paths paths_;
};

/// module.json of an active configuration, as `stead-host --check` left it; empty when there is none.
[[nodiscard]] boost::json::object module_settings(const std::filesystem::path& active);
[[nodiscard]] std::string text_setting(const boost::json::object& settings, std::string_view name);

} // namespace stead::node

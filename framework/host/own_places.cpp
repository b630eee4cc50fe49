// SPDX-License-Identifier: Apache-2.0
#include "own_places.hpp"

#include "facts.hpp"

#include <stead/base/files.hpp>

#include <algorithm>
#include <filesystem>

namespace stead::host {
namespace {
namespace fs = std::filesystem;

constexpr std::size_t xml_bytes_max = 4u << 20;

struct Place {
    std::string path;   ///< normal, without '/' at its end
    std::string suffix; ///< `path` + this is used as well
    int line{};
};

std::vector<Place> places_of(const config::Module& module) {
    std::vector<Place> places;
    const config::Element* rfs = module.service.child("rfs");
    if (rfs == nullptr) {
        return places;
    }
    for (const config::Element& element : rfs->children) {
        const auto dir = element.name == "replicated" ? element.attribute("dir") : std::nullopt;
        if (dir) {
            const fs::path path = fs::path{*dir}.lexically_normal();
            places.push_back({path.has_filename() ? path.string() : path.parent_path().string(),
                              std::string{rfs->attribute("mountoversuffix").value_or("")}, element.line});
        }
    }
    return places;
}

/// Each <virtual_addr> below `element`.
void addresses_of(const config::Element& element, std::vector<Place>& found) {
    for (const config::Element& child : element.children) {
        addresses_of(child, found);
    }
    const auto address = element.name == "virtual_addr" ? element.attribute("addr") : std::nullopt;
    if (address) {
        found.push_back({std::string{*address}, {}, element.line});
    }
}

std::vector<Place> addresses_of(const config::Module& module) {
    std::vector<Place> found;
    addresses_of(module.service, found);
    return found;
}

struct Port {
    std::string element; ///< of which it is the attribute `port`
    std::string protocol, number;
    int line{}; ///< of the element, or of <service> where the number follows from the module's id
};

/// As the module's bus and its replication choose them.
std::vector<Port> ports_of(const std::string& name, const config::Module& module, const control::Paths& paths) {
    const auto id = read_id(name, paths);
    std::vector<Port> ports;
    const auto add = [&](const char* element_name, const char* protocol, unsigned base, unsigned step) {
        const config::Element* element = module.service.child(element_name);
        const auto written = element != nullptr ? element->attribute("port") : std::nullopt;
        if (written) {
            ports.push_back({element_name, protocol, std::string{*written}, element->line});
        } else if (id) {
            ports.push_back({element_name, protocol, std::to_string(base + (*id - 1) * step), module.service.line});
        }
    };
    if (module.mode == config::Module::Mode::mirror) {
        add("heart", "UDP", 8888, 1);
        if (module.service.child("rfs") != nullptr) {
            add("rfs", "TCP", 5600, 4);
        }
    } else {
        add("farm", "UDP", 4803, 3);
    }
    return ports;
}

bool among(const std::vector<Port>& theirs, const Port& mine) {
    return std::ranges::any_of(
        theirs, [&](const Port& one) { return one.protocol == mine.protocol && one.number == mine.number; });
}

bool inside(const std::string& inner, const std::string& outer) { return (inner + "/").starts_with(outer + "/"); }

/// How `mine` meets `other`; empty: not at all.
std::string meets(const Place& mine, const Place& other) {
    if (mine.path == other.path) {
        return "is replicated by";
    }
    if (inside(mine.path, other.path)) {
        return "lies in '" + other.path + "' of";
    }
    if (inside(other.path, mine.path)) {
        return "holds '" + other.path + "' of";
    }
    const bool aside = inside(mine.path, other.path + other.suffix) || inside(other.path, mine.path + mine.suffix);
    return aside ? "or '" + other.path + "' is where the data of the other one are kept aside by" : "";
}

} // namespace

std::vector<config::Finding> places_of_others(const std::string& name, const config::Module& module,
                                              const config::SchemaSet& schemas, const control::Paths& paths) {
    std::vector<config::Finding> findings;
    const std::vector<Place> mine = places_of(module), my_addresses = addresses_of(module);
    const std::vector<Port> my_ports = ports_of(name, module, paths);
    std::error_code failed;
    for (fs::directory_iterator it(paths.modules(), failed), end; !failed && it != end; it.increment(failed)) {
        const std::string other = it->path().filename().string();
        const auto text = read_file(paths.active(other) / "safeconf.xml", xml_bytes_max);
        if (other == name || !text) {
            continue;
        }
        const auto parsed = config::parse_module(*text, "safeconf.xml", schemas, {});
        const std::vector<Port> their_ports =
            parsed.value ? ports_of(other, *parsed.value, paths) : std::vector<Port>{};
        for (const Port& port : my_ports) {
            if (among(their_ports, port)) {
                findings.push_back({.warning = true,
                                    .file = "userconfig.xml",
                                    .line = port.line,
                                    .message = port.element + "/@port: " + port.protocol + " port " + port.number +
                                               " is that of module '" + other +
                                               "': only one of them can run ('stead module getports -m " + other +
                                               "' lists its own)"});
            }
        }
        for (const Place& theirs : parsed.value ? addresses_of(*parsed.value) : std::vector<Place>{}) {
            const auto twice = std::ranges::find(my_addresses, theirs.path, &Place::path);
            if (twice != my_addresses.end()) {
                findings.push_back({.warning = true,
                                    .file = "userconfig.xml",
                                    .line = twice->line,
                                    .message = "virtual_addr/@addr: '" + theirs.path + "' is an address of module '" +
                                               other +
                                               "' as well: only one of the two can run on this node at a time"});
            }
        }
        for (const Place& theirs : parsed.value ? places_of(*parsed.value) : std::vector<Place>{}) {
            for (const Place& one : mine) {
                if (const std::string how = meets(one, theirs); !how.empty()) {
                    findings.push_back({.warning = false,
                                        .file = "userconfig.xml",
                                        .line = one.line,
                                        .message = "replicated/@dir: '" + one.path + "' " + how + " module '" + other +
                                                   "'; allowed: a directory that has nothing in common with those of "
                                                   "other modules ('stead deconfig -m " +
                                                   other + "' frees them)"});
                }
            }
        }
    }
    return findings;
}

} // namespace stead::host

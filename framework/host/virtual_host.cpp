// SPDX-License-Identifier: Apache-2.0
#include "virtual_host.hpp"

#include <stead/base/files.hpp>

#include <algorithm>
#include <set>
#include <string>
#include <string_view>

namespace stead::host {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t name_max = 64; // HOST_NAME_MAX

bool all_of(std::string_view text, std::string_view others) {
    return !text.empty() && std::ranges::all_of(text, [&](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               others.find(c) != std::string_view::npos;
    });
}

bool is_host_name(std::string_view text) {
    return text.size() <= name_max && all_of(text, "-.") && text.front() != '-' && text.front() != '.';
}

bool is_file_name(std::string_view text) { return text.size() < 200 && all_of(text, "-_.") && text.front() != '.'; }

std::string_view text_of(const config::Element& element, std::string_view attribute) {
    return element.attribute(attribute).value_or("");
}

std::vector<const config::Element*> hosts_of(const config::Module& module) {
    std::vector<const config::Element*> hosts;
    if (const config::Element* all = module.service.child("vhost")) {
        for (const config::Element& one : all->children) {
            hosts.push_back(&one);
        }
    }
    return hosts;
}

bool mirrored(const config::Module& module) { return module.mode == config::Module::Mode::mirror; }

/// Scripts of the other role read the file to no effect: there the application shall know where it is.
std::string scripts_without(const config::Module& module, std::string_view when) {
    if (!mirrored(module) || when == "both") {
        return {};
    }
    return when == "prim" ? "*_second | *_sec" : "*_prim";
}

std::string text_for(const config::Module& module, const config::Element& host, const fs::path& library) {
    const std::string others = scripts_without(module, text_of(host, "when"));
    std::string text =
        "# Made by `stead config` from <virtualhostname>. Read with . it gives what is started after it\n"
        "# another host name.\n"
        "case \"${0##*/}\" in\n";
    if (!others.empty()) {
        text += others + ") ;;\n";
    }
    return text + "*)\n    export STEAD_HOST_NAME='" + std::string{text_of(host, "name")} +
           "'\n"
           "    case \":${LD_PRELOAD-}:\" in\n"
           "    *:'" +
           library.string() +
           "':*) ;;\n"
           "    *) export LD_PRELOAD='" +
           library.string() +
           "'\"${LD_PRELOAD:+:$LD_PRELOAD}\" ;;\n"
           "    esac ;;\n"
           "esac\n";
}

} // namespace

std::vector<config::Finding> virtual_host_findings(const config::Module& module, const fs::path& bin) {
    std::vector<config::Finding> findings;
    const auto found = [&](const config::Element& host, const char* attribute, const std::string& what, bool warning) {
        findings.push_back({.warning = warning,
                            .file = "userconfig.xml",
                            .line = host.line,
                            .message = "virtualhostname/@" + std::string{attribute} + ": '" +
                                       std::string{text_of(host, attribute)} + "' " + what});
    };
    std::set<std::string_view> files;
    for (const config::Element* host : hosts_of(module)) {
        if (!is_host_name(text_of(*host, "name"))) {
            found(*host, "name", "is no host name; allowed: up to 64 letters, digits, '-' and '.'", false);
        }
        const std::string_view file = text_of(*host, "envfile");
        std::error_code failed;
        if (!is_file_name(file)) {
            found(*host, "envfile", "is no name of a file in bin; allowed: letters, digits, '-', '_' and '.'", false);
        } else if (fs::exists(fs::symlink_status(bin / file, failed))) {
            found(*host, "envfile", "is a file of the module's bin already; allowed: a name that is free", false);
        } else if (!files.insert(file).second) {
            found(*host, "envfile", "stands twice; allowed: one file for each name", false);
        }
        if (text_of(*host, "when") == "second" && !mirrored(module)) {
            found(*host, "when", "has no meaning here: only a mirror has a second node; the name is always given",
                  true);
        }
    }
    if (module.service.child("vhost") != nullptr && !module.user.present) {
        findings.push_back({.warning = true,
                            .file = "userconfig.xml",
                            .line = module.service.child("vhost")->line,
                            .message = "vhost: scripts give the name to what they start; without <user> none runs"});
    }
    return findings;
}

Result<void> write_virtual_hosts(const config::Module& module, const fs::path& bin, const fs::path& generated,
                                 const fs::path& library) {
    std::string names;
    for (const config::Element* host : hosts_of(module)) {
        const std::string file{text_of(*host, "envfile")};
        if (auto written = write_file_atomically(bin / file, text_for(module, *host, library)); !written) {
            return written;
        }
        names += "bin/" + file + "\n";
    }
    return names.empty() ? Result<void>{} : write_file_atomically(generated, names);
}

} // namespace stead::host

// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <boost/json/serialize.hpp>

#include <arpa/inet.h>
#include <regex.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <set>

namespace stead::mirror {
namespace {

constexpr std::size_t vips_max = 16, directories_max = 32;

std::string text_ms(nanoseconds time) { return std::to_string(time / milliseconds{1}); }

bool is_address(const std::string& text) {
    std::array<unsigned char, 16> bytes{};
    return ::inet_pton(AF_INET, text.c_str(), bytes.data()) == 1 ||
           ::inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1;
}

bool is_on(const plugin::Config& element, std::string_view name, bool otherwise) {
    const auto value = element.attribute(name);
    return value ? *value == "on" : otherwise;
}

void read_vip(const plugin::Config& vip, MirrorOptions& options, const Finding& finding) {
    options.tcp_reset = is_on(vip, "tcpreset", true);
    const auto list = vip.child("interface_list");
    for (const auto& interface : list ? list->children("interface") : std::vector<plugin::Config>{}) {
        const auto real = interface.child("real_interface");
        for (const auto& item : real ? real->children("virtual_addr") : std::vector<plugin::Config>{}) {
            MirrorOptions::Vip one;
            one.interface = std::string{interface.attribute("name").value_or("")};
            one.address = std::string{item.attribute("addr").value_or("")};
            if (interface.attribute("arpinterval")) {
                one.announce_interval = interface.duration("arpinterval");
            }
            if (!is_address(one.address)) {
                finding(item.line(), false, "virtual_addr/@addr: '" + one.address + "' is not an IPv4 or IPv6 address");
            }
            if (std::ranges::any_of(options.vips, [&](const auto& vip_) { return vip_.address == one.address; })) {
                finding(item.line(), false, "virtual_addr/@addr: '" + one.address + "' is given twice");
            }
            options.vips.push_back(std::move(one));
        }
        if (options.vips.size() > vips_max) {
            finding(interface.line(), false, "more than " + std::to_string(vips_max) + " virtual addresses");
        }
    }
}

void read_heart(const plugin::Config& heart, MirrorOptions& options, const Finding& finding) {
    if (heart.attribute("port")) {
        options.heart_port = static_cast<std::uint32_t>(heart.integer("port"));
    }
    options.pulse = heart.duration("pulse");
    options.timeout = heart.duration("timeout");
    if (options.timeout < 3 * options.pulse) {
        finding(heart.line(), false,
                "heart/@timeout: " + text_ms(options.timeout) + " ms is less than three pulses of " +
                    text_ms(options.pulse) + " ms: a single late heartbeat would be a failover");
    }
    std::set<std::string> idents;
    for (const auto& beat : heart.children("heartbeat")) {
        const auto name = beat.attribute("name");
        if (!name) {
            finding(beat.line(), true, "heartbeat: no name, so every lan of cluster.xml is used");
            options.lans.clear();
            return;
        }
        if (std::ranges::find(options.lans, *name) != options.lans.end()) {
            finding(beat.line(), false, "heartbeat/@name: '" + std::string{*name} + "' is given twice");
        }
        const std::string ident{beat.attribute("ident").value_or(*name)};
        if (!idents.insert(ident).second) {
            finding(beat.line(), false,
                    "heartbeat/@ident: '" + ident +
                        "' is given twice; allowed: one for each resource heartbeat.<ident>");
        }
        options.lans.emplace_back(*name);
        options.idents.emplace(*name, ident);
        if (beat.attribute("ident").value_or("") == "flow") {
            options.flow_lan = std::string{*name};
        }
    }
}

void check_path(const plugin::Config& element, std::string_view attribute, const std::string& path,
                const Finding& finding) {
    const std::filesystem::path relative{path};
    const bool climbs = std::ranges::any_of(relative, [](const auto& part) { return part == ".." || part == "."; });
    if (path.empty() || relative.is_absolute() || climbs) {
        finding(element.line(), false,
                std::string{element.name()} + "/@" + std::string{attribute} + ": '" + path +
                    "' is not a path below dir; allowed: a relative path without '.' and '..', such as tmp or "
                    "cache/pages");
    }
}

/// As it is used: for whole paths.
void check_regex(const plugin::Config& element, const std::string& text, const Finding& finding) {
    regex_t compiled{};
    const int failed = ::regcomp(&compiled, ("^(" + text + ")$").c_str(), REG_EXTENDED | REG_NOSUB);
    if (failed != 0) {
        std::array<char, 200> reason{};
        ::regerror(failed, &compiled, reason.data(), reason.size());
        finding(element.line(), false,
                "notreplicated/@regexpath: '" + text + "': " + reason.data() +
                    "; allowed: a POSIX extended regular expression, such as .*\\.(tmp|swp)");
        return;
    }
    ::regfree(&compiled);
    if (text.empty() || text.front() == '/') {
        finding(element.line(), false,
                "notreplicated/@regexpath: '" + text +
                    "' fits no path: they are relative to dir; allowed: a POSIX extended regular expression, such as "
                    "cache/.*");
    }
}

void read_exclusion(const plugin::Config& element, ReplicatedDirectory& directory, const Finding& finding) {
    const auto path = element.attribute("path");
    const auto regex = element.attribute("regexpath");
    if (!path && !regex) {
        finding(element.line(), false,
                "<notreplicated> says nothing; allowed: path=\"tmp\" (with all below it), regexpath=\".*\\.swp\", or "
                "both");
    }
    if (path) {
        directory.excluded.emplace_back(*path);
        check_path(element, "path", directory.excluded.back(), finding);
    }
    if (regex) {
        directory.excluded_regex.emplace_back(*regex);
        check_regex(element, directory.excluded_regex.back(), finding);
    }
}

bool inside(const std::string& inner, const std::string& outer) { return (inner + "/").starts_with(outer + "/"); }

/// Of the kernel, or of each server and its stead alone.
constexpr std::array<const char*, 6> own_places{"/proc", "/sys", "/dev", "/run", "/etc/stead", "/var/lib/stead"};

/// What every command needs: a node that does not serve has an empty directory in its place.
constexpr std::array<const char*, 8> system_places{"/bin",     "/sbin",     "/lib",     "/lib64",
                                                   "/usr/bin", "/usr/sbin", "/usr/lib", "/boot"};

std::string path_of(const plugin::Config& replicated) {
    const auto path = std::filesystem::path{std::string{replicated.attribute("dir").value_or("")}}.lexically_normal();
    return path.has_filename() ? path.string() : path.parent_path().string();
}

ReplicatedDirectory read_directory(const plugin::Config& element, const std::string& suffix, const Finding& finding) {
    ReplicatedDirectory directory;
    directory.path = path_of(element);
    if (directory.path.empty() || directory.path == "/") {
        finding(element.line(), false,
                "replicated/@dir: '" + directory.path +
                    "' is the root of the system, which cannot be replicated; allowed: a directory such as /srv/data");
    }
    for (const std::string own : own_places) {
        if (inside(directory.path, own) || inside(own, directory.path)) {
            finding(element.line(), false,
                    "replicated/@dir: '" + directory.path + "' holds or is part of " + own +
                        ", which is each server's own; allowed: a directory of the application, such as /srv/data");
            break;
        }
    }
    const auto* const program =
        std::ranges::find_if(system_places, [&](const char* place) { return inside(place, directory.path); });
    if (program != system_places.end() && directory.path.size() > 1) {
        finding(element.line(), false,
                "replicated/@dir: '" + directory.path + "' holds " + *program +
                    ", without which a server that does not serve could not run; allowed: a directory of the "
                    "application, such as /srv/data");
    }
    directory.hidden_suffix = suffix;
    directory.read_only = element.attribute("mode").value_or("") == "read_only";
    for (const auto& child : element.children()) {
        if (child.name() == "tocheck") {
            directory.to_check.emplace_back(child.string("path"));
            check_path(child, "path", directory.to_check.back(), finding);
            continue;
        }
        read_exclusion(child, directory, finding);
    }
    return directory;
}

void read_directories(const plugin::Config& rfs, MirrorOptions& options, const Finding& finding) {
    const std::string suffix{rfs.attribute("mountoversuffix").value_or("")};
    if (suffix.empty() || suffix.find('/') != std::string::npos) {
        finding(rfs.line(), false,
                "rfs/@mountoversuffix: '" + suffix + "' must be the end of a file name, without '/'");
    }
    for (const auto& element : rfs.children("replicated")) {
        ReplicatedDirectory directory = read_directory(element, suffix, finding);
        for (const ReplicatedDirectory& other : options.directories) {
            if (directory.path == other.path) {
                finding(element.line(), false,
                        "replicated/@dir: '" + directory.path + "' is given twice; allowed: each directory once");
            } else if (inside(directory.path, other.path) || inside(other.path, directory.path)) {
                finding(element.line(), false,
                        "replicated/@dir: '" + directory.path + "' and '" + other.path +
                            "' lie one in the other; allowed: the outer one alone");
            }
            using Both = std::pair<const ReplicatedDirectory*, const ReplicatedDirectory*>;
            for (const auto& [one, two] : {Both{&directory, &other}, Both{&other, &directory}}) {
                if (inside(one->path, two->path + suffix)) {
                    finding(element.line(), false,
                            "replicated/@dir: '" + one->path + "' is where the data of '" + two->path +
                                "' are kept aside; allowed: another directory, or another mountoversuffix");
                }
            }
        }
        options.directories.push_back(std::move(directory));
    }
    if (options.directories.size() > directories_max) {
        finding(rfs.line(), false,
                "rfs: " + std::to_string(options.directories.size()) +
                    " replicated directories; allowed: " + std::to_string(directories_max));
    }
    if (options.directories.empty()) {
        finding(rfs.line(), false, "rfs: nothing to replicate; add <replicated dir=\"/srv/data\"/>");
    }
}

std::optional<Crontab> read_times(const plugin::Config& rfs, const char* name, const Finding& finding) {
    const auto text = rfs.attribute(name);
    if (!text) {
        return {};
    }
    auto table = Crontab::parse(*text);
    if (!table) {
        finding(rfs.line(), false, std::string{"rfs/@"} + name + ": " + table.error().text());
        return {};
    }
    return *table;
}

void read_schedule(const plugin::Config& rfs, MirrorOptions& options, const Finding& finding) {
    options.sync_at = read_times(rfs, "syncat", finding);
    options.sync_at_text = std::string{rfs.attribute("syncat").value_or("")};
    options.verify_at = read_times(rfs, "verifyat", finding);
    if (options.sync_at && options.verify_at) {
        finding(rfs.line(), true,
                "rfs/@verifyat: compares nothing between the times of syncat, when the nodes are not in sync");
    }
    options.sync_delta = rfs.duration("syncdelta");
    if (options.sync_delta > std::chrono::minutes{1}) {
        finding(rfs.line(), true,
                "rfs/@syncdelta: a node that is isolated and was in sync up to " +
                    std::to_string(options.sync_delta / std::chrono::minutes{1}) +
                    " minutes ago serves what it has: what was acknowledged since then is lost, or a split when the "
                    "other node returns");
    }
}

void read_rfs(const plugin::Config& rfs, MirrorOptions& options, const Finding& finding) {
    options.replicates = true;
    const auto ack = rfs.attribute("ack");
    const auto async = rfs.attribute("async");
    if (ack && async) {
        finding(rfs.line(), true, "rfs: ack=\"" + std::string{*ack} + "\" counts, async is ignored");
    }
    const std::string_view wanted = ack ? *ack : !async ? "apply" : *async == "none" ? "disk" : "receipt";
    options.ack = wanted == "commit"    ? Ack::commit
                  : wanted == "receipt" ? Ack::receipt
                  : wanted == "disk"    ? Ack::disk
                                        : Ack::apply;
    options.intent = is_on(rfs, "intent", false);
    options.acl = is_on(rfs, "acl", true);
    options.readers = static_cast<std::uint32_t>(rfs.integer("nbrei"));
    options.resync_bytes_per_second = static_cast<std::uint64_t>(rfs.integer("reiallowedbw")) * 1024;
    options.slow_peer = rfs.duration("slow_peer");
    if (rfs.attribute("port")) {
        options.stream_port = static_cast<std::uint32_t>(rfs.integer("port"));
    }
    read_schedule(rfs, options, finding);
    if (const auto flow = rfs.child("flow"); flow && options.flow_lan.empty()) {
        options.flow_lan = std::string{flow->string("name")};
        if (!options.lans.empty() && std::ranges::find(options.lans, options.flow_lan) == options.lans.end()) {
            finding(flow->line(), true,
                    "flow/@name: no <heartbeat> is on '" + options.flow_lan +
                        "', so a cut of it alone is found by slow_peer only");
        }
    }
    read_directories(rfs, options, finding);
}

} // namespace

MirrorOptions read_options(const plugin::Config& service, const Finding& finding) {
    MirrorOptions options;
    options.failover = is_on(service, "failover", true);
    options.default_prim = std::string{service.attribute("defaultprim").value_or("alone")};
    if (const auto heart = service.child("heart")) {
        read_heart(*heart, options, finding);
    }
    if (const auto vip = service.child("vip")) {
        read_vip(*vip, options, finding);
    }
    if (const auto rfs = service.child("rfs")) {
        read_rfs(*rfs, options, finding);
    }
    return options;
}

void check_places(const plugin::Config& service, const Finding& finding) {
    const auto rfs = service.child("rfs");
    for (const auto& element : rfs ? rfs->children("replicated") : std::vector<plugin::Config>{}) {
        const std::string path = path_of(element);
        struct stat found {};
        if (::lstat(path.c_str(), &found) == 0 && !S_ISDIR(found.st_mode)) {
            finding(element.line(), false,
                    "replicated/@dir: '" + path + "' is " + (S_ISLNK(found.st_mode) ? "a symbolic link" : "a file") +
                        " on this node; allowed: a directory");
        }
    }
}

std::map<std::string, std::string> MirrorOptions::alike() const {
    std::map<std::string, std::string> found{{"failover", failover ? "on" : "off"}, {"defaultprim", default_prim}};
    if (replicates) {
        constexpr std::array<const char*, 4> acks{"commit", "receipt", "apply", "disk"};
        found["ack"] = acks[static_cast<std::size_t>(ack)];
        found["acl"] = acl ? "on" : "off";
        found["syncat"] = sync_at_text.substr(0, 255); // a resource takes no more
        found["syncdelta"] = std::to_string(sync_delta / std::chrono::seconds{1}) + "s";
    }
    return found;
}

std::uint64_t MirrorOptions::digest() const {
    Settings common; // what the two streams and trees must agree in, and nothing that only one of two builds knows
    common.directories = directories;
    const Ack accounting = ack == Ack::commit ? ack : Ack::apply; // of the others the primary's alone counts
    const std::string text =
        boost::json::serialize(to_json(common).at("directories")) + std::to_string(static_cast<int>(accounting));
    std::uint64_t hash = 0xcbf29ce484222325u; // FNV-1a
    for (const char c : text) {
        hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    }
    return hash;
}

} // namespace stead::mirror

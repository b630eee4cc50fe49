// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/ids.hpp>
#include <stead/base/result.hpp>
#include <stead/base/time.hpp>
#include <stead/plugin.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// cluster.xml and userconfig.xml: parsed, macros expanded, checked against the schemas, every finding with its place.
namespace stead::config {

/// One finding. text(): "userconfig.xml:14: vip/@drain: '5x' is not a time; allowed: a number with d h m s ms us", or
/// "userconfig.xml:20:9: found 'dwon'; allowed: …" where a column is known.
struct Finding {
    bool warning{};
    std::string file;
    int line{};
    std::string message;
    int column{}; ///< 0: none
    [[nodiscard]] std::string text() const {
        return file + (line > 0 ? ":" + std::to_string(line) : std::string{}) +
               (column > 0 ? ":" + std::to_string(column) : std::string{}) + ": " + message;
    }
};

/// Of cluster.xml and userconfig.xml, each.
inline constexpr std::size_t file_bytes_max = 1u << 20;

/// A configuration, or all that is wrong with it (in file order). `value` is set only when no finding is an error.
template <class T>
struct Checked {
    std::optional<T> value;
    std::vector<Finding> findings;
    [[nodiscard]] bool ok() const noexcept { return value.has_value(); }
};

// ---- cluster.xml ----------------------------------------------------------------------------------------------------

struct ClusterLan {
    std::string name;
    bool command{};                           ///< `-H` uses this LAN
    std::vector<std::string> addresses;       ///< as written, index = NodeId, "" = not on this LAN
    std::vector<std::string> local_addresses; ///< laddr, "" = same as address
    std::vector<int> lines;                   ///< of <node>; 0 = not on this LAN
};

/// `<web>`: the health URL and the REST API of every node.
struct ClusterWeb {
    std::uint16_t port{9010};
    std::string address; ///< numeric; empty = every address of the node
    bool api{true};      ///< off = the health URL only
    bool https{true};    ///< on https_port too
    std::uint16_t https_port{9453};
    friend bool operator==(const ClusterWeb&, const ClusterWeb&) = default;
};

struct Cluster {
    std::vector<std::string> nodes; ///< sorted bytewise; index = NodeId
    std::vector<ClusterLan> lans;   ///< file order; index = LanId
    std::size_t command_lan{};
    std::uint16_t port{4800};
    std::optional<std::string> profile; ///< "fast", "default", "safe"
    std::optional<nanoseconds> pulse;   ///< classic; with slost_count
    std::optional<unsigned> slost_count;
    ClusterWeb web;
    std::uint64_t digest{}; ///< of what must be equal on all nodes (not `web`)
    [[nodiscard]] std::optional<NodeId> find(std::string_view node) const;
    [[nodiscard]] std::optional<LanId> find_lan(std::string_view lan) const;
};

[[nodiscard]] Checked<Cluster> parse_cluster(std::string_view xml, std::string_view file_name);

/// Which node am I: the one whose addr or laddr is one of `local_addresses` (numeric, no prefix).
/// Errors: malformed, with the line of a <node>, listing both sides.
[[nodiscard]] Result<NodeId> identify(const Cluster& cluster, std::span<const std::string> local_addresses,
                                      std::string_view file_name);

/// Names to numeric addresses (getaddrinfo), in place. Errors: malformed, a line for each name: its place in the file,
/// the name and what to do.
[[nodiscard]] Result<void> resolve(Cluster& cluster, std::string_view file_name);

/// Why a numeric address cannot be that of one server in a network ("is a multicast address"); "" when it can, or when
/// `address` is a name.
[[nodiscard]] std::string_view address_flaw(std::string_view address, bool loopback_allowed);

// ---- userconfig.xml -------------------------------------------------------------------------------------------------

/// Where the first character of a text stands in the file; both count from 1.
struct TextStart {
    int line{1};
    int column{1};
};

/// Macros expanded, defaults filled, values normalised as plugin.h says (durations in ns, booleans on/off).
struct Element {
    std::string name;
    int line{};
    std::vector<std::pair<std::string, std::string>> attributes;
    std::vector<Element> children;
    std::string text;                     ///< of several CDATA sections: parted by a line that holds a form feed
    std::vector<TextStart> text_starts{}; ///< one for each section
    [[nodiscard]] const Element* child(std::string_view element_name) const;
    [[nodiscard]] std::optional<std::string_view> attribute(std::string_view attribute_name) const;
};

/// Who owns what, gathered from the host and from every loaded plugin.
struct SchemaSet {
    struct Owner {
        std::string plugin;                          ///< "host", "farm"
        std::span<const stead_elem_schema> elements; ///< static storage
    };
    std::vector<Owner> owners;
    std::set<std::string> classic_elements; ///< share/stead/classic-elements: inactive, with one warning each
    std::string plugins_folder; ///< named in the error for an unknown element
};

/// The elements of the host itself: service macro user failover vip (+ interface_list, interface, virtual_addr).
[[nodiscard]] std::span<const stead_elem_schema> host_schema() noexcept;
/// One element per line; '#' comments.
[[nodiscard]] Result<std::set<std::string>> read_classic_elements(const std::filesystem::path& file);

struct Module {
    enum class Mode { farm, mirror, light } mode{};
    Element service; ///< the whole checked tree
    std::map<std::string, std::string> macros;
    std::map<std::string, std::string> vars;      ///< `<user><var>`
    std::map<std::string, std::string> addresses; ///< names of virtual addresses, and what they stand for
    std::string expanded_xml;                     ///< safeconf.xml
    std::uint64_t digest{};                       ///< of the expanded tree: what peers compare
    struct User {
        bool present{};
        nanoseconds nice_stop_timeout{seconds{300}}, force_stop_timeout{seconds{300}};
        bool log{true};
        std::uint32_t log_kilobytes{2048};
    } user;
    struct Service {
        std::string boot{"ignore"};
        nanoseconds boot_delay{};
        std::uint32_t maxloop{3};
        nanoseconds loop_interval{std::chrono::hours{24}};
        bool automatic_reboot{};
    } settings;
    [[nodiscard]] std::string_view mode_name() const noexcept;
    /// The part that one plugin owns, with the ancestors (and their attributes) that lead to it, under "service".
    [[nodiscard]] Element part_for(const SchemaSet& schemas, std::string_view plugin) const;
    /// Does the file contain an element of this plugin (one that no other plugin owns)?
    [[nodiscard]] bool uses(const SchemaSet& schemas, std::string_view plugin) const;
};

/// The numeric addresses of a host name, at most one of each family, IPv4 first. Errors: what is wrong with the name.
using Resolver = std::function<Result<std::vector<std::string>>(const std::string& name)>;

/// By the system's name service. May take seconds.
[[nodiscard]] Result<std::vector<std::string>> addresses_of_name(const std::string& name);

/// What a file is checked against beside the schemas. `cluster` (may be null) lets `<lan name>` and `<host name>` be
/// checked against cluster.xml. Where there is a `resolver`, a virtual address may be a name.
struct Surroundings {
    const Cluster* cluster{};
    Resolver resolver{};
};

[[nodiscard]] Checked<Module> parse_module(std::string_view xml, std::string_view file_name, const SchemaSet& schemas,
                                           const Surroundings& surroundings);

/// What is sound in a file that parse_module refuses, so that the other checks of it can be made as well. Never run it.
struct Draft {
    Module module;
    std::vector<int> gaps; ///< lines of the elements in which something was left out
};

/// Nothing if the file is not XML with a service. A mode that does not exist is taken for the one that the elements
/// suggest.
[[nodiscard]] std::optional<Draft> draft_module(std::string_view xml, const SchemaSet& schemas,
                                                const Surroundings& surroundings);

/// What differs and is not dynamic, as a person would say it ("<rule> port: 80 is now 81", "<rule>: 1 before, 2 now");
/// empty when a running module may take `after` over. Values are compared, not how they are written.
[[nodiscard]] std::vector<std::string> static_changes(const Module& before, const Module& after,
                                                      const SchemaSet& schemas);

/// An Element as the C tree of plugin.h. Owns all memory; the root stays valid as long as the holder.
class CTree {
public:
    explicit CTree(const Element& root);
    CTree(CTree&&) = default;
    CTree& operator=(CTree&&) = default;
    [[nodiscard]] const stead_xml* root() const noexcept { return &root_; }

private:
    stead_xml make(const Element& element);
    std::vector<std::vector<stead_xml>> children_;
    std::vector<std::vector<stead_xml_attr>> attributes_;
    std::vector<std::vector<char>> strings_;
    stead_xml root_{};
};

/// docs/configuration.md: one table per element, from the schemas.
[[nodiscard]] std::string reference_markdown(const SchemaSet& schemas);

/// "5s" "10" "1500ms" -> ns. A value that rounds to 0 in the native unit (unless it is 0) is an error.
[[nodiscard]] Result<nanoseconds> parse_duration(std::string_view text, std::string_view native_unit);

} // namespace stead::config

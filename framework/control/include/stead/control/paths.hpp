// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

/// Where everything lives. The install tree is found from the running program, so it can be moved; the three roots of
/// data are fixed and can be moved by the environment (STEAD_ETC, STEAD_VAR, STEAD_RUN, STEAD_PREFIX) for tests.
namespace stead::control {

/// Plain values, computed once; safe to read from any thread.
struct Paths {
    std::filesystem::path prefix; ///< holds bin/ sbin/ lib/ libexec/ share/
    std::filesystem::path etc;    ///< /etc/stead: what an administrator edits
    std::filesystem::path var;    ///< /var/lib/stead: what is in force
    std::filesystem::path run;    ///< /run/stead: sockets, gone at reboot

    // Install tree
    [[nodiscard]] std::filesystem::path cli() const { return prefix / "bin/stead"; }
    [[nodiscard]] std::filesystem::path steadd() const { return prefix / "sbin/steadd"; }
    [[nodiscard]] std::filesystem::path libexec() const { return prefix / "libexec/stead"; }
    [[nodiscard]] std::filesystem::path host() const { return libexec() / "stead-host"; }
    [[nodiscard]] std::filesystem::path web() const { return libexec() / "stead-web"; }
    /// The folder given to shell hooks as SAFE: an executable `safekit` that is our CLI.
    [[nodiscard]] std::filesystem::path safe_compatibility() const { return libexec() / "compat"; }
    [[nodiscard]] std::filesystem::path plugins() const { return prefix / "lib/stead/plugins"; }
    [[nodiscard]] std::filesystem::path share() const { return prefix / "share/stead"; }
    [[nodiscard]] std::filesystem::path lua() const { return share() / "lua"; }
    [[nodiscard]] std::filesystem::path classic_elements() const { return share() / "classic-elements"; }
    /// <vhost>: what is loaded into programs that get another host name.
    [[nodiscard]] std::filesystem::path host_name_library() const {
        return safe_compatibility() / "private/lib/host_name.so";
    }
    [[nodiscard]] std::filesystem::path shipped_modules() const { return share() / "modules"; }

    // Node
    [[nodiscard]] std::filesystem::path edited_cluster() const { return etc / "cluster.xml"; }
    [[nodiscard]] std::filesystem::path key() const { return etc / "cluster.key"; }
    [[nodiscard]] std::filesystem::path next_key() const { return etc / "cluster.key.next"; }
    [[nodiscard]] std::filesystem::path active_cluster() const { return var / "cluster/cluster.xml"; }
    /// There while the node belongs to no cluster because it was told so.
    [[nodiscard]] std::filesystem::path left_cluster() const { return var / "cluster/left"; }
    /// Who locked cluster.xml, and when; there is none while it may be changed.
    [[nodiscard]] std::filesystem::path cluster_lock() const { return var / "cluster/lock"; }
    [[nodiscard]] std::filesystem::path seed() const { return var / "cluster/seed"; }
    [[nodiscard]] std::filesystem::path node_log() const { return var / "log"; }
    [[nodiscard]] std::filesystem::path command_log() const { return var / "cmdlog"; }
    [[nodiscard]] std::filesystem::path daemon_socket() const { return run / "steadd.sock"; }
    /// What this node keeps for others as their witness: a file per module and key.
    [[nodiscard]] std::filesystem::path witness() const { return var / "witness"; }
    /// Read only: for stead-web.
    [[nodiscard]] std::filesystem::path status_socket() const { return run / "status.sock"; }
    /// What a caller of the REST API shows for more than states; for root and group stead.
    [[nodiscard]] std::filesystem::path web_token() const { return var / "web.token"; }
    /// Certificate and key of the administrator for HTTPS, PEM; and those that the node makes when there are none.
    [[nodiscard]] std::filesystem::path web_certificate() const { return etc / "web.crt"; }
    [[nodiscard]] std::filesystem::path web_key() const { return etc / "web.key"; }
    [[nodiscard]] std::filesystem::path own_web_certificate() const { return var / "web-own.crt"; }
    [[nodiscard]] std::filesystem::path own_web_key() const { return var / "web-own.key"; }
    /// "off" when an administrator switched stead-web off.
    [[nodiscard]] std::filesystem::path web_switch() const { return var / "web"; }
    [[nodiscard]] std::filesystem::path host_folder() const { return run / "host"; }
    /// Where `confcheck` works: nothing in it outlives its command.
    [[nodiscard]] std::filesystem::path tries() const { return run / "try"; }
    [[nodiscard]] std::filesystem::path host_socket(std::string_view module) const;
    [[nodiscard]] std::filesystem::path host_lock(std::string_view module) const;
    /// What a host says last, for a steadd that was not there then: its exit code, a blank and the reason.
    [[nodiscard]] std::filesystem::path host_end(std::string_view module) const;

    // Module
    [[nodiscard]] std::filesystem::path edited_modules() const { return etc / "modules"; }
    /// {conf,bin} as edited.
    [[nodiscard]] std::filesystem::path edited(std::string_view module) const { return edited_modules() / module; }
    [[nodiscard]] std::filesystem::path modules() const { return var / "modules"; }
    /// active -> gen.N, lastconfig/, log, userlog, id, boot, var/.
    [[nodiscard]] std::filesystem::path module(std::string_view module) const { return modules() / module; }
    /// {conf,bin} in force, and what `--check` left beside them.
    [[nodiscard]] std::filesystem::path active(std::string_view name) const { return module(name) / "active"; }
    /// Is there while the module runs, or ran when the node went down: for boot="auto".
    [[nodiscard]] std::filesystem::path running_mark(std::string_view name) const { return module(name) / "running"; }
    [[nodiscard]] std::filesystem::path module_log(std::string_view name) const { return module(name) / "log"; }
    [[nodiscard]] std::filesystem::path user_log(std::string_view name) const { return module(name) / "userlog"; }
    [[nodiscard]] std::filesystem::path module_id(std::string_view name) const { return module(name) / "id"; }
    /// Times of automatic restarts: the loop guard's, written by stead-host, and by steadd while there is none.
    [[nodiscard]] std::filesystem::path loop_count(std::string_view name) const { return module(name) / "loops"; }
    /// Programs that stead-host supervises, for the host after a crash.
    [[nodiscard]] std::filesystem::path supervised(std::string_view name) const { return module(name) / "supervised"; }
    /// SAFEUSERVAR of hooks: the module's own scratch folder, kept.
    [[nodiscard]] std::filesystem::path module_var(std::string_view name) const { return module(name) / "var"; }
};

/// From the place of a program in the install tree (bin/stead, sbin/steadd, libexec/stead/stead-host) and the
/// environment of this process.
[[nodiscard]] Paths paths_for_program(const std::filesystem::path& program);

/// Of this process (/proc/self/exe).
[[nodiscard]] const Paths& paths();

/// [A-Za-z0-9_.-]{1,63}, not "." or "..", not beginning with '-' or '.'.
[[nodiscard]] bool is_module_name(std::string_view name) noexcept;

} // namespace stead::control

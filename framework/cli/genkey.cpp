// SPDX-License-Identifier: Apache-2.0
#include <stead/cli/cli.hpp>

#include <stead/base/files.hpp>

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace stead::cli {
namespace {

constexpr std::size_t key_bytes = 32;

Result<void> store(const std::filesystem::path& file, bool replace) {
    std::array<char, key_bytes> key;
    for (std::size_t have = 0; have < key.size();) {
        const ssize_t got = ::getrandom(key.data() + have, key.size() - have, 0);
        if (got < 0) {
            return os_error("getrandom", "no random bytes", errno);
        }
        have += static_cast<std::size_t>(got);
    }
    std::error_code error;
    std::filesystem::create_directories(file.parent_path(), error);
    if (error) {
        return os_error(file.parent_path().string(), "cannot make this folder", error.value());
    }
    const std::string_view content(key.data(), key.size());
    if (replace) {
        return write_file_atomically(file, content, 0600);
    }
    // Complete under another name first, then linked: link() never replaces a key that came into being meanwhile.
    const std::filesystem::path temporary = file.string() + "." + std::to_string(::getpid());
    if (Result<void> written = write_file_atomically(temporary, content, 0600); !written) {
        return written;
    }
    Result<void> linked;
    if (::link(temporary.c_str(), file.c_str()) != 0) {
        linked = errno == EEXIST ? Error{Errc::conflict, file.string(), "exists already"}
                                 : os_error(file.string(), "cannot create", errno);
    }
    ::unlink(temporary.c_str());
    return linked ? sync_folder(file.parent_path()) : linked;
}

} // namespace

int generate_key(const control::Invocation& invocation, const control::Paths& paths) {
    const std::filesystem::path file = paths.key();
    const bool force = invocation.has("force");
    const Result<void> stored = store(file, force);
    if (!stored) {
        Error error = stored.error();
        error.what += error.code == Errc::conflict
                          ? "; to renew the key of a running cluster: 'stead cluster genkey --rotate'; to leave the "
                            "cluster and begin anew: --force"
                      : error.code == Errc::denied ? "; run it as root"
                                                   : "";
        return fail(invocation.json, error);
    }
    print_text(invocation.json, "key",
               invocation.json
                   ? file.string()
                   : "Made " + file.string() + " (32 random bytes, mode 0600).\nCopy it, and cluster.xml, to " +
                         paths.etc.string() + " of every node of the cluster by a safe way, such as scp.");
    return control::exit_code::ok;
}

int delete_key(const control::Invocation& invocation, const control::Paths& paths) {
    std::error_code error;
    if (std::filesystem::exists(paths.active_cluster(), error)) {
        return fail(invocation.json, control::exit_code::conflict,
                    "this node belongs to a cluster, which its key protects; 'stead cluster deconfig' first");
    }
    bool removed = false;
    for (const std::filesystem::path& file : {paths.key(), paths.next_key()}) {
        if (::unlink(file.c_str()) == 0) {
            removed = true;
        } else if (errno != ENOENT) {
            return fail(invocation.json, os_error(file.string(), "cannot be removed", errno));
        }
    }
    if (!removed) {
        return fail(invocation.json, control::exit_code::not_found, paths.key().string() + ": there is no key");
    }
    if (const Result<void> kept = sync_folder(paths.etc); !kept) {
        return fail(invocation.json, kept.error());
    }
    print_text(invocation.json, "removed",
               invocation.json ? paths.key().string()
                               : "Removed " + paths.key().string() +
                                     ". 'stead cluster config' makes a new one, for a cluster of its own; to join one, "
                                     "copy the key of its nodes here before.");
    return control::exit_code::ok;
}

} // namespace stead::cli

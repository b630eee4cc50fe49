// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <filesystem>
#include <memory>

struct ssl_ctx_st;

namespace stead::web {

/// What a server of HTTPS shows to its clients; shared by its connections.
using TlsIdentity = std::shared_ptr<ssl_ctx_st>;

/// Reads a certificate chain and its key, PEM. TLS 1.2 and 1.3; no session cache, tickets or renegotiation: a client
/// leaves nothing behind. Null when neither file is there.
/// Errors: not_found (one of the two), denied (somebody else may read the key), malformed (with OpenSSL's words; also a
/// key of another certificate); `where` is the file.
[[nodiscard]] Result<TlsIdentity> load_identity(const std::filesystem::path& certificate,
                                                const std::filesystem::path& key);

} // namespace stead::web

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <memory>
#include <string>
#include <string_view>

struct ssl_ctx_st;

/// HTTPS: what the server side of TLS needs, and the token as a caller from another machine proves it.
namespace stead::web {

/// Certificate, key and rules of all TLS connections of one port; shared by them.
using TlsContext = std::shared_ptr<ssl_ctx_st>;

/// TLS 1.2 and 1.3 with authenticated ciphers and forward secrecy. `certificate`: PEM, the server's own first, then
/// its chain. `name`: what errors call it. Errors: malformed, when a part is no PEM, or the key is another one's.
[[nodiscard]] Result<TlsContext> tls_server(std::string_view certificate, std::string_view key,
                                            const std::string& name);

/// SHA-256 in lower-case hexadecimal digits.
[[nodiscard]] std::string sha256_hex(std::string_view text);

} // namespace stead::web

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>
#include <stead/control/paths.hpp>
#include <stead/wire/certificate.hpp>

#include <string>
#include <vector>

/// What stead-web proves itself with (certificate and key), and what its callers do (the token). Main thread only.
namespace stead::node {

struct WebCertificate {
    std::string certificate, key; ///< PEM
    std::string name;             ///< the certificate's file
};

/// The administrator's /etc/stead/web.crt and web.key, when either is there; else the node's own, which is made when
/// there is none, or when it does not fit `subjects` or ends within 30 days. Errors: not_found when one of two files is
/// missing, io; `where` is the file.
[[nodiscard]] Result<WebCertificate> web_certificate(const control::Paths& paths, const wire::Subjects& subjects);

/// This machine as its certificate calls it: host name, node name, localhost, and the addresses.
[[nodiscard]] wire::Subjects web_subjects(const std::string& node_name, std::vector<std::string> addresses);

/// Of /var/lib/stead/web.token, made at the first call, for root and group stead. Empty, with a warning: not to be had.
[[nodiscard]] std::string web_token(const control::Paths& paths);

/// SHA-256 in lower-case hexadecimal digits, as stead-web compares it. Empty for an empty token.
[[nodiscard]] std::string token_digest(const std::string& token);

} // namespace stead::node

// SPDX-License-Identifier: Apache-2.0
#include <stead/web/tls_identity.hpp>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include <array>
#include <system_error>

namespace stead::web {
namespace fs = std::filesystem;
namespace {

Error refused(const fs::path& file, const char* what) {
    std::array<char, 256> text{};
    ::ERR_error_string_n(::ERR_get_error(), text.data(), text.size());
    ::ERR_clear_error();
    return {Errc::malformed, file.string(), std::string{what} + ": " + text.data()};
}

} // namespace

Result<TlsIdentity> load_identity(const fs::path& certificate, const fs::path& key) {
    std::error_code failed;
    const bool has_certificate = fs::exists(certificate, failed), has_key = fs::exists(key, failed);
    if (!has_certificate && !has_key) {
        return TlsIdentity{};
    }
    if (!has_certificate || !has_key) {
        const fs::path& missing = has_key ? certificate : key;
        return Error{Errc::not_found, missing.string(), "is not there, and HTTPS needs both"};
    }
    struct stat info {};
    if (::stat(key.c_str(), &info) != 0 || (info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return Error{Errc::denied, key.string(), "a private key that others may read or write; run: chmod 600"};
    }
    TlsIdentity context(::SSL_CTX_new(::TLS_server_method()), ::SSL_CTX_free);
    if (context == nullptr || ::SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION) != 1) {
        return refused(certificate, "no TLS context");
    }
    ::SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
    ::SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
    ::SSL_CTX_set_num_tickets(context.get(), 0);
    ::SSL_CTX_set_mode(context.get(),
                       SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (::SSL_CTX_use_certificate_chain_file(context.get(), certificate.c_str()) != 1) {
        return refused(certificate, "not a certificate in PEM");
    }
    if (::SSL_CTX_use_PrivateKey_file(context.get(), key.c_str(), SSL_FILETYPE_PEM) != 1) {
        return refused(key, "not the private key of the certificate");
    }
    return context;
}

} // namespace stead::web

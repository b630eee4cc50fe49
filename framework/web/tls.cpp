// SPDX-License-Identifier: Apache-2.0
#include <stead/web/tls.hpp>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <array>

namespace stead::web {
namespace {

using Bio = std::unique_ptr<BIO, decltype(&::BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&::X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&::EVP_PKEY_free)>;

Bio reader(std::string_view text) {
    return {::BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &::BIO_free};
}

Error wrong(const std::string& name, const std::string& what) {
    std::array<char, 200> text{};
    ::ERR_error_string_n(::ERR_peek_last_error(), text.data(), text.size());
    ::ERR_clear_error();
    return Error{Errc::malformed, name, what + " (" + text.data() + ")"};
}

/// A key with a password would ask for it on a terminal that nobody looks at.
int no_password(char*, int, int, void*) { return -1; }

Result<void> use_certificates(SSL_CTX& context, std::string_view pem, const std::string& name) {
    const Bio source = reader(pem);
    const Certificate own(::PEM_read_bio_X509(source.get(), nullptr, no_password, nullptr), &::X509_free);
    if (!own || ::SSL_CTX_use_certificate(&context, own.get()) != 1) {
        return wrong(name, "its first part is no certificate in PEM");
    }
    while (X509* next = ::PEM_read_bio_X509(source.get(), nullptr, no_password, nullptr)) {
        if (::SSL_CTX_add0_chain_cert(&context, next) != 1) {
            ::X509_free(next);
            return wrong(name, "a certificate of its chain is not accepted");
        }
    }
    const unsigned long last = ::ERR_peek_last_error();
    if (last != 0 && (ERR_GET_LIB(last) != ERR_LIB_PEM || ERR_GET_REASON(last) != PEM_R_NO_START_LINE)) {
        return wrong(name, "a certificate behind the first one is damaged");
    }
    ::ERR_clear_error();
    return {};
}

void set_rules(SSL_CTX& context) {
    ::SSL_CTX_set_min_proto_version(&context, TLS1_2_VERSION);
    ::SSL_CTX_set_cipher_list(&context, "ECDHE+AESGCM:ECDHE+CHACHA20");
    ::SSL_CTX_set_options(&context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                        SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
    ::SSL_CTX_set_session_cache_mode(&context, SSL_SESS_CACHE_OFF);
    ::SSL_CTX_set_num_tickets(&context, 0); // every connection is a whole handshake: nothing of old ones is kept
    // Buffers of idle clients go; a write that the socket did not take whole goes on from another place.
    ::SSL_CTX_set_mode(&context,
                       SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    ::SSL_CTX_clear_mode(&context, SSL_MODE_AUTO_RETRY); // one client's key updates do not hold up all others
}

} // namespace

Result<TlsContext> tls_server(std::string_view certificate, std::string_view key, const std::string& name) {
    ::ERR_clear_error();
    TlsContext context(::SSL_CTX_new(::TLS_server_method()), &::SSL_CTX_free);
    if (!context) {
        return wrong(name, "TLS is not to be had");
    }
    set_rules(*context);
    if (const Result<void> used = use_certificates(*context, certificate, name); !used) {
        return used.error();
    }
    const Key own(::PEM_read_bio_PrivateKey(reader(key).get(), nullptr, no_password, nullptr), &::EVP_PKEY_free);
    if (!own) {
        return wrong(name, "its key is no private key in PEM without a password");
    }
    if (::SSL_CTX_use_PrivateKey(context.get(), own.get()) != 1 || ::SSL_CTX_check_private_key(context.get()) != 1) {
        return wrong(name, "the key does not belong to this certificate");
    }
    return context;
}

std::string sha256_hex(std::string_view text) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    std::size_t length = 0;
    if (::EVP_Q_digest(nullptr, "SHA256", nullptr, text.data(), text.size(), digest.data(), &length) != 1) {
        return {};
    }
    constexpr std::string_view digits = "0123456789abcdef";
    std::string hex;
    for (std::size_t i = 0; i < length; ++i) {
        hex += digits[digest[i] >> 4];
        hex += digits[digest[i] & 15];
    }
    return hex;
}

} // namespace stead::web

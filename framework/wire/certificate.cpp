// SPDX-License-Identifier: Apache-2.0
#include <stead/wire/certificate.hpp>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <array>
#include <ctime>
#include <memory>

namespace stead::wire {
namespace {

template <auto Free>
struct Freed {
    template <class T>
    void operator()(T* object) const {
        Free(object);
    }
};
using Bio = std::unique_ptr<BIO, Freed<::BIO_free>>;
using Certificate = std::unique_ptr<X509, Freed<::X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<::EVP_PKEY_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Freed<::X509_EXTENSION_free>>;

constexpr std::chrono::days clocks_differ{1};

Error refused(const std::string& what) {
    std::array<char, 200> text{};
    ::ERR_error_string_n(::ERR_peek_last_error(), text.data(), text.size());
    ::ERR_clear_error();
    return Error{Errc::io, "self-signed certificate", what + ": " + text.data()};
}

std::string text_of(BIO& bio) {
    char* bytes = nullptr;
    const long size = ::BIO_get_mem_data(&bio, &bytes);
    return {bytes, static_cast<std::size_t>(size)};
}

bool extend(X509& certificate, int kind, const std::string& value) {
    const Extension made(::X509V3_EXT_conf_nid(nullptr, nullptr, kind, value.c_str()));
    return made && ::X509_add_ext(&certificate, made.get(), -1) == 1;
}

std::string alternative_names(const Subjects& subjects) {
    std::string text;
    for (const std::string& name : subjects.names) {
        text += (text.empty() ? "DNS:" : ",DNS:") + name;
    }
    for (const std::string& address : subjects.addresses) {
        text += (text.empty() ? "IP:" : ",IP:") + address;
    }
    return text;
}

bool name_it(X509& certificate, const std::string& common_name) {
    X509_NAME* name = ::X509_get_subject_name(&certificate);
    const std::string shown = common_name.substr(0, 64); // more is not allowed there
    return ::X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(shown.data()),
                                        static_cast<int>(shown.size()), -1, 0) == 1 &&
           ::X509_set_issuer_name(&certificate, name) == 1;
}

bool number_it(X509& certificate) {
    std::array<unsigned char, 16> random{};
    if (::RAND_bytes(random.data(), random.size()) != 1) {
        return false;
    }
    random[0] = static_cast<unsigned char>((random[0] & 0x3f) | 0x40); // positive, and as long as it looks
    const std::unique_ptr<BIGNUM, Freed<::BN_free>> number(::BN_bin2bn(random.data(), random.size(), nullptr));
    return number && ::BN_to_ASN1_INTEGER(number.get(), ::X509_get_serialNumber(&certificate)) != nullptr;
}

bool date_it(X509& certificate, std::chrono::days days) {
    const auto back = -static_cast<long>(std::chrono::seconds{clocks_differ}.count());
    return ::X509_gmtime_adj(::X509_getm_notBefore(&certificate), back) != nullptr &&
           ::X509_time_adj_ex(::X509_getm_notAfter(&certificate), static_cast<int>(days.count()), 0, nullptr) !=
               nullptr;
}

} // namespace

Result<SelfSigned> self_signed(const Subjects& subjects, std::chrono::days days) {
    ::ERR_clear_error();
    const Key key(::EVP_EC_gen("P-256"));
    const Certificate certificate(::X509_new());
    if (!key || !certificate || ::X509_set_version(certificate.get(), X509_VERSION_3) != 1 ||
        ::X509_set_pubkey(certificate.get(), key.get()) != 1 || !number_it(*certificate) ||
        !date_it(*certificate, days)) {
        return refused("cannot be begun");
    }
    if (!name_it(*certificate, subjects.names.empty() ? "stead" : subjects.names.front()) ||
        !extend(*certificate, NID_subject_alt_name, alternative_names(subjects)) ||
        !extend(*certificate, NID_basic_constraints, "critical,CA:FALSE") ||
        !extend(*certificate, NID_ext_key_usage, "serverAuth")) {
        return refused("the names " + alternative_names(subjects) + " are not accepted");
    }
    const Bio public_part(::BIO_new(::BIO_s_mem())), private_part(::BIO_new(::BIO_s_mem()));
    if (::X509_sign(certificate.get(), key.get(), ::EVP_sha256()) == 0 || !public_part || !private_part ||
        ::PEM_write_bio_X509(public_part.get(), certificate.get()) != 1 ||
        ::PEM_write_bio_PrivateKey(private_part.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) {
        return refused("cannot be signed and written");
    }
    return SelfSigned{text_of(*public_part), text_of(*private_part)};
}

bool still_good(std::string_view certificate, const Subjects& subjects, std::chrono::days days) {
    const Bio source(::BIO_new_mem_buf(certificate.data(), static_cast<int>(certificate.size())));
    const Certificate found(::PEM_read_bio_X509(source.get(), nullptr, nullptr, nullptr));
    ::ERR_clear_error();
    if (!found) {
        return false;
    }
    std::time_t then = std::time(nullptr) + static_cast<std::time_t>(std::chrono::seconds{days}.count());
    if (::X509_cmp_time(::X509_get0_notAfter(found.get()), &then) <= 0) {
        return false;
    }
    for (const std::string& name : subjects.names) {
        if (::X509_check_host(found.get(), name.data(), name.size(), X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr) !=
            1) {
            return false;
        }
    }
    for (const std::string& address : subjects.addresses) {
        if (::X509_check_ip_asc(found.get(), address.c_str(), 0) != 1) {
            return false;
        }
    }
    return true;
}

} // namespace stead::wire

// SPDX-License-Identifier: Apache-2.0
#include <stead/node/web_identity.hpp>

#include <stead/base/files.hpp>
#include <stead/base/log.hpp>

#include <openssl/evp.h>

#include <grp.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <span>

namespace stead::node {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t pem_bytes_max = 65536; // a chain of a dozen certificates
constexpr std::chrono::days own_valid{3650}, own_renewed_before{30};

std::string hex(std::span<const unsigned char> bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const unsigned char byte : bytes) {
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

Result<WebCertificate> read_pair(const fs::path& certificate, const fs::path& key) {
    const Result<std::string> one = read_file(certificate, pem_bytes_max), two = read_file(key, pem_bytes_max);
    if (!one || !two) {
        return one ? two.error() : one.error();
    }
    struct stat found {};
    if (::stat(key.c_str(), &found) == 0 && (found.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        log::warning("web", key.string() + " can be read by others; run: chmod 600 " + key.string());
    }
    return WebCertificate{*one, *two, certificate.string()};
}

Result<WebCertificate> own_pair(const control::Paths& paths, const wire::Subjects& subjects) {
    const fs::path certificate = paths.own_web_certificate(), key = paths.own_web_key();
    if (const auto kept = read_pair(certificate, key);
        kept && wire::still_good(kept->certificate, subjects, own_renewed_before)) {
        return kept;
    }
    const Result<wire::SelfSigned> made = wire::self_signed(subjects, own_valid);
    if (!made) {
        return made.error();
    }
    for (const auto& [path, text, mode] : {std::tuple{key, made->key, 0600}, {certificate, made->certificate, 0644}}) {
        if (const Result<void> written = write_file_atomically(path, text, static_cast<mode_t>(mode)); !written) {
            return written.error();
        }
    }
    log::event("web", "made a certificate for HTTPS, signed by nobody else: " + certificate.string());
    return WebCertificate{made->certificate, made->key, certificate.string()};
}

} // namespace

Result<WebCertificate> web_certificate(const control::Paths& paths, const wire::Subjects& subjects) {
    const fs::path certificate = paths.web_certificate(), key = paths.web_key();
    std::error_code ignored;
    const bool one = fs::exists(certificate, ignored), two = fs::exists(key, ignored);
    if (one && two) {
        return read_pair(certificate, key);
    }
    if (one || two) { // the node's own instead, unasked, would be taken for an attack by who knows the other
        return Error{Errc::not_found, (one ? key : certificate).string(),
                     "is not there, but " + (one ? certificate : key).string() + " is; HTTPS needs both, or neither"};
    }
    return own_pair(paths, subjects);
}

wire::Subjects web_subjects(const std::string& node_name, std::vector<std::string> addresses) {
    std::array<char, HOST_NAME_MAX + 1> host{};
    wire::Subjects subjects;
    const auto add = [&](const std::string& name) {
        const bool plain =
            !name.empty() && name.find_first_not_of("abcdefghijklmnopqrstuvwxyz"
                                                    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == name.npos;
        if (plain && std::ranges::find(subjects.names, name) == subjects.names.end()) {
            subjects.names.push_back(name);
        }
    };
    if (::gethostname(host.data(), host.size() - 1) == 0) {
        add(host.data());
    }
    add(node_name);
    add("localhost");
    subjects.addresses = std::move(addresses);
    for (const char* loopback : {"127.0.0.1", "::1"}) {
        subjects.addresses.emplace_back(loopback);
    }
    return subjects;
}

std::string web_token(const control::Paths& paths) {
    if (const Result<std::string> kept = read_file(paths.web_token(), 4096); kept && kept->size() >= 32) {
        return kept->substr(0, kept->find_last_not_of(" \r\n") + 1);
    }
    std::array<unsigned char, 32> random{};
    if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
        log::warning("web", "no random bytes for a token: logs are not shown over HTTP");
        return {};
    }
    const std::string text = hex(random);
    if (const Result<void> written = write_file_atomically(paths.web_token(), text + "\n", 0600); !written) {
        log::warning("web", written.error().text());
    }
    if (const ::group* stead = ::getgrnam("stead"); stead != nullptr) {
        if (::chown(paths.web_token().c_str(), static_cast<uid_t>(-1), stead->gr_gid) == 0) {
            [[maybe_unused]] const int ignored = ::chmod(paths.web_token().c_str(), 0640);
        }
    }
    return text;
}

std::string token_digest(const std::string& token) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    std::size_t length = 0;
    if (token.empty() ||
        ::EVP_Q_digest(nullptr, "SHA256", nullptr, token.data(), token.size(), digest.data(), &length) != 1) {
        return {};
    }
    return hex({digest.data(), length});
}

} // namespace stead::node

// SPDX-License-Identifier: Apache-2.0
#include <stead/base/assert.hpp>
#include <stead/base/result.hpp>

#include <syslog.h>

#include <cstdio>
#include <cstdlib>

namespace stead {

void assertion_failed(const char* expression, const char* file, int line) noexcept {
    std::fprintf(stderr, "stead: assertion failed: %s (%s:%d)\n", expression, file, line);
    ::syslog(LOG_CRIT, "assertion failed: %s (%s:%d)", expression, file, line);
    std::abort();
}

void throw_exception_from_error(const Error& error, const boost::source_location& at) {
    assertion_failed(error.text().c_str(), at.file_name(), static_cast<int>(at.line()));
}

Error os_error(std::string where, std::string what, int error_number) {
    const Errc code = error_number == ENOENT                            ? Errc::not_found
                      : error_number == EACCES || error_number == EPERM ? Errc::denied
                                                                        : Errc::io;
    return Error{code, std::move(where), std::move(what) + ": " + std::generic_category().message(error_number)};
}

} // namespace stead

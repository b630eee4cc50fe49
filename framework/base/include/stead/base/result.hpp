// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/system/result.hpp>

#include <cstdint>
#include <string>
#include <system_error>

namespace stead {

/// What went wrong, coarse enough to branch on. The text is for people.
enum class Errc : std::uint8_t {
    malformed,     ///< bytes or text that do not parse
    out_of_range,  ///< parsed, but beyond a stated limit
    not_found,     ///< a file, node, module or element that is not there
    conflict,      ///< already there, or incompatible with what is there
    refused,       ///< the peer, the plugin or the state machine said no
    timed_out,     ///< no answer within its limit
    denied,        ///< permission or authentication
    unsupported,   ///< this kernel, build or version cannot
    io,            ///< the operating system failed; `what` holds its text
};

/// A failure as a value. `where` is a place a person can go to ("userconfig.xml:14", "eth0", "UDP 4800"); `what`
/// names the offending value and what is allowed.
struct Error {
    Errc code{Errc::io};
    std::string where;
    std::string what;

    /// "where: what", or `what` alone when there is no place.
    [[nodiscard]] std::string text() const { return where.empty() ? what : where + ": " + what; }
};

/// Either a T or an Error. `value()` on an error is a bug and ends the process.
template <class T>
using Result = boost::system::result<T, Error>;

/// Found by boost::system::result::value(): asking for a value that is not there is our bug.
[[noreturn]] void throw_exception_from_error(const Error& error, const boost::source_location& at);

/// An Error of code io with the text of `error_number` (errno) appended to `what`.
[[nodiscard]] Error os_error(std::string where, std::string what, int error_number);

} // namespace stead

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/time.hpp>

#include <cstddef>
#include <cstdint>

/// What steadd and stead-web say to each other on /run/stead/status.sock (frames of channel.hpp). steadd serves, and
/// talks only to the stead-web that it started itself (its pid, by peer credentials). Nothing that comes in
/// here can change anything: what steadd answers is decided by steadd, not by stead-web.
///
/// steadd says
///   {"event":"setup", "port":9010, "address":"", "api":true, "version":"…", "token_sha256":"…",
///    "tls":{"port":9453, "certificate":"PEM", "key":"PEM", "name":"/etc/stead/web.crt"}}
///                                                   first; address "" = every address; no "tls": no HTTPS
///   {"event":"ready", "modules":{"web":true, "db":false}, "started":{"web":"1764172800000000"}}
///                                                   at each change, and every beat_interval; `started` of ready ones
///   {"id":7, "exit":0, "data":…, "error":"…", "token_missing":true}           an answer
/// stead-web says
///   {"id":7, "verb":"state", "module":"web", "options":{"v":"on"}, "token":"…"}
///   {"note":"text for the node log", "level":"event"}
///
/// Only commands whose route is a GET and whose access is not `change` are answered; those of access `inspect` need the
/// token of /var/lib/stead/web.token.
namespace stead::control::status_protocol {

/// steadd repeats the readiness of all modules so often; stead-web that heard nothing for `silence_max` takes nothing
/// for ready any more. steadd asks each ready module's host as often and judges it by the same limit.
inline constexpr milliseconds beat_interval{250};
inline constexpr milliseconds silence_max{1500};

/// Questions under way at one time, and in any second. stead-web keeps to it; one that does not is ended.
inline constexpr std::size_t questions_max = 8;
inline constexpr std::size_t questions_per_second_max = 100;
inline constexpr std::size_t notes_per_minute_max = 20;

} // namespace stead::control::status_protocol

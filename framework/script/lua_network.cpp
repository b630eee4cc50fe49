// SPDX-License-Identifier: Apache-2.0
// What hooks ask of the network: stead.wait_tcp, tcp.ask, http.get, port_free. Every wait ends with the hook. In a
// rehearsal only the arguments are checked.
#include "lines.hpp"
#include "lua_run.hpp"

#include <stead/base/utf8.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http.hpp>

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>

namespace stead::script {

namespace {

namespace http = boost::beast::http;
constexpr std::size_t answer_bytes_max = 1u << 20;
constexpr nanoseconds default_timeout = seconds{5};

/// False: the time is up, or the hook is to end.
bool wait_for(int fd, short events, Instant until, const Cancel& cancel) {
    const auto left = std::chrono::ceil<milliseconds>(until - BootClock::now()).count();
    pollfd fds[2] = {{fd, events, 0}, {cancel.fd(), POLLIN, 0}};
    return ::poll(fds, 2, static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000))) > 0 && fds[0].revents != 0;
}

/// A connected socket, or why not.
Fd try_connect(const addrinfo& address, Instant until, const Cancel& cancel, std::string& why) {
    Fd fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd || (::connect(fd.get(), address.ai_addr, address.ai_addrlen) != 0 && errno != EINPROGRESS)) {
        why = std::strerror(errno);
        return {};
    }
    if (!wait_for(fd.get(), POLLOUT, until, cancel)) {
        why = "no answer";
        return {};
    }
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    why = error != 0 ? std::strerror(error) : "";
    return error != 0 ? Fd() : std::move(fd);
}

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Addresses look_up(const std::string& host, const std::string& port, std::string& why) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* first = nullptr;
    const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &first);
    why = error != 0 ? ::gai_strerror(error) : "";
    return {error != 0 ? nullptr : first, &::freeaddrinfo};
}

Fd connect_to(const std::string& host, const std::string& port, Instant until, const Cancel& cancel, std::string& why) {
    const Addresses addresses = look_up(host, port, why);
    Fd fd;
    for (const addrinfo* a = addresses.get(); a != nullptr && !fd; a = a->ai_next) {
        fd = try_connect(*a, until, cancel, why);
    }
    return fd;
}

/// A number, or a text that is one: so is every macro.
lua_Integer check_port(lua_State* L, const char* function, int index) {
    int whole = 0;
    const lua_Integer port = lua_tointegerx(L, index, &whole);
    if (whole == 0 || port < 1 || port > 65535) {
        bad_argument(L, function, "port", "an integer from 1 to 65535", index);
    }
    return port;
}

/// wait_tcp(host, port, timeout) -> true, or false and why
int wait_tcp(lua_State* L) {
    const std::string host = check_text(L, "stead.wait_tcp", "host", 1);
    const std::string port = std::to_string(check_port(L, "stead.wait_tcp", 2));
    const nanoseconds timeout = lua_isnoneornil(L, 3) ? seconds{10} : check_duration(L, "stead.wait_tcp", "timeout", 3);
    LuaRun& run = LuaRun::of(L);
    if (run.rehearse) {
        return 0;
    }
    const Instant until = std::min(run.call.deadline, after(timeout));
    std::string why;
    const bool known = look_up(host, port, why) != nullptr;
    while (known) {
        if (connect_to(host, port, until, *run.cancel, why)) {
            lua_pushboolean(L, 1);
            return 1;
        }
        wait_until(L, std::min(until, after(milliseconds{50})));
        if (BootClock::now() >= until) {
            break;
        }
    }
    lua_pushboolean(L, 0);
    push(L, host + " port " + port + ": " + why);
    return 2;
}

/// Why it was not all sent; empty: it was.
std::string send_all(int fd, std::string_view bytes, Instant until, const Cancel& cancel) {
    while (!bytes.empty()) {
        const ssize_t put = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (put > 0) {
            bytes.remove_prefix(static_cast<std::size_t>(put));
        } else if (put < 0 && errno != EAGAIN && errno != EINTR) {
            return std::strerror(errno);
        } else if (!wait_for(fd, POLLOUT, until, cancel)) {
            return "the peer takes nothing";
        }
    }
    return {};
}

/// Gives what arrives to `take`, until that returns false or the peer closes. Why it ended too early, or empty.
template <class Take>
std::string receive(int fd, Instant until, const Cancel& cancel, Take take) {
    char buffer[16384];
    for (;;) {
        const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
        if (got > 0) {
            if (!take(std::string_view(buffer, static_cast<std::size_t>(got)))) {
                return {};
            }
        } else if (got == 0) {
            return "the peer closed the connection";
        } else if (errno != EAGAIN && errno != EINTR) {
            return std::strerror(errno);
        } else if (!wait_for(fd, POLLIN, until, cancel)) {
            return "no answer in time";
        }
    }
}

int failed(lua_State* L, const std::string& where, const std::string& why) {
    LuaRun::of(L).check_end(L);
    lua_pushnil(L);
    push(L, where + ": " + why);
    return 2;
}

/// The table at index 1 has no other fields than these.
void check_fields(lua_State* L, const char* function, std::initializer_list<std::string_view> allowed) {
    if (!lua_istable(L, 1)) {
        bad_argument(L, function, "1", "a table", 1);
    }
    for (lua_pushnil(L); lua_next(L, 1) != 0; lua_pop(L, 1)) {
        const bool known = lua_type(L, -2) == LUA_TSTRING &&
                           std::find(allowed.begin(), allowed.end(), lua_tostring(L, -2)) != allowed.end();
        if (!known) {
            std::string names;
            for (const std::string_view name : allowed) {
                names += (names.empty() ? "" : ", ") + std::string(name);
            }
            lua_pushvalue(L, -2);
            luaL_error(L, "%s: argument '%s': no such field; allowed: %s", function, luaL_tolstring(L, -1, nullptr),
                       names.c_str());
        }
    }
}

std::string text_field(lua_State* L, const char* function, const char* name, const char* otherwise) {
    std::string value = otherwise;
    if (lua_getfield(L, 1, name) != LUA_TNIL) {
        value = check_text(L, function, name, -1);
    }
    lua_pop(L, 1);
    return value;
}

Instant timeout_field(lua_State* L, const char* function) {
    lua_getfield(L, 1, "timeout");
    const nanoseconds timeout = lua_isnil(L, -1) ? default_timeout : check_duration(L, function, "timeout", -1);
    lua_pop(L, 1);
    return std::min(LuaRun::of(L).call.deadline, after(timeout));
}

/// ask{host=, port=, send=, expect=, timeout=} -> what came, or nil and why
int tcp_ask(lua_State* L) {
    constexpr const char* name = "stead.tcp.ask";
    check_fields(L, name, {"host", "port", "send", "expect", "timeout"});
    const std::string host = text_field(L, name, "host", "127.0.0.1");
    lua_getfield(L, 1, "port");
    const std::string port = std::to_string(check_port(L, name, -1));
    lua_pop(L, 1);
    const std::string text = text_field(L, name, "send", ""), expected = text_field(L, name, "expect", "");
    const Instant until = timeout_field(L, name);
    if (LuaRun::of(L).rehearse) {
        return 0;
    }
    const Cancel& cancel = *LuaRun::of(L).cancel;
    const std::string where = host + " port " + port;
    std::string why, answer;
    const Fd fd = connect_to(host, port, until, cancel, why);
    if (!fd) {
        return failed(L, where, why);
    }
    if (why = send_all(fd.get(), text, until, cancel); !why.empty()) {
        return failed(L, where, why);
    }
    if (!expected.empty()) {
        why = receive(fd.get(), until, cancel, [&](std::string_view bytes) {
            answer += bytes.substr(0, answer_bytes_max - answer.size());
            return answer.find(expected) == std::string::npos && answer.size() < answer_bytes_max;
        });
        if (answer.find(expected) == std::string::npos) {
            return failed(L, where,
                          (why.empty() ? "too much" : why) + "; expected '" + printable(expected) + "', got '" +
                              printable(answer.substr(0, 200)) + "'");
        }
    }
    push(L, answer);
    return 1;
}

struct Url {
    std::string host, port{"80"}, path{"/"};
};

/// http://host[:port][/path], http://[v6]…
std::optional<Url> parse_url(std::string_view text) {
    constexpr std::string_view scheme = "http://";
    if (!text.starts_with(scheme)) {
        return std::nullopt;
    }
    text.remove_prefix(scheme.size());
    Url url;
    const std::size_t slash = std::min(text.find_first_of("/?"), text.size());
    std::string_view authority = text.substr(0, slash);
    if (slash < text.size()) {
        url.path = (text[slash] == '?' ? "/" : "") + std::string(text.substr(slash));
    }
    const std::size_t bracket = authority.starts_with('[') ? authority.find(']') : 0;
    if (bracket == std::string_view::npos) {
        return std::nullopt;
    }
    const std::size_t colon = authority.find(':', bracket);
    if (colon != std::string_view::npos) {
        unsigned port = 0;
        const std::string_view digits = authority.substr(colon + 1);
        const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), port);
        if (parsed.ec != std::errc() || parsed.ptr != digits.data() + digits.size() || port < 1 || port > 65535) {
            return std::nullopt;
        }
        url.port = digits;
        authority = authority.substr(0, colon);
    }
    url.host = bracket > 0 ? authority.substr(1, bracket - 1) : authority;
    const bool plain = std::none_of(text.begin(), text.end(), [](char c) { return c <= ' ' || c == 0x7f; });
    return url.host.empty() || !plain ? std::nullopt : std::optional(url);
}

std::string request_text(lua_State* L, const Url& url) {
    const bool six = url.host.find(':') != std::string::npos;
    std::string text = "GET " + url.path + " HTTP/1.1\r\nHost: " + (six ? "[" + url.host + "]" : url.host) +
                       (url.port == "80" ? "" : ":" + url.port) + "\r\nConnection: close\r\n";
    if (lua_getfield(L, 1, "headers") != LUA_TNIL) {
        if (!lua_istable(L, -1)) {
            bad_argument(L, "stead.http.get", "headers", "a table {[\"Name\"]=\"value\"}", -1);
        }
        for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
            lua_pushvalue(L, -2);
            const std::string line =
                check_text(L, "stead.http.get", "headers", -1) + ": " + check_text(L, "stead.http.get", "headers", -2);
            lua_pop(L, 1);
            if (line.find_first_of("\r\n") != std::string::npos) {
                bad_argument(L, "stead.http.get", "headers", "names and values of one line", -1);
            }
            text += line + "\r\n";
        }
    }
    lua_pop(L, 1);
    return text + "\r\n";
}

using Parser = http::response_parser<http::string_body>;

/// Reads one response; why it could not, or empty.
std::string read_response(int fd, Instant until, const Cancel& cancel, Parser& parser) {
    parser.body_limit(answer_bytes_max);
    parser.eager(true);
    boost::system::error_code error;
    std::string rest; // what the parser has not taken yet: part of a header
    std::string why = receive(fd, until, cancel, [&](std::string_view bytes) {
        rest += bytes;
        while (!rest.empty() && !parser.is_done()) {
            const std::size_t used = parser.put(boost::asio::buffer(rest), error);
            rest.erase(0, used);
            if (error == http::error::need_more) {
                error = {};
                break;
            }
            if (error) {
                return false;
            }
        }
        return !parser.is_done();
    });
    if (!error && !parser.is_done() && parser.is_header_done() && why == "the peer closed the connection") {
        parser.put_eof(error);
    }
    return error ? error.message() : parser.is_done() ? "" : why;
}

/// get{url=, timeout=, headers=} -> {status=, body=, headers=}, or nil and why
int http_get(lua_State* L) {
    constexpr const char* name = "stead.http.get";
    if (lua_type(L, 1) == LUA_TSTRING) { // get(url)
        lua_newtable(L);
        lua_pushvalue(L, 1);
        lua_setfield(L, -2, "url");
        lua_replace(L, 1);
    }
    check_fields(L, name, {"url", "timeout", "headers"});
    const std::string text = text_field(L, name, "url", "");
    const auto url = parse_url(text);
    if (!url) {
        return luaL_error(L,
                          "%s: argument 'url': expected http://host[:port]/path, got '%s'; for https use stead.run "
                          "with curl",
                          name, printable(text).c_str());
    }
    const std::string request = request_text(L, *url);
    const Instant until = timeout_field(L, name);
    if (LuaRun::of(L).rehearse) {
        return 0;
    }
    const Cancel& cancel = *LuaRun::of(L).cancel;
    std::string why;
    const Fd fd = connect_to(url->host, url->port, until, cancel, why);
    if (fd) {
        why = send_all(fd.get(), request, until, cancel);
    }
    Parser parser;
    if (why.empty()) {
        why = read_response(fd.get(), until, cancel, parser);
    }
    if (!why.empty()) {
        return failed(L, text, why);
    }
    const auto& response = parser.get();
    lua_newtable(L);
    lua_pushinteger(L, response.result_int());
    lua_setfield(L, -2, "status");
    push(L, response.body());
    lua_setfield(L, -2, "body");
    lua_newtable(L);
    for (const auto& field : response) {
        std::string key(field.name_string());
        std::ranges::transform(key, key.begin(), [](unsigned char c) { return std::tolower(c); });
        push(L, std::string_view(field.value().data(), field.value().size()));
        lua_setfield(L, -2, key.c_str());
    }
    lua_setfield(L, -2, "headers");
    return 1;
}

struct Listener {
    std::string address;
    std::string inode;
};

/// "0100007F:1F90" of /proc/net/tcp: port and address.
std::pair<lua_Integer, std::string> read_endpoint(const std::string& text) {
    const std::size_t colon = std::min(text.find(':'), text.size());
    unsigned port = 0;
    std::from_chars(text.data() + std::min(colon + 1, text.size()), text.data() + text.size(), port, 16);
    unsigned char bytes[16] = {};
    for (std::size_t word = 0; word * 8 + 8 <= colon && word < 4; ++word) { // words of the machine's byte order
        std::uint32_t value = 0;
        std::from_chars(text.data() + word * 8, text.data() + word * 8 + 8, value, 16);
        std::memcpy(bytes + word * 4, &value, 4);
    }
    char shown[INET6_ADDRSTRLEN] = {};
    ::inet_ntop(colon == 8 ? AF_INET : AF_INET6, bytes, shown, sizeof shown);
    return {port, shown};
}

std::vector<Listener> listeners(const std::string& protocol, lua_Integer wanted) {
    std::vector<Listener> found;
    for (const char* version : {"", "6"}) {
        std::ifstream table("/proc/self/net/" + protocol + version);
        std::string line;
        for (std::getline(table, line); std::getline(table, line);) {
            std::istringstream words(line);
            std::string number, local, remote, state, skip, inode;
            words >> number >> local >> remote >> state >> skip >> skip >> skip >> skip >> skip >> inode;
            const auto [port, address] = read_endpoint(local);
            if (port == wanted && (state == "0A" || protocol == "udp")) {
                found.push_back({address, inode});
            }
        }
    }
    return found;
}

/// "nginx (pid 12)" of the process that holds the socket, or empty.
std::string owner_of(const std::string& inode) {
    const std::string wanted = "socket:[" + inode + "]";
    std::error_code ec;
    for (std::filesystem::directory_iterator it("/proc", ec), end; !ec && it != end; it.increment(ec)) {
        const std::string pid = it->path().filename().string();
        if (pid.find_first_not_of("0123456789") != std::string::npos) {
            continue;
        }
        std::error_code gone;
        for (std::filesystem::directory_iterator fd(it->path() / "fd", gone), last; !gone && fd != last;
             fd.increment(gone)) {
            std::error_code unreadable;
            if (std::filesystem::read_symlink(fd->path(), unreadable) == wanted) {
                const auto name = read_file(it->path() / "comm", 64);
                return (name ? name->substr(0, name->find('\n')) : "?") + " (pid " + pid + ")";
            }
        }
    }
    return {};
}

/// port_free(port [, "udp"]) -> true, or false and who has it
int port_free(lua_State* L) {
    const lua_Integer port = check_port(L, "stead.port_free", 1);
    const std::string protocol = lua_isnoneornil(L, 2) ? "tcp" : check_text(L, "stead.port_free", "protocol", 2);
    if (protocol != "tcp" && protocol != "udp") {
        return bad_argument(L, "stead.port_free", "protocol", "tcp or udp", 2);
    }
    if (LuaRun::of(L).rehearse) {
        return 0;
    }
    const std::vector<Listener> found = listeners(protocol, port);
    lua_pushboolean(L, found.empty() ? 1 : 0);
    if (found.empty()) {
        return 1;
    }
    const std::string owner = owner_of(found.front().inode);
    push(L, protocol + " port " + std::to_string(port) + " of " + found.front().address + " belongs to " +
                (owner.empty() ? "a process that is not visible here" : owner));
    return 2;
}

} // namespace

void add_network_functions(lua_State* L) {
    const luaL_Reg functions[] = {{"wait_tcp", wait_tcp}, {"port_free", port_free}, {nullptr, nullptr}};
    luaL_setfuncs(L, functions, 0);
    const luaL_Reg tcp[] = {{"ask", tcp_ask}, {nullptr, nullptr}};
    luaL_newlib(L, tcp);
    lua_setfield(L, -2, "tcp");
    const luaL_Reg web[] = {{"get", http_get}, {nullptr, nullptr}};
    luaL_newlib(L, web);
    lua_setfield(L, -2, "http");
}

} // namespace stead::script

// SPDX-License-Identifier: Apache-2.0
// stead.file and stead.expand.
#include "lua_run.hpp"

#include <algorithm>
#include <cctype>

namespace stead::script {

namespace {

constexpr std::size_t file_bytes_max = 16u << 20;

int file_read(lua_State* L) {
    const auto text = read_file(check_c_text(L, "stead.file.read", "path", 1), file_bytes_max);
    if (!text) {
        lua_pushnil(L);
        push(L, text.error().text());
        return 2;
    }
    push(L, *text);
    return 1;
}

mode_t check_mode(lua_State* L, const char* function, int index) {
    if (lua_isnoneornil(L, index)) {
        return 0644;
    }
    if (lua_isinteger(L, index) == 0 || lua_tointeger(L, index) < 0 || lua_tointeger(L, index) > 0777) {
        bad_argument(L, function, "mode", "an integer from 0 to 0x1ff (0777 in octal)", index);
    }
    return static_cast<mode_t>(lua_tointeger(L, index));
}

int file_write(lua_State* L) {
    const std::string path = check_c_text(L, "stead.file.write", "path", 1);
    const std::string text = check_text(L, "stead.file.write", "text", 2);
    const mode_t mode = check_mode(L, "stead.file.write", 3);
    const auto done = write_file_atomically(path, text, mode);
    if (!done) {
        return luaL_error(L, "stead.file.write: %s", done.error().text().c_str());
    }
    return 0;
}

int file_exists(lua_State* L) {
    std::error_code ec;
    lua_pushboolean(L, std::filesystem::exists(check_c_text(L, "stead.file.exists", "path", 1), ec) ? 1 : 0);
    return 1;
}

/// mkdir(path): with the folders above.
int file_mkdir(lua_State* L) {
    const std::string path = check_c_text(L, "stead.file.mkdir", "path", 1);
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) {
        return luaL_error(L, "stead.file.mkdir: %s: %s", path.c_str(), error.message().c_str());
    }
    return 0;
}

/// list(path) -> sorted names, or nil and why
int file_list(lua_State* L) {
    const std::string path = check_c_text(L, "stead.file.list", "path", 1);
    std::vector<std::string> names;
    std::error_code error;
    for (std::filesystem::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
        names.push_back(it->path().filename().string());
    }
    if (error) {
        lua_pushnil(L);
        push(L, path + ": " + error.message());
        return 2;
    }
    std::sort(names.begin(), names.end());
    lua_newtable(L);
    for (std::size_t i = 0; i < names.size(); ++i) {
        push(L, names[i]);
        lua_rawseti(L, -2, static_cast<lua_Integer>(i) + 1);
    }
    return 1;
}

/// The value of %NAME%: of the table at `values`, else of the macros, else of the variables.
std::optional<std::string> expansion(lua_State* L, const std::string& name, int values) {
    const ModuleFolders& folders = LuaRun::of(L).folders;
    if (lua_istable(L, values)) {
        const bool given = lua_getfield(L, values, name.c_str()) != LUA_TNIL;
        const std::string value = given ? check_text(L, "stead.expand", ("table." + name).c_str(), -1) : "";
        lua_pop(L, 1);
        if (given) {
            return value;
        }
    }
    for (const auto* texts : {&folders.macros, &folders.vars}) {
        if (const auto found = texts->find(name); found != texts->end()) {
            return found->second;
        }
    }
    return std::nullopt;
}

bool is_name_part(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

/// %NAME% becomes its value, %% a per cent sign; a per cent sign alone stays. `place`: what errors say before the line.
std::string expand_text(lua_State* L, const std::string& text, int values, const std::string& place) {
    std::string result;
    int line = 1;
    for (std::size_t i = 0; i < text.size(); ++i) {
        line += text[i] == '\n' ? 1 : 0;
        std::size_t end = i + 1;
        while (text[i] == '%' && end < text.size() && is_name_part(text[end])) {
            ++end;
        }
        if (text[i] != '%' || end == text.size() || text[end] != '%') {
            result += text[i];
            continue;
        }
        const std::string name = text.substr(i + 1, end - i - 1);
        const auto value = name.empty() ? std::optional<std::string>("%") : expansion(L, name, values);
        if (!value) {
            luaL_error(L, "%s%d: %%%s%% is neither given, nor a <macro> or <var>; write %%%% for one per cent sign",
                       place.c_str(), line, name.c_str());
        }
        result += *value;
        i = end;
    }
    return result;
}

int expand(lua_State* L) {
    push(L, expand_text(L, check_text(L, "stead.expand", "text", 1), 2, "stead.expand: line "));
    return 1;
}

/// render(from, to [, table [, mode]]) -> true when `to` was changed
int file_render(lua_State* L) {
    std::filesystem::path from = check_c_text(L, "stead.file.render", "from", 1);
    const std::string to = check_c_text(L, "stead.file.render", "to", 2);
    if (from.is_relative()) {
        from = LuaRun::of(L).folders.conf / from;
    }
    const auto text = read_file(from, file_bytes_max);
    if (!text) {
        return luaL_error(L, "stead.file.render: %s", text.error().text().c_str());
    }
    const std::string made = expand_text(L, *text, 3, "stead.file.render: " + from.string() + ":");
    const auto before = read_file(to, file_bytes_max);
    if (before && *before == made) {
        lua_pushboolean(L, 0);
        return 1;
    }
    const mode_t mode = check_mode(L, "stead.file.render", 4);
    if (const auto written = write_file_atomically(to, made, mode); !written) {
        return luaL_error(L, "stead.file.render: %s", written.error().text().c_str());
    }
    lua_pushboolean(L, 1);
    return 1;
}

/// template(text, table): ${name} becomes the table's field, $$ a dollar.
int file_template(lua_State* L) {
    const std::string text = check_text(L, "stead.file.template", "text", 1);
    if (!lua_istable(L, 2)) {
        return bad_argument(L, "stead.file.template", "table", "a table {name=\"value\"}", 2);
    }
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '$' || i + 1 == text.size() || (text[i + 1] != '{' && text[i + 1] != '$')) {
            result += text[i];
            continue;
        }
        ++i;
        const std::size_t end = text[i] == '{' ? text.find('}', i) : i;
        if (end == std::string::npos) {
            return luaL_error(L, "stead.file.template: argument 'text': '${' without '}'");
        }
        if (text[i] == '$') {
            result += '$';
        } else {
            const std::string name = text.substr(i + 1, end - i - 1);
            lua_getfield(L, 2, name.c_str());
            result += check_text(L, "stead.file.template", ("table." + name).c_str(), -1);
            lua_pop(L, 1);
        }
        i = end;
    }
    push(L, result);
    return 1;
}

} // namespace

void add_file_functions(lua_State* L) {
    lua_pushcfunction(L, expand);
    lua_setfield(L, -2, "expand");
    const luaL_Reg files[] = {{"read", file_read},         {"write", file_write},   {"exists", file_exists},
                              {"template", file_template}, {"render", file_render}, {"mkdir", file_mkdir},
                              {"list", file_list},         {nullptr, nullptr}};
    luaL_newlib(L, files);
    lua_setfield(L, -2, "file");
}

} // namespace stead::script

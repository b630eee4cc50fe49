// SPDX-License-Identifier: Apache-2.0
#include "shell_syntax.hpp"

#include "environment.hpp"
#include "process.hpp"

#include <algorithm>
#include <array>
#include <regex>
#include <sstream>

namespace stead::script {
namespace {

namespace fs = std::filesystem;
constexpr seconds limit{5};
constexpr std::size_t file_bytes_max = 1u << 20;
constexpr auto path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

constexpr auto machine_code = "this machine";

/// The program of "#!/bin/sh", "#! /bin/sh", "#!/usr/bin/env bash"; empty when there is none.
std::string interpreter_of(const fs::path& file) {
    const auto text = read_file(file, file_bytes_max);
    if (!text || !text->starts_with("#!")) {
        return text && text->find('\0') != text->npos ? machine_code : "";
    }
    std::istringstream first(text->substr(2, text->find('\n') - 2));
    std::string word;
    while (first >> word && fs::path(word).filename() == "env") {
    }
    return word;
}

/// "FILE: line 4: text" of bash and "FILE: 4: text" of dash as "PLACE:4: text".
Error at_line(std::string_view said, const std::string& file, const std::string& place) {
    said = said.substr(0, said.find('\n'));
    for (const std::string& prefix : {file + ": ", std::string("line ")}) {
        said.remove_prefix(said.starts_with(prefix) ? prefix.size() : 0);
    }
    const std::size_t digits = std::min(said.find_first_not_of("0123456789"), said.size());
    const bool has_line = digits > 0 && said.substr(digits).starts_with(": ");
    return {Errc::malformed, has_line ? place + ":" + std::string(said.substr(0, digits)) : place,
            std::string(said.substr(has_line ? digits + 2 : 0))};
}

} // namespace

ShellSyntax shell_syntax(const fs::path& file, const std::string& place, const ModuleFolders& folders) {
    static constexpr std::array<std::string_view, 5> shells{"sh", "bash", "dash", "ksh", "zsh"};
    const std::string shell = interpreter_of(file);
    ShellSyntax result{shell.empty() ? "sh" : fs::path(shell).filename().string(), false, std::nullopt};
    ProcessSpec spec;
    spec.environment = {{"PATH", path}, {"LC_ALL", "C"}};
    const std::string program = find_program(shell.empty() ? "/bin/sh" : shell, path);
    if (std::ranges::find(shells, result.interpreter) == shells.end() || program.empty()) {
        return result;
    }
    spec.argv = {program, "-n", file.string()};
    spec.leash = leash_program(folders);
    spec.deadline = BootClock::now() + limit;
    std::string said;
    spec.output = [&](std::string_view bytes, bool) { said += bytes.substr(0, 4096); };
    const ProcessEnd end = run_process(spec, Cancel());
    result.parsed = true;
    if (end.how != ProcessEnd::How::exited) {
        result.error = Error{Errc::malformed, place, end.error.empty() ? "its shell did not end" : end.error};
    } else if (end.code != 0) {
        result.error = at_line(said, file.string(), place);
    }
    return result;
}

std::string lone_test_at_end(const fs::path& file) {
    if (interpreter_of(file).find("sh") == std::string::npos) {
        return "";
    }
    static const std::regex may_exit_1("\\bexit\\b(?!\\s*0\\b)|\\bset\\s+-\\w*e|\\berrexit\\b");
    std::vector<std::string> lines;
    const auto read = read_file(file, file_bytes_max);
    std::istringstream text(read ? *read : std::string());
    for (std::string line; std::getline(text, line);) {
        const std::size_t begin = line.find_first_not_of(" \t");
        if (begin != std::string::npos && line[begin] != '#') {
            lines.push_back(line.substr(begin, line.find_last_not_of(" \t\r;") + 1 - begin));
            if (std::regex_search(lines.back(), may_exit_1)) {
                return "";
            }
        }
    }
    std::string command, first;
    int open = 0;
    constexpr std::size_t command_bytes_max = 4096;
    for (auto line = lines.rbegin(); line != lines.rend() && command.size() < command_bytes_max; ++line) {
        command.insert(0, *line + " ");
        first = *line;
        open += *line == "}" ? 1 : line->ends_with("{") ? -1 : 0;
        if (open <= 0) {
            break;
        }
    }
    static const std::regex lone("(\\[|\\[\\[|test)\\s[^|&;]*&&([^|&]|>&|&>)*");
    static const std::regex leaves("\\b(exit|return)\\b");
    return open == 0 && std::regex_match(command, lone) && !std::regex_search(command, leaves) ? first : "";
}

std::vector<Error> check_shell_scripts(const ModuleFolders& folders) {
    std::vector<fs::path> files;
    std::error_code ec;
    for (fs::directory_iterator it(folders.bin, ec), end; !ec && it != end; it.increment(ec)) {
        if (it->is_regular_file(ec) && !interpreter_of(it->path()).empty()) {
            files.push_back(it->path());
        }
    }
    std::sort(files.begin(), files.end());
    std::vector<Error> errors;
    for (const fs::path& file : files) {
        if (auto syntax = shell_syntax(file, "bin/" + file.filename().string(), folders); syntax.error) {
            errors.push_back(*std::move(syntax.error));
        }
    }
    return errors;
}

} // namespace stead::script

// SPDX-License-Identifier: Apache-2.0
#include <stead/cli/cli.hpp>

#include <stead/base/utf8.hpp>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <iostream>

namespace stead::cli {
namespace json = boost::json;

int fail(bool as_json, int code, std::string_view message) {
    std::cout.flush();
    if (as_json) {
        std::cout << utf8_json(json::serialize(json::object{{"error", message}, {"exit", code}})) << "\n";
        return code;
    }
    std::cerr << "stead: " << message << (message.ends_with('\n') ? "" : "\n");
    return code;
}

int fail(bool as_json, const Error& error) { return fail(as_json, control::exit_code::of(error.code), error.text()); }

void print_text(bool as_json, std::string_view name, std::string_view text) {
    if (as_json) {
        std::cout << json::serialize(json::object{{name, text}}) << "\n";
    } else {
        std::cout << text << (text.ends_with('\n') ? "" : "\n");
    }
}

} // namespace stead::cli

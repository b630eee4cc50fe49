// SPDX-License-Identifier: Apache-2.0
#include <stead/node/call.hpp>

#include <stead/base/limits.hpp>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace stead::node {
namespace json = boost::json;
namespace {

Result<std::string> text_field(const json::object& body, std::string_view name) {
    const json::value* value = body.if_contains(name);
    if (value == nullptr) {
        return std::string{};
    }
    if (!value->is_string()) {
        return Error{Errc::malformed, "request", "field '" + std::string(name) + "' is not a string"};
    }
    return std::string(value->get_string());
}

} // namespace

Answer Answer::too_long() {
    return failed(control::exit_code::refused, "the answer is longer than " +
                                                   std::to_string(limits::stream_frame_bytes_max >> 20) +
                                                   " MiB; ask for less: fewer lines (-s), or one node at a time");
}

Answer Answer::of_lines(const std::vector<std::string>& lines, bool json) {
    Answer answer;
    if (json) {
        answer.data = json::object{{"lines", json::array(lines.begin(), lines.end())}};
        return answer;
    }
    for (const std::string& line : lines) {
        answer.text.append(line).append("\n");
    }
    return answer;
}

Answer Answer::of_json(const std::string& text) {
    json::error_code wrong;
    Answer answer;
    answer.data = json::parse(text, wrong);
    if (wrong) {
        return failed(control::exit_code::internal, "the module's answer is not JSON: " + text);
    }
    return answer;
}

Result<Fd> file_of(std::string_view content) {
    Fd file(::memfd_create("stead", MFD_CLOEXEC));
    while (file && !content.empty()) {
        const ssize_t put = ::write(file.get(), content.data(), content.size());
        if (put < 0) {
            return os_error("memfd", "cannot keep the content", errno);
        }
        content.remove_prefix(static_cast<std::size_t>(put));
    }
    return file ? Result<Fd>(std::move(file)) : Result<Fd>(os_error("memfd", "cannot be made", errno));
}

json::object Answer::to_json() const {
    json::object body{{"exit", exit}, {"done", true}};
    if (!text.empty()) {
        body["text"] = text;
    }
    if (!error.empty()) {
        body["error"] = error;
    }
    if (!data.is_null()) {
        body["data"] = data;
    }
    return body;
}

bool Answer::changed_nothing() const noexcept {
    const json::object* fields = data.if_object();
    const json::value* changed = fields != nullptr ? fields->if_contains("changed") : nullptr;
    return changed != nullptr && changed->is_bool() && !changed->get_bool();
}

std::string Request::option(std::string_view name, std::string_view otherwise) const {
    const auto found = options.find(name);
    return found == options.end() ? std::string(otherwise) : found->second;
}

json::object Request::to_json() const {
    json::object option_object;
    for (const auto& [name, value] : options) {
        option_object[name] = value;
    }
    json::array argument_array;
    for (const std::string& argument : arguments) {
        argument_array.emplace_back(argument);
    }
    return {{"verb", verb},
            {"module", module},
            {"by", by},
            {"options", std::move(option_object)},
            {"arguments", std::move(argument_array)}};
}

Result<Request> parse_request(const json::value& body) {
    if (!body.is_object()) {
        return Error{Errc::malformed, "request", "not a JSON object"};
    }
    const json::object& object = body.get_object();
    Request request;
    for (const auto& [name, field] :
         {std::pair{"verb", &request.verb}, std::pair{"module", &request.module}, std::pair{"nodes", &request.nodes},
          std::pair{"by", &request.by}, std::pair{"hook", &request.hook}, std::pair{"caller", &request.caller}}) {
        Result<std::string> text = text_field(object, name);
        if (!text) {
            return text.error();
        }
        *field = std::move(*text);
    }
    if (const json::value* options = object.if_contains("options"); options != nullptr) {
        if (!options->is_object()) {
            return Error{Errc::malformed, "request", "field 'options' is not an object"};
        }
        for (const auto& [name, value] : options->get_object()) {
            if (!value.is_string()) {
                return Error{Errc::malformed, "request", "option '" + std::string(name) + "' is not a string"};
            }
            request.options[std::string(name)] = std::string(value.get_string());
        }
    }
    if (const json::value* arguments = object.if_contains("arguments"); arguments != nullptr) {
        if (!arguments->is_array()) {
            return Error{Errc::malformed, "request", "field 'arguments' is not an array"};
        }
        for (const json::value& value : arguments->get_array()) {
            if (!value.is_string()) {
                return Error{Errc::malformed, "request", "an argument is not a string"};
            }
            request.arguments.emplace_back(value.get_string());
        }
    }
    return request;
}

} // namespace stead::node

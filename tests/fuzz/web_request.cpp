// SPDX-License-Identifier: Apache-2.0
// What a client of stead-web may send, in pieces as the first byte says: no more is kept than one header, nothing
// follows what is malformed, and whatever is asked for is a read of the command table or a well-formed module name.
#include <stead/control/command.hpp>
#include <stead/control/paths.hpp>
#include <stead/web/request_reader.hpp>
#include <stead/web/routes.hpp>

#include <boost/json/serialize.hpp>

#include <algorithm>
#include <cstdlib>

namespace {

using namespace stead;

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

void check(const web::Request& request) {
    require(request.version == 10 || request.version == 11);
    const web::Route route = web::route(request.method, request.target);
    if (const auto* health = std::get_if<web::HealthOf>(&route)) {
        require(control::is_module_name(health->module));
    } else if (const auto* question = std::get_if<web::Question>(&route)) {
        const control::Command* command = control::find_command(question->verb);
        require(command != nullptr && command->access != control::Access::change && command->rest.starts_with("GET "));
        require(question->module.empty() || control::is_module_name(question->module));
        for (const auto& given : question->options) {
            require(std::ranges::any_of(command->used_options(),
                                        [&](const auto& option) { return option.name.substr(1) == given.first; }));
        }
    } else if (const auto* refusal = std::get_if<web::Refusal>(&route)) {
        require(refusal->status >= 400 && refusal->status < 500);
        require(!boost::json::serialize(web::error_body(refusal->status, refusal->message, refusal->allowed)).empty());
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view bytes{reinterpret_cast<const char*>(data), size};
    const std::size_t piece = bytes.empty() ? 1 : 1u + static_cast<unsigned char>(bytes[0]);
    bytes.remove_prefix(std::min<std::size_t>(bytes.size(), 1));
    web::RequestReader reader;
    while (!bytes.empty()) {
        const std::size_t now = std::min({piece, bytes.size(), reader.room()});
        require(now > 0); // it never fills up without a verdict
        reader.feed(bytes.substr(0, now));
        bytes.remove_prefix(now);
        for (;;) {
            const auto next = reader.next();
            if (std::holds_alternative<web::NeedMore>(next)) {
                break;
            }
            const auto* request = std::get_if<web::Request>(&next);
            if (request == nullptr) {
                require(std::get<web::Malformed>(next).status >= 400);
                return 0;
            }
            check(*request);
            if (request->has_body) {
                return 0;
            }
        }
    }
    return 0;
}

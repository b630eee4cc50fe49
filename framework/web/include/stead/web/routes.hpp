// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/value.hpp>

#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

/// Which request means what. Pure: text in, decision out. The routes of the API come from the table of commands.
namespace stead::web {

inline constexpr std::string_view api_root = "/api/v1";

/// The health URL: may this module's node get traffic?
struct HealthOf {
    std::string module;
};

/// The list of all paths.
struct ShowIndex {};

/// A read that steadd answers. `pick` names the part of its data that is shown, as a JSON pointer; empty = all.
struct Question {
    std::string verb, module;
    std::map<std::string, std::string> options; ///< by name without dashes
    std::string pick;
};

struct Refusal {
    unsigned status{};
    std::string message;
    std::vector<std::string> allowed; ///< paths, methods or values, for the reader
    std::string allow;                ///< of 405: the header Allow
    bool for_api{true};               ///< the body is JSON
};

using Route = std::variant<HealthOf, ShowIndex, Question, Refusal>;

/// `target` as in the request line, also in absolute form. Methods other than GET and HEAD are refused.
[[nodiscard]] Route route(std::string_view method, std::string_view target);

/// What /api/v1/ answers.
[[nodiscard]] boost::json::value index_of_paths(std::string_view version);

struct Reply {
    unsigned status{200};
    boost::json::value body;
};
/// steadd's answer to a question, as it goes to the client.
[[nodiscard]] Reply reply_to(const Question& question, const boost::json::object& answer);
[[nodiscard]] boost::json::value error_body(unsigned status, std::string_view message,
                                            const std::vector<std::string>& allowed = {});

} // namespace stead::web

// SPDX-License-Identifier: Apache-2.0
#include <stead/process/spec.hpp>

#include <array>

namespace stead::process {

Result<Regex> Regex::compile(const std::string& expression) {
    auto compiled = std::make_unique<regex_t>();
    if (const int code = ::regcomp(compiled.get(), expression.c_str(), REG_EXTENDED | REG_NOSUB); code != 0) {
        std::array<char, 256> text{};
        ::regerror(code, compiled.get(), text.data(), text.size());
        return Error{Errc::malformed, {}, "'" + expression + "' is no extended regular expression: " + text.data()};
    }
    Regex regex;
    regex.compiled_ = std::shared_ptr<const regex_t>(compiled.release(), [](const regex_t* done) {
        ::regfree(const_cast<regex_t*>(done)); // the library takes no const
        delete done;
    });
    return regex;
}

std::string action_name(const Spec& spec) {
    switch (spec.action) {
    case Action::none: return "noaction";
    case Action::handler: return spec.handler;
    case Action::restart: return "restart";
    case Action::stopstart: return "stopstart";
    case Action::stop: return "stop";
    }
    return {};
}

} // namespace stead::process

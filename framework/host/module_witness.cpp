// SPDX-License-Identifier: Apache-2.0
// Claims of plugins, decided by the steadd of another node: ours asks it.
#include "module_host.hpp"

#include <stead/control/paths.hpp>

namespace stead::host {

namespace json = boost::json;

namespace {

constexpr std::size_t questions_max = 64;
constexpr nanoseconds timeout_max = seconds{60};

std::uint32_t verdict_of(std::string_view word) {
    return word == "granted"   ? STEAD_WITNESS_GRANTED
           : word == "refused" ? STEAD_WITNESS_REFUSED
                               : STEAD_WITNESS_UNANSWERED;
}

std::string text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string{};
}

} // namespace

std::uint64_t ModuleHost::ask_witness(Slot& slot, std::string node, std::string key, std::uint64_t counter,
                                      std::uint32_t holder, nanoseconds timeout) {
    if (!facts_.cluster.find(node)) {
        return 0;
    }
    const std::uint64_t token = next_question_token_++;
    // Posted even from the strand: the answer must not come before the token.
    post([this, &slot, token, node = std::move(node), key = std::move(key), counter, holder, timeout]() mutable {
        begin_question(slot, token, std::move(node), std::move(key), counter, holder, timeout);
    });
    return token;
}

void ModuleHost::begin_question(Slot& slot, std::uint64_t token, std::string node, std::string key,
                                std::uint64_t counter, std::uint32_t holder, nanoseconds timeout) {
    Question& question = questions_[token];
    question = {&slot, node + ", claim " + std::to_string(counter) + " to '" + key + "'",
                std::make_unique<boost::asio::steady_timer>(io_)};
    if (!control::is_module_name(key) || questions_.size() > questions_max || listeners_.empty()) {
        end_question(token, STEAD_WITNESS_UNANSWERED,
                     listeners_.empty()                  ? "steadd of this node does not run"
                     : questions_.size() > questions_max ? std::to_string(questions_max) + " questions are open"
                                                         : "a key is [A-Za-z0-9_.-]{1,63}");
        return;
    }
    const nanoseconds limit = std::clamp(timeout, nanoseconds{milliseconds{1}}, timeout_max);
    question.timer->expires_after(limit);
    question.timer->async_wait([this, token](boost::system::error_code cancelled) {
        if (!cancelled && !ended_) {
            end_question(token, STEAD_WITNESS_UNANSWERED, "no answer in time");
        }
    });
    broadcast({{"event", "witness"},
               {"question", token},
               {"node", node},
               {"key", key},
               {"counter", std::to_string(counter)},
               {"holder", holder},
               {"timeout_ms", std::chrono::ceil<milliseconds>(limit).count()}});
}

void ModuleHost::end_question(std::uint64_t token, std::uint32_t verdict, const std::string& why) {
    const auto ended = questions_.extract(token);
    if (!ended) {
        return; // too late
    }
    const Question& question = ended.mapped();
    const char* word = verdict == STEAD_WITNESS_GRANTED   ? " granted"
                       : verdict == STEAD_WITNESS_REFUSED ? " refused"
                                                          : " unanswered";
    write(log::Level::debug, question.slot->id(), "witness " + question.about + word + (why.empty() ? "" : ": " + why));
    question.slot->on_witness(token, verdict);
}

Result<json::object> ModuleHost::do_witness(const json::object& request) {
    const json::value* token = request.if_contains("question");
    if (token == nullptr || !token->is_int64() || token->get_int64() <= 0) {
        return Error{Errc::malformed, "witness", "needs the question's number"};
    }
    end_question(static_cast<std::uint64_t>(token->get_int64()), verdict_of(text_of(request, "verdict")),
                 text_of(request, "why"));
    return json::object{};
}

} // namespace stead::host

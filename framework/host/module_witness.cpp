// SPDX-License-Identifier: Apache-2.0
// Claims of plugins and of the bus, decided by the steadd of another node: ours asks it.
#include "module_host.hpp"

#include <stead/control/paths.hpp>

#include <charconv>

namespace stead::host {

namespace json = boost::json;
using membership::Grant;

namespace {

constexpr std::size_t questions_max = 64;
constexpr nanoseconds timeout_max = seconds{60};
constexpr nanoseconds bus_patience = 3 * membership::witness_patience; // a late answer is still an answer

std::uint32_t verdict_of(std::string_view word) {
    return word == "granted"   ? STEAD_WITNESS_GRANTED
           : word == "refused" ? STEAD_WITNESS_REFUSED
                               : STEAD_WITNESS_UNANSWERED;
}

std::string text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string{};
}

std::uint64_t number_of(const json::object& object, std::string_view name) {
    const std::string text = text_of(object, name);
    std::uint64_t number = 0;
    return std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc{} ? number : 0;
}

} // namespace

std::uint64_t ModuleHost::ask_witness(Slot& slot, std::string node, std::string key, std::uint64_t counter,
                                      std::uint32_t holder, nanoseconds timeout) {
    if (!facts_.cluster.find(node)) {
        return 0;
    }
    const std::uint64_t token = next_question_token_++;
    // Posted even from the strand: the answer must not come before the token.
    post([this, &slot, token, node = std::move(node), key = std::move(key), claim = Grant{counter, holder, {}},
          timeout] { begin_question(token, &slot, node, key, claim, timeout); });
    return token;
}

/// Of two halves of the module's nodes, which one goes on.
void ModuleHost::ask_bus_witness(const Grant& claim) {
    begin_question(next_question_token_++, nullptr, bus_witness_, "half", claim, bus_patience);
}

void ModuleHost::begin_question(std::uint64_t token, Slot* slot, const std::string& node, const std::string& key,
                                const Grant& claim, nanoseconds timeout) {
    Question& question = questions_[token];
    question = {slot, claim, node + ", claim " + std::to_string(claim.counter) + " to '" + key + "'",
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
    json::object event{{"event", slot != nullptr ? "witness" : "claim"},
                       {"question", token},
                       {"node", node},
                       {"key", key},
                       {"counter", std::to_string(claim.counter)},
                       {"timeout_ms", std::chrono::ceil<milliseconds>(limit).count()}};
    if (slot != nullptr) {
        event["holder"] = claim.holder;
    } else {
        event["holder"] = std::to_string(claim.holder);
        event["nodes"] = std::to_string(claim.members.bits());
    }
    broadcast(event);
}

void ModuleHost::end_question(std::uint64_t token, std::uint32_t verdict, const std::string& why, const Grant& held) {
    const auto ended = questions_.extract(token);
    if (!ended) {
        return; // too late
    }
    const Question& question = ended.mapped();
    const char* word = verdict == STEAD_WITNESS_GRANTED   ? " granted"
                       : verdict == STEAD_WITNESS_REFUSED ? " refused"
                                                          : " unanswered";
    write(log::Level::debug, question.slot != nullptr ? question.slot->id() : "bus",
          "witness " + question.about + word + (why.empty() ? "" : ": " + why));
    if (question.slot != nullptr) {
        question.slot->on_witness(token, verdict);
        return;
    }
    tell_bus_witness(verdict != STEAD_WITNESS_UNANSWERED, why);
    if (bus_ && verdict != STEAD_WITNESS_UNANSWERED) {
        bus_->witness_answer({.asked = question.claim, .held = held});
    }
}

/// Asked every 10 s while nothing is wrong: who will be needed then should be known to be there.
void ModuleHost::tell_bus_witness(bool speaks, const std::string& why) {
    if (witness_speaks_ == speaks) {
        return;
    }
    if (!speaks || witness_speaks_) {
        write(speaks ? log::Level::event : log::Level::warning, "bus",
              speaks ? "witness " + bus_witness_ + " answers again"
                     : "witness " + bus_witness_ + " does not answer (" + why +
                           "); without its word neither of two halves of the farm serves");
    }
    witness_speaks_ = speaks;
    publish_own("witness." + bus_witness_, speaks ? "up" : "down");
}

Result<json::object> ModuleHost::do_witness(const json::object& request) {
    const json::value* token = request.if_contains("question");
    if (token == nullptr || !token->is_int64() || token->get_int64() <= 0) {
        return Error{Errc::malformed, "witness", "needs the question's number"};
    }
    const Grant held{number_of(request, "counter"), number_of(request, "holder"), NodeSet{number_of(request, "nodes")}};
    end_question(static_cast<std::uint64_t>(token->get_int64()), verdict_of(text_of(request, "verdict")),
                 text_of(request, "why"), held);
    return json::object{};
}

} // namespace stead::host

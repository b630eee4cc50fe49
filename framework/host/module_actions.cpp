// SPDX-License-Identifier: Apache-2.0
// What rules, checkers and people ask of the module, and of its plugins.
#include "module_host.hpp"

#include <stead/control/loop_count.hpp>

#include <algorithm>
#include <array>
#include <ctime>
#include <iterator>
#include <sstream>

namespace stead::host {

namespace json = boost::json;

namespace {

std::int64_t wall_seconds() { return static_cast<std::int64_t>(std::time(nullptr)); }

/// At least one, perhaps empty.
std::vector<std::string> words_of(const std::string& text) {
    std::istringstream rest{text};
    std::vector<std::string> words{std::istream_iterator<std::string>{rest}, {}};
    words.resize(std::max<std::size_t>(words.size(), 1));
    return words;
}

} // namespace

// ---- Actions
// ------------------------------------------------------------------------------------------------------------

bool ModuleHost::loop_allows(const std::string& action, const std::string& by, Caller caller) {
    load_loops();
    const bool allowed = caller == Caller::script ? loops_.count_of(wall_seconds(), by) : loops_.count(wall_seconds());
    save_loops();
    if (!allowed) {
        write(log::Level::warning, "host",
              action + " called by " + by + " refused: " + std::to_string(facts_.config.settings.maxloop) +
                  " automatic actions within loop_interval (maxloop)");
    }
    return allowed;
}

void ModuleHost::load_loops() { // steadd counts deaths of this program in the same file
    if (auto text = control::read_loop_count(facts_.paths, facts_.module)) {
        loops_.load(*text);
    }
}

void ModuleHost::save_loops() {
    if (auto saved = control::write_loop_count(facts_.paths, facts_.module, loops_.save()); !saved) {
        write(log::Level::warning, "host", "the loop count is not kept: " + saved.error().text());
    }
}

void ModuleHost::act(const std::string& action, const std::string& by, Caller caller, bool at_once) {
    const bool automatic = caller != Caller::person;
    using Then = automaton::Stop::Then;
    const std::vector<std::string> words = words_of(action);
    const std::string& verb = words.front();
    if (verb == "swap") {
        swap(by);
        return;
    }
    automatic_ = automatic;
    if (verb == "stop" || (verb != "restart" && automaton_.stopping())) {
        feed(automaton::Stop{.then = verb == "stopstart" ? Then::start_again : Then::stay,
                             .by = by,
                             .at_once = at_once,
                             .reason = automatic ? "stopped by " + by : ""});
        return;
    }
    if (!automatic) {
        loops_.reset(); // a person looked after it
        save_loops();
    } else if (verb == "restart" && !automaton_.able().restart) {
        // Two may see one death, such as the supervisor and <errd>: the loop guard counts what is done, once.
        write(log::Level::event, "host", "restart for " + by + " ignored: the module is " + state_name());
        return;
    } else if (!loop_allows(verb, by, caller)) {
        feed(automaton::Stop{
            .then = Then::stay, .by = "maxloop", .at_once = false, .reason = "stopped by maxloop: " + by});
        return;
    }
    if (verb == "restart") {
        feed(automaton::Restart{by, {words.begin() + 1, words.end()}});
        return;
    }
    reboot_ = automatic && verb == "stopstart" && facts_.config.settings.automatic_reboot;
    if (reboot_) {
        write(log::Level::warning, "host", "automatic_reboot is on: this stopstart reboots the server");
    }
    feed(automaton::Stop{.then = verb == "wait" ? Then::wait : Then::start_again, .by = by, .at_once = at_once});
}

// ---- Commands
// --------------------------------------------------------------------------------------------------------

/// What changes the role of this node is an action: logged, and counted like a stopstart when it is automatic.
Result<void> ModuleHost::allow_command(const std::string& command, const std::string& by, Caller caller) {
    const bool automatic = caller != Caller::person;
    static constexpr std::array<std::string_view, 5> actions{"swap", "prim", "second", "primforce", "secondforce"};
    if (!mirror_ || std::ranges::find(actions, command) == actions.end()) {
        return {};
    }
    if (automaton_.stopping()) {
        return Error{Errc::refused, facts_.module, "it is stopping; " + command + " needs a module that runs"};
    }
    if (!automatic) {
        loops_.reset(); // a person looked after it
        save_loops();
    } else if (!loop_allows(command, by, caller)) {
        feed(automaton::Stop{.then = automaton::Stop::Then::stay,
                             .by = "maxloop",
                             .at_once = false,
                             .reason = "stopped by maxloop: " + by});
        return Error{Errc::refused, facts_.module, "maxloop is reached; the module stops"};
    }
    automatic_ = automatic;
    write(log::Level::event, "host", "Action " + command + " called by " + by);
    return {};
}

std::optional<Result<json::object>> ModuleHost::do_command(LateAnswer whose, const std::vector<std::string>& argv,
                                                           const std::string& by, Caller caller) {
    if (auto allowed = allow_command(whose.command, by, caller); !allowed) {
        return allowed.error();
    }
    for (const auto& slot : slots_) {
        std::string text;
        const std::uint64_t token = next_command_token_++;
        switch (slot->command(whose.command, argv, text, token)) {
        case STEAD_COMMAND_DONE: return json::object{{"text", text}};
        case STEAD_COMMAND_NOT_MINE: break;
        case STEAD_COMMAND_PENDING:
            whose.of = slot.get();
            late_answers_.emplace(token, std::move(whose));
            return std::nullopt;
        default: return Error{Errc::refused, std::string{slot->id()}, text.empty() ? "refused without a reason" : text};
        }
    }
    return Error{Errc::unsupported, "command '" + whose.command + "'", "no plugin of this module knows it"};
}

void ModuleHost::command_done(const Slot& slot, std::uint64_t token, bool ok, std::string text) {
    constexpr std::size_t text_bytes_max = 65536;
    text.resize(std::min(text.size(), text_bytes_max));
    // Posted even from the strand: it may come from inside on_command.
    post([this, &slot, token, ok, text = std::move(text)] {
        const auto found = late_answers_.find(token);
        if (found == late_answers_.end() || found->second.of != &slot) {
            return; // answered already, or nobody waits any more
        }
        const LateAnswer late = std::move(found->second);
        late_answers_.erase(found);
        Result<json::object> done = json::object{{"text", text}};
        if (!ok) {
            done = Error{Errc::refused, std::string{slot.id()}, text.empty() ? "refused without a reason" : text};
        }
        answer_late(late, std::move(done));
    });
}

void ModuleHost::answer_late(const LateAnswer& late, Result<json::object> done) {
    if (late.to != nullptr) {
        send_answer(late.to, json::object{{"id", late.id}}, std::move(done));
    } else if (!done) {
        write(log::Level::error, "host", late.command + ": " + done.error().text());
    }
}

/// Of a rule: nobody waits for the answer, so it is logged.
void ModuleHost::swap(const std::string& by) {
    if (auto done =
            do_command({.to = nullptr, .id = nullptr, .of = nullptr, .command = "swap"}, {}, by, Caller::rule)) {
        answer_late({.to = nullptr, .id = nullptr, .of = nullptr, .command = "swap"}, std::move(*done));
    }
}

void ModuleHost::refuse_late_answers() {
    const std::string& why = automaton_.reason();
    for (auto& [token, late] : std::exchange(late_answers_, {})) {
        answer_late(late, Error{Errc::refused, late.command,
                                "the module stopped before it was done" + (why.empty() ? "" : ": " + why)});
    }
}

} // namespace stead::host

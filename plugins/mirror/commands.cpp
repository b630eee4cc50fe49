// SPDX-License-Identifier: Apache-2.0
// What a person asks for, and what is shown.
#include "plugin.hpp"

#include <boost/json/serialize.hpp>

#include <algorithm>
#include <chrono>

namespace stead::mirror {
namespace json = boost::json;
namespace {
constexpr auto command_patience = std::chrono::seconds{10};
} // namespace

plugin::Answer MirrorPlugin::on_command(std::string_view verb, std::span<const std::string_view> arguments,
                                        std::string& answer) {
    static constexpr std::string_view mine[] = {"swap",      "prim",    "second",  "primforce", "secondforce",
                                                "rfsverify", "rfsdiff", "rfssync", "mirror"};
    if (std::ranges::find(mine, verb) == std::end(mine)) {
        return plugin::Answer::not_mine;
    }
    const std::uint64_t token = host_.command_token();
    post([this, token, verb = std::string{verb}, words = std::vector<std::string>(arguments.begin(), arguments.end())] {
        command(token, verb, words);
    });
    answer.clear();
    return plugin::Answer::pending;
}

void MirrorPlugin::command(std::uint64_t token, const std::string& verb, const std::vector<std::string>& arguments) {
    const std::string first = arguments.empty() ? "" : arguments.front();
    if (verb == "mirror" && first != "lost") {
        const bool as_json = std::ranges::find(arguments, "--json") != arguments.end();
        finish_command(token, true, as_json ? json::serialize(status_) : status_text());
    } else if (!fs_ready_) { // it was only just started: the roles are not known yet
        waiting_commands_.push_back({token, verb, arguments, BootClock::now() + command_patience});
        expire_commands();
    } else if (verb == "swap") {
        swap(token, "administrator");
    } else if (verb == "prim") {
        role_command(token, first == "fullsync" ? "prim_full" : "prim");
    } else if (verb == "primforce") {
        role_command(token, "primforce");
    } else if (verb == "second" || verb == "secondforce") {
        remember_prim(false);
        role_command(token, first == "fullsync" ? "second_full" : "second");
    } else if (verb == "rfsverify") {
        role_command(token, first == "repair" ? "repair" : "verify");
    } else if (verb == "rfsdiff") {
        ask({{"do", "differences"}}, [this, token](bool ok, const std::string& text) {
            finish_command(token, ok && !differs(), ok ? differences() + text : text);
        });
    } else if (verb == "rfssync") {
        const bool source = first == "external" && arguments.size() > 1 && arguments[1] == "prim";
        role_command(token, source ? "prim" : "second_full");
    } else {
        const std::string what = arguments.size() < 2 ? "list" : arguments[1];
        ask({{"do", "lost_" + what}, {"name", arguments.size() > 2 ? arguments[2] : ""}},
            [this, token](bool ok, const std::string& text) { finish_command(token, ok, text); });
    }
}

/// An order is obeyed soon or not at all: who gave it may be gone, and what was right then may be wrong now.
void MirrorPlugin::expire_commands() {
    std::vector<Order> waiting;
    for (Order& one : std::exchange(waiting_commands_, {})) {
        if (BootClock::now() < one.until) {
            waiting.push_back(std::move(one));
        } else {
            refuse_order(one);
        }
    }
    waiting_commands_ = std::move(waiting);
    command_timer_.expires_after(seconds{1});
    command_timer_.async_wait([this](boost::system::error_code cancelled) {
        if (!cancelled && !waiting_commands_.empty()) {
            expire_commands();
        }
    });
}

void MirrorPlugin::refuse_order(const Order& order) {
    const std::string module{host_.module()};
    finish_command(order.token, false,
                   (child_ ? "stead-fs is still opening the replicated directories: try again in a while"
                           : "stead-fs does not run: 'stead state -v -m " + module + "' says what is waited for") +
                       std::string{ready_ ? "" : "; 'stead failover off -m " + module + "' lifts its wait rules"});
}

void MirrorPlugin::finish_command(std::uint64_t token, bool ok, const std::string& text) {
    if (token != 0) {
        ok ? host_.command_done(token, text) : host_.command_failed(token, text);
    }
}

void MirrorPlugin::role_command(std::uint64_t token, const std::string& name) {
    ask({{"do", "command"}, {"name", name}},
        [this, token](bool ok, const std::string& text) { finish_command(token, ok, text); });
}

/// The application is stopped first: RELEASE of the row PRIM -> SECOND gives the role away.
void MirrorPlugin::swap(std::uint64_t token, const std::string& by) {
    if (role_ != Role::prim || !flag_of(status_, "equal")) {
        finish_command(token, false,
                       role_ == Role::second
                           ? "swap is for the primary, which is " + peer_name_
                           : "swap needs a secondary that is up to date; this node is " + role_text());
        return;
    }
    host_.event("Action swap called by " + by);
    if (token != 0) {
        swap_tokens_.insert(token);
        remember_prim(false); // a person moved it: it is not wanted back
    }
    swap_wanted_ = true;
    lead();
}

void MirrorPlugin::swap_over(bool ok, const std::string& text) {
    swap_wanted_ = false;
    if (ok && options_.default_prim != "lastprim") {
        remember_prim(false);
    }
    for (const std::uint64_t token : std::exchange(swap_tokens_, {})) {
        finish_command(token, ok, ok ? "roles exchanged" : text);
    }
}

// ---- What is shown
// ----------------------------------------------------------------------------------------------------

std::string MirrorPlugin::role_text() const {
    switch (role_) {
    case Role::none:
    case Role::died:
    case Role::waiting: return "WAIT (" + reason_ + ")";
    case Role::second: return "SECOND";
    case Role::prim: return "PRIM";
    case Role::alone: return "ALONE";
    }
    return {};
}

std::string MirrorPlugin::progress() const {
    if (const auto failure = text_of(status_, "storage_failure"); !failure.empty() && !flag_of(status_, "resyncing")) {
        return "its storage failed (" + failure + ")";
    }
    const std::string text = text_of(status_, "progress");
    return !text.empty() ? text : serving() ? "nothing is to be sent" : "waiting for the primary";
}

json::object MirrorPlugin::verify_counts() const {
    const json::value* verify = status_.if_contains("verify");
    return verify != nullptr && verify->is_object() ? verify->get_object() : json::object{};
}

bool MirrorPlugin::compared() const {
    const json::object counts = verify_counts();
    return number_of(counts, "total") != 0 && !flag_of(counts, "running") &&
           number_of(counts, "checked") == number_of(counts, "total");
}

bool MirrorPlugin::differs() const {
    const json::object counts = verify_counts();
    return number_of(counts, "differing") > number_of(counts, "repaired");
}

std::string MirrorPlugin::differences() const {
    const json::object counts = verify_counts();
    if (number_of(counts, "total") == 0) {
        return "nothing was compared yet: stead rfsverify, on the primary";
    }
    return std::to_string(number_of(counts, "checked")) + " of " + std::to_string(number_of(counts, "total")) +
           " targets compared, " + std::to_string(number_of(counts, "differing")) + " differ, " +
           std::to_string(number_of(counts, "repaired")) + " repaired" +
           (flag_of(counts, "running") ? "; still running" : "");
}

std::string MirrorPlugin::status_text() const {
    const auto number = [this](std::string_view name) { return std::to_string(number_of(status_, name)); };
    const auto inner = [this](std::string_view of, std::string_view name) {
        const json::value* object = status_.if_contains(of);
        return std::to_string(object != nullptr && object->is_object() ? number_of(object->get_object(), name) : 0);
    };
    std::string text = role_text() + (peer_name_.empty() ? ", no peer seen yet" : ", peer " + peer_name_) +
                       (peer_present_ ? "" : " (not heard)") + "\nconversation: " + text_of(status_, "phase");
    if (const std::string handshake = text_of(status_, "handshake"); !handshake.empty()) {
        text += " (" + handshake + ")";
    }
    if (flag_of(status_, "resyncing")) {
        text += "\nresync: " + progress();
        if (status_.contains("seconds_left")) {
            text += "; " + number("targets_left") + " targets left, " + number("targets_per_second") + "/s";
        }
    }
    text += "\ngeneration " + text_of(status_, "generation") + ", epoch " + number("epoch") +
            ", changed alone: " + number("dirty") + " targets";
    text += "\nwrites: " + number("operations") + " answered, " + number("operations_in_flight") + " under way, p50 " +
            inner("latency_us", "p50") + " us, p95 " + inner("latency_us", "p95") + " us";
    text += "\nreplication: " + inner("replication", "bandwidth") + " bytes/s, acknowledged in " +
            inner("replication", "latency_us") + " us";
    text += "\nstream: " + inner("stream", "bytes_out") + " bytes sent, " + inner("stream", "bytes_in") +
            " received, " + inner("stream", "connections") + " connections";
    return text + "\nverify: " + differences();
}

void MirrorPlugin::publish(const std::string& name, const std::string& value) {
    if (auto& known = published_[name]; known != value) {
        known = value;
        host_.publish(name, value);
    }
}

/// stead-fs measures once a second; what does not move is published once.
void MirrorPlugin::publish_figures() {
    const auto number = [this](std::string_view name) { return std::to_string(number_of(status_, name)); };
    publish("rfs.resync_rate", number("resync_rate"));
    const bool unknown = !status_.contains("seconds_left") && !text_of(status_, "progress").empty();
    publish("rfs.resync_left", unknown ? "unknown" : number("seconds_left"));
    const json::value* replication = status_.if_contains("replication");
    const json::object figures =
        replication != nullptr && replication->is_object() ? replication->get_object() : json::object{};
    publish("rfs.latency", std::to_string(number_of(figures, "latency_us")));
    publish("rfs.bandwidth", std::to_string(number_of(figures, "bandwidth")));
}

void MirrorPlugin::publish_status(const json::object& status) {
    status_ = status;
    status_.erase("say");
    const bool equal = flag_of(status, "equal"), eligible = flag_of(status, "eligible");
    publish("rfs.uptodate", serving() || eligible ? "up" : "down");
    publish("rfs.degraded", role_ == Role::alone ? "up" : "down");
    publish("rfs.synced", equal ? "up" : "down");
    publish("rfs.resync",
            !text_of(status, "progress").empty() || (role_ == Role::second && !eligible) ? progress() : "no");
    publish_figures();
    if (options_.sync_at) {
        publish("rfs.syncat", flag_of(status, "waits_for_schedule") ? "down" : "up");
    }
    publish("rfs.frozen", flag_of(status, "frozen") ? "up" : "down");
    if (compared() || !published_.contains("rfs.verify")) { // one that runs or broke off has proved nothing yet
        publish("rfs.verify", !compared() ? "never" : differs() ? "differs" : "equal");
    }
    publish("rfs.reintegre_failed", text_of(status, "storage_failure").empty() ? "down" : "up");
    lead();
    consider_swap_back();
}

} // namespace stead::mirror

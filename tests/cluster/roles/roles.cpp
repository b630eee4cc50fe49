// SPDX-License-Identifier: Apache-2.0
// A service for labs of mode mirror, without data: <roles/>. It takes the role that a script writes into the resource
// roles.want ("SECOND expected resync") as often as it may choose one, exchanges roles by messages when it is told to
// swap, and tells what it heard of the host: resources roles.*, log lines "moment …".
#include <stead/plugin.hpp>

#include <array>
#include <bit>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace {

using stead::plugin::Answer;
using stead::plugin::Config;

constexpr stead_attr_schema address_attributes[]{
    {"addr", STEAD_TYPE_ADDRESS, STEAD_ATTR_REQUIRED, nullptr, nullptr, nullptr, 0, 0, "the virtual IP"},
    {"where", STEAD_TYPE_CHOICE, 0, "one_side_alias", "one_side|one_side_alias", nullptr, 0, 0, "on one node"},
    {"check", STEAD_TYPE_BOOLEAN, 0, "on", nullptr, nullptr, 0, 0, "makes the checker ip.<address>"},
};
constexpr std::array schema{
    stead_elem_schema{"roles", "mirror", STEAD_ELEM_REQUIRED, 0, nullptr, "a mirror without data"},
    stead_elem_schema{"vip/interface_list/interface/real_interface", "mirror", 0, 0, nullptr, "of a mirror"},
    stead_elem_schema{"vip/interface_list/interface/real_interface/virtual_addr", "mirror", STEAD_ELEM_REPEATABLE,
                      std::size(address_attributes), address_attributes, "a virtual IP"},
};

struct Wish {
    stead_state state{STEAD_WAIT};
    bool expected{};
    std::string reason;
};

std::optional<Wish> parse(std::string_view text) {
    static const std::map<std::string_view, stead_state> states{
        {"WAIT", STEAD_WAIT}, {"ALONE", STEAD_ALONE}, {"PRIM", STEAD_PRIM}, {"SECOND", STEAD_SECOND}};
    const auto found = states.find(text.substr(0, text.find(' ')));
    if (found == states.end()) {
        return std::nullopt;
    }
    Wish wish{.state = found->second, .expected = false, .reason = {}};
    std::string_view rest = text.substr(std::min(text.size(), found->first.size() + 1));
    if (rest.starts_with("expected")) {
        wish.expected = true;
        rest.remove_prefix(std::min<std::size_t>(rest.size(), 9));
    }
    wish.reason = rest;
    return wish;
}

class Roles final : public stead::plugin::Service {
public:
    Roles(stead::plugin::Host host, Config config) : host_(host) {
        for (const char* name : {"defaultprim", "failover"}) {
            host_.publish(std::string{"roles."} + name, config.string(name));
        }
        const auto vip = config.child("vip");
        const auto list = vip ? vip->child("interface_list") : std::nullopt;
        const auto interface = list ? list->child("interface") : std::nullopt;
        const auto real = interface ? interface->child("real_interface") : std::nullopt;
        if (const auto address = real ? real->child("virtual_addr") : std::nullopt) {
            address_.address = address->string("addr");
        }
    }
    void start() override {
        host_.watch("roles.want");
        tell_keys();
    }
    void stop() override {}

    void on_ready(bool ready) override {
        ready_ = ready;
        host_.publish("roles.ready", ready ? "1" : "0");
        host_.event(ready ? "ready 1" : "ready 0");
        take();
    }
    void on_resource(std::uint32_t node, std::string_view, std::optional<std::string_view> value) override {
        if (node == host_.self() && value) {
            want(*value);
        }
    }
    void on_view(const stead_view& view) override { members_ = view.members; }
    void on_peer_died(std::uint32_t node) override {
        host_.publish("roles.died", std::to_string(node));
        host_.event("peer died " + std::to_string(node));
    }
    void on_message(std::uint32_t from, std::string_view kind, std::uint32_t, std::string_view) override {
        if (kind == "swap") {
            want("PRIM swap");
            host_.send(std::uint64_t{1} << from, "swapped", 1, {});
        } else if (kind == "swapped" && swap_ != 0) {
            host_.command_done(std::exchange(swap_, 0), "the roles are exchanged");
        }
    }
    void on_transition(const stead_transition& transition) override {
        static constexpr const char* moments[]{"", "PREPARE", "OPEN", "CLOSE", "RELEASE", "RETIRE"};
        static constexpr const char* states[]{"STOP", "WAIT", "ALONE", "PRIM", "SECOND", "UP"};
        host_.event(std::string{"moment "} + moments[transition.moment] + " " + states[transition.from] + " " +
                    states[transition.to] + (transition.at_once != 0 ? " at once" : ""));
        if (transition.moment == STEAD_MOMENT_PREPARE && !address_.address.empty()) {
            if (const auto failed = host_.add_address(address_)) {
                host_.transition_failed(transition.token, *failed);
                return;
            }
        } else if (transition.moment == STEAD_MOMENT_RELEASE && !address_.address.empty()) {
            host_.remove_address(address_);
        }
        host_.transition_done(transition.token);
    }
    Answer on_command(std::string_view verb, std::span<const std::string_view> arguments,
                      std::string& answer) override {
        if (verb == "prim") {
            want("ALONE administrator");
            answer = "it becomes the primary";
        } else if (verb == "second" || verb == "secondforce") {
            want("SECOND administrator");
        } else if (verb == "primforce") {
            answer = "this node knows nothing that could be forced";
            return Answer::refused;
        } else if (verb == "swap") {
            return begin_swap(answer);
        } else if (verb == "rfsverify") { // never answered
            host_.event("verify begun");
            return Answer::pending;
        } else if (verb == "rfssync") {
            for (const std::string_view argument : arguments) {
                answer += (answer.empty() ? "" : " ") + std::string{argument};
            }
        } else if (verb == "rfsdiff") {
            tell_keys();
            answer = "keys told";
        } else if (verb == "mirror" && arguments[0] == "status") {
            answer = arguments.size() > 1 ? R"({"in_sync":true})" : "in sync";
        } else {
            return Answer::not_mine;
        }
        return Answer::done;
    }

private:
    Answer begin_swap(std::string& answer) {
        const std::uint64_t others = members_ & ~(std::uint64_t{1} << host_.self());
        if (wish_.state != STEAD_PRIM || others == 0 || swap_ != 0) {
            answer = "a swap needs a primary with a secondary";
            return Answer::refused;
        }
        want("SECOND swap");
        swap_ = host_.command_token();
        host_.send(others, "swap", 1, {});
        return Answer::pending;
    }
    void want(std::string_view text) {
        if (const auto wish = parse(text)) {
            wish_ = *wish;
            take();
        }
    }
    void take() {
        if (ready_) {
            host_.set_role(wish_.state, wish_.reason, wish_.expected);
        }
    }
    /// Not the keys: only whether both nodes have the same.
    void tell_keys() {
        std::string marks;
        for (const std::string& key : host_.stream_keys("lab")) {
            std::uint32_t mark = 2166136261U;
            for (const char byte : key) {
                mark = (mark ^ static_cast<unsigned char>(byte)) * 16777619U;
            }
            std::array<char, 16> text{};
            std::snprintf(text.data(), text.size(), "%08x", mark);
            marks += (marks.empty() ? "" : " ") + std::string{text.data()};
        }
        host_.publish("roles.keys", marks);
        host_.publish("roles.address", host_.node_address("", host_.self()).value_or("none") + " " +
                                           host_.node_address("default", host_.self() ^ 1U).value_or("none") + " " +
                                           host_.node_address("nowhere", 0).value_or("none"));
    }

    stead::plugin::Host host_;
    stead::plugin::Address address_;
    bool ready_{};
    Wish wish_{.state = STEAD_WAIT, .expected = true, .reason = "told nothing yet"};
    std::uint64_t members_{};
    std::uint64_t swap_{};
};

} // namespace

STEAD_EXPORT_SERVICE(Roles, "roles", "1.0.0", schema)

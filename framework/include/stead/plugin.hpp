// SPDX-License-Identifier: Apache-2.0
//
// The C++ side of plugin.h: header-only, compiled into the plugin, C++20 and the standard library only. No C++ type and
// no exception crosses the boundary.
//
//     class Ping : public stead::plugin::Checker {
//     public:
//         Ping(stead::plugin::Host host, stead::plugin::Config config);  // may throw std::exception: `create` fails
//         void start() override;
//         void stop() override;
//     };
//     STEAD_EXPORT_CHECKER(Ping, "checkers.ping", "1.0.0", schema)   // schema: an array of stead_elem_schema
//
// Threading, blocking, lifetime and errors: see plugin.h. An exception in a callback is logged; in on_transition it
// refuses the transition. Optional static members of the class, called without an instance:
//     static void check(Config, const Report&);              extra findings for confcheck
//     static void cleanup(Host, Config);                     removes what a dead host left; throws on failure
//     static void bus_wish(Config, stead_bus_wish&);         services: LANs, port, timing; throws on failure
//     static constexpr const char* switch_name = "errd";     checkers: what turns it off, when that is not "checker"
#pragma once

#include <stead/plugin.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <iterator>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace stead::plugin {

[[nodiscard]] inline stead_str to_c(std::string_view text) noexcept { return {text.data(), text.size()}; }
[[nodiscard]] inline std::string_view to_view(stead_str text) noexcept {
    return text.data == nullptr ? std::string_view{} : std::string_view{text.data, static_cast<std::size_t>(text.size)};
}
/// Copies a text into a caller's buffer, always terminated.
inline void copy_text(std::string_view text, char* out, std::uint32_t cap) noexcept {
    if (out != nullptr && cap > 0) {
        const std::size_t size = std::min<std::size_t>(text.size(), cap - 1);
        std::memcpy(out, text.data(), size);
        out[size] = '\0';
    }
}

/// One configuration element. Valid for the call that it was given to, as are all views from it.
///
/// Errors: the typed getters throw std::invalid_argument (naming element, attribute and line) when the attribute is
/// absent or does not parse; the host has checked the schema, so that means schema and getter disagree.
class Config {
public:
    explicit Config(const stead_xml* xml) noexcept : xml_(xml) {}

    [[nodiscard]] std::string_view name() const noexcept { return to_view(xml_->name); }
    [[nodiscard]] std::uint32_t line() const noexcept { return xml_->line; }
    [[nodiscard]] std::string_view text() const noexcept { return to_view(xml_->text); }

    /// The value, or nothing when neither file nor schema gives one.
    [[nodiscard]] std::optional<std::string_view> attribute(std::string_view attribute_name) const noexcept {
        for (const stead_xml_attr& attr : std::span(xml_->attrs, xml_->attr_count)) {
            if (to_view(attr.name) == attribute_name) {
                return to_view(attr.value);
            }
        }
        return std::nullopt;
    }
    [[nodiscard]] std::string_view string(std::string_view attribute_name) const {
        const auto value = attribute(attribute_name);
        return value ? *value : throw std::invalid_argument(place(attribute_name) + no_value);
    }
    [[nodiscard]] std::int64_t integer(std::string_view attribute_name) const {
        const std::string value{string(attribute_name)};
        try {
            std::size_t used = 0;
            const long long number = std::stoll(value, &used);
            if (used == value.size()) {
                return number;
            }
        } catch (const std::exception&) { // no digits, or too many of them: the same answer
        }
        throw std::invalid_argument(place(attribute_name) + ": '" + value + "' is not an integer");
    }
    [[nodiscard]] std::chrono::nanoseconds duration(std::string_view attribute_name) const {
        return std::chrono::nanoseconds{integer(attribute_name)};
    }
    [[nodiscard]] bool boolean(std::string_view attribute_name) const { return string(attribute_name) == "on"; }

    [[nodiscard]] std::vector<Config> children() const {
        std::vector<Config> all;
        for (const stead_xml& child : std::span(xml_->children, xml_->child_count)) {
            all.emplace_back(&child);
        }
        return all;
    }
    [[nodiscard]] std::vector<Config> children(std::string_view element_name) const {
        std::vector<Config> all = children();
        std::erase_if(all, [&](const Config& child) { return child.name() != element_name; });
        return all;
    }
    /// The first child of that name.
    [[nodiscard]] std::optional<Config> child(std::string_view element_name) const {
        for (const stead_xml& candidate : std::span(xml_->children, xml_->child_count)) {
            if (to_view(candidate.name) == element_name) {
                return Config{&candidate};
            }
        }
        return std::nullopt;
    }
    [[nodiscard]] const stead_xml* c() const noexcept { return xml_; }

private:
    static constexpr const char* no_value =
        ": is not given, and the plugin's schema has no default for it; add one, or "
        "make it STEAD_ATTR_REQUIRED";
    [[nodiscard]] std::string place(std::string_view attribute_name) const {
        return "line " + std::to_string(line()) + ": " + std::string{name()} + "/@" + std::string{attribute_name};
    }
    const stead_xml* xml_;
};

using Mac = std::array<std::uint8_t, 6>;

/// Where an address lives: its interface by name; an empty name means the interface whose subnet carries the address.
struct Address {
    std::string interface;
    std::string address;
};

struct InterfaceInfo {
    std::string name;
    std::uint32_t index{};
    Mac mac{};
};

/// The host's services. A copyable handle, valid from create to destroy; callable from any thread.
class Host {
public:
    explicit Host(const stead_host_v1* host) noexcept : host_(host) {}

    [[nodiscard]] std::string_view module() const noexcept { return to_view(host_->module); }
    [[nodiscard]] std::string_view node() const noexcept { return to_view(host_->node); }
    [[nodiscard]] std::string_view mode() const noexcept { return to_view(host_->mode); }
    [[nodiscard]] std::string_view var_folder() const noexcept { return to_view(host_->var_folder); }
    [[nodiscard]] std::string_view prefix() const noexcept { return to_view(host_->prefix); }
    [[nodiscard]] std::uint32_t module_id() const noexcept { return host_->module_id; }
    [[nodiscard]] std::uint32_t self() const noexcept { return host_->self; }
    /// high, low
    [[nodiscard]] std::array<std::uint64_t, 2> seed() const noexcept { return {host_->seed_high, host_->seed_low}; }

    void debug(std::string_view line) const noexcept { log(STEAD_LOG_DEBUG, line); }
    void event(std::string_view line) const noexcept { log(STEAD_LOG_EVENT, line); }
    void warning(std::string_view line) const noexcept { log(STEAD_LOG_WARNING, line); }
    void error(std::string_view line) const noexcept { log(STEAD_LOG_ERROR, line); }
    void log(stead_log_level level, std::string_view line) const noexcept {
        host_->log(host_->context, level, to_c(line));
    }

    /// CLOCK_BOOTTIME in ns.
    [[nodiscard]] std::uint64_t now() const noexcept { return host_->now(host_->context); }
    void set_timer(std::uint64_t id, std::uint64_t at_boottime_ns) const noexcept {
        host_->set_timer(host_->context, id, at_boottime_ns);
    }
    void set_timer_in(std::uint64_t id, std::chrono::nanoseconds delay) const noexcept {
        const auto wait = static_cast<std::uint64_t>(std::max<std::chrono::nanoseconds::rep>(delay.count(), 1));
        set_timer(id, now() + wait);
    }
    void cancel_timer(std::uint64_t id) const noexcept { set_timer(id, 0); }

    /// False beyond the limits (name 127, value 255 bytes).
    bool publish(std::string_view name, std::string_view value) const noexcept {
        return host_->publish(host_->context, to_c(name),
                              {value.data() == nullptr ? "" : value.data(), value.size()}) == 0;
    }
    void unpublish(std::string_view name) const noexcept { host_->publish(host_->context, to_c(name), {nullptr, 0}); }
    [[nodiscard]] std::optional<std::string> read(std::uint32_t node, std::string_view name) const {
        std::array<char, 256> buffer{};
        const std::int64_t size = host_->read(host_->context, node, to_c(name), buffer.data(), buffer.size());
        if (size < 0) {
            return std::nullopt;
        }
        return std::string{buffer.data(), std::min(static_cast<std::size_t>(size), buffer.size())};
    }
    void watch(std::string_view name_prefix) const noexcept { host_->watch(host_->context, to_c(name_prefix)); }

    /// False when too large (1100 bytes) or too many are in flight.
    bool send(std::uint64_t nodes, std::string_view kind, std::uint32_t version, std::string_view body) const noexcept {
        return host_->send(host_->context, nodes, to_c(kind), version, to_c(body)) == 0;
    }
    void set_weight(std::uint32_t weight) const noexcept { host_->set_weight(host_->context, weight); }
    void set_config(std::uint64_t digest) const noexcept { host_->set_config(host_->context, digest); }

    void transition_done(std::uint64_t token) const noexcept {
        host_->transition_done(host_->context, token, 1, {nullptr, 0});
    }
    void transition_failed(std::uint64_t token, std::string_view reason) const noexcept {
        host_->transition_done(host_->context, token, 0, to_c(reason));
    }
    /// "stop", "stopstart", "restart", "wait"; counted by maxloop.
    void request(std::string_view action, std::string_view reason) const noexcept {
        host_->request(host_->context, to_c(action), to_c(reason));
    }

    // Network. An empty optional is success; a text says what failed.
    [[nodiscard]] std::optional<std::string> add_address(const Address& address) const {
        const stead_address c = to_address(address);
        return text_of([&](char* err, std::uint32_t cap) { return host_->add_address(host_->context, &c, err, cap); });
    }
    void remove_address(const Address& address) const noexcept {
        const stead_address c = to_address(address);
        host_->remove_address(host_->context, &c);
    }
    [[nodiscard]] std::optional<std::string> announce(const Address& address, const Mac& mac) const {
        const stead_address c = to_address(address);
        return text_of(
            [&](char* err, std::uint32_t cap) { return host_->announce(host_->context, &c, mac.data(), err, cap); });
    }
    enum class Probe : std::uint8_t { free, taken, failed };
    /// Blocks up to `timeout`: not more than 100 ms on the strand. `mac` is filled when taken.
    [[nodiscard]] Probe probe(const Address& address, std::chrono::nanoseconds timeout, Mac& mac) const noexcept {
        const stead_address c = to_address(address);
        const auto answer = host_->probe(host_->context, &c, static_cast<std::uint64_t>(timeout.count()), mac.data());
        return answer == 0 ? Probe::free : answer > 0 ? Probe::taken : Probe::failed;
    }
    [[nodiscard]] std::optional<InterfaceInfo> find_interface(const Address& address) const {
        const stead_address c = to_address(address);
        std::array<char, 16> name{};
        InterfaceInfo info;
        if (host_->find_interface(host_->context, &c, name.data(), &info.index, info.mac.data()) != 0) {
            return std::nullopt;
        }
        info.name.assign(name.data(), strnlen(name.data(), name.size()));
        return info;
    }
    void watch_link(std::uint32_t ifindex) const noexcept { host_->watch_link(host_->context, ifindex); }

    /// The token that on_hook_done() brings back, or 0 when the module has no such hook.
    std::uint64_t run_hook(std::string_view name, std::span<const std::string> arguments,
                           std::chrono::nanoseconds timeout) const {
        const auto argv = to_argv(arguments);
        return host_->run_hook(host_->context, to_c(name), argv.data(), static_cast<std::uint32_t>(argv.size()),
                               static_cast<std::uint64_t>(timeout.count()));
    }
    /// Beside other hooks; a timeout of 0 means none. The token that on_hook_done() brings back (exit code 127: no such
    /// hook), or 0 when the host is older than ABI 1.1.
    std::uint64_t start_hook(std::string_view name, std::span<const std::string> arguments,
                             std::chrono::nanoseconds timeout) const {
        if (host_->struct_size < offsetof(stead_host_v1, cancel_hook) + sizeof host_->cancel_hook) {
            return 0;
        }
        const auto argv = to_argv(arguments);
        return host_->start_hook(host_->context, to_c(name), argv.data(), static_cast<std::uint32_t>(argv.size()),
                                 static_cast<std::uint64_t>(timeout.count()));
    }
    /// Ends what start_hook() gave this token for.
    void cancel_hook(std::uint64_t token) const noexcept { host_->cancel_hook(host_->context, token); }
    /// A rule in the classic language, in the constructor or in on_update(): "t_web: if (tcp.web == down) then
    /// restart();". The text says what is wrong with it, and where.
    [[nodiscard]] std::optional<std::string> add_rule(std::string_view rule) const {
        if (host_->struct_size < offsetof(stead_host_v1, add_rule) + sizeof host_->add_rule) {
            return "rules need a host of ABI 1.1";
        }
        return text_of(
            [&](char* err, std::uint32_t cap) { return host_->add_rule(host_->context, to_c(rule), err, cap); });
    }

    // ABI 1.3.
    /// Inside on_hook_done() only: why the hook did not succeed, one line; empty when nobody says.
    [[nodiscard]] std::string hook_reason() const {
        if (host_->struct_size < offsetof(stead_host_v1, hook_reason) + sizeof host_->hook_reason) {
            return {};
        }
        std::array<char, 512> text{};
        const auto size = host_->hook_reason(host_->context, text.data(), text.size());
        return {text.data(), std::min(text.size(), static_cast<std::size_t>(std::max<std::int64_t>(size, 0)))};
    }
    /// Why the resource that was published last has its value: for `state -v`, until it is published again.
    void explain(std::string_view name, std::string_view reason) const noexcept {
        if (host_->struct_size >= offsetof(stead_host_v1, explain) + sizeof host_->explain) {
            host_->explain(host_->context, to_c(name), to_c(reason));
        }
    }
    /// As start_hook(), for what only looks: nothing that it started outlives it. 0: the host is older than ABI 1.3.
    std::uint64_t start_check(std::string_view name, std::span<const std::string> arguments,
                              std::chrono::nanoseconds timeout) const {
        if (host_->struct_size < offsetof(stead_host_v1, start_check) + sizeof host_->start_check) {
            return 0;
        }
        const auto argv = to_argv(arguments);
        return host_->start_check(host_->context, to_c(name), argv.data(), static_cast<std::uint32_t>(argv.size()),
                                  static_cast<std::uint64_t>(timeout.count()));
    }

    // ABI 1.2. A host that is older refuses a plugin of 1.2, so they are there.
    /// Mirror: where this node belongs, see plugin.h. `expected`: shown Transient, not NotReady or Ready.
    void set_role(stead_state state, std::string_view reason = {}, bool expected = false) const noexcept {
        host_->set_role(host_->context, state, to_c(reason), expected ? 1 : 0);
    }
    /// The numeric address of a node; an empty LAN = the first that has that node and this one.
    [[nodiscard]] std::optional<std::string> node_address(std::string_view lan, std::uint32_t node) const {
        std::array<char, 64> out{};
        if (host_->node_address(host_->context, to_c(lan), node, out.data(), out.size()) != 0) {
            return std::nullopt;
        }
        return std::string{out.data()};
    }
    /// 1 or 2 keys of 32 bytes, the one to use first. Ask again for each connection.
    [[nodiscard]] std::vector<std::string> stream_keys(std::string_view purpose) const {
        std::uint8_t raw[2][32]{};
        const std::uint32_t count = host_->stream_keys(host_->context, to_c(purpose), raw);
        std::vector<std::string> keys;
        for (std::uint32_t i = 0; i < std::min(count, 2U); ++i) {
            keys.emplace_back(raw[i], raw[i] + 32);
        }
        return keys;
    }
    /// The token that on_witness() brings back, or 0 when there is no such node.
    [[nodiscard]] std::uint64_t ask_witness(std::string_view witness, std::string_view key, std::uint64_t counter,
                                            std::uint32_t holder, std::chrono::nanoseconds timeout) const noexcept {
        return host_->ask_witness(host_->context, to_c(witness), to_c(key), counter, holder,
                                  static_cast<std::uint64_t>(timeout.count()));
    }
    /// In on_command(): what command_done() wants; 0 when the answer cannot wait.
    [[nodiscard]] std::uint64_t command_token() const noexcept { return host_->command_token(host_->context); }
    /// The answer to a command that on_command() left Answer::pending.
    void command_done(std::uint64_t token, std::string_view text = {}) const noexcept {
        host_->command_done(host_->context, token, 1, to_c(text));
    }
    void command_failed(std::uint64_t token, std::string_view reason) const noexcept {
        host_->command_done(host_->context, token, 0, to_c(reason));
    }
    [[nodiscard]] const stead_host_v1* c() const noexcept { return host_; }

private:
    static std::vector<stead_str> to_argv(std::span<const std::string> arguments) {
        std::vector<stead_str> argv;
        for (const std::string& argument : arguments) {
            argv.push_back(to_c(argument));
        }
        return argv;
    }
    static stead_address to_address(const Address& address) noexcept {
        return {to_c(address.interface), to_c(address.address)};
    }
    template <class Call>
    static std::optional<std::string> text_of(Call call) {
        std::array<char, 512> err{};
        if (call(err.data(), static_cast<std::uint32_t>(err.size())) == 0) {
            return std::nullopt;
        }
        return err[0] == '\0' ? std::string{"failed without a reason"} : std::string{err.data()};
    }
    const stead_host_v1* host_;
};

/// One finding of check(): error(line, text), warning(line, text).
class Report {
public:
    using Function = void (*)(void*, std::uint32_t, std::uint32_t, stead_str);
    Report(void* context, Function function) noexcept : context_(context), function_(function) {}
    void error(std::uint32_t line, std::string_view text) const noexcept { function_(context_, line, 0, to_c(text)); }
    void warning(std::uint32_t line, std::string_view text) const noexcept { function_(context_, line, 1, to_c(text)); }

private:
    void* context_;
    Function function_;
};

/// Answer to on_command. Pending: host.command_done(token) follows, with the token of host.command_token().
enum class Answer : std::int32_t {
    pending = STEAD_COMMAND_PENDING,
    done = STEAD_COMMAND_DONE,
    refused = STEAD_COMMAND_REFUSED,
    not_mine = STEAD_COMMAND_NOT_MINE
};

/// What both kinds of plugin may override. Every member runs on the module's strand but on_lease.
class Plugin {
public:
    Plugin() = default;
    Plugin(const Plugin&) = delete;
    Plugin& operator=(const Plugin&) = delete;
    virtual ~Plugin() = default;

    virtual void start() = 0;
    /// After it returns, no host call but log.
    virtual void stop() = 0;

    virtual void on_timer(std::uint64_t /*id*/) {}
    virtual void on_view(const stead_view& /*view*/) {}
    /// No value: the resource was removed.
    virtual void on_resource(std::uint32_t /*node*/, std::string_view /*name*/,
                             std::optional<std::string_view> /*value*/) {}
    virtual void on_message(std::uint32_t /*from*/, std::string_view /*kind*/, std::uint32_t /*version*/,
                            std::string_view /*body*/) {}
    virtual void on_link(std::uint32_t /*ifindex*/, bool /*up*/) {}
    virtual void on_hook_done(std::uint64_t /*token*/, std::int32_t /*exit_code*/) {}
    /// The answer to Host::ask_witness().
    virtual void on_witness(std::uint64_t /*token*/, stead_witness_verdict /*verdict*/) {}
    /// Throws to refuse: the old values stay.
    virtual void on_update(Config /*config*/) {}
    virtual Answer on_command(std::string_view /*verb*/, std::span<const std::string_view> /*arguments*/,
                              std::string& /*answer*/) {
        return Answer::not_mine;
    }
};

/// Probes things and publishes verdicts: host.publish("tcp.web80", "up").
class Checker : public Plugin {
public:
    /// The classes (STEAD_WHEN_*) armed from now on; see plugin.h.
    virtual void on_armed(std::uint32_t /*when*/) {}
};

/// Takes part in state changes.
class Service : public Plugin {
public:
    /// Answer with host.transition_done(transition.token), now or later.
    virtual void on_transition(const stead_transition& transition) = 0;
    /// Bus thread: one aligned 8-byte store and nothing else. Called with 0 before destruction.
    virtual void on_lease(std::uint64_t /*until_boottime_ns*/) noexcept {}
    /// See stead_plugin_descriptor::lease_fd.
    [[nodiscard]] virtual std::int32_t lease_fd() noexcept { return -1; }
    /// May this plugin choose a role (Host::set_role)? See plugin.h.
    virtual void on_ready(bool /*ready*/) {}
    /// A peer's stead-host of this module has ended, and its lease is closed.
    virtual void on_peer_died(std::uint32_t /*node*/) {}
};

namespace detail {

/// The object behind `self`.
template <class T>
struct Instance {
    Host host;
    T plugin;
    Instance(Host given, Config config) : host(given), plugin(given, config) {}
};

inline void log_exception(const Host& host, const char* where) noexcept {
    try {
        throw;
    } catch (const std::exception& e) {
        try {
            host.error(std::string{where} + ": " + e.what());
        } catch (...) {
            host.error("out of memory in a callback");
        }
    } catch (...) {
        host.error("unknown exception in a callback");
    }
}

/// Runs `call`; an exception becomes -1 and a text.
template <class Call>
std::int32_t guarded(char* err, std::uint32_t cap, Call call) noexcept {
    try {
        call();
        return 0;
    } catch (const std::exception& e) {
        copy_text(e.what(), err, cap);
    } catch (...) {
        copy_text("unknown exception", err, cap);
    }
    return -1;
}

/// The C functions of one plugin class.
template <class T>
struct Functions {
    using Self = Instance<T>;
    static Self& of(void* self) noexcept { return *static_cast<Self*>(self); }

    template <class Call>
    static void run(void* self, const char* where, Call call) noexcept {
        try {
            call(of(self).plugin);
        } catch (...) {
            log_exception(of(self).host, where);
        }
    }

    static void* create(const stead_host_v1* host, const stead_xml* config, char* err, std::uint32_t cap) noexcept {
        Self* made = nullptr;
        guarded(err, cap, [&] { made = new Self{Host{host}, Config{config}}; });
        return made;
    }
    static void start(void* self) noexcept {
        run(self, "start", [](T& plugin) { plugin.start(); });
    }
    static void stop(void* self) noexcept {
        run(self, "stop", [](T& plugin) { plugin.stop(); });
    }
    static void destroy(void* self) noexcept {
        if constexpr (std::is_base_of_v<Service, T>) {
            of(self).plugin.on_lease(0);
        }
        delete &of(self);
    }
    static void on_timer(void* self, std::uint64_t id) noexcept {
        run(self, "on_timer", [&](T& plugin) { plugin.on_timer(id); });
    }
    static void on_view(void* self, const stead_view* view) noexcept {
        run(self, "on_view", [&](T& plugin) { plugin.on_view(*view); });
    }
    static void on_resource(void* self, std::uint32_t node, stead_str name, stead_str value) noexcept {
        run(self, "on_resource", [&](T& plugin) {
            plugin.on_resource(node, to_view(name),
                               value.data == nullptr ? std::nullopt : std::optional{to_view(value)});
        });
    }
    static void on_message(void* self, std::uint32_t from, stead_str kind, std::uint32_t version,
                           stead_str body) noexcept {
        run(self, "on_message", [&](T& plugin) { plugin.on_message(from, to_view(kind), version, to_view(body)); });
    }
    static void on_transition(void* self, const stead_transition* transition) noexcept {
        try {
            of(self).plugin.on_transition(*transition);
        } catch (const std::exception& e) {
            of(self).host.transition_failed(transition->token, e.what());
        } catch (...) {
            of(self).host.transition_failed(transition->token, "unknown exception in on_transition");
        }
    }
    static void on_link(void* self, std::uint32_t ifindex, std::uint32_t up) noexcept {
        run(self, "on_link", [&](T& plugin) { plugin.on_link(ifindex, up != 0); });
    }
    static void on_hook_done(void* self, std::uint64_t token, std::int32_t exit_code) noexcept {
        run(self, "on_hook_done", [&](T& plugin) { plugin.on_hook_done(token, exit_code); });
    }
    static std::int32_t on_update(void* self, const stead_xml* config, char* err, std::uint32_t cap) noexcept {
        return guarded(err, cap, [&] { of(self).plugin.on_update(Config{config}); });
    }
    static void on_lease(void* self, std::uint64_t until) noexcept { of(self).plugin.on_lease(until); }
    static std::int32_t lease_fd(void* self) noexcept { return of(self).plugin.lease_fd(); }
    static std::int32_t on_command(void* self, stead_str verb, const stead_str* argv, std::uint32_t argc, char* out,
                                   std::uint32_t cap) noexcept {
        Answer answer = Answer::refused;
        guarded(out, cap, [&] {
            std::vector<std::string_view> arguments;
            for (const stead_str& argument : std::span(argv, argc)) {
                arguments.push_back(to_view(argument));
            }
            std::string text;
            answer = of(self).plugin.on_command(to_view(verb), arguments, text);
            copy_text(text, out, cap);
        });
        return static_cast<std::int32_t>(answer);
    }
    static void on_armed(void* self, std::uint32_t when) noexcept {
        run(self, "on_armed", [&](T& plugin) { plugin.on_armed(when); });
    }
    static void on_ready(void* self, std::uint32_t ready) noexcept {
        run(self, "on_ready", [&](T& plugin) { plugin.on_ready(ready != 0); });
    }
    static void on_peer_died(void* self, std::uint32_t node) noexcept {
        run(self, "on_peer_died", [&](T& plugin) { plugin.on_peer_died(node); });
    }
    static void on_witness(void* self, std::uint64_t token, std::uint32_t verdict) noexcept {
        const auto said =
            verdict <= STEAD_WITNESS_REFUSED ? static_cast<stead_witness_verdict>(verdict) : STEAD_WITNESS_UNANSWERED;
        run(self, "on_witness", [&](T& plugin) { plugin.on_witness(token, said); });
    }
    static void check(const stead_xml* config, void* context, Report::Function function) noexcept {
        std::array<char, 512> text{};
        if (guarded(text.data(), text.size(), [&] { T::check(Config{config}, Report{context, function}); }) != 0) {
            Report{context, function}.error(config->line, text.data());
        }
    }
    static std::int32_t cleanup(const stead_host_v1* host, const stead_xml* config, char* err,
                                std::uint32_t cap) noexcept {
        return guarded(err, cap, [&] { T::cleanup(Host{host}, Config{config}); });
    }
    static std::int32_t bus_wish(const stead_xml* config, stead_bus_wish* wish, char* err, std::uint32_t cap) noexcept {
        return guarded(err, cap, [&] { T::bus_wish(Config{config}, *wish); });
    }
};

template <class T>
constexpr stead_plugin_descriptor describe(stead_kind kind, const char* id, const char* version,
                                           const stead_elem_schema* schema, std::uint32_t schema_count) {
    using F = Functions<T>;
    stead_plugin_descriptor d{};
    d.magic = STEAD_PLUGIN_MAGIC;
    d.abi_major = STEAD_ABI_MAJOR;
    d.abi_minor = STEAD_ABI_MINOR;
    d.struct_size = sizeof(stead_plugin_descriptor);
    d.id = id;
    d.version = version;
    d.kind = kind;
    d.schema_count = schema_count;
    d.schema = schema;
    d.create = F::create;
    d.start = F::start;
    d.stop = F::stop;
    d.destroy = F::destroy;
    d.on_timer = F::on_timer;
    d.on_view = F::on_view;
    d.on_resource = F::on_resource;
    d.on_message = F::on_message;
    d.on_link = F::on_link;
    d.on_hook_done = F::on_hook_done;
    d.on_update = F::on_update;
    d.on_command = F::on_command;
    d.on_witness = F::on_witness;
    if constexpr (std::is_base_of_v<Service, T>) {
        d.on_transition = F::on_transition;
        d.on_lease = F::on_lease;
        d.lease_fd = F::lease_fd;
        d.on_ready = F::on_ready;
        d.on_peer_died = F::on_peer_died;
    }
    if constexpr (std::is_base_of_v<Checker, T>) {
        d.on_armed = F::on_armed;
    }
    if constexpr (requires { T::switch_name; }) {
        d.switch_name = T::switch_name;
    }
    if constexpr (requires(Config c, const Report& r) { T::check(c, r); }) {
        d.check = F::check;
    }
    if constexpr (requires(Host h, Config c) { T::cleanup(h, c); }) {
        d.cleanup = F::cleanup;
    }
    if constexpr (requires(Config c, stead_bus_wish & w) { T::bus_wish(c, w); }) {
        d.bus_wish = F::bus_wish;
    }
    return d;
}

} // namespace detail
} // namespace stead::plugin

// clang-format off
#define STEAD_EXPORT_PLUGIN_(kind, Class, id, version, schema)                                                         \
    extern "C" STEAD_PLUGIN_EXPORT constinit const stead_plugin_descriptor stead_plugin_v1 =                           \
        ::stead::plugin::detail::describe<Class>(kind, id, version, std::data(schema),                                 \
                                                 static_cast<std::uint32_t>(std::size(schema)));
/// At global scope of one source file. `schema`: a static constexpr array of stead_elem_schema.
#define STEAD_EXPORT_SERVICE(Class, id, version, schema) \
    STEAD_EXPORT_PLUGIN_(STEAD_KIND_SERVICE, Class, id, version, schema)
#define STEAD_EXPORT_CHECKER(Class, id, version, schema) \
    STEAD_EXPORT_PLUGIN_(STEAD_KIND_CHECKER, Class, id, version, schema)
// clang-format on

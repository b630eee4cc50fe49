// SPDX-License-Identifier: Apache-2.0
#include "slot.hpp"

#include <stead/base/time.hpp>
#include <stead/net/net.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace stead::host {

namespace {

std::string_view view(stead_str text) noexcept {
    return text.data == nullptr ? std::string_view{} : std::string_view{text.data, text.size};
}
stead_str c(std::string_view text) noexcept { return {text.data(), text.size()}; }

void copy(std::string_view text, char* out, std::uint64_t cap) noexcept {
    if (out != nullptr && cap > 0) {
        const std::size_t size = std::min<std::size_t>(text.size(), cap - 1);
        std::memcpy(out, text.data(), size);
        out[size] = '\0';
    }
}

/// While a plugin's function runs nothing else of the module does; plugin.h allows 100 ms. One that takes far longer is
/// named in the log. (Between both lies what a busy machine may add.)
class Patience {
public:
    Patience(Slot& slot, const char* function) : slot_(slot), function_(function) {}
    Patience(const Patience&) = delete;
    Patience& operator=(const Patience&) = delete;
    ~Patience() {
        if (const auto took = BootClock::now() - began_; took >= limit) {
            slot_.services().plugin_log(slot_, log::Level::warning,
                                        std::string{function_} + " took " +
                                            std::to_string(took / std::chrono::milliseconds{1}) +
                                            " ms, and held up the module; a plugin's function may take 100 ms");
        }
    }

private:
    static constexpr std::chrono::milliseconds limit{500};
    Slot& slot_;
    const char* function_;
    const Instant began_ = BootClock::now();
};

Slot& slot(void* context) noexcept { return *static_cast<Slot*>(context); }

std::int32_t answer(const Result<void>& result, char* err, std::uint32_t cap) noexcept {
    if (result) {
        return 0;
    }
    copy(result.error().text(), err, cap);
    return -1;
}

/// The named interface, or the one whose subnet carries the address.
Result<net::Interface> interface_of(const stead_address& address) {
    if (address.interface.size == 0) {
        return net::interface_for(std::string{view(address.address)});
    }
    auto all = net::interfaces();
    if (!all) {
        return all.error();
    }
    std::string names;
    for (net::Interface& one : *all) {
        if (one.name == view(address.interface)) {
            return std::move(one);
        }
        names += " " + one.name;
    }
    return Error{Errc::not_found, std::string{view(address.interface)}, "no such interface; there are:" + names};
}

void host_log(void* context, std::uint32_t level, stead_str line) {
    slot(context).services().plugin_log(slot(context), static_cast<log::Level>(std::min(level, 3U)), view(line));
}
std::uint64_t host_now(void*) { return static_cast<std::uint64_t>(to_ns(BootClock::now())); }
void host_set_timer(void* context, std::uint64_t id, std::uint64_t at) {
    slot(context).services().set_timer(slot(context), id, at);
}
std::int32_t host_publish(void* context, stead_str name, stead_str value) {
    const auto given = value.data == nullptr ? std::nullopt : std::optional{view(value)};
    return slot(context).services().publish(slot(context), view(name), given) ? 0 : -1;
}
std::int64_t host_read(void* context, std::uint32_t node, stead_str name, char* out, std::uint64_t cap) {
    const auto value = slot(context).services().read(node, view(name));
    if (!value) {
        return -1;
    }
    if (out != nullptr) {
        std::memcpy(out, value->data(), std::min<std::size_t>(value->size(), cap));
    }
    return static_cast<std::int64_t>(value->size());
}
void host_watch(void* context, stead_str prefix) {
    slot(context).services().watch(slot(context), std::string{view(prefix)});
}
std::int32_t host_send(void* context, std::uint64_t nodes, stead_str kind, std::uint32_t version, stead_str body) {
    return slot(context).services().send(slot(context), nodes, view(kind), version, view(body)) ? 0 : -1;
}
void host_set_weight(void* context, std::uint32_t weight) { slot(context).services().set_weight(weight); }
void host_set_config(void* context, std::uint64_t digest) {
    slot(context).services().set_config(slot(context), digest);
}
void host_transition_done(void* context, std::uint64_t token, std::int32_t ok, stead_str reason) {
    slot(context).services().transition_done(slot(context), token, ok != 0, std::string{view(reason)});
}
void host_request(void* context, stead_str action, stead_str reason) {
    slot(context).services().request(slot(context), std::string{view(action)}, std::string{view(reason)});
}
std::int32_t host_add_address(void* context, const stead_address* address, char* err, std::uint32_t cap) {
    return answer(slot(context).services().add_address(std::string{view(address->interface)},
                                                       std::string{view(address->address)}),
                  err, cap);
}
void host_remove_address(void* context, const stead_address* address) {
    slot(context).services().remove_address(std::string{view(address->interface)}, std::string{view(address->address)});
}
std::int32_t host_announce(void*, const stead_address* address, const std::uint8_t mac[6], char* err,
                           std::uint32_t cap) {
    const auto found = interface_of(*address);
    if (!found) {
        copy(found.error().text(), err, cap);
        return -1;
    }
    net::Mac bytes{};
    std::copy_n(mac, bytes.size(), bytes.begin());
    return answer(net::announce(found->index, std::string{view(address->address)}, bytes), err, cap);
}
std::int32_t host_probe(void* context, const stead_address* address, std::uint64_t timeout_ns, std::uint8_t mac[6]) {
    const auto found = interface_of(*address);
    if (!found) {
        slot(context).services().plugin_log(slot(context), log::Level::warning, "probe: " + found.error().text());
        return -1;
    }
    const auto taken = net::probe(found->index, std::string{view(address->address)},
                                  nanoseconds{static_cast<std::int64_t>(timeout_ns)});
    if (!taken) {
        slot(context).services().plugin_log(slot(context), log::Level::warning, "probe: " + taken.error().text());
        return -1;
    }
    if (!taken->has_value()) {
        return 0;
    }
    std::ranges::copy(**taken, mac);
    return 1;
}
std::int32_t host_find_interface(void*, const stead_address* address, char name[16], std::uint32_t* ifindex,
                                 std::uint8_t mac[6]) {
    const auto found = interface_of(*address);
    if (!found) {
        return -1;
    }
    copy(found->name, name, 16);
    *ifindex = found->index;
    std::ranges::copy(found->mac, mac);
    return 0;
}
void host_watch_link(void* context, std::uint32_t ifindex) {
    slot(context).services().watch_link(slot(context), ifindex);
}
std::vector<std::string> texts(const stead_str* argv, std::uint32_t argc) {
    std::vector<std::string> all;
    for (std::uint32_t i = 0; i < argc; ++i) {
        all.emplace_back(view(argv[i]));
    }
    return all;
}
std::uint64_t host_run_hook(void* context, stead_str name, const stead_str* argv, std::uint32_t argc,
                            std::uint64_t timeout_ns) {
    return slot(context).services().run_hook(slot(context), std::string{view(name)}, texts(argv, argc),
                                             nanoseconds{static_cast<std::int64_t>(timeout_ns)});
}
std::uint64_t host_start_hook(void* context, stead_str name, const stead_str* argv, std::uint32_t argc,
                              std::uint64_t timeout_ns) {
    return slot(context).services().start_hook(slot(context), std::string{view(name)}, texts(argv, argc),
                                               nanoseconds{static_cast<std::int64_t>(timeout_ns)}, true);
}
std::uint64_t host_start_check(void* context, stead_str name, const stead_str* argv, std::uint32_t argc,
                               std::uint64_t timeout_ns) {
    return slot(context).services().start_hook(slot(context), std::string{view(name)}, texts(argv, argc),
                                               nanoseconds{static_cast<std::int64_t>(timeout_ns)}, false);
}
void host_cancel_hook(void* context, std::uint64_t token) { slot(context).services().cancel_hook(token); }

std::int32_t host_add_rule(void* context, stead_str rule, char* err, std::uint32_t cap) {
    return answer(slot(context).add_rule(view(rule)), err, cap);
}
void host_set_role(void* context, std::uint32_t state, stead_str reason, std::uint32_t expected) {
    slot(context).services().set_role(slot(context), state, std::string{view(reason)}, expected != 0);
}
std::int32_t host_node_address(void* context, stead_str lan, std::uint32_t node, char* out, std::uint32_t cap) {
    const auto found = slot(context).services().node_address(view(lan), node);
    if (!found || found->size() >= cap) {
        return -1;
    }
    copy(*found, out, cap);
    return 0;
}
std::uint32_t host_stream_keys(void* context, stead_str purpose, std::uint8_t out[2][32]) {
    const auto keys = slot(context).services().stream_keys(slot(context), view(purpose));
    const auto count = static_cast<std::uint32_t>(std::min<std::size_t>(keys.size(), 2));
    for (std::uint32_t i = 0; i < count; ++i) {
        std::ranges::copy(keys[i], out[i]);
    }
    return count;
}
std::uint64_t host_ask_witness(void* context, stead_str node, stead_str key, std::uint64_t counter,
                               std::uint32_t holder, std::uint64_t timeout_ns) {
    const auto timeout = nanoseconds{static_cast<std::int64_t>(std::min<std::uint64_t>(timeout_ns, INT64_MAX))};
    return slot(context).services().ask_witness(slot(context), std::string{view(node)}, std::string{view(key)}, counter,
                                                holder, timeout);
}
std::uint64_t host_command_token(void* context) { return slot(context).command_token(); }
void host_command_done(void* context, std::uint64_t token, std::int32_t ok, stead_str text) {
    slot(context).services().command_done(slot(context), token, ok != 0, std::string{view(text)});
}

std::int64_t host_hook_reason(void* context, char* out, std::uint64_t cap) {
    const std::string_view reason = slot(context).hook_reason();
    const std::size_t size = std::min<std::size_t>(reason.size(), out != nullptr ? cap : 0);
    std::copy_n(reason.data(), size, out);
    return static_cast<std::int64_t>(size);
}
void host_explain(void* context, stead_str name, stead_str reason) {
    slot(context).services().explain(view(name), view(reason));
}

} // namespace

stead_host_v1 Slot::make_table() {
    stead_host_v1 table{};
    table.struct_size = sizeof table;
    table.abi_minor = STEAD_ABI_MINOR;
    table.context = this;
    table.module = c(facts_.module);
    table.node = c(facts_.node);
    table.mode = c(facts_.mode);
    table.var_folder = c(facts_.var_folder);
    table.prefix = c(facts_.prefix);
    table.module_id = facts_.module_id;
    table.self = facts_.self;
    table.seed_high = facts_.seed_high;
    table.seed_low = facts_.seed_low;
    table.log = host_log;
    table.now = host_now;
    table.set_timer = host_set_timer;
    table.publish = host_publish;
    table.read = host_read;
    table.watch = host_watch;
    table.send = host_send;
    table.set_weight = host_set_weight;
    table.set_config = host_set_config;
    table.transition_done = host_transition_done;
    table.request = host_request;
    table.add_address = host_add_address;
    table.remove_address = host_remove_address;
    table.announce = host_announce;
    table.probe = host_probe;
    table.find_interface = host_find_interface;
    table.watch_link = host_watch_link;
    table.run_hook = host_run_hook;
    table.add_rule = host_add_rule;
    table.start_hook = host_start_hook;
    table.cancel_hook = host_cancel_hook;
    table.set_role = host_set_role;
    table.node_address = host_node_address;
    table.stream_keys = host_stream_keys;
    table.ask_witness = host_ask_witness;
    table.command_token = host_command_token;
    table.command_done = host_command_done;
    table.hook_reason = host_hook_reason;
    table.explain = host_explain;
    table.start_check = host_start_check;
    return table;
}

Slot::Slot(const Plugin& plugin, Services& services, const SlotFacts& facts)
    : plugin_(plugin), services_(services), facts_(facts), table_(make_table()) {}

Slot::~Slot() {
    stop();
    if (self_ != nullptr) {
        descriptor().destroy(self_);
    }
}

Result<void> Slot::create(const config::Element& part) {
    std::array<char, 512> err{};
    const config::CTree tree(part);
    takes_rules_ = true;
    const Patience patience(*this, "create");
    self_ = descriptor().create(&table_, tree.root(), err.data(), err.size());
    takes_rules_ = false;
    if (self_ == nullptr) {
        return Error{Errc::refused, std::string{id()}, err[0] != '\0' ? err.data() : "create failed without a reason"};
    }
    return {};
}

void Slot::start() {
    running_ = true;
    const Patience patience(*this, "start");
    descriptor().start(self_);
}

void Slot::stop() {
    if (running_.exchange(false)) {
        descriptor().stop(self_);
    }
}

Result<void> Slot::cleanup(const config::Element& part) {
    if (descriptor().cleanup == nullptr) {
        return {};
    }
    std::array<char, 512> err{};
    const config::CTree tree(part);
    if (descriptor().cleanup(&table_, tree.root(), err.data(), err.size()) != 0) {
        return Error{Errc::io, std::string{id()}, err[0] != '\0' ? err.data() : "cleanup failed without a reason"};
    }
    return {};
}

Result<void> Slot::update(const config::Element& part) {
    if (descriptor().on_update == nullptr || !running_) {
        return {};
    }
    std::array<char, 512> err{};
    const config::CTree tree(part);
    std::vector<rules::Rule> before = std::exchange(rules_, {});
    takes_rules_ = true;
    const Patience patience(*this, "on_update");
    const auto updated = descriptor().on_update(self_, tree.root(), err.data(), err.size());
    takes_rules_ = false;
    if (updated != 0) {
        rules_ = std::move(before);
        return Error{Errc::refused, std::string{id()}, err[0] != '\0' ? err.data() : "update refused without a reason"};
    }
    return {};
}

Result<void> Slot::add_rule(std::string_view text) {
    if (!takes_rules_) {
        return Error{Errc::refused, std::string{text}, "rules are added in create and on_update only"};
    }
    const bool mirror = facts_.mode == "mirror";
    auto parsed = rules::parse_rules(text, {.file = std::string{id()}}, {.remote = mirror, .swap = mirror}, {});
    if (parsed.ok() && parsed.rules.size() != 1) {
        return Error{Errc::malformed, std::string{text},
                     std::to_string(parsed.rules.size()) + " rules; allowed: one in a call"};
    }
    if (!parsed.ok()) {
        const rules::Problem& first = parsed.problems.front();
        return Error{Errc::malformed, std::string{text},
                     "column " + std::to_string(first.place.column) + ": " + first.text};
    }
    rules::Rule& one = parsed.rules.front();
    if (std::ranges::find(rules_, one.label, &rules::Rule::label) != rules_.end()) {
        return Error{Errc::conflict, one.label, "a second rule of this label"};
    }
    rules_.push_back(std::move(one));
    return {};
}

void Slot::on_armed(std::uint32_t when) {
    if (running_ && descriptor().on_armed != nullptr && armed_ != when) {
        armed_ = when;
        const Patience patience(*this, "on_armed");
        descriptor().on_armed(self_, when);
    }
}

void Slot::on_ready(bool ready) {
    if (running_ && descriptor().on_ready != nullptr && ready_ != ready) {
        ready_ = ready;
        const Patience patience(*this, "on_ready");
        descriptor().on_ready(self_, ready ? 1 : 0);
    }
}

void Slot::on_peer_died(std::uint32_t node) {
    if (running_ && descriptor().on_peer_died != nullptr) {
        const Patience patience(*this, "on_peer_died");
        descriptor().on_peer_died(self_, node);
    }
}

void Slot::on_witness(std::uint64_t token, std::uint32_t verdict) {
    if (running_ && descriptor().on_witness != nullptr) {
        const Patience patience(*this, "on_witness");
        descriptor().on_witness(self_, token, verdict);
    }
}

void Slot::on_timer(std::uint64_t timer) {
    if (running_ && descriptor().on_timer != nullptr) {
        const Patience patience(*this, "on_timer");
        descriptor().on_timer(self_, timer);
    }
}

void Slot::on_view(const stead_view& changed) {
    if (running_ && descriptor().on_view != nullptr) {
        const Patience patience(*this, "on_view");
        descriptor().on_view(self_, &changed);
    }
}

void Slot::on_resource(std::uint32_t node, std::string_view name, std::optional<std::string_view> value) {
    if (!running_ || descriptor().on_resource == nullptr ||
        std::ranges::none_of(watched, [&](const std::string& prefix) { return name.starts_with(prefix); })) {
        return;
    }
    // An empty value is there; only a removed one has no data.
    const stead_str given =
        value ? stead_str{value->data() != nullptr ? value->data() : "", value->size()} : stead_str{nullptr, 0};
    const Patience patience(*this, "on_resource");
    descriptor().on_resource(self_, node, c(name), given);
}

void Slot::on_message(std::uint32_t from, std::string_view kind, std::uint32_t version, std::string_view body) {
    if (running_ && descriptor().on_message != nullptr) {
        const Patience patience(*this, "on_message");
        descriptor().on_message(self_, from, c(kind), version, c(body));
    }
}

void Slot::on_transition(const stead_transition& transition) {
    const Patience patience(*this, "on_transition");
    descriptor().on_transition(self_, &transition);
}

void Slot::on_link(std::uint32_t ifindex, bool up) {
    if (running_ && descriptor().on_link != nullptr && watched_links.contains(ifindex)) {
        const Patience patience(*this, "on_link");
        descriptor().on_link(self_, ifindex, up ? 1 : 0);
    }
}

void Slot::on_hook_done(std::uint64_t token, std::int32_t exit_code, std::string_view reason) {
    if (running_ && descriptor().on_hook_done != nullptr) {
        hook_reason_ = reason;
        const Patience patience(*this, "on_hook_done");
        descriptor().on_hook_done(self_, token, exit_code);
        hook_reason_ = {};
    }
}

void Slot::on_lease(std::uint64_t until) noexcept { descriptor().on_lease(self_, until); }

std::int32_t Slot::lease_fd() {
    return self_ != nullptr && descriptor().lease_fd != nullptr ? descriptor().lease_fd(self_) : -1;
}

std::int32_t Slot::command(std::string_view verb, const std::vector<std::string>& argv, std::string& line,
                           std::uint64_t token) {
    if (!running_ || descriptor().on_command == nullptr) {
        return STEAD_COMMAND_NOT_MINE;
    }
    std::vector<stead_str> arguments;
    for (const std::string& argument : argv) {
        arguments.push_back(c(argument));
    }
    std::vector<char> out(65536, '\0');
    command_token_ = token;
    const Patience patience(*this, "on_command");
    const auto code =
        descriptor().on_command(self_, c(verb), arguments.data(), static_cast<std::uint32_t>(arguments.size()),
                                out.data(), static_cast<std::uint32_t>(out.size()));
    command_token_ = 0;
    line = out.data();
    if (code == STEAD_COMMAND_PENDING && token == 0) {
        line = "the plugin wants to answer later, and nobody can wait here";
        return STEAD_COMMAND_REFUSED;
    }
    return code;
}

} // namespace stead::host

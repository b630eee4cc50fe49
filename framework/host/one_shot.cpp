// SPDX-License-Identifier: Apache-2.0
#include "one_shot.hpp"

#include "check.hpp"
#include "facts.hpp"
#include "slot.hpp"

#include <stead/base/utf8.hpp>
#include <stead/control/module_log.hpp>
#include <stead/net/net.hpp>
#include <stead/script/dry_run.hpp>
#include <stead/script/supervisor.hpp>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <future>
#include <iostream>
#include <mutex>

namespace stead::host {

namespace {

constexpr nanoseconds supervised_patience = seconds{5}; // steadd gives the whole of a cleanup 10 s

/// What cleanup() may use: log and network. There is no bus and no strand.
class CleanupServices final : public Services {
public:
    void plugin_log(const Slot& slot, log::Level level, std::string_view line) override {
        log::write(level, slot.id(), line);
    }
    void set_timer(Slot&, std::uint64_t, std::uint64_t) override {}
    bool publish(const Slot&, std::string_view, std::optional<std::string_view>) override { return false; }
    std::optional<std::string> read(std::uint32_t, std::string_view) override { return std::nullopt; }
    void watch(Slot&, std::string) override {}
    bool send(const Slot&, std::uint64_t, std::string_view, std::uint32_t, std::string_view) override { return false; }
    void set_weight(std::uint32_t) override {}
    void set_config(const Slot&, std::uint64_t) override {}
    void transition_done(Slot&, std::uint64_t, bool, std::string) override {}
    void request(const Slot&, std::string, std::string) override {}
    void watch_link(Slot&, std::uint32_t) override {}
    std::uint64_t run_hook(Slot&, std::string, std::vector<std::string>, nanoseconds) override { return 0; }
    std::uint64_t start_hook(Slot&, std::string, std::vector<std::string>, nanoseconds, bool) override { return 0; }
    void cancel_hook(std::uint64_t) override {}
    void set_role(const Slot&, std::uint32_t, std::string, bool) override {}
    std::optional<std::string> node_address(std::string_view, std::uint32_t) override { return std::nullopt; }
    std::vector<std::array<std::uint8_t, 32>> stream_keys(const Slot&, std::string_view) override { return {}; }
    std::uint64_t ask_witness(Slot&, std::string, std::string, std::uint64_t, std::uint32_t, nanoseconds) override {
        return 0;
    }
    void command_done(const Slot&, std::uint64_t, bool, std::string) override {}
    void explain(std::string_view, std::string_view) override {}
    Result<void> add_address(const std::string&, const std::string& address) override {
        return Error{Errc::refused, address, "cleanup adds no address"};
    }
    void remove_address(const std::string& interface, const std::string& address) override {
        auto found = net::interface_for(address);
        if (auto all = net::interfaces(); all && !interface.empty()) {
            const auto named = std::ranges::find(*all, interface, &net::Interface::name);
            if (named == all->end()) {
                return; // gone, and the address with it
            }
            found = *named;
        }
        if (!found) {
            return;
        }
        if (auto removed = net::remove_address(found->index, address); !removed) {
            log::warning("host", "cleanup: " + removed.error().text());
        }
    }
};

/// A hook outside of a running module sees no resources. Its log is the module's.
class NoHost final : public script::HookHost {
public:
    NoHost(const control::Paths& paths, const std::string& module) : log_(paths.module_log(module), module) {}
    void log(int level, std::string_view line) override {
        log_.write(static_cast<stead::log::Level>(std::clamp(level, 0, 3)), "script", line);
    }
    std::optional<std::string> resource(std::string_view) override { return std::nullopt; }
    Result<void> set_resource(std::string_view name, std::string_view) override {
        return Error{Errc::refused, std::string{name}, "the module does not run"};
    }
    std::string view_json() override { return R"({"epoch":0,"self":"","members":[]})"; }
    std::string state_name() override { return "STOP NotReady"; }

private:
    control::ModuleLog log_;
};

} // namespace

int cleanup_module(const std::string& module, const Registry& registry, const control::Paths& paths) {
    const auto facts = read_facts(module, paths, registry, false);
    if (!facts) {
        log::error("host", "cleanup: " + facts.error().text());
        std::cerr << "stead-host: " << facts.error().text() << "\n";
        return 1;
    }
    script::stop_supervised(paths.supervised(module), supervised_patience, [](int level, std::string_view line) {
        log::write(static_cast<log::Level>(level), "script", line);
    });
    CleanupServices services;
    int exit_code = 0;
    for (const Plugin& plugin : registry.plugins()) {
        if (!facts->config.uses(facts->schemas, plugin.descriptor.id)) {
            continue;
        }
        const SlotFacts slot_facts{.module = module,
                                   .node = {},
                                   .mode = std::string{facts->config.mode_name()},
                                   .var_folder = paths.module_var(module).string(),
                                   .prefix = paths.prefix.string(),
                                   .module_id = facts->module_id,
                                   .self = index(facts->self),
                                   .seed_high = 0,
                                   .seed_low = 0};
        Slot slot(plugin, services, slot_facts);
        if (auto cleaned = slot.cleanup(facts->config.part_for(facts->schemas, plugin.descriptor.id)); !cleaned) {
            log::error("host", "cleanup: " + cleaned.error().text());
            std::cerr << "stead-host: " << cleaned.error().text() << "\n";
            exit_code = 1;
        }
    }
    return exit_code;
}

int run_one_hook(const HookPlace& place, const std::string& hook, const std::vector<std::string>& arguments,
                 const Registry& registry, const control::Paths& paths) {
    const auto facts = read_facts(place.module, paths, registry, false, place.active);
    if (!facts) {
        std::cerr << "stead-host: " << facts.error().text() << "\n";
        return 1;
    }
    if (!facts->config.user.present) {
        return 0;
    }
    control::ModuleLog user_log(paths.user_log(place.module), place.module,
                                std::uint64_t{std::max(facts->config.user.log_kilobytes, 16U)} * 1024);
    NoHost none(paths, place.module);
    std::mutex output_mutex;
    const bool logged = facts->config.user.log && hook != "state" && hook != "level"; // whoever asked those has it
    auto folders = facts->folders();
    folders.node = place.node;
    auto runner = script::HookRunner::create(std::move(folders), none, [&](std::string_view line, bool is_error) {
        const std::lock_guard lock(output_mutex);
        (is_error ? std::cerr : std::cout) << line << "\n";
        if (logged) {
            user_log.write_raw(line);
        }
    });
    if (const auto has = runner->has(hook); !has) {
        std::cerr << "stead-host: " << has.error().text() << "\n";
        return 1;
    } else if (!*has) {
        return 0;
    }
    std::promise<script::HookResult> done;
    runner->start(hook, arguments, {}, [&](const script::HookResult& result) { done.set_value(result); });
    const script::HookResult result = done.get_future().get();
    runner.reset();
    std::cout.flush();
    if (!result.ok()) {
        std::cerr << "stead-host: " << result.reason << "\n";
    }
    return result.ok() ? 0 : result.exit_code != 0 ? result.exit_code : 1;
}

int rehearse_module(const HookPlace& place, const Registry& registry, const control::Paths& paths) {
    namespace json = boost::json;
    const auto facts = read_facts(place.module, paths, registry, false, place.active);
    if (!facts) {
        std::cerr << "stead-host: " << facts.error().text() << "\n";
        return 1;
    }
    auto folders = facts->folders();
    folders.node = place.node;
    const script::DryRun done = script::dry_run(folders);
    json::array hooks, findings;
    for (const script::DryRun::Hook& hook : done.hooks) {
        hooks.push_back(json::object{{"hook", hook.name},
                                     {"arguments", json::array(hook.arguments.begin(), hook.arguments.end())},
                                     {"lines", json::array(hook.lines.begin(), hook.lines.end())}});
    }
    json::object environment;
    for (const auto& [name, value] : done.environment) {
        environment[name] = value;
    }
    for (const auto* list : {&done.errors, &done.warnings}) {
        for (const Error& one : *list) {
            findings.push_back(to_json(finding_of(one, list == &done.warnings)));
        }
    }
    const json::object answer{{"ok", done.errors.empty()},
                              {"text", done.text()},
                              {"hooks", std::move(hooks)},
                              {"environment", std::move(environment)},
                              {"findings", std::move(findings)}};
    std::cout << utf8_json(json::serialize(answer)) << "\n";
    return done.errors.empty() ? 0 : 1;
}

} // namespace stead::host

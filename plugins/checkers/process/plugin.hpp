// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "classes.hpp"
#include "options.hpp"

#include <stead/process/watcher.hpp>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace stead::process {

/// <errd>: watches processes, publishes proc.<name>, and asks for the action of one that is missing or too many.
///
/// The watcher's thread looks, the strand judges and acts: an action can therefore not be asked for after the module
/// has disarmed the class.
class ProcessChecker final : public plugin::Checker {
public:
    static constexpr const char* switch_name = "errd";

    ProcessChecker(plugin::Host host, plugin::Config config);

    static void check(plugin::Config config, const plugin::Report& report);

    void start() override;
    void stop() override;
    void on_armed(std::uint32_t when) override;
    void on_timer(std::uint64_t id) override;
    void on_resource(std::uint32_t node, std::string_view name, std::optional<std::string_view> value) override;
    void on_hook_done(std::uint64_t token, std::int32_t exit_code) override;
    void on_update(plugin::Config config) override;
    plugin::Answer on_command(std::string_view verb, std::span<const std::string_view> arguments,
                              std::string& answer) override;

private:
    void watch(Options options);
    void arm();
    void look_again();
    void take(const Watcher::Look& look);
    void perform(const Judge::Decision& decision);
    void run_handler(std::size_t index);
    void publish(std::size_t index);
    [[nodiscard]] plugin::Answer errd(std::span<const std::string_view> arguments, std::string& answer);
    [[nodiscard]] std::string list() const;
    [[nodiscard]] std::string list_json() const; ///< whole processes only; "complete": all of them

    plugin::Host host_;
    Classes classes_;
    Judge judge_;
    std::uint32_t when_{};
    std::map<std::uint64_t, std::size_t> handlers_; ///< token of a running handler -> spec
    std::vector<Found> found_;                      ///< of the last look, for `errd list`
    std::string trouble_;
    bool running_{}, ready_{};

    std::mutex mutex_; ///< guards looks_
    std::vector<Watcher::Look> looks_;
    std::unique_ptr<Watcher> watcher_; ///< last: its thread uses what stands above
};

} // namespace stead::process

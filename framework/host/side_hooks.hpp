// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/script/script.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace stead::host {

/// Hooks that run beside each other, for plugins: each has a runner of its own. Strand only.
class SideHooks {
public:
    static constexpr std::size_t running_max = 256;
    /// Exit code, and the reason when it is not 0.
    using Done = std::function<void(std::int32_t exit_code, const std::string& reason)>;
    using Post = std::function<void(std::function<void()>)>;

    /// `post` brings work to the strand.
    explicit SideHooks(Post post) : post_(std::move(post)) {}
    SideHooks(const SideHooks&) = delete;
    SideHooks& operator=(const SideHooks&) = delete;
    /// Ends what runs.
    ~SideHooks() { clear(); }

    struct Order {
        std::string name;
        std::vector<std::string> arguments;
        nanoseconds timeout{};    ///< 0: none
        bool keeps_daemons{true}; ///< what a program that succeeds has started stays
    };
    /// `done` follows once, on the strand, unless clear() came first. Exit code 127: there
    /// is no such hook, or running_max run already.
    void start(std::uint64_t token, std::unique_ptr<script::HookRunner> runner, Order order, Done done);
    /// Ends all that the hook started; its `done` follows.
    void cancel(std::uint64_t token);
    void clear();

private:
    struct Hook {
        std::unique_ptr<script::HookRunner> runner;
        Done done;
    };
    Post post_;
    std::map<std::uint64_t, Hook> running_;
};

} // namespace stead::host

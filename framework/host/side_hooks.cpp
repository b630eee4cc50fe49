// SPDX-License-Identifier: Apache-2.0
#include "side_hooks.hpp"

#include <utility>

namespace stead::host {

void SideHooks::start(std::uint64_t token, std::unique_ptr<script::HookRunner> runner, Order order, Done done) {
    constexpr std::int32_t not_found = 127;
    if (running_.size() >= running_max) {
        done(not_found, std::to_string(running_max) + " hooks of plugins run already");
        return;
    }
    const auto has = runner->has(order.name);
    if (!has || !*has) {
        done(not_found, has ? "bin/" + order.name + " is not there" : has.error().text());
        return;
    }
    script::Limits limits;
    limits.timeout = order.timeout > nanoseconds{0} ? order.timeout : nanoseconds::max();
    limits.keeps_daemons = order.keeps_daemons;
    script::HookRunner& starting = *runner;
    running_[token] = {std::move(runner), std::move(done)};
    starting.start(order.name, std::move(order.arguments), limits, [this, token](const script::HookResult& result) {
        post_([this, token, result] {
            const auto ended = running_.extract(token);
            if (ended) {
                const std::int32_t code = result.ok() ? 0 : result.exit_code != 0 ? result.exit_code : 1;
                ended.mapped().done(code, result.told());
            }
        });
    });
}

void SideHooks::cancel(std::uint64_t token) {
    if (const auto found = running_.find(token); found != running_.end()) {
        found->second.runner->cancel();
    }
}

void SideHooks::clear() {
    for (auto& [token, hook] : running_) {
        hook.runner->cancel(); // all at once; the destructors wait
    }
    running_.clear();
}

} // namespace stead::host

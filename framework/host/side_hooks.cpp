// SPDX-License-Identifier: Apache-2.0
#include "side_hooks.hpp"

#include <utility>

namespace stead::host {

void SideHooks::start(std::uint64_t token, std::unique_ptr<script::HookRunner> runner, const std::string& name,
                      std::vector<std::string> arguments, nanoseconds timeout, Done done) {
    constexpr std::int32_t not_found = 127;
    if (running_.size() >= running_max) {
        done(not_found, std::to_string(running_max) + " hooks of plugins run already");
        return;
    }
    const auto has = runner->has(name);
    if (!has || !*has) {
        done(not_found, has ? "bin/" + name + " is not there" : has.error().text());
        return;
    }
    script::Limits limits;
    limits.timeout = timeout > nanoseconds{0} ? timeout : nanoseconds::max();
    script::HookRunner& starting = *runner;
    running_[token] = {std::move(runner), std::move(done)};
    starting.start(name, std::move(arguments), limits, [this, token](const script::HookResult& result) {
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

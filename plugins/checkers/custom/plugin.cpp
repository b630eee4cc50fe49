// SPDX-License-Identifier: Apache-2.0
// <check>
//   <custom ident="sql" when="prim" exec="sqlcheck" arg="5432" action="restart"/>                 classic: it runs on
//   <custom ident="disk" when="prim" exec="disk.lua" interval="30s" timeout="5s" action="stop"/>  once per interval
// </check>
#include <stead/checker.hpp>

namespace stead::checkers {

namespace {

namespace attribute = checker::attribute;

/// A script or program of the module's bin. With `interval` it runs once per interval, and exit code 0 is up. Without,
/// it runs while its class is armed and says itself what it finds: safekit set -r custom.X -v up|down -i NAME.
class CustomCheck final : public checker::PolledCheck {
public:
    static constexpr const char* path = "check/custom";
    static constexpr const char* label = "c_";

    explicit CustomCheck(plugin::Config element)
        : hook_(hook_name(element.string("exec"))), words_(words(element.attribute("arg").value_or(""))),
          once_per_interval_(element.attribute("interval").has_value()) {}

    bool on_hook_done(std::uint64_t token, std::int32_t exit_code) {
        if (token == 0 || (token != running_ && token != ending_)) {
            return false;
        }
        if (token == ending_) { // killed; now that it cannot write any more, its last word is taken back
            ending_ = 0;
            if (!once_per_interval_) {
                host().publish(spec().resource, name(checker::Verdict::init));
                if (armed()) {
                    start();
                }
            }
            return true;
        }
        running_ = 0;
        if (once_per_interval_) {
            finish(exit_code == 0 ? checker::good() : checker::bad(about() + reason(exit_code)));
        } else {
            died(exit_code);
        }
        return true;
    }

private:
    static constexpr std::chrono::nanoseconds backoff_min = std::chrono::seconds{1};
    static constexpr std::chrono::nanoseconds backoff_max = std::chrono::seconds{60};

    /// The host finds bin/NAME and bin/NAME.lua by NAME.
    static std::string hook_name(std::string_view exec) {
        if (exec.empty() || exec.find('/') != std::string_view::npos || exec.front() == '.') {
            throw std::invalid_argument("custom/@exec: '" + std::string{exec} +
                                        "' is malformed; allowed: the name of a file in the module's bin");
        }
        constexpr std::string_view lua = ".lua";
        if (exec.ends_with(lua) && exec.size() > lua.size()) {
            exec.remove_suffix(lua.size());
        }
        return std::string{exec};
    }
    static std::vector<std::string> words(std::string_view text) {
        std::vector<std::string> all;
        constexpr std::string_view blank = " \t\r\n";
        for (std::size_t at = text.find_first_not_of(blank); at != std::string_view::npos;) {
            const std::size_t end = std::min(text.find_first_of(blank, at), text.size());
            all.emplace_back(text.substr(at, end - at));
            at = text.find_first_not_of(blank, end);
        }
        return all;
    }
    /// Inside on_hook_done() only.
    [[nodiscard]] std::string reason(std::int32_t exit_code) const {
        if (std::string told = host().hook_reason(); exit_code != 0 && !told.empty()) {
            return told;
        }
        return exit_code == 127 ? "exit code 127: it is not there, or cannot be run"
                                : "exit code " + std::to_string(exit_code);
    }
    [[nodiscard]] std::string about() const override { return "bin/" + hook_ + ": "; }

    void on_arm() override {
        if (once_per_interval_) {
            PolledCheck::on_arm();
            return;
        }
        backoff_ = backoff_min;
        if (ending_ == 0) { // else when that has ended
            start();
        }
    }
    void on_disarm() override {
        if (once_per_interval_) {
            PolledCheck::on_disarm();
            return;
        }
        loop().cancel(again_);
        abandon();
        host().publish(spec().resource, name(checker::Verdict::init));
    }
    void begin() override { run(spec().timeout); }
    void abandon() override {
        if (running_ != 0) {
            host().cancel_hook(running_);
            ending_ = std::exchange(running_, 0);
        }
    }

    void run(std::chrono::nanoseconds timeout) {
        std::vector<std::string> argv{std::string{host().module()}, spec().resource};
        argv.insert(argv.end(), words_.begin(), words_.end());
        running_ = host().start_check(hook_, argv, timeout);
    }
    void start() {
        started_ = checker::Clock::now();
        run(std::chrono::nanoseconds{0});
    }
    /// Not down: what it watches may be well. A rule that waits for up or down does nothing until it says so again.
    void died(std::int32_t exit_code) {
        if (!armed()) {
            return;
        }
        if (checker::Clock::now() - started_ >= backoff_max) {
            backoff_ = backoff_min;
        }
        const auto seconds = std::chrono::ceil<std::chrono::seconds>(backoff_).count();
        host().warning("Resource " + spec().resource + " set to unknown: " + about() + "ended, " + reason(exit_code) +
                       "; it starts again in " + std::to_string(seconds) + " s");
        host().publish(spec().resource, "unknown");
        again_ = loop().after(backoff_, [this] { start(); });
        backoff_ = std::min(2 * backoff_, backoff_max);
    }

    const std::string hook_;
    const std::vector<std::string> words_;
    const bool once_per_interval_;
    std::uint64_t running_{}, ending_{}; ///< tokens of the host
    checker::Instant started_{};
    std::chrono::nanoseconds backoff_{backoff_min};
    checker::Loop::TimerId again_{};
};

constexpr stead_attr_schema attributes[] = {
    attribute::ident("names the resource custom.<ident> and the rule c_<ident>"),
    attribute::when("prim"),
    attribute::text("exec", nullptr, "script or program in the module's bin; .lua: a Lua check", STEAD_ATTR_REQUIRED),
    attribute::text("arg", "", "arguments, after the module's name and the resource; separated by blanks"),
    attribute::action("noaction"),
    {"interval", STEAD_TYPE_DURATION, attribute::dynamic, nullptr, nullptr, "s", attribute::second,
     86'400 * attribute::second,
     "run it once per interval, exit code 0 is up; none given: it runs on and sets the resource itself"},
    attribute::timeout(),
    attribute::rise(),
    attribute::fall(),
};
constexpr stead_elem_schema schema[] = {
    checker::element("check/custom", attributes, "what a script of the module says"),
};

} // namespace

} // namespace stead::checkers

STEAD_EXPORT_CHECKS(stead::checkers::CustomCheck, "checkers.custom", "1.0.0", stead::checkers::schema)

// SPDX-License-Identifier: Apache-2.0
//
// What all checkers share, on top of plugin.hpp: header-only, compiled into the plugin. A checker is one class, of
// which there is one object for each element that is configured:
//
//     class FileCheck final : public stead::checker::BlockingCheck {
//     public:
//         static constexpr const char* path = "check/file";  // its elements, from <service>
//         static constexpr const char* label = "f_";         // its generated rules: f_<ident>
//         explicit FileCheck(stead::plugin::Config element);  // may throw: a configuration error. No side effects.
//         stead::checker::Outcome probe() override;           // on a thread of a pool; may block
//     };
//     STEAD_EXPORT_CHECKS(FileCheck, "checkers.file", "1.0.0", schema)
//
// What the author gets for it: resource <tag>.<ident> with the verdicts init, up and down, published on change and
// logged with their reason; the rule "<label><ident>: if (<tag>.<ident> == down) then <action>();"; arming by `when`;
// intervals without drift, time-outs, the thresholds `rise` and `fall`; elements that `stead update` adds, changes and
// removes while the others go on; findings for confcheck.
//
// Three bases, from easy to free: BlockingCheck (a function that may block), PolledCheck (begin, then finish, in the
// loop of checker_loop.hpp: for many probes at a time), Check (reports when it likes: for events).
//
// Attributes read by name when the schema has them, on the element or its child <to>: ident, when, action, rise, fall,
// interval, timeout. Threading: all members but BlockingCheck::probe are called with the lock of the loop held, on the
// loop's thread or on the module's strand; they do not block.
#pragma once

#include <stead/checker_config.hpp>
#include <stead/checker_loop.hpp>
#include <stead/plugin.hpp>

#include <atomic>
#include <concepts>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

namespace stead::checker {

/// What one probe found. A good one may say why as well.
struct Outcome {
    bool good{};
    std::string reason;
};
[[nodiscard]] inline Outcome good(std::string reason = {}) { return {true, std::move(reason)}; }
[[nodiscard]] inline Outcome bad(std::string reason) { return {false, std::move(reason)}; }

enum class Verdict : std::uint8_t { init, up, down };
[[nodiscard]] constexpr const char* name(Verdict verdict) noexcept {
    return verdict == Verdict::up ? "up" : verdict == Verdict::down ? "down" : "init";
}

/// What a plugin's probes did so far.
struct Counters {
    std::uint64_t probes{}, failed{};
    std::uint64_t missed{}; ///< turns of the schedule at which no probe began, because the loop came too late
};

/// One configured check. Armed: from on_arm() to on_disarm(). The framework publishes "init" before and after.
class Check : public std::enable_shared_from_this<Check> {
public:
    Check() = default;
    Check(const Check&) = delete;
    Check& operator=(const Check&) = delete;
    virtual ~Check() = default;

    virtual void on_arm() = 0;
    /// Lets go of descriptors and timers; reports no more.
    virtual void on_disarm() = 0;

protected:
    [[nodiscard]] const Spec& spec() const noexcept { return spec_; }
    [[nodiscard]] plugin::Host host() const noexcept { return *host_; }
    [[nodiscard]] Loop& loop() const noexcept { return *loop_; }
    [[nodiscard]] bool armed() const noexcept { return armed_; }
    [[nodiscard]] Verdict verdict() const noexcept { return verdict_; }
    [[nodiscard]] Counters& counters() const noexcept { return *counters_; }
    /// Publishes on change, and logs it with the reason. Ignored while not armed.
    void report(Verdict verdict, std::string_view reason) {
        if (!armed_ || verdict == verdict_) {
            return;
        }
        verdict_ = verdict;
        const std::string why = reason.empty() ? "" : ": " + std::string{reason};
        host_->log(verdict == Verdict::down ? STEAD_LOG_WARNING : STEAD_LOG_EVENT,
                   "Resource " + spec_.resource + " set to " + name(verdict) + why);
        host_->publish(spec_.resource, name(verdict));
        host_->explain(spec_.resource, reason);
    }

private:
    template <class T>
    friend class Checks;
    void attach(const Spec& spec, const plugin::Host& host, Loop& loop, Counters& counters) {
        spec_ = spec;
        host_ = &host;
        loop_ = &loop;
        counters_ = &counters;
    }
    void arm() {
        if (!std::exchange(armed_, true)) {
            on_arm();
        }
    }
    void disarm() {
        if (armed_) {
            armed_ = false;
            on_disarm();
            if (std::exchange(verdict_, Verdict::init) != Verdict::init) {
                host_->debug("Resource " + spec_.resource + " set to init: not armed");
                host_->publish(spec_.resource, name(Verdict::init));
            }
        }
    }

    Spec spec_;
    const plugin::Host* host_{};
    Loop* loop_{};
    Counters* counters_{};
    bool armed_{};
    Verdict verdict_{};
};

/// Turns that are a second or more apart lie on a grid that is the same for all checkers of the machine: those of many
/// checks come together, and one wakeup of the processor serves them all. Which turn a check takes is left to chance.
inline constexpr std::chrono::nanoseconds turn_grid = std::chrono::milliseconds{100};
/// The last point of the grid that is not after `when`.
[[nodiscard]] constexpr Instant on_grid(Instant when) noexcept { return when - when.time_since_epoch() % turn_grid; }

/// Probes once per interval, on a grid in time that does not drift. A probe without finish() within the time-out has
/// failed. While the verdict is still init, probes follow at most one second after each other, and failures make it
/// down only once an interval has passed since arming: an application may take that long to answer after its start.
class PolledCheck : public Check {
public:
    void on_arm() override {
        armed_at_ = Clock::now();
        good_ = bad_ = 0;
        const std::chrono::nanoseconds spread = std::min(spec().interval, first_probe_max);
        next_ =
            armed_at_ + std::chrono::nanoseconds{static_cast<std::int64_t>(
                            std::uniform_real_distribution<>{0, 1}(random()) * static_cast<double>(spread.count()))};
        if (spec().interval >= first_probe_max) {
            next_ = on_grid(next_);
        }
        turn_ = loop().at(next_, [this] { turn(); });
    }
    void on_disarm() override {
        loop().cancel(turn_);
        end_probe();
    }

    static constexpr std::chrono::nanoseconds first_probe_max = std::chrono::seconds{1};

protected:
    /// Begins one probe, and returns at once; finish() follows, now or later.
    virtual void begin() = 0;
    /// Too late, or not wanted any more: lets go of what the probe holds. No finish() follows.
    virtual void abandon() = 0;
    /// What was asked, for the reason of a time-out: "127.0.0.1 port 80: ".
    [[nodiscard]] virtual std::string about() const { return {}; }
    /// A probe that began still waits for its turn at something shared: that is no verdict on what it probes.
    [[nodiscard]] virtual bool waiting() const { return false; }
    /// Ends the probe that began last.
    void finish(const Outcome& outcome) {
        if (probing_) {
            probing_ = false;
            loop().cancel(deadline_);
            judge(outcome);
        }
    }

private:
    static std::minstd_rand& random() {
        thread_local std::minstd_rand generator{std::random_device{}()};
        return generator;
    }

    void turn() {
        const Instant now = Clock::now();
        const bool hurry = verdict() == Verdict::init;
        const auto step = hurry ? std::min(spec().interval, first_probe_max) : spec().interval;
        next_ += step;
        if (next_ <= now) {
            const auto late = (now - next_) / step + 1;
            counters().missed += static_cast<std::uint64_t>(late);
            next_ += late * step;
        }
        turn_ = loop().at(next_, [this] { turn(); });
        if (waiting()) {
            ++counters().missed;
            return;
        }
        if (probing_) {
            return; // a time-out longer than the interval: the probe has its time
        }
        probing_ = true;
        ++counters().probes;
        deadline_ = loop().at(now + spec().timeout, [this] { too_late(); });
        begin();
    }
    void too_late() {
        if (std::exchange(probing_, false)) {
            const bool late = !waiting();
            const std::string asked = about();
            abandon();
            if (!late) {
                return;
            }
            const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(spec().timeout).count();
            judge(bad(asked + "no answer within " + std::to_string(milliseconds) + " ms"));
        }
    }
    void end_probe() {
        loop().cancel(deadline_);
        if (std::exchange(probing_, false)) {
            abandon();
        }
    }
    void judge(const Outcome& outcome) {
        good_ = outcome.good ? good_ + 1 : 0;
        bad_ = outcome.good ? 0 : bad_ + 1;
        counters().failed += outcome.good ? 0 : 1;
        if (outcome.good) {
            if (good_ >= spec().rise) {
                report(Verdict::up, outcome.reason);
            }
        } else if (verdict() == Verdict::init && Clock::now() < armed_at_ + spec().interval) {
            host().debug(spec().resource + " does not answer yet: " + outcome.reason);
        } else if (bad_ >= spec().fall) {
            report(Verdict::down, outcome.reason);
        } else if (verdict() != Verdict::down) {
            host().event(spec().resource + " failed " + std::to_string(bad_) + " of " + std::to_string(spec().fall) +
                         " times: " + outcome.reason);
        }
    }

    Instant armed_at_{}, next_{};
    Loop::TimerId turn_{}, deadline_{};
    bool probing_{};
    unsigned good_{}, bad_{};
};

/// A check that is one function. It runs on a thread of a pool, never twice at a time for one check; a call that hangs
/// counts as a failure each time its turn comes, and what it returns too late is not looked at. The object may be
/// destroyed on that thread.
class BlockingCheck : public PolledCheck {
public:
    /// Without the lock: reads only what the constructor set. An exception is a failure with its text.
    virtual Outcome probe() = 0;

protected:
    void begin() override {
        if (call_ != nullptr) {
            finish(bad("the probe before has not come back"));
            return;
        }
        const auto self = std::static_pointer_cast<BlockingCheck>(shared_from_this());
        const auto call = call_ = std::make_shared<Call>();
        loop().work(
            [self, call] {
                call->begun = true;
                try {
                    call->outcome = self->probe();
                } catch (const std::exception& e) {
                    call->outcome = bad(e.what());
                } catch (...) { // it would end the module's host, and its application with it
                    call->outcome = bad("the probe threw what is no std::exception");
                }
            },
            [self, call] {
                self->call_ = nullptr;
                if (!call->given_up) {
                    self->finish(call->outcome);
                }
            });
    }
    void abandon() override {
        if (call_ != nullptr) {
            call_->given_up = true;
        }
    }
    [[nodiscard]] bool waiting() const override { return call_ != nullptr && !call_->begun; }

private:
    struct Call {
        std::atomic<bool> begun{};
        bool given_up{}; ///< of the lock
        Outcome outcome;
    };
    std::shared_ptr<Call> call_; ///< while it runs
};

/// A check that is to be made: `make` is called at most once, while the configuration is valid.
template <class T>
struct Plan {
    Spec spec;
    std::function<std::shared_ptr<T>()> make;
};

template <class T>
concept PlansItself = requires(plugin::Config service) {
    { T::plan(service) } -> std::convertible_to<std::vector<Plan<T>>>;
};

/// What is configured: by T::plan(service) when the class has one, else one check per element of T::path.
template <class T>
[[nodiscard]] std::vector<Plan<T>> plan_of(plugin::Config service) {
    if constexpr (PlansItself<T>) {
        return T::plan(service);
    } else {
        std::vector<Plan<T>> all;
        for (const plugin::Config& element : elements_of(service, T::path)) {
            all.push_back({read_spec(element, element.string("ident"), T::label),
                           [element] { return std::make_shared<T>(element); }});
        }
        return all;
    }
}

/// All checks of one class T in one module.
template <class T>
class Checks final : public plugin::Checker {
public:
    Checks(plugin::Host host, plugin::Config service)
        : host_(host), loop_([host](const std::string& what) { host.error("check: " + what); }) {
        take_over(build(service));
    }
    ~Checks() override { loop_.stop(); }

    void start() override { loop_.start(); }
    void stop() override {
        {
            const auto guard = loop_.lock();
            set_armed(0);
        }
        loop_.stop();
    }
    void on_armed(std::uint32_t when) override {
        const auto guard = loop_.lock();
        set_armed(when);
    }
    void on_update(plugin::Config service) override {
        auto next = build(service);
        const auto guard = loop_.lock();
        for (const auto& [ident, entry] : checks_) {
            const auto kept = next.find(ident);
            if (kept != next.end() && kept->second.check == entry.check) {
                continue;
            }
            entry.check->disarm();
            if (kept == next.end() || kept->second.spec.resource != entry.spec.resource) {
                host_.unpublish(entry.spec.resource);
            }
        }
        take_over(std::move(next));
        set_armed(armed_);
    }
    /// For checks with a member bool on_hook_done(token, exit_code): false = another's token.
    void on_hook_done(std::uint64_t token, std::int32_t exit_code) override {
        if constexpr (requires(T & check) { check.on_hook_done(token, exit_code); }) {
            const auto guard = loop_.lock();
            for (const auto& [ident, entry] : checks_) {
                if (entry.check->on_hook_done(token, exit_code)) {
                    return;
                }
            }
        }
    }
    plugin::Answer on_command(std::string_view verb, std::span<const std::string_view>, std::string& answer) override {
        if (verb != "describe") {
            return plugin::Answer::not_mine;
        }
        const auto guard = loop_.lock();
        std::map<Verdict, std::size_t> count;
        for (const auto& [ident, entry] : checks_) {
            ++count[entry.check->verdict_];
        }
        answer = std::to_string(count[Verdict::up]) + " up, " + std::to_string(count[Verdict::down]) + " down, " +
                 std::to_string(count[Verdict::init]) + " init; probes " + std::to_string(counters_.probes) +
                 ", failed " + std::to_string(counters_.failed) + ", missed " + std::to_string(counters_.missed);
        return plugin::Answer::done;
    }

    /// Findings that a schema cannot say. T::check(Config service, Report) adds its own.
    static void check(plugin::Config service, const plugin::Report& report) {
        std::map<std::string, std::uint32_t> lines;
        try {
            for (const Plan<T>& plan : plan_of<T>(service)) {
                const std::uint32_t line = plan.spec.line;
                try {
                    (void)plan.make();
                } catch (const std::exception& e) { // and on: all errors of a file are told at once
                    report.error(line, e.what());
                }
                const auto [first, fresh] = lines.emplace(plan.spec.ident, line);
                if (!fresh) {
                    report.error(line, plan.spec.resource + " is defined twice; the first is in line " +
                                           std::to_string(first->second));
                }
                check_action(plan.spec, service.attribute("mode").value_or(""), report);
            }
        } catch (const std::exception& e) {
            report.error(service.line(), e.what());
        }
        if constexpr (requires { T::check(service, report); }) {
            T::check(service, report);
        }
    }

private:
    struct Entry {
        Spec spec;
        std::shared_ptr<T> check;
    };
    using Entries = std::map<std::string, Entry>;

    /// Before the scripts have run there is nothing to stop or restart; afterwards nothing to wait for, since a check
    /// that is not armed is init, and would be waited for for ever.
    static void check_action(const Spec& spec, std::string_view mode, const plugin::Report& report) {
        const bool waits = spec.rule.ends_with(" wait();");
        if (spec.when == STEAD_WHEN_PRE && !spec.rule.empty() && !waits) {
            report.error(spec.line, spec.resource + ": with when=\"pre\" the action may be wait or noaction");
        } else if (spec.when != STEAD_WHEN_PRE && waits) {
            report.error(spec.line, spec.resource + ": the action wait needs when=\"pre\"; allowed here: restart, "
                                                    "stopstart, stop, swap, noaction");
        } else if (mode != "mirror" && spec.rule.ends_with(" swap();")) {
            report.error(spec.line, spec.resource + ": the action swap needs a module of mode mirror");
        }
    }

    /// Objects for what is new or changed; the others are shared with checks_. Throws when one cannot be made.
    [[nodiscard]] Entries build(plugin::Config service) {
        Entries next;
        for (const Plan<T>& plan : plan_of<T>(service)) {
            const Spec& spec = plan.spec;
            const auto old = checks_.find(spec.ident);
            const bool same = old != checks_.end() && old->second.spec.fingerprint == spec.fingerprint;
            Entry entry{spec, same ? old->second.check : plan.make()};
            if (!same) {
                entry.check->attach(spec, host_, loop_, counters_);
            }
            if (!next.emplace(spec.ident, std::move(entry)).second) {
                throw std::invalid_argument(spec.resource + " is defined twice");
            }
            if (!spec.rule.empty()) {
                if (const auto refused = host_.add_rule(spec.rule)) {
                    throw std::invalid_argument("rule \"" + spec.rule + "\": " + *refused);
                }
            }
        }
        return next;
    }
    void take_over(Entries next) {
        for (const auto& [ident, entry] : next) {
            if (!entry.check->armed_ && entry.check->verdict_ == Verdict::init) {
                host_.publish(entry.spec.resource, name(Verdict::init));
            }
        }
        checks_ = std::move(next);
    }
    void set_armed(std::uint32_t when) {
        armed_ = when;
        for (const auto& [ident, entry] : checks_) {
            if ((entry.spec.when & when) != 0) {
                entry.check->arm();
            } else {
                entry.check->disarm();
            }
        }
    }

    plugin::Host host_;
    Counters counters_;
    Loop loop_;
    Entries checks_;
    std::uint32_t armed_{};
};

/// The element that T::path names, with that attribute (any: empty). For STEAD_EXPORT_CHECKS.
template <class T>
constexpr bool schema_has(std::span<const stead_elem_schema> schema, std::string_view attribute_name = {}) {
    if constexpr (PlansItself<T>) {
        return true; // it knows its elements
    } else {
        return std::ranges::any_of(schema, [&](const stead_elem_schema& element) {
            const std::span attributes(element.attrs, element.attr_count);
            return std::string_view{element.path} == T::path &&
                   (attribute_name.empty() || std::ranges::any_of(attributes, [&](const stead_attr_schema& one) {
                        return std::string_view{one.name} == attribute_name;
                    }));
        });
    }
}

} // namespace stead::checker

/// At global scope of one source file: exports all checks of class T as a plugin. `schema`: a constexpr array.
#define STEAD_EXPORT_CHECKS(T, id, version, schema)                                                                    \
    static_assert(!std::is_abstract_v<T>, "a BlockingCheck needs probe(), a PolledCheck begin() and abandon(), a "     \
                                          "Check on_arm() and on_disarm(), each with `override`");                     \
    static_assert(::stead::checker::schema_has<T>(schema), "no element of the schema has the path " #T "::path");      \
    static_assert(::stead::checker::schema_has<T>(schema, "ident"),                                                    \
                  "the element " #T "::path needs attribute::ident(...) in its schema: it names the resource");        \
    STEAD_EXPORT_CHECKER(::stead::checker::Checks<T>, id, version, schema)

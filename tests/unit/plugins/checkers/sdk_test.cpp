// SPDX-License-Identifier: Apache-2.0
// stead/checker.hpp: what every checker gets from it, with probes whose answers the test chooses.
#include <stead/checker.hpp>
#include <stead/test/fake_host.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

namespace stead::checker {
namespace {

using test::Element;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace std::chrono_literals;

constexpr auto long_time = 20s;

/// What probes answer, by the `about` of their element; nothing: they hang until the test ends.
class Answers {
public:
    void set(const std::string& about, std::optional<bool> good) {
        const std::lock_guard lock(mutex_);
        good_[about] = good;
        changed_.notify_all();
    }
    Outcome wait(const std::string& about) {
        std::unique_lock lock(mutex_);
        ++asked_[about];
        changed_.notify_all();
        const int test = test_;
        changed_.wait_for(lock, long_time,
                          [&] { return test_ != test || !next_[about].empty() || good_[about].has_value(); });
        if (test_ != test) {
            return bad("the test is over");
        }
        if (auto& next = next_[about]; !next.empty()) {
            const bool good_one = next.front();
            next.pop_front();
            changed_.notify_all();
            return good_one ? good() : bad("said no");
        }
        return good_[about].value_or(false) ? good() : bad("said no");
    }
    std::optional<bool> get(const std::string& about) {
        const std::lock_guard lock(mutex_);
        ++asked_[about];
        return good_[about];
    }
    int asked(const std::string& about) {
        const std::lock_guard lock(mutex_);
        return asked_[about];
    }
    /// These probes get exactly these answers; those after them hang. Returns when all were judged.
    bool give(const std::string& about, std::deque<bool> good_ones) {
        std::unique_lock lock(mutex_);
        good_[about].reset();
        next_[about] = std::move(good_ones);
        const auto& left = next_[about];
        changed_.notify_all();
        if (!changed_.wait_for(lock, long_time, [&] { return left.empty(); })) {
            return false;
        }
        const int asked = asked_[about]; // the next probe begins when this one was judged
        return changed_.wait_for(lock, long_time, [&] { return asked_[about] > asked; });
    }
    void clear() {
        const std::lock_guard lock(mutex_);
        ++test_; // lets go of what hangs
        changed_.notify_all();
        good_.clear();
        next_.clear();
        asked_.clear();
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<std::string, std::optional<bool>> good_;
    std::map<std::string, std::deque<bool>> next_;
    std::map<std::string, int> asked_;
    int test_{};
};
Answers& answers = *new Answers; // for ever: threads of the pool may outlive main

class Slow final : public BlockingCheck {
public:
    static constexpr const char* path = "check/slow";
    static constexpr const char* label = "s_";
    explicit Slow(plugin::Config element) : about_(element.string("about")) {
        if (about_ == "refused") {
            throw std::invalid_argument("about: 'refused' is refused");
        }
    }
    Outcome probe() override {
        if (about_ == "throws") {
            throw 42;
        }
        return answers.wait(about_);
    }

private:
    std::string about_;
};

class Quick final : public PolledCheck {
public:
    static constexpr const char* path = "check/quick";
    static constexpr const char* label = "q_";
    explicit Quick(plugin::Config element) : about_(element.string("about")) {}

private:
    void begin() override {
        if (const auto good_one = answers.get(about_)) {
            finish(*good_one ? good() : bad("said no"));
        }
    }
    void abandon() override {}
    std::string about_;
};

template <class T>
const stead_plugin_descriptor& descriptor() {
    static const stead_plugin_descriptor made =
        plugin::detail::describe<Checks<T>>(STEAD_KIND_CHECKER, "checkers.test", "1", nullptr, 0);
    return made;
}

struct Options {
    std::string when{"both"}, rise{"1"}, fall{"1"}, action{}, interval{"100000000"}, timeout{"5000000000"};
};

Element check(const std::string& tag, const std::string& ident, const Options& options = {}) {
    Element element{tag,
                    {{"ident", ident}, {"when", options.when}, {"rise", options.rise}, {"fall", options.fall}},
                    {{"to", {{"interval", options.interval}, {"timeout", options.timeout}}, {}}}};
    element.attributes.emplace_back("about", ident);
    if (!options.action.empty()) {
        element.attributes.emplace_back("action", options.action);
    }
    return element;
}
Element service(std::vector<Element> checks) { return {"service", {}, {{"check", {}, std::move(checks)}}}; }

class CheckerSdk : public testing::Test {
protected:
    void TearDown() override { answers.clear(); }
    test::FakeHost host_;
};

TEST_F(CheckerSdk, PublishesInitAndOneRuleForEachCheck) {
    const test::Running running(
        descriptor<Quick>(), host_,
        service({check("quick", "a"), check("quick", "b", {.action = "noaction"}), check("quick", "c", {.when = "pre"}),
                 check("quick", "d", {.action = "stopstart"})}));
    EXPECT_THAT(host_.rules(),
                ElementsAre("q_a: if (quick.a == down) then restart();", "q_c: if (quick.c == down) then wait();",
                            "q_d: if (quick.d == down) then stopstart();"));
    EXPECT_EQ(host_.published(),
              (std::map<std::string, std::string>{
                  {"quick.a", "init"}, {"quick.b", "init"}, {"quick.c", "init"}, {"quick.d", "init"}}));
    EXPECT_EQ(answers.asked("a"), 0) << "probed while no class was armed";
}

TEST_F(CheckerSdk, ProbesWhileItsClassIsArmed) {
    answers.set("a", true);
    answers.set("b", true);
    test::Running running(descriptor<Slow>(), host_,
                          service({check("slow", "a"), check("slow", "b", {.when = "prim"})}));
    running.arm(STEAD_WHEN_PRE | STEAD_WHEN_BOTH);
    EXPECT_TRUE(host_.wait("slow.a", "up"));
    running.arm(STEAD_WHEN_PRE | STEAD_WHEN_PRIM);
    EXPECT_EQ(host_.resource("slow.a"), "init") << "still there when on_armed has returned";
    EXPECT_TRUE(host_.wait("slow.b", "up"));
    running.arm(0);
    EXPECT_EQ(host_.resource("slow.b"), "init");
    EXPECT_THAT(host_.history("slow.a"), ElementsAre("init", "up", "init"));
    EXPECT_THAT(host_.log(), Contains("Resource slow.a set to up"));
}

TEST_F(CheckerSdk, PublishesChangesOnlyAndSaysWhy) {
    answers.set("a", true);
    test::Running running(descriptor<Quick>(), host_, service({check("quick", "a", {.interval = "5000000"})}));
    running.arm(STEAD_WHEN_BOTH);
    EXPECT_TRUE(host_.wait("quick.a", "up"));
    answers.set("a", false);
    EXPECT_TRUE(host_.wait("quick.a", "down"));
    answers.set("a", true);
    EXPECT_TRUE(host_.wait("quick.a", "up"));
    EXPECT_TRUE(host_.wait_log("Resource quick.a set to down: said no"));
    const int asked = answers.asked("a");
    while (answers.asked("a") < asked + 20) {
        std::this_thread::sleep_for(1ms);
    }
    EXPECT_THAT(host_.history("quick.a"), ElementsAre("init", "up", "down", "up"));
}

TEST_F(CheckerSdk, ThresholdsTameOneThatFlaps) {
    answers.set("a", true);
    test::Running running(descriptor<Slow>(), host_,
                          service({check("slow", "a", {.rise = "2", .fall = "3", .interval = "20000000"})}));
    running.arm(STEAD_WHEN_BOTH);
    EXPECT_TRUE(host_.wait("slow.a", "up"));
    ASSERT_TRUE(answers.give("a", {false, false, true, false, false, true}));
    EXPECT_EQ(host_.resource("slow.a"), "up");
    answers.set("a", false);
    EXPECT_TRUE(host_.wait("slow.a", "down"));
    answers.set("a", true);
    EXPECT_TRUE(host_.wait("slow.a", "up"));
    EXPECT_THAT(host_.history("slow.a"), ElementsAre("init", "up", "down", "up"));
}

TEST_F(CheckerSdk, AnApplicationMayTakeAnIntervalToAnswerAfterItsStart) {
    answers.set("a", false);
    test::Running running(descriptor<Quick>(), host_, service({check("quick", "a", {.interval = "1500000000"})}));
    const Instant armed = Clock::now();
    running.arm(STEAD_WHEN_BOTH);
    EXPECT_TRUE(host_.wait("quick.a", "down"));
    EXPECT_GE(Clock::now() - armed, 1500ms);
    EXPECT_GE(answers.asked("a"), 2) << "asked again and again meanwhile";
    EXPECT_THAT(host_.history("quick.a"), ElementsAre("init", "down"));
}

TEST_F(CheckerSdk, AProbeThatIsLateHasFailed) {
    answers.set("q", true);
    answers.set("s", true);
    test::Running quick(descriptor<Quick>(), host_, service({check("quick", "q", {.timeout = "50000000"})}));
    test::Running slow(descriptor<Slow>(), host_, service({check("slow", "s", {.timeout = "50000000"})}));
    quick.arm(STEAD_WHEN_BOTH);
    slow.arm(STEAD_WHEN_BOTH);
    EXPECT_TRUE(host_.wait("quick.q", "up"));
    EXPECT_TRUE(host_.wait("slow.s", "up"));
    answers.set("q", std::nullopt);
    answers.set("s", std::nullopt);
    EXPECT_TRUE(host_.wait("quick.q", "down"));
    EXPECT_TRUE(host_.wait("slow.s", "down"));
    EXPECT_TRUE(host_.wait_log("quick.q set to down: no answer within 50 ms"));
    answers.set("q", true);
    answers.set("s", true);
    EXPECT_TRUE(host_.wait("quick.q", "up"));
    EXPECT_TRUE(host_.wait("slow.s", "up")) << "a call that came back is followed by others";
}

TEST_F(CheckerSdk, OneThatHangsHoldsUpNeitherOthersNorTheEnd) {
    std::vector<Element> checks;
    for (std::size_t i = 0; i + 1 < detail::Pool::threads_max; ++i) {
        checks.push_back(check("slow", "hangs" + std::to_string(i)));
    }
    checks.push_back(check("slow", "a"));
    answers.set("a", true);
    Instant before;
    {
        test::Running running(descriptor<Slow>(), host_, service(checks));
        running.arm(STEAD_WHEN_BOTH);
        EXPECT_TRUE(host_.wait("slow.a", "up"));
        before = Clock::now();
    }
    EXPECT_LT(Clock::now() - before, 5s);
}

TEST_F(CheckerSdk, AnUpdateChangesWhatItNamesAndNothingElse) {
    for (const char* about : {"a", "b", "c", "d"}) {
        answers.set(about, true);
    }
    test::Running running(descriptor<Slow>(), host_,
                          service({check("slow", "a"), check("slow", "b"), check("slow", "c")}));
    running.arm(STEAD_WHEN_BOTH);
    for (const char* resource : {"slow.a", "slow.b", "slow.c"}) {
        EXPECT_TRUE(host_.wait(resource, "up"));
    }
    host_.clear();
    EXPECT_EQ(running.update(service({check("slow", "a"), check("slow", "b", {.fall = "2"}), check("slow", "d")})), "");
    EXPECT_TRUE(host_.wait("slow.d", "up"));
    EXPECT_TRUE(host_.wait("slow.b", "up"));
    EXPECT_THAT(host_.history("slow.a"), IsEmpty());
    EXPECT_THAT(host_.history("slow.c"), ElementsAre("init", "-"));
    EXPECT_THAT(host_.rules(),
                ElementsAre("s_a: if (slow.a == down) then restart();", "s_b: if (slow.b == down) then restart();",
                            "s_d: if (slow.d == down) then restart();"));
    EXPECT_THAT(running.update(service({check("slow", "refused")})), HasSubstr("'refused' is refused"));
    EXPECT_EQ(host_.resource("slow.d"), "up");
    EXPECT_EQ(running.update(service({})), "");
    EXPECT_THAT(host_.published(), IsEmpty());
}

// Nobody could catch it above: the host would end, and the application with it.
TEST_F(CheckerSdk, AProbeThatThrowsAnythingHasFailed) {
    test::Running running(descriptor<Slow>(), host_, service({check("slow", "throws")}));
    running.arm(STEAD_WHEN_BOTH);
    EXPECT_TRUE(host_.wait("slow.throws", "down"));
    EXPECT_THAT(host_.log(), Contains(HasSubstr("no std::exception")));
}

constexpr stead_attr_schema slow_attributes[] = {attribute::ident("names it")};
constexpr stead_attr_schema nameless_attributes[] = {attribute::interval("1s")};
constexpr stead_elem_schema slow_schema[] = {element("check/slow", slow_attributes, "of a test")};
constexpr stead_elem_schema nameless_schema[] = {element("check/slow", nameless_attributes, "of a test")};
static_assert(schema_has<Slow>(slow_schema) && schema_has<Slow>(slow_schema, "ident"));
static_assert(schema_has<Slow>(nameless_schema) && !schema_has<Slow>(nameless_schema, "ident"));
static_assert(!schema_has<Quick>(slow_schema), "another element's schema");

// However late the machine lets it run, turns that were held and turns that were missed add up to the time that passed.
// Without a grid, each lateness would be lost for good, and the sum would never come back to it.
TEST_F(CheckerSdk, KeepsItsTurnsInTime) {
    answers.set("a", true);
    test::Running running(descriptor<Quick>(), host_, service({check("quick", "a", {.interval = "2000000"})}));
    const Instant armed = Clock::now();
    running.arm(STEAD_WHEN_BOTH);
    const auto difference = [&] {
        const std::string said = running.describe();
        const auto after = [&](const std::string& word) {
            return std::stoll(said.substr(said.find(word) + word.size()));
        };
        return (Clock::now() - armed) / 2ms - (after("probes ") + after("missed "));
    };
    std::this_thread::sleep_for(1s);
    while (std::abs(difference()) > 2 && Clock::now() < armed + long_time) {
        std::this_thread::sleep_for(1ms);
    }
    EXPECT_LT(Clock::now(), armed + long_time) << running.describe();
}

TEST_F(CheckerSdk, FindsWhatTheSchemaCannotSay) {
    EXPECT_THAT(test::findings(descriptor<Slow>(), service({check("slow", "a"), check("slow", "b")})), IsEmpty());
    EXPECT_THAT(test::findings(descriptor<Slow>(), service({check("slow", "a"), check("slow", "a")})),
                ElementsAre(HasSubstr("7: slow.a is defined twice")));
    EXPECT_THAT(test::findings(descriptor<Slow>(), service({check("slow", "refused")})),
                ElementsAre("7: about: 'refused' is refused"));
    EXPECT_THAT(
        test::findings(descriptor<Slow>(), service({check("slow", "refused"), check("slow", "a"), check("slow", "a")})),
        ElementsAre("7: about: 'refused' is refused", HasSubstr("slow.a is defined twice")));
    EXPECT_THAT(test::findings(descriptor<Slow>(), service({check("slow", "a", {.when = "pre", .action = "restart"})})),
                ElementsAre(AllOf(HasSubstr("slow.a"), HasSubstr("wait or noaction"))));
    EXPECT_THAT(test::findings(descriptor<Slow>(), service({check("slow", "a", {.when = "prim", .action = "wait"})})),
                ElementsAre(HasSubstr("needs when=\"pre\"")));
    EXPECT_THAT(test::findings(descriptor<Slow>(), service({check("slow", "a", {.action = "swap"})})),
                ElementsAre(HasSubstr("mode mirror")));
    EXPECT_THAT(host_.log(), IsEmpty());
}

} // namespace
} // namespace stead::checker

// SPDX-License-Identifier: Apache-2.0
// Failover rules from anywhere. Either there are problems, each with a place, or an engine can live with the rules:
// whatever is put, it asks for no timer in the past twice and fires a rule once per truth.
#include <stead/core/rule_engine.hpp>

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace stead;
    using namespace stead::rules;
    const bool mirror = size > 0 && data[0] % 2 == 0;
    const std::string_view text{reinterpret_cast<const char*>(data), size};
    Parsed parsed =
        parse_rules(text, {.file = "f", .line = 7, .column = 3}, {.remote = mirror, .swap = mirror}, seconds{1});
    for (const Problem& problem : parsed.problems) {
        if (problem.text.empty() || problem.place.line < 7 || problem.place.column < 1) {
            std::abort();
        }
    }
    if (!parsed.ok()) {
        return 0;
    }
    Engine engine;
    engine.set_possible({.stop = true, .stopstart = true, .wait = true, .swap = true, .restart = true});
    engine.set_rules(parsed.rules);
    Instant now{seconds{1}};
    for (const Verdict verdict : {Verdict::init, Verdict::down, Verdict::up, Verdict::unknown}) {
        for (const Rule& rule : parsed.rules) {
            for (const Condition& condition : rule.when.conditions) {
                const std::string name =
                    condition.subject.kind + "." + (condition.subject.id.empty() ? "x" : condition.subject.id);
                engine.put(condition.subject.remote ? Side::remote : Side::local, name, verdict);
            }
        }
        (void)engine.step(now);
        for (; engine.next_deadline() != never; (void)engine.step(now)) {
            if (engine.next_deadline() <= now) {
                std::abort(); // a timer that does not get anybody further
            }
            now = engine.next_deadline();
        }
        if (!engine.step(now).empty()) {
            std::abort(); // nothing changed, nothing may fire
        }
        (void)engine.hold();
    }
    return 0;
}

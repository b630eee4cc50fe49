// SPDX-License-Identifier: Apache-2.0
// A checker for labs: <check><probe ident="x" action="restart" when="both"/></check>. It tells which classes are armed
// (resource armed.probe), takes its verdict from the file probe.<ident> in the module's var folder ("up" without one),
// and crashes, or asks for two restarts at once, when that says so: once, the file is gone with it.
#include <stead/plugin.hpp>

#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>

namespace {

using stead::plugin::Config;

constexpr stead_attr_schema attributes[]{
    {"ident", STEAD_TYPE_NAME, STEAD_ATTR_REQUIRED, nullptr, nullptr, nullptr, 0, 0, "resource probe.<ident>"},
    {"when", STEAD_TYPE_CHOICE, 0, "both", "pre|both", nullptr, 0, 0, "class"},
    {"action", STEAD_TYPE_CHOICE, 0, "restart", "restart|stopstart|stop|wait", nullptr, 0, 0, "of its rule"},
};
constexpr std::array schema{
    stead_elem_schema{"check", nullptr, STEAD_ELEM_DYNAMIC, 0, nullptr, "checkers"},
    stead_elem_schema{"check/probe", nullptr, STEAD_ELEM_DYNAMIC | STEAD_ELEM_REPEATABLE, std::size(attributes),
                      attributes, "a probe"},
};

class Probe final : public stead::plugin::Checker {
public:
    Probe(stead::plugin::Host host, Config config) : host_(host) { take(config); }
    void start() override { host_.set_timer_in(1, std::chrono::milliseconds{20}); }
    void stop() override { host_.cancel_timer(1); }
    void on_update(Config config) override { take(config); }
    void on_armed(std::uint32_t when) override {
        armed_ = when;
        host_.publish("armed.probe", std::to_string(when));
        look();
    }
    void on_timer(std::uint64_t id) override {
        look();
        host_.set_timer_in(id, std::chrono::milliseconds{20});
    }

private:
    struct One {
        std::string ident;
        std::uint32_t when{};
        std::string told;
    };

    void take(Config config) {
        for (const One& old : probes_) {
            host_.unpublish("probe." + old.ident);
        }
        probes_.clear();
        const auto check = config.child("check");
        for (const Config& one : check ? check->children("probe") : std::vector<Config>{}) {
            const std::string ident{one.string("ident")};
            probes_.push_back({ident, one.string("when") == "pre" ? STEAD_WHEN_PRE : STEAD_WHEN_BOTH, ""});
            if (const auto refused = host_.add_rule("b_" + ident + ": if (probe." + ident + " == down) then " +
                                                    std::string{one.string("action")} + "();")) {
                throw std::invalid_argument(*refused);
            }
        }
        look();
    }

    void look() {
        for (One& one : probes_) {
            std::string found = "init";
            const std::string path = std::string{host_.var_folder()} + "/probe." + one.ident;
            if ((armed_ & one.when) != 0) {
                if (std::ifstream file(path); !(file >> found)) {
                    found = "up";
                }
            }
            if (found == "crash") {
                std::filesystem::remove(path);
                std::raise(SIGSEGV);
            }
            if (found != one.told) {
                one.told = found;
                if (found == "twice") {
                    std::filesystem::remove(path);
                    host_.request("restart", "the first");
                    host_.request("restart", "the second");
                }
                host_.publish("probe." + one.ident, found);
            }
        }
    }

    stead::plugin::Host host_;
    std::uint32_t armed_{};
    std::vector<One> probes_;
};

} // namespace

STEAD_EXPORT_CHECKER(Probe, "checkers.probe", "1.0.0", schema)

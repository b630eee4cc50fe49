// SPDX-License-Identifier: Apache-2.0
// <splitbrain ident="witness" exec="ping" arg="192.0.2.1 tcp:192.0.2.2:443"/>: when all other nodes are lost without a
// word, do I reach the outside?
#include "witness.hpp"

#include <stead/checker.hpp>

#include <optional>

namespace stead::splitbrain {
namespace {

using checker::Verdict;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr const char* uptodate = "splitbrain.uptodate";
constexpr nanoseconds retry = seconds{1}; // while isolated and without an answer

struct Options {
    std::string resource;
    std::vector<Witness> witnesses;
    nanoseconds timeout{};
};

std::optional<Options> read_options(const plugin::Config& service) {
    const auto elements = checker::elements_of(service, "check/splitbrain");
    if (elements.empty()) {
        return std::nullopt;
    }
    const plugin::Config& element = elements.front();
    try {
        return Options{"splitbrain." + std::string{element.string("ident")}, Witness::parse_all(element.string("arg")),
                       element.duration("timeout")};
    } catch (const std::invalid_argument& e) {
        throw std::runtime_error("line " + std::to_string(element.line()) + ": " + e.what());
    }
}

class Splitbrain final : public plugin::Checker {
public:
    Splitbrain(plugin::Host host, plugin::Config service)
        : host_(host), options_(read_options(service)),
          loop_([host](const std::string& what) { host.error("splitbrain: " + what); }) {}
    ~Splitbrain() override { loop_.stop(); }

    static void check(plugin::Config service, const plugin::Report& report) {
        for (const plugin::Config& element : checker::elements_of(service, "check/splitbrain")) {
            try {
                static_cast<void>(Witness::parse_all(element.string("arg")));
            } catch (const std::invalid_argument& e) {
                report.error(element.line(), e.what());
            }
        }
    }

    void start() override {
        loop_.start();
        tell_nothing();
    }
    void stop() override {
        {
            const auto guard = loop_.lock();
            quiet();
        }
        loop_.stop();
    }

    /// From prestart to poststop, unless the administrator switched checkers off.
    void on_armed(std::uint32_t when) override {
        const auto guard = loop_.lock();
        armed_ = (when & STEAD_WHEN_PRE) != 0;
        if (!armed_) {
            quiet();
            tell_nothing();
        } else if (isolated_ && !inquiry_ && !answered_) {
            ask();
        }
    }

    void on_view(const stead_view& view) override {
        const auto guard = loop_.lock();
        const std::uint64_t self = std::uint64_t{1} << view.self;
        if ((view.members & ~self) != 0) {
            if (std::exchange(isolated_, false)) {
                quiet();
                tell_nothing();
            }
        } else if (view.members == self && view.dead != 0 && !isolated_) {
            isolated_ = true;
            if (armed_ && options_) {
                ask();
            }
        }
    }

    void on_update(plugin::Config service) override {
        auto options = read_options(service);
        const auto guard = loop_.lock();
        const bool asking = inquiry_ != nullptr || again_ != 0;
        quiet(); // the witnesses that it asks go away
        if (options_ && (!options || options->resource != options_->resource)) {
            host_.unpublish(options_->resource);
        }
        options_ = std::move(options);
        if (asking && options_) {
            ask();
        } else if (!isolated_) {
            tell_nothing();
        }
    }

private:
    void quiet() {
        loop_.cancel(again_);
        inquiry_.reset();
        answered_ = false;
    }
    /// Not isolated: there is nothing to be asked, and nothing in doubt.
    void tell_nothing() {
        if (options_) {
            host_.publish(options_->resource, "init");
            host_.publish(uptodate, "up");
        }
    }

    void ask(bool again = false) {
        if (!again) {
            host_.event("isolated: asking the witnesses");
            host_.publish(options_->resource, "init");
            host_.publish(uptodate, "init");
        }
        inquiry_ = std::make_unique<Inquiry>(
            loop_, options_->witnesses, options_->timeout,
            [this, again](const Witness* answered, const std::string& reasons) { done(answered, reasons, again); });
    }
    void done(const Witness* answered, const std::string& reasons, bool again) {
        answered_ = answered != nullptr;
        if (answered_) {
            host_.event("isolated; witness " + answered->text + " answers");
        } else if (!again) {
            host_.warning("isolated, and no witness answers: " + reasons);
        }
        host_.publish(options_->resource, answered_ ? "up" : "down");
        host_.publish(uptodate, answered_ ? "up" : "down");
        if (!answered_) {
            again_ = loop_.after(retry, [this] { ask(true); });
        }
    }

    plugin::Host host_;
    std::optional<Options> options_;
    bool armed_{}, isolated_{}, answered_{};
    checker::Loop loop_;
    std::unique_ptr<Inquiry> inquiry_;
    checker::Loop::TimerId again_{};
};

namespace attribute = checker::attribute;

constexpr stead_attr_schema attributes[] = {
    attribute::ident("names the resource splitbrain.<ident>"),
    {"exec", STEAD_TYPE_CHOICE, attribute::dynamic, "ping", "ping", nullptr, 0, 0, "how witnesses are asked"},
    {"arg", STEAD_TYPE_STRING, STEAD_ATTR_REQUIRED | attribute::dynamic, nullptr, nullptr, nullptr, 0, 0,
     "witnesses outside the cluster: IP addresses that are pinged, tcp:ADDRESS:PORT; blanks between; one must answer"},
    {"timeout", STEAD_TYPE_DURATION, attribute::dynamic, "2s", nullptr, "s", 100'000'000, 60 * attribute::second,
     "how long an answer is waited for"},
};
constexpr stead_elem_schema schema[] = {
    {"check/splitbrain", nullptr, STEAD_ELEM_DYNAMIC, std::size(attributes), attributes,
     "when all other nodes are lost without a word: splitbrain.uptodate is down unless a witness answers"},
};

} // namespace
} // namespace stead::splitbrain

STEAD_EXPORT_CHECKER(stead::splitbrain::Splitbrain, "checkers.splitbrain", "1.0.0", stead::splitbrain::schema)

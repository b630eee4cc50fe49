// SPDX-License-Identifier: Apache-2.0
// <splitbrain ident="witness" exec="ping" arg="192.0.2.1 tcp:192.0.2.2:443"/>: when all other nodes are lost without a
// word, do I reach the outside? exec="cas" arg="node3": may I go on, or was another node first?
#include "poll.hpp"
#include "witness.hpp"

#include <stead/checker.hpp>

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

namespace stead::splitbrain {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;
using Verdict = stead_witness_verdict;

constexpr const char* uptodate = "splitbrain.uptodate";
constexpr const char* claim_resource = "splitbrain.claim";
constexpr const char* verdict_resource = "splitbrain.verdict";
constexpr nanoseconds retry = seconds{1}; // while there is no answer

struct Options {
    std::string resource;
    Witnesses witnesses;
    nanoseconds timeout{};
};

std::optional<Options> read_options(const plugin::Config& service) {
    const auto elements = checker::elements_of(service, "check/splitbrain");
    if (elements.empty()) {
        return std::nullopt;
    }
    const plugin::Config& element = elements.front();
    try {
        return Options{"splitbrain." + std::string{element.string("ident")},
                       Witnesses::parse(element.string("exec"), element.string("arg")), element.duration("timeout")};
    } catch (const std::invalid_argument& e) {
        throw std::runtime_error("line " + std::to_string(element.line()) + ": " + e.what());
    }
}

/// What a mirror wants decided: "TOKEN COUNTER HOLDER [KEY]".
struct Claim {
    std::string token;
    Petition petition;
};

std::optional<Claim> read_claim(std::string_view text) {
    Claim claim{.token = {}, .petition = {.key = "claim", .counter = 0, .holder = 0}};
    std::uint64_t token = 0;
    const auto take = [&](auto& number, bool last) {
        const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
        const auto used = static_cast<std::size_t>(end - text.data());
        const bool good = failed == std::errc{} && (last ? used == text.size() : used < text.size() && *end == ' ');
        text.remove_prefix(std::min(used + 1, text.size()));
        return good;
    };
    const bool keyed = std::ranges::count(text, ' ') == 3;
    if (!take(token, false) || !take(claim.petition.counter, false) || !take(claim.petition.holder, !keyed)) {
        return std::nullopt;
    }
    if (keyed) {
        claim.petition.key = text;
    }
    claim.token = std::to_string(token);
    return claim;
}

const char* name_of(Verdict verdict) {
    return verdict == STEAD_WITNESS_GRANTED ? "granted" : verdict == STEAD_WITNESS_REFUSED ? "refused" : "unanswered";
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
                static_cast<void>(Witnesses::parse(element.string("exec"), element.string("arg")));
            } catch (const std::invalid_argument& e) {
                report.error(element.line(), e.what());
            }
        }
    }

    void start() override {
        loop_.start();
        host_.watch(claim_resource);
        tell_nothing();
    }
    void stop() override {
        {
            const auto guard = loop_.lock();
            quiet(isolation_);
            quiet(decision_);
        }
        loop_.stop();
    }

    /// From prestart to poststop, unless the administrator switched checkers off.
    void on_armed(std::uint32_t when) override {
        const auto guard = loop_.lock();
        armed_ = (when & STEAD_WHEN_PRE) != 0;
        if (!armed_) {
            quiet(isolation_);
            tell_nothing();
        } else if (isolated_ && !isolation_.round && !isolation_.granted) {
            on_isolation();
        }
    }

    void on_view(const stead_view& view) override {
        const auto guard = loop_.lock();
        const std::uint64_t self = std::uint64_t{1} << view.self;
        if ((view.members & ~self) != 0) {
            shared_epoch_ = view.epoch;
            verdict_.reset(); // of an isolation that is over; the next one is decided anew
            if (std::exchange(isolated_, false)) {
                quiet(isolation_);
                tell_nothing();
            }
        } else if (view.members == self && view.dead != 0 && !isolated_) {
            isolated_ = true;
            if (armed_ && options_) {
                on_isolation();
            }
        }
    }

    void on_resource(std::uint32_t node, std::string_view name, std::optional<std::string_view> value) override {
        if (node != host_.self() || name != claim_resource) {
            return;
        }
        const auto guard = loop_.lock();
        quiet(decision_);
        verdict_.reset();
        claim_ = value ? read_claim(*value) : std::nullopt;
        if (claim_) {
            decide();
        } else {
            host_.unpublish(verdict_resource);
            if (value) {
                host_.error(std::string{claim_resource} + " is '" + std::string{*value} +
                            "'; allowed: TOKEN COUNTER HOLDER [KEY], the numbers decimal");
            }
        }
    }

    void on_witness(std::uint64_t token, Verdict verdict) override {
        const auto guard = loop_.lock();
        for (const Asking* asking : {&isolation_, &decision_}) {
            if (asking->round) {
                asking->round->on_witness(token, verdict);
            }
        }
    }

    void on_update(plugin::Config service) override {
        auto options = read_options(service);
        const auto guard = loop_.lock();
        const bool asking = isolation_.round != nullptr || isolation_.again != 0;
        quiet(isolation_); // the witnesses that it asks go away
        quiet(decision_);
        if (options_ && (!options || options->resource != options_->resource)) {
            host_.unpublish(options_->resource);
        }
        options_ = std::move(options);
        if (asking && options_) {
            on_isolation();
        } else if (!isolated_) {
            tell_nothing();
        }
        if (claim_) {
            decide();
        }
    }

private:
    /// Asks round after round until there is a word.
    struct Asking {
        std::unique_ptr<Round> round;
        checker::Loop::TimerId again{};
        bool granted{};
    };
    using Told = void (Splitbrain::*)(Verdict verdict, const std::string& words, bool again);

    void quiet(Asking& asking) {
        loop_.cancel(asking.again);
        asking.round.reset();
        asking.granted = false;
    }

    void ask(Asking& asking, const Petition& petition, Told told, bool again = false) {
        const auto done = [this, &asking, petition, told, again](Verdict verdict, const std::string& words) {
            asking.granted = verdict == STEAD_WITNESS_GRANTED;
            (this->*told)(verdict, words, again);
            if (verdict == STEAD_WITNESS_UNANSWERED) {
                asking.again =
                    loop_.after(retry, [this, &asking, petition, told] { ask(asking, petition, told, true); });
            }
        };
        asking.round.reset(); // the one before it: its end has run
        if (options_->witnesses.nodes.empty()) {
            asking.round = std::make_unique<Inquiry>(loop_, options_->witnesses.outside, options_->timeout, done);
        } else {
            asking.round =
                std::make_unique<Poll>(host_, loop_, options_->witnesses.nodes, petition, options_->timeout, done);
        }
    }

    /// Not isolated: there is nothing to be asked, and nothing in doubt.
    void tell_nothing() {
        if (options_) {
            host_.publish(options_->resource, "init");
            host_.publish(uptodate, "up");
        }
    }
    void tell(Verdict verdict, const std::string& words) {
        const char* value = verdict == STEAD_WITNESS_GRANTED ? "up" : "down";
        for (const std::string& resource : concerned()) {
            host_.publish(resource, value);
            host_.explain(resource, sentence(verdict, words));
        }
    }
    /// Not `uptodate` where a mirror asks: it does nothing without the witness's word, and asks until there is one. A
    /// wait rule would end it, and with it the question, the copy's standing and whoever could obey an order.
    [[nodiscard]] std::vector<std::string> concerned() const {
        return claims_decide() ? std::vector{options_->resource}
                               : std::vector{options_->resource, std::string{uptodate}};
    }
    /// The reason of a verdict, for a person.
    [[nodiscard]] std::string sentence(Verdict verdict, const std::string& words) const {
        const bool many = options_->witnesses.nodes.size() > 1;
        return (verdict == STEAD_WITNESS_GRANTED   ? many ? "witnesses: " : "witness "
                : verdict == STEAD_WITNESS_REFUSED ? "another node goes on: "
                : many                             ? "no majority of the witnesses grants: "
                                                   : "no witness answers: ") +
               words;
    }

    /// In a mirror with nodes for witnesses its own claim decides: it alone knows whether it wants to go on.
    [[nodiscard]] bool claims_decide() const { return host_.mode() == "mirror" && !options_->witnesses.nodes.empty(); }

    void on_isolation() {
        for (const std::string& resource : concerned()) {
            host_.publish(resource, "init");
        }
        if (!claims_decide()) {
            host_.event("isolated: asking the witnesses");
            // All that are in the last view with others know its epoch: whoever names it first goes on.
            ask(isolation_, {.key = "isolation", .counter = shared_epoch_, .holder = host_.self()},
                &Splitbrain::on_isolation_told);
        } else if (verdict_) {
            tell(*verdict_, words_);
        }
    }
    void on_isolation_told(Verdict verdict, const std::string& words, bool again) {
        if (verdict == STEAD_WITNESS_GRANTED) {
            host_.event("isolated; " + sentence(verdict, words));
        } else if (!again || verdict == STEAD_WITNESS_REFUSED) {
            host_.warning("isolated, and " + sentence(verdict, words));
        }
        tell(verdict, words);
    }

    void decide() {
        if (!options_) {
            on_decided(STEAD_WITNESS_UNANSWERED, "there is no <splitbrain>", false);
            return;
        }
        ask(decision_, claim_->petition, &Splitbrain::on_decided);
    }
    void on_decided(Verdict verdict, const std::string& words, bool again) {
        if (!again || verdict != STEAD_WITNESS_UNANSWERED) {
            host_.log(verdict == STEAD_WITNESS_GRANTED ? STEAD_LOG_EVENT : STEAD_LOG_WARNING,
                      "claim " + std::to_string(claim_->petition.counter) + " " + name_of(verdict) + ": " + words);
        }
        verdict_ = verdict;
        words_ = words;
        host_.publish(verdict_resource, claim_->token + " " + name_of(verdict));
        host_.explain(verdict_resource, words);
        if (options_ && isolated_ && armed_ && claims_decide()) {
            tell(verdict, words);
        }
    }

    plugin::Host host_;
    std::optional<Options> options_;
    bool armed_{}, isolated_{};
    std::uint64_t shared_epoch_{}; ///< of the last view with others
    std::optional<Claim> claim_;
    std::optional<Verdict> verdict_; ///< of the claim
    std::string words_;              ///< of the verdict
    checker::Loop loop_;
    Asking isolation_, decision_;
};

namespace attribute = checker::attribute;

constexpr stead_attr_schema attributes[] = {
    attribute::ident("names the resource splitbrain.<ident>"),
    {"exec", STEAD_TYPE_CHOICE, attribute::dynamic, "ping", "ping|cas", nullptr, 0, 0,
     "ping: is this node cut off? cas: stead nodes say which node goes on"},
    {"arg", STEAD_TYPE_STRING, STEAD_ATTR_REQUIRED | attribute::dynamic, nullptr, nullptr, nullptr, 0, 0,
     "ping: IP addresses, tcp:ADDRESS:PORT, one must answer; cas (or node:NAME): nodes, a majority must grant; blanks "
     "between"},
    {"timeout", STEAD_TYPE_DURATION, attribute::dynamic, "2s", nullptr, "s", 100'000'000, 60 * attribute::second,
     "how long an answer is waited for"},
};
constexpr stead_elem_schema schema[] = {
    {"check/splitbrain", nullptr, STEAD_ELEM_DYNAMIC, std::size(attributes), attributes,
     "when all other nodes are lost without a word: splitbrain.uptodate is down unless a witness answers; with cas in "
     "a mirror only splitbrain.<ident> tells, for the mirror itself waits for the word"},
};

} // namespace
} // namespace stead::splitbrain

STEAD_EXPORT_CHECKER(stead::splitbrain::Splitbrain, "checkers.splitbrain", "1.1.0", stead::splitbrain::schema)

// SPDX-License-Identifier: Apache-2.0
// <check><ping ident="router"><to addr="192.0.2.1"/></ping></check>
#include "connection.hpp"
#include "echo.hpp"

#include <stead/checker.hpp>

namespace stead::checkers {

namespace {

namespace attribute = checker::attribute;

/// Up when one of the requests of a probe is answered: they are repeated until its time is over, so that one lost
/// packet decides nothing.
class PingCheck final : public checker::PolledCheck {
public:
    static constexpr const char* path = "check/ping";
    static constexpr const char* label = "p_";

    explicit PingCheck(plugin::Config element) {
        const auto to = element.child("to");
        if (!to) {
            throw std::invalid_argument("<ping> needs the element <to addr/>");
        }
        host_ = to->string("addr");
    }
    ~PingCheck() override { abandon(); }

private:
    static constexpr int requests = 5; ///< in one probe, at least
    static constexpr std::chrono::nanoseconds pause_max = std::chrono::seconds{1};

    void begin() override {
        why_.clear();
        const auto known = literal(host_, 0);
        if (!known.empty()) {
            ask(known.front());
            return;
        }
        const auto found = std::make_shared<checker::Outcome>();
        const auto where = std::make_shared<Endpoint>();
        const std::uint64_t number = ++number_;
        loop().work(
            [found, where, host = host_] {
                try {
                    *where = resolve(host, 0).front();
                    found->good = true;
                } catch (const std::exception& e) {
                    found->reason = e.what();
                }
            },
            [this, self = shared_from_this(), found, where, number] {
                if (number != number_) {
                    return; // given up since
                }
                if (found->good) {
                    ask(*where);
                } else {
                    done(checker::bad(found->reason));
                }
            });
    }
    void ask(const Endpoint& where) {
        try {
            echo_.emplace(where.address, where.size);
        } catch (const std::system_error& e) {
            done(checker::bad(about() + e.what()));
            return;
        }
        if (request()) { // an address of this machine has answered as the call returns
            return;
        }
        loop().watch(echo_->descriptor(), EPOLLIN, [this](std::uint32_t) { heard(); });
        watched_ = true;
    }
    /// Was it answered?
    bool request() {
        if (const auto failed = echo_->send()) {
            why_ = *failed; // the way may come back within this probe
        } else if (heard()) {
            return true;
        }
        again_ = loop().after(std::min(spec().timeout / requests, pause_max), [this] { request(); });
        return false;
    }
    bool heard() {
        // An error is what a router says: the address may answer all the same.
        if (echo_->receive(why_) != Echo::Heard::reply) {
            return false;
        }
        done(checker::good());
        return true;
    }
    void abandon() override {
        ++number_;
        loop_cancel();
        if (echo_) {
            if (std::exchange(watched_, false)) {
                loop().unwatch(echo_->descriptor());
            }
            echo_.reset();
        }
    }
    [[nodiscard]] std::string about() const override { return host_ + (why_.empty() ? "" : " (" + why_ + ")") + ": "; }
    void loop_cancel() {
        if (again_ != 0) {
            loop().cancel(again_);
        }
    }
    void done(const checker::Outcome& outcome) {
        abandon();
        finish(outcome);
    }

    std::string host_, why_;
    std::optional<Echo> echo_;
    bool watched_{};
    checker::Loop::TimerId again_{};
    std::uint64_t number_{};
};

constexpr stead_attr_schema check_attributes[] = {
    attribute::ident("names the resource ping.<ident> and the rule p_<ident>"),
    attribute::when("pre"),
    attribute::action(),
    attribute::rise(),
    attribute::fall(),
};
constexpr stead_attr_schema to_attributes[] = {
    {"addr", STEAD_TYPE_ADDRESS, STEAD_ATTR_REQUIRED | attribute::dynamic, nullptr, nullptr, nullptr, 0, 0,
     "who must answer; a name is resolved at each probe"},
    attribute::interval(),
    attribute::timeout(),
};
constexpr stead_elem_schema schema[] = {
    checker::element("check/ping", check_attributes, "up while an address answers ICMP echo requests"),
    checker::element("check/ping/to", to_attributes, "which, and how often", STEAD_ELEM_REQUIRED),
};

} // namespace

} // namespace stead::checkers

STEAD_EXPORT_CHECKS(stead::checkers::PingCheck, "checkers.ping", "1.0.0", stead::checkers::schema)

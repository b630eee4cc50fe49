// SPDX-License-Identifier: Apache-2.0
// <ip ident="10.42.0.100" when="both"><to addr="10.42.0.100" interval="10s"/></ip>: up while this node has the address
// and nobody else claims it.
#include <stead/checker.hpp>
#include <stead/net/net.hpp>

#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;
using stead::checker::Clock;
using stead::checker::Instant;
using stead::checker::Loop;
using stead::checker::Verdict;
namespace net = stead::net;
namespace plugin = stead::plugin;

/// A removal is told for so long at least, even where the host puts the address back at once. Shorter than the hold
/// time of the rule ip_failure, which is for addresses that stay away.
constexpr nanoseconds removal_told = std::chrono::milliseconds{500};
/// How long a claim may be that of a member which has not told us its MAC yet.
constexpr nanoseconds patience = seconds{1}, patience_farm = seconds{3};
/// While somebody else claims the address it is asked for so often; so many questions without an answer end it.
constexpr nanoseconds ask_again = seconds{1};
constexpr int quiet_questions = 3;
constexpr std::uint32_t nodes_max = 64, interfaces_max = 8;

std::optional<net::Mac> parse_mac(std::string_view text) {
    net::Mac mac{};
    for (std::size_t i = 0; i < mac.size(); ++i) {
        if (text.size() < 3 * i + 2 || (i > 0 && text[3 * i - 1] != ':') ||
            std::from_chars(text.data() + 3 * i, text.data() + 3 * i + 2, mac[i], 16).ptr != text.data() + 3 * i + 2) {
            return std::nullopt;
        }
    }
    return mac;
}

/// What the kernel says of all interfaces. Of checks whose turns come together only the first asks it: what changes
/// after that is an event, and after an event each one looks anew.
const stead::Result<std::vector<net::Interface>>& interfaces_now(nanoseconds age_max) {
    thread_local stead::Result<std::vector<net::Interface>> all;
    thread_local Instant asked_at{};
    if (const Instant now = Clock::now(); age_max <= nanoseconds{0} || now - asked_at >= age_max) {
        all = net::interfaces();
        asked_at = now;
    }
    return all;
}
constexpr nanoseconds same_turn = std::chrono::milliseconds{10};

class IpCheck final : public stead::checker::Check {
public:
    static constexpr const char* path = "check/ip";
    static constexpr const char* label = ""; // the default rule ip_failure is for all of them

    explicit IpCheck(plugin::Config element)
        : address_(stead::checker::attribute_of(element, "addr").value_or("")),
          interface_(stead::checker::attribute_of(element, "interface").value_or("")) {}

    void on_arm() override {
        auto opened = net::Watch::open({
            .link = {},
            .address = [this](std::uint32_t, const std::string& address, bool added) { changed(address, added); },
        });
        if (!opened) {
            report(Verdict::down, opened.error().text());
            return;
        }
        watch_ = std::move(*opened);
        removed_until_ = {};
        intruders_.clear();
        quiet_ = 0;
        loop().watch(watch_->fd(), EPOLLIN, [this](std::uint32_t) {
            watch_->poll();
            look(nanoseconds{0});
        });
        turn(nanoseconds{0}); // nothing older than the watch: what came before it makes no event
    }
    void on_disarm() override {
        loop().cancel(turn_);
        if (watch_) {
            loop().unwatch(watch_->fd());
            watch_.reset();
        }
        stop_listening();
        if (conflict_) {
            host().unpublish(conflict_resource());
            conflict_.reset();
        }
    }

private:
    void changed(const std::string& address, bool added) {
        if (address == address_ && !added && verdict() != Verdict::init) {
            removed_until_ = Clock::now() + removal_told;
            report(Verdict::down, address_ + " was removed");
            schedule(removal_told);
        }
    }

    /// Presence and claims, each interval and sooner where something is in doubt.
    void turn(nanoseconds age_max = same_turn) {
        find_members();
        look(age_max);
        if (claims_) {
            if (const auto asked = claims_->ask(); !asked) {
                host().debug(spec().resource + ": " + asked.error().text());
            }
            end_of_conflict();
        }
        schedule(!intruders_.empty() ? std::min(ask_again, spec().interval) : spec().interval);
    }
    void schedule(nanoseconds delay) {
        loop().cancel(turn_);
        const Instant at = Clock::now() + delay; // turns of a second and more together, as those of other checkers
        turn_ = loop().at(delay >= seconds{1} ? stead::checker::on_grid(at) : at, [this] { turn(); });
    }

    void look(nanoseconds age_max) {
        const auto& all = interfaces_now(age_max);
        if (!all) {
            report(Verdict::down, all.error().text());
            return;
        }
        own_.clear();
        const net::Interface* holder = nullptr;
        for (const net::Interface& one : *all) {
            own_.insert(one.mac);
            const bool here = std::ranges::any_of(one.addresses, [&](const std::string& with_prefix) {
                return with_prefix.substr(0, with_prefix.find('/')) == address_;
            });
            if (here && (interface_.empty() || one.name == interface_)) {
                holder = &one;
            }
        }
        if (holder == nullptr) {
            stop_listening();
            report(Verdict::down,
                   (interface_.empty() ? "no interface has " : interface_ + " does not have ") + address_);
            return;
        }
        listen(*holder);
        tell(holder->name);
    }
    void tell(const std::string& holder) {
        const Instant now = Clock::now();
        if (now < removed_until_) {
            return;
        }
        const bool farm = host().mode() == "farm";
        const auto intruder = std::find_if(intruders_.begin(), intruders_.end(), [&](const auto& one) {
            return now >= one.second + (farm ? patience_farm : patience);
        });
        std::string claim;
        if (intruder != intruders_.end()) {
            claim = "conflict: " + net::to_text(intruder->first) + " claims " + address_ + " on " + holder;
        }
        if (farm) {
            tell_conflict(claim);
        } else if (!claim.empty()) {
            report(Verdict::down, claim);
            return;
        }
        if (farm || intruders_.empty() || verdict() == Verdict::init) {
            report(Verdict::up, address_ + " on " + holder);
        }
    }
    /// All members see it: if each acted as on a lost address, the service would end, and the conflict would not.
    void tell_conflict(const std::string& claim) {
        if (conflict_ == !claim.empty()) {
            return;
        }
        conflict_ = !claim.empty();
        const char* value = *conflict_ ? "down" : "up";
        host().log(*conflict_ ? STEAD_LOG_WARNING : STEAD_LOG_DEBUG,
                   "Resource " + conflict_resource() + " set to " + value + (claim.empty() ? "" : ": " + claim));
        host().publish(conflict_resource(), value);
        host().explain(conflict_resource(), claim);
    }
    [[nodiscard]] std::string conflict_resource() const { return "ip_conflict" + spec().resource.substr(2); }

    // ---- Who else says that it has the address

    void listen(const net::Interface& holder) {
        if (claims_ && listens_on_ == holder.index) {
            return;
        }
        stop_listening();
        auto opened = net::Claims::open(holder.index, address_);
        if (!opened) {
            host().warning(spec().resource + ": conflicts are not seen: " + opened.error().text());
            return;
        }
        claims_ = std::move(*opened);
        listens_on_ = holder.index;
        loop().watch(claims_->fd(), EPOLLIN, [this](std::uint32_t) { hear(); });
    }
    void stop_listening() {
        if (claims_) {
            loop().unwatch(claims_->fd());
            claims_.reset();
        }
    }
    void hear() {
        for (const net::Mac& mac : claims_->heard()) {
            if (own_.contains(mac) || members_.contains(mac)) {
                continue;
            }
            find_members(); // one that has just joined
            if (members_.contains(mac)) {
                continue;
            }
            quiet_ = 0;
            if (intruders_.empty()) {
                host().warning(spec().resource + ": " + net::to_text(mac) + " claims " + address_ + " as well");
                schedule(std::min(ask_again, spec().interval));
            }
            intruders_.try_emplace(mac, Clock::now());
        }
    }
    /// One of them may have turned out to be a member, or all may have fallen silent.
    void end_of_conflict() {
        std::erase_if(intruders_, [&](const auto& one) { return members_.contains(one.first); });
        if (!intruders_.empty() && ++quiet_ > quiet_questions) {
            host().event(spec().resource + ": nobody else claims " + address_ + " any more");
            intruders_.clear();
            look(same_turn);
        }
    }
    /// In a farm the members share the address. Their MACs stay known after they left: one may come back, or be on the
    /// other side of a cut that has just healed.
    void find_members() {
        if (host().mode() != "farm") {
            return;
        }
        for (std::uint32_t node = 0; node < nodes_max; ++node) {
            for (std::uint32_t i = 0; i < interfaces_max; ++i) {
                const auto value = host().read(node, "farm.mac." + std::to_string(i));
                if (!value) {
                    break;
                }
                if (const auto mac = parse_mac(*value)) {
                    members_.insert(*mac);
                }
            }
            for (std::uint32_t i = 0; i < interfaces_max; ++i) {
                const auto value = host().read(node, "farm.vmac." + std::to_string(i));
                if (!value) {
                    break;
                }
                if (const auto mac = parse_mac(*value)) {
                    members_.insert(*mac);
                }
            }
        }
    }

    std::string address_, interface_;
    std::unique_ptr<net::Watch> watch_;
    std::unique_ptr<net::Claims> claims_;
    std::uint32_t listens_on_{};
    Loop::TimerId turn_{};
    Instant removed_until_{};
    std::set<net::Mac> own_, members_;
    std::map<net::Mac, Instant> intruders_; ///< and since when
    std::optional<bool> conflict_;          ///< of a farm, as it was told
    int quiet_{};
};

namespace attribute = stead::checker::attribute;

constexpr stead_attr_schema ip_attributes[] = {
    attribute::ident("names the resource ip.<ident>; by use the address itself"),
    attribute::when("prim"),
};
constexpr stead_attr_schema to_attributes[] = {
    {"addr", STEAD_TYPE_ADDRESS, STEAD_ATTR_REQUIRED | STEAD_ATTR_NUMERIC | attribute::dynamic, nullptr, nullptr,
     nullptr, 0, 0, "the address that this node must have, alone"},
    {"interface", STEAD_TYPE_STRING, attribute::dynamic, nullptr, nullptr, nullptr, 0, 0,
     "the interface that must have it; default: any"},
    attribute::interval(),
};
constexpr stead_elem_schema schema[] = {
    {"check/ip", nullptr, STEAD_ELEM_REPEATABLE | STEAD_ELEM_DYNAMIC, std::size(ip_attributes), ip_attributes,
     "up while this node has an address that nobody else claims (in a farm ip_conflict.<ident> tells of others); made "
     "for each <virtual_addr check=\"on\">"},
    {"check/ip/to", nullptr, STEAD_ELEM_REQUIRED | STEAD_ELEM_DYNAMIC, std::size(to_attributes), to_attributes,
     "which address; it is asked for each interval, and changes are seen at once"},
};

} // namespace

STEAD_EXPORT_CHECKS(IpCheck, "checkers.ip", "1.0.0", schema)

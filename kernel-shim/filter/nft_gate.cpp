// SPDX-License-Identifier: Apache-2.0
#include "nft_gate.hpp"

#include "attachment.hpp"

#include <arpa/inet.h>
#include <nftables/libnftables.h>
#include <stead/base/time.hpp>
#include <stead/shim/packet.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string_view>
#include <vector>

namespace stead::shim {

namespace {

constexpr std::uint64_t ns_per_ms = 1'000'000;
constexpr std::uint64_t renewal_min_ns =
    ns_per_ms; // what a renewal may take; it takes a half of that on a busy machine
constexpr std::uint64_t renewal_max_ns = 32 * ns_per_ms;
constexpr int renewals_max = 7; // from the least margin to the largest, and once more

std::uint64_t now_ns() { return static_cast<std::uint64_t>(to_ns(BootClock::now())); }

/// The kernel's tick: the coarse clocks go by it.
std::uint64_t tick_length_ms() {
    timespec tick{};
    const bool known = ::clock_getres(CLOCK_MONOTONIC_COARSE, &tick) == 0 && tick.tv_sec == 0;
    return known ? std::clamp<std::uint64_t>(static_cast<std::uint64_t>(tick.tv_nsec) / ns_per_ms, 1, 10) : 10;
}

/// How long the gate may be open from now. The kernel counts an element's time in whole ticks, rounds it up, and may
/// notice a tick late that it is over.
std::uint64_t gate_ms(std::uint64_t until_ns, std::uint64_t now, std::uint64_t margin_ns) {
    static const std::uint64_t tick_ms = tick_length_ms();
    if (until_ns <= now + margin_ns) {
        return 0;
    }
    // libnftables reads eight digits; hours are enough for anybody.
    const std::uint64_t left_ms = std::min<std::uint64_t>((until_ns - now - margin_ns) / ns_per_ms, 10'000'000);
    const std::uint64_t ticks = left_ms / tick_ms;
    return ticks > 1 ? (ticks - 1) * tick_ms : 0;
}

std::string mac_text(const std::uint8_t* mac) {
    char text[18];
    std::snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    return text;
}

std::string hex_text(const __be32* address_be) {
    std::string text = "0x";
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(address_be);
    for (int i = 0; i < 16; ++i) {
        char digits[3];
        std::snprintf(digits, sizeof(digits), "%02x", bytes[i]);
        text += digits;
    }
    return text;
}

nft_ctx* quiet_context() {
    nft_ctx* context = nft_ctx_new(NFT_CTX_DEFAULT);
    if (context != nullptr) {
        nft_ctx_buffer_error(context);
        nft_ctx_buffer_output(context);
    }
    return context;
}

/// In front of the stack: who asks for a VIP is answered by user space, which knows the lease; who claims it is not
/// heard.
std::string ingress_rules(const stead_vip& vip) {
    bool v6 = false;
    const std::string address = address_text(vip.address_be, v6);
    std::string rules;
    if (v6) {
        for (const char* type : {"135", "136"}) {
            rules += "meta l4proto ipv6-icmp @th,0,8 " + std::string{type} + " @th,64,128 " + hex_text(vip.address_be) +
                     " drop;";
        }
    } else {
        rules += "arp daddr ip " + address + " drop; arp saddr ip " + address + " drop;";
    }
    if (vip.delivery == STEAD_INVISIBLE) {
        rules += "ether daddr " + mac_text(vip.vmac) + " " + (v6 ? "ip6" : "ip") + " daddr " + address +
                 " meta pkttype set host;";
    }
    return rules;
}

} // namespace

std::string address_text(const __be32* address_be, bool& v6) {
    char text[INET6_ADDRSTRLEN]{};
    v6 = address_be[0] != 0 || address_be[1] != 0 || address_be[2] != STEAD_MAPPED_BE;
    ::inet_ntop(v6 ? AF_INET6 : AF_INET, v6 ? &address_be[0] : &address_be[3], text, sizeof(text));
    return text;
}

NftGate::NftGate(std::uint8_t module_id, const stead_farm_config& config, const stead_farm_control& control)
    : table_("stead_m" + std::to_string(module_id)), config_(config), control_(control), context_(quiet_context()),
      margin_ns_(renewal_min_ns) {}

NftGate::~NftGate() {
    if (context_ != nullptr) {
        nft_ctx_free(context_);
    }
}

Result<void> NftGate::run(const std::string& commands, const char* what) {
    if (context_ == nullptr) {
        return Error{Errc::unsupported, "nftables", "cannot make a context"};
    }
    if (nft_run_cmd_from_buffer(context_, commands.c_str()) == 0) {
        (void)nft_ctx_get_output_buffer(context_); // empties it
        return {};
    }
    std::string why = nft_ctx_get_error_buffer(context_);
    why.resize(std::min(why.size(), std::size_t{300}));
    return Error{Errc::unsupported, "nftables", std::string{"cannot "} + what + ": " + why};
}

/// Per link, so that the frame rules see the frames of that link only.
std::string NftGate::link_rules() const {
    std::vector<std::uint32_t> links;
    std::string text;
    for (int v = 0; v < config_.vip_count; ++v) {
        const std::uint32_t link = config_.vips[v].ifindex;
        if (std::find(links.begin(), links.end(), link) != links.end()) {
            continue;
        }
        links.push_back(link);
        const std::string device = " device \"" + interface_name(link) + "\" priority -400; policy accept;";
        std::string in, out;
        for (int i = v; i < config_.vip_count; ++i) {
            const stead_vip& vip = config_.vips[i];
            if (vip.ifindex != link) {
                continue;
            }
            in += ingress_rules(vip);
            bool v6 = false, own6 = false;
            const std::string address = address_text(vip.address_be, v6);
            const auto& own = control_.own[i];
            if (vip.delivery == STEAD_INVISIBLE) {
                out += "ether saddr " + mac_text(vip.vmac) + " drop;";
            }
            if (v6) {
                const bool known = (own.address6_be[0] | own.address6_be[3]) != 0;
                out += "meta l4proto ipv6-icmp ip6 saddr " + address + " @th,0,8 135 " +
                       (known ? "ip6 saddr set " + address_text(own.address6_be, own6) + " accept;" : "drop;");
                // Our own say it from the VIP's address: what says it from another is not ours to send.
                const std::string claim = "meta l4proto ipv6-icmp @th,0,8 136 @th,64,128 " + hex_text(vip.address_be);
                out += claim + " ip6 saddr != " + address + " drop;" + claim + " ip6 saddr != @claim6 drop;";
            } else {
                const __be32 mapped[4] = {0, 0, STEAD_MAPPED_BE, own.address4_be};
                out +=
                    "arp operation request arp saddr ip " + address + " arp daddr ip != " + address +
                    (own.address4_be != 0 ? " arp saddr ip set " + address_text(mapped, own6) + " accept;" : " drop;");
                out += "arp saddr ip " + address + " arp saddr ip != @claim4 drop;";
            }
        }
        const std::string number = std::to_string(links.size());
        text += "chain in_" + number + " { type filter hook ingress" + device + in + " }; ";
        text += "chain out_" + number + " { type filter hook egress" + device + out + " }; ";
    }
    return text;
}

std::string NftGate::gate_rules() const {
    std::string text = "chain gate { type filter hook prerouting priority -299; policy accept;";
    for (int v = 0; v < config_.vip_count; ++v) {
        bool v6 = false;
        const std::string address = address_text(config_.vips[v].address_be, v6);
        const std::string link = "iifname \"" + interface_name(config_.vips[v].ifindex) + "\" ";
        if (v6) { // neighbour discovery never comes so far, and what else ICMPv6 needs is not about connections
            text += link + "ip6 daddr " + address + " ip6 daddr != @open6 counter drop;";
        } else {
            text += link + "ip daddr " + address + " ip daddr != @open4 counter drop;";
        }
    }
    return text + " }; ";
}

Result<void> NftGate::install() {
    for (int v = 0; v < config_.vip_count; ++v) {
        const std::string name = interface_name(config_.vips[v].ifindex);
        if (name.empty() ||
            name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@+") !=
                std::string::npos) {
            return Error{Errc::malformed, "farm filter",
                         "interface '" + name +
                             "': the nfqueue back end allows letters, digits and . _ - @ + in its name; rename it"};
        }
    }
    rules_.clear();
    const std::string claims =
        "set claim4 { type ipv4_addr; flags timeout; }; set claim6 { type ipv6_addr; flags timeout; }; ";
    const std::string opens =
        "set open4 { type ipv4_addr; flags timeout; }; set open6 { type ipv6_addr; flags timeout; }; ";
    std::string text;
    for (const char* family : {"netdev ", "inet "}) {
        text += "table " + (family + table_) + "; delete table " + (family + table_) + "; ";
    }
    rules_ = link_rules();
    text += "table netdev " + table_ + " { " + claims + rules_ + " }; ";
    text += "table inet " + table_ + " { " + opens + gate_rules() + " };";
    return run(text,
               "add the tables of the nfqueue back end (are nf_tables' ingress and egress hooks in this kernel?)");
}

Result<void> NftGate::refresh() { return link_rules() == rules_ ? Result<void>{} : install(); }

Result<void> NftGate::renew(const __u64& lease_until_ns, std::uint32_t claims) {
    for (int tries = 1;; ++tries) {
        const std::uint64_t until = std::atomic_ref{const_cast<__u64&>(lease_until_ns)}.load();
        const std::uint64_t now = now_ns();
        const std::uint64_t margin_ns =
            std::max(margin_ns_, until > now ? (until - now) / 32 : 0); // long leases can wait
        const std::uint64_t left_ms = tries <= renewals_max ? gate_ms(until, now, margin_ns) : 0;
        if (left_ms == 0 && !open_) {
            margin_ns_ = std::max(margin_ns_ / 2, renewal_min_ns); // or what was slow once would keep it closed
            return {};
        }
        auto done = open_for(left_ms, claims);
        open_ = left_ms != 0;
        const std::uint64_t took = now_ns() - now;
        if (!done || left_ms == 0 || took <= margin_ns) {
            margin_ns_ = took < margin_ns_ / 4 ? std::max(margin_ns_ / 2, renewal_min_ns) : margin_ns_;
            return done;
        }
        // Either renewals are slow here, or this one was held up: a pause, however long, is no measure for the next.
        const std::uint64_t quarter_ns = until > now ? (until - now) / 4 : 0;
        margin_ns_ = std::min(2 * margin_ns_, std::clamp(quarter_ns, renewal_min_ns, renewal_max_ns));
    }
}

Result<void> NftGate::open_for(std::uint64_t left_ms, std::uint32_t claims) {
    // Kernels before 6.12 keep the time of an element that exists; and deleting one that has just ended is an error.
    std::string text;
    const auto put = [&](const std::string& set, const std::string& element, bool on) {
        text +=
            "add element " + set + " { " + element + " timeout 10s }; delete element " + set + " { " + element + " }; ";
        if (on) {
            text += "add element " + set + " { " + element + " timeout " + std::to_string(left_ms) + "ms }; ";
        }
    };
    for (int v = 0; v < config_.vip_count; ++v) {
        bool v6 = false;
        const std::string address = address_text(config_.vips[v].address_be, v6);
        put("inet " + table_ + (v6 ? " open6" : " open4"), address, left_ms != 0);
        put("netdev " + table_ + (v6 ? " claim6" : " claim4"), address, left_ms != 0 && ((claims >> v) & 1) != 0);
    }
    return run(text, "renew the lease of the nfqueue back end");
}

bool NftGate::present() {
    // One by one: older versions of the library look for all of them in the table of the first.
    for (const std::string& chain :
         {"inet " + table_ + " gate", "netdev " + table_ + " in_1", "netdev " + table_ + " out_1"}) {
        if (!run("list chain " + chain, "list a chain")) {
            return false;
        }
    }
    return true;
}

std::uint64_t NftGate::dropped() const {
    const std::unique_ptr<nft_ctx, decltype(&nft_ctx_free)> context{quiet_context(),
                                                                    nft_ctx_free}; // of this call alone
    if (!context || nft_run_cmd_from_buffer(context.get(), ("list chain inet " + table_ + " gate").c_str()) != 0) {
        return 0;
    }
    const std::string shown = nft_ctx_get_output_buffer(context.get());
    std::uint64_t sum = 0;
    constexpr std::string_view word = "counter packets ";
    for (auto at = shown.find(word); at != std::string::npos; at = shown.find(word, at)) {
        at += word.size();
        sum += std::strtoull(shown.c_str() + at, nullptr, 10);
    }
    return sum;
}

void NftGate::remove() {
    for (const char* family : {"netdev ", "inet "}) {
        (void)run("delete table " + (family + table_), "delete the tables");
    }
}

void NftGate::remove(std::uint8_t module_id) {
    const stead_farm_config config{};
    const stead_farm_control control{};
    NftGate{module_id, config, control}.remove();
}

} // namespace stead::shim

// SPDX-License-Identifier: Apache-2.0
// Where the programs hang, and how they get back there when somebody takes them away.
#include "ebpf_filter.hpp"

#include "farm.skel.h"

#include <stead/base/time.hpp>

#include <algorithm>

namespace stead::shim {

namespace {

/// Somebody who takes the filter away as fast as we put it back is not to be fought, but told of.
constexpr unsigned repairs_max = 12;
constexpr std::uint64_t repairs_span_ns = 60'000'000'000;

const char* name_of(Direction direction) { return direction == Direction::ingress ? "tc ingress" : "tc egress"; }

void add_missing(Audit& audit, const std::string& text) { audit.missing += (audit.missing.empty() ? "" : "; ") + text; }

} // namespace

int EbpfFilter::program_of(Direction direction) const noexcept {
    return bpf_program__fd(direction == Direction::ingress ? bpf_->progs.stead_ingress : bpf_->progs.stead_egress);
}

Result<void> EbpfFilter::attach() {
    for (const Vip& vip : options_.vips) {
        interfaces_.insert(vip.ifindex);
    }
    refresh_own();
    const std::lock_guard lock{attached_};
    for (const std::uint32_t ifindex : interfaces_) {
        if (const std::string foreign = foreign_tcx(ifindex); !foreign.empty()) {
            return Error{Errc::conflict, interface_name(ifindex),
                         "the tcx program '" + foreign +
                             "' would decide before the farm filter; detach it, or choose backend=\"nfqueue\""};
        }
        for (const Direction direction : {Direction::egress, Direction::ingress}) {
            auto done = attach_tc(ifindex, direction, options_.module_id, program_of(direction));
            if (!done) {
                detach_tc(ifindex, Direction::egress, options_.module_id);
                return done;
            }
        }
        take_xdp(ifindex);
    }
    auto watch = TcWatch::open([this] { repair(); });
    if (!watch) {
        return watch.error();
    }
    watch_ = std::move(*watch);
    return {};
}

/// XDP is for early rejects only, so a taken slot costs speed and nothing else.
void EbpfFilter::take_xdp(std::uint32_t ifindex) {
    const bool invisible = std::any_of(options_.vips.begin(), options_.vips.end(),
                                       [](const Vip& vip) { return vip.delivery == Delivery::invisible; });
    if (!invisible) {
        detach_xdp(ifindex, options_.module_id); // what an earlier configuration of ours left there
        xdp_[ifindex] = "directed delivery has nothing to reject early";
        return;
    }
    const auto xdp = attach_xdp(ifindex, options_.module_id, bpf_program__fd(bpf_->progs.stead_xdp));
    if (!xdp.held) {
        detach_xdp(ifindex, options_.module_id);
    }
    xdp_[ifindex] = xdp.held ? "" : xdp.why_not;
}

std::string EbpfFilter::backend_note() const {
    const std::lock_guard lock{attached_};
    std::string note = "ebpf: tc on";
    for (const std::uint32_t ifindex : interfaces_) {
        note += " " + interface_name(ifindex);
    }
    for (const auto& [ifindex, why_not] : xdp_) {
        note += (why_not.empty() ? ", XDP on " : ", XDP not used on ") + interface_name(ifindex) +
                (why_not.empty() ? "" : " (" + why_not + ")");
    }
    return note;
}

bool EbpfFilter::may_repair() {
    const auto now = static_cast<std::uint64_t>(to_ns(BootClock::now()));
    if (now - repairs_since_ns_ > repairs_span_ns) {
        repairs_since_ns_ = now;
        repairs_ = 0;
    }
    return ++repairs_ <= repairs_max;
}

void EbpfFilter::repair_tc(std::uint32_t ifindex, Direction direction) {
    const std::uint32_t found = query_tc(ifindex, direction, options_.module_id);
    if (found == program_id(program_of(direction))) {
        return;
    }
    const std::string what = std::string{name_of(direction)} + " on " + interface_name(ifindex) +
                             (found == 0 ? " was taken away" : " was replaced by another program");
    if (!may_repair()) {
        add_missing(found_, what + " again and again");
    } else if (auto done = attach_tc(ifindex, direction, options_.module_id, program_of(direction)); !done) {
        add_missing(found_, what + "; " + done.error().text());
    } else {
        found_.repaired.push_back(what + "; put back");
        return;
    }
    found_.open = true;
}

void EbpfFilter::repair_xdp(std::uint32_t ifindex) {
    if (!xdp_[ifindex].empty() || query_xdp(ifindex) == program_id(bpf_program__fd(bpf_->progs.stead_xdp))) {
        return;
    }
    const std::string what = "XDP on " + interface_name(ifindex);
    if (may_repair()) {
        take_xdp(ifindex);
    } else {
        xdp_[ifindex] = "taken away again and again";
    }
    found_.repaired.push_back(xdp_[ifindex].empty() ? what + " was taken away; put back"
                                                    : what + " is lost, " + xdp_[ifindex] + "; tc goes on alone");
}

void EbpfFilter::repair() {
    const std::lock_guard lock{attached_};
    found_.missing.clear();
    found_.open = false;
    for (const std::uint32_t ifindex : interfaces_) {
        repair_tc(ifindex, Direction::ingress);
        repair_tc(ifindex, Direction::egress);
        repair_xdp(ifindex);
        if (const std::string foreign = foreign_tcx(ifindex); !foreign.empty()) {
            add_missing(found_, "tcx program '" + foreign + "' was put before us on " + interface_name(ifindex));
        }
    }
}

Audit EbpfFilter::audit() {
    refresh_own();
    repair();
    const std::lock_guard lock{attached_};
    Audit audit = found_;
    found_.repaired.clear();
    return audit;
}

Result<void> EbpfFilter::detach() {
    watch_.reset();
    write_lease(0);
    for (const std::uint32_t ifindex : interfaces_) {
        detach_xdp(ifindex, options_.module_id);
        detach_tc(ifindex, Direction::ingress, options_.module_id);
        detach_tc(ifindex, Direction::egress, options_.module_id);
    }
    interfaces_.clear();
    xdp_.clear();
    return {};
}

} // namespace stead::shim

// SPDX-License-Identifier: Apache-2.0
// What `stead mirror status` shows.
#include "driver.hpp"

#include <boost/json/object.hpp>

namespace stead::mirror {
namespace json = boost::json;
namespace {

std::string hex_of(const Gen& gen) {
    return gen.none() ? std::string{}
                      : to_hex({reinterpret_cast<const char*>(&gen.high), sizeof gen.high}).substr(0, 8);
}

std::int64_t microseconds_of(nanoseconds time) { return time / microseconds{1}; }

} // namespace

/// Bytes a second since the last look, smoothed over a few of them.
void Driver::measure_resync(Instant now, std::uint64_t left) {
    const nanoseconds since = now - rate_at_;
    if (since < milliseconds{500}) {
        return;
    }
    const auto done = static_cast<double>(rate_left_ > left ? rate_left_ - left : 0);
    const double per_second = done / (static_cast<double>(since.count()) / 1e9);
    targets_per_second_ = targets_per_second_ == 0 ? per_second : 0.7 * targets_per_second_ + 0.3 * per_second;
    rate_at_ = now;
    rate_left_ = left;
}

json::object Driver::status() {
    const Instant now = BootClock::now();
    Status s;
    Record record;
    Counters counters;
    bool eligible = false;
    {
        const std::lock_guard lock(mutex_);
        s = core_->status();
        record = core_->record();
        counters = core_->counters();
        eligible = core_->eligible();
    }
    std::uint64_t total = 0, left = 0;
    for (const Status::Kind& kind : s.resync) {
        total += kind.total;
        left += kind.left;
    }
    measure_resync(now, left);
    const Pacer::Figures pace = pacer_.figures(now);
    const Link::Counters link = link_ ? link_->counters() : Link::Counters{};
    json::object all{{"say", "status"},
                     {"phase", s.phase},
                     {"deciding", !s.deciding.empty()},
                     {"decision", s.deciding},
                     {"handshake", s.handshake},
                     {"storage_failure", s.storage_failure},
                     {"frozen", s.frozen},
                     {"equal", s.equal},
                     {"in_sync", s.in_sync},
                     {"eligible", eligible},
                     {"outdated", s.outdated},
                     {"half_resynced", s.half_resynced},
                     {"waits_for_schedule", s.waits_for_schedule},
                     {"resyncing", s.resyncing},
                     {"source", s.source},
                     {"comparing", s.comparing},
                     {"targets_total", total},
                     {"targets_left", left},
                     {"received_copies", s.received_copies}};
    if (s.resyncing && s.source && targets_per_second_ > 0) {
        all["targets_per_second"] = static_cast<std::int64_t>(targets_per_second_);
        all["seconds_left"] = static_cast<std::int64_t>(static_cast<double>(left) / targets_per_second_);
    }
    all["epoch"] = counter(record.epoch);
    all["generation"] = hex_of(record.current);
    all["base"] = hex_of(record.base);
    all["operations_in_flight"] = s.operations;
    all["dirty"] = s.dirty;
    all["unsynced"] = s.unsynced_here;
    all["operations"] = pace.operations;
    all["latency_us"] = {{"p50", microseconds_of(pace.p50)}, {"p95", microseconds_of(pace.p95)}};
    all["resync_rate_limit"] = pace.rate;
    all["resync_bytes_read"] = pace.read_bytes;
    all["stream"] = {{"connections", link.connections},
                     {"bytes_in", link.bytes_in},
                     {"bytes_out", link.bytes_out},
                     {"refused", link.refused},
                     {"queued_bytes", link.queued_bytes}};
    all["resyncs"] = counters.resyncs;
    all["syncs"] = counters.syncs;
    all["copies"] = counters.copies;
    all["promotions"] = counters.promotions;
    all["repairs"] = counters.repairs;
    all["verify"] = {{"running", s.verifying},
                     {"total", s.verify.total},
                     {"checked", s.verify.checked},
                     {"differing", s.verify.differing},
                     {"repaired", s.verify.repaired}};
    return all;
}

} // namespace stead::mirror

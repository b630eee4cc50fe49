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

struct Measured {
    ResyncMeter::Figures resync;
    std::string progress;
    ReplicationMeter::Figures replication;
};

void add(const Measured& measured, json::object& all) {
    const auto& [resync, progress, replication] = measured;
    all["progress"] = progress;
    all["resync_bytes"] = resync.bytes;
    all["resync_rate"] = resync.bytes_per_second;
    if (resync.seconds_left) {
        all["targets_per_second"] = resync.targets_per_second;
        all["seconds_left"] = *resync.seconds_left;
    }
    all["replication"] = {{"latency_us", replication.latency_us}, {"bandwidth", replication.bandwidth}};
}

/// At the source as its core counts them, at the target as the source last said.
std::pair<std::uint64_t, std::uint64_t> targets_of(const Status& s, const ResyncMeter::Figures& resync) {
    if (resync.running && !s.source) {
        return {resync.targets, resync.targets_left};
    }
    std::uint64_t total = 0, left = 0;
    for (const Status::Kind& kind : s.resync) {
        total += kind.total;
        left += kind.left;
    }
    return {total, left};
}

std::int64_t microseconds_of(nanoseconds time) { return time / microseconds{1}; }

} // namespace

json::object Driver::status() {
    const Instant now = BootClock::now();
    Status s;
    Record record;
    Counters counters;
    bool eligible = false;
    Measured measured;
    {
        const std::lock_guard lock(mutex_);
        s = core_->status();
        record = core_->record();
        counters = core_->counters();
        eligible = core_->eligible();
        measure(now, s);
        measured = {resync_.figures(), resync_.text(), replication_.figures()};
    }
    const auto [total, left] = targets_of(s, measured.resync);
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
    add(measured, all);
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

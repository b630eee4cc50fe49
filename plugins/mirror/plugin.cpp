// SPDX-License-Identifier: Apache-2.0
// The host's calls: each is posted to the plugin's own thread.
#include "plugin.hpp"

#include "schema.hpp"

#include <boost/asio/post.hpp>

#include <sys/mount.h>

#include <algorithm>
#include <stdexcept>

namespace stead::mirror {
namespace {

MirrorOptions read_checked(const plugin::Config& config) {
    return read_options(config, [](std::uint32_t line, bool warning, const std::string& text) {
        if (!warning) {
            throw std::runtime_error("line " + std::to_string(line) + ": " + text);
        }
    });
}

LeasePage new_page() {
    auto page = LeasePage::create();
    if (!page) {
        throw std::runtime_error(page.error().text());
    }
    return std::move(*page);
}

} // namespace

MirrorPlugin::MirrorPlugin(plugin::Host host, plugin::Config config)
    : host_(host), options_(read_checked(config)), lease_(new_page()), network_(host, options_),
      work_(boost::asio::make_work_guard(io_)), announce_timer_(io_), retry_timer_(io_), swap_timer_(io_),
      witness_timer_(io_), watch_timer_(io_), command_timer_(io_), flow_timer_(io_) {
    host_.set_config(options_.digest());
}

MirrorPlugin::~MirrorPlugin() { stop(); }

void MirrorPlugin::post(std::function<void()> work) { boost::asio::post(io_, std::move(work)); }

void MirrorPlugin::start() {
    thread_.emplace([this] {
        for (;;) {
            try {
                io_.run();
                return;
            } catch (const std::exception& e) {
                host_.error(std::string{"internal error: "} + e.what());
            }
        }
    });
    host_.watch("mirror.");
    host_.watch("splitbrain.verdict");
    host_.watch("heartbeat.");
    post([this] {
        network_.remove_leftovers();
        std::size_t number = 0;
        for (const std::string& mac : network_.macs()) {
            publish("mirror.mac." + std::to_string(number++), mac);
        }
        publish_settings();
        lead();
    });
}

/// Nothing is running any more: RETIRE has waited for stead-fs. A host that ends without it ends stead-fs as well.
void MirrorPlugin::stop() {
    if (!thread_) {
        return;
    }
    post([this] {
        stopping_ = true;
        child_.reset();
        for (boost::asio::steady_timer* timer : {&announce_timer_, &retry_timer_, &swap_timer_, &witness_timer_,
                                                 &watch_timer_, &command_timer_, &flow_timer_}) {
            timer->cancel();
        }
        work_.reset();
    });
    thread_->join();
    thread_.reset();
}

void MirrorPlugin::on_lease(std::uint64_t until_boottime_ns) noexcept {
    lease_.write(until_boottime_ns, static_cast<std::uint64_t>(to_ns(BootClock::now())));
}

void MirrorPlugin::on_view(const stead_view& given) {
    Seen seen{given.members, given.dead, given.left, {}};
    for (std::uint32_t i = 0; i < given.member_count; ++i) {
        seen.names.emplace(given.member[i].node, std::string{plugin::to_view(given.member[i].name)});
    }
    post([this, seen = std::move(seen)] { view(seen); });
}

void MirrorPlugin::on_resource(std::uint32_t node, std::string_view name, std::optional<std::string_view> value) {
    post([this, node, name = std::string{name}, value = value ? std::string{*value} : std::string{}] {
        if (node == host_.self()) {
            if (name == "splitbrain.verdict") {
                witness_answer(value);
            } else if (name.starts_with("heartbeat.") && std::exchange(heartbeats_[name], value) == "up" &&
                       value == "down") {
                watch_flow(name);
            }
        } else if (peer_ && node == *peer_) {
            if (std::exchange(peer_resources_[name], value) == "up" && value == "down") {
                watch_flow(name);
            }
            if (name.starts_with("mirror.mac.") && !value.empty()) {
                peer_macs_.insert(value);
            }
            if (name.starts_with(limits_prefix)) {
                tell_peer_limits();
            } else if (name.starts_with(setting_prefix)) {
                compare_setting(name.substr(setting_prefix.size()), value);
            } else if (name.starts_with(owner_prefix)) {
                compare_owner(name.substr(owner_prefix.size()), value);
            }
            consider_swap_back();
        }
    });
}

void MirrorPlugin::on_message(std::uint32_t from, std::string_view kind, std::uint32_t /*version*/,
                              std::string_view body) {
    post([this, from, kind = std::string{kind}, body = std::string{body}] { message(from, kind, body); });
}

void MirrorPlugin::on_transition(const stead_transition& transition) {
    post([this, transition] { moment(transition); });
}

void MirrorPlugin::on_ready(bool ready) {
    post([this, ready] {
        ready_ = ready;
        if (ready) {
            begin();
            lead(); // the host has forgotten what it was told before
            return;
        }
        for (const Order& order : std::exchange(waiting_commands_, {})) { // a rule holds it, for who knows how long
            refuse_order(order);
        }
        if (!mounted_ && !transition_) {
            say_stop(); // else RELEASE does, when the application has stopped
        }
    });
}

void MirrorPlugin::on_peer_died(std::uint32_t node) {
    post([this, node] {
        if (peer_ && node == *peer_) {
            peer_died_ = true;
            tell_peer("died");
        }
    });
}

void MirrorPlugin::on_link(std::uint32_t ifindex, bool up) {
    if (up) {
        post([this, ifindex] {
            network_.link_up(ifindex, host_.now());
            announce();
        });
    }
}

void MirrorPlugin::on_update(plugin::Config config) {
    const MirrorOptions fresh = read_checked(config);
    post([this, fresh] {
        options_.resync_bytes_per_second = fresh.resync_bytes_per_second;
        options_.readers = fresh.readers;
        options_.ack = fresh.ack;
        options_.verify_at = fresh.verify_at;
        publish_settings();
        if (child_) {
            child_->send({{"do", "update"},
                          {"resync_bytes_per_second", fresh.resync_bytes_per_second},
                          {"readers", fresh.readers},
                          {"ack", static_cast<int>(fresh.ack)}});
        }
    });
}

void MirrorPlugin::check(plugin::Config config, const plugin::Report& report) {
    const Finding finding = [&](std::uint32_t line, bool warning, const std::string& text) {
        warning ? report.warning(line, text) : report.error(line, text);
    };
    static_cast<void>(read_options(config, finding));
    check_places(config, finding);
}

void MirrorPlugin::bus_wish(plugin::Config config, stead_bus_wish& wish) {
    const auto heart = config.child("heart");
    nanoseconds pulse = milliseconds{100}, timeout = seconds{2};
    if (heart) {
        pulse = heart->duration("pulse");
        timeout = heart->duration("timeout");
        wish.port = heart->attribute("port") ? static_cast<std::uint32_t>(heart->integer("port")) : 0;
        for (const auto& beat : heart->children("heartbeat")) {
            if (const auto name = beat.attribute("name"); name && wish.lan_count < STEAD_LANS_MAX) {
                wish.lans[wish.lan_count++] = plugin::to_c(*name);
            }
        }
    }
    wish.port_base = 8888;
    wish.port_step = 1;
    wish.pulse_ns = static_cast<std::uint64_t>(pulse.count());
    wish.slost_count = static_cast<std::uint32_t>(std::max<std::int64_t>(3, timeout / pulse));
    wish.lease_ns = static_cast<std::uint64_t>(timeout.count()) / 4 * 3;
}

/// After a dead host: stead-fs died with it, so what is mounted answers nobody; the data stay aside until the next
/// start.
void MirrorPlugin::cleanup(plugin::Host host, plugin::Config config) {
    const MirrorOptions options = read_options(config, [](std::uint32_t, bool, const std::string&) {});
    for (const auto& vip : options.vips) {
        if (const auto found = host.find_interface({vip.interface, vip.address})) {
            host.remove_address({found->name, vip.address});
        }
    }
    for (const ReplicatedDirectory& directory : options.directories) {
        ::umount2(directory.path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
    }
}

} // namespace stead::mirror

STEAD_EXPORT_SERVICE(stead::mirror::MirrorPlugin, "mirror", "1.0.0", stead::mirror::schema)

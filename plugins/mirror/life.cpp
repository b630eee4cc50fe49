// SPDX-License-Identifier: Apache-2.0
// stead-fs, and where the node belongs after what it says.
#include "plugin.hpp"

#include <sys/mount.h>

#include <cstdlib>
#include <filesystem>

namespace stead::mirror {
namespace json = boost::json;
namespace {
constexpr auto tick = seconds{1};
constexpr unsigned silent_ticks_max = 8; ///< then a stead-fs that runs and says nothing is as good as dead
} // namespace

/// That of a mirror of roles only is another one: what it remembers says nothing of data that are replicated later.
std::filesystem::path MirrorPlugin::state_folder() const {
    return std::filesystem::path{std::string{host_.var_folder()}} /
           (options_.directories.empty() ? "mirror_roles" : "mirror");
}

Settings MirrorPlugin::settings() const {
    Settings s;
    s.module = std::string{host_.module()};
    s.node = static_cast<std::uint8_t>(host_.self());
    s.state_folder = state_folder().string();
    s.directories = options_.directories;
    s.ack = options_.ack;
    s.intent_log = options_.intent;
    s.acl = options_.acl;
    s.failover = options_.failover;
    s.note_sent = options_.default_prim != "alone";
    s.readers = options_.readers;
    s.resync_bytes_per_second = options_.resync_bytes_per_second;
    s.slow_peer = options_.slow_peer;
    s.heard_for = options_.timeout;
    s.peer_heard = peer_present_;
    s.batch = options_.sync_at.has_value();
    s.witness = host_.read(host_.self(), "splitbrain.uptodate").has_value();
    s.probe_vip = !network_.empty();
    s.local_address = host_.node_address(flow_lan(), host_.self()).value_or("");
    s.port = static_cast<std::uint16_t>(options_.stream_port != 0 ? options_.stream_port
                                                                  : 5600 + (host_.module_id() - 1) * 4);
    s.keys = host_.stream_keys("mirror " + s.module);
    return s;
}

void MirrorPlugin::begin() {
    if (!ready_ || child_ || stopping_) {
        return;
    }
    stop_said_ = fs_ready_ = hung_ = false;
    silent_ticks_ = 0;
    for (const ReplicatedDirectory& directory : options_.directories) { // of one that died
        ::umount2(directory.path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
    }
    Child::Handlers handlers;
    handlers.message = [this](const json::object& said) { on_fs_message(said); };
    handlers.ended = [this](int code, const std::string& how) {
        post([this, code, how] { on_fs_end(code, how); }); // not inside its own handler
    };
    const std::string program = std::string{host_.prefix()} + "/libexec/stead/stead-fs";
    auto started = Child::start(io_, program, std::string{host_.module()}, lease_.fd(), std::move(handlers));
    if (!started) {
        host_.request("stop", started.error().text());
        return;
    }
    child_ = std::move(*started);
    child_->send(to_json(settings()));
    reason_ = "opening the replicated directories";
    lead();
}

void MirrorPlugin::say_stop() {
    if (child_ && !std::exchange(stop_said_, true)) {
        fs_ready_ ? child_->send({{"do", "command"}, {"id", 0}, {"name", "stop"}}) : child_->kill();
    }
}

std::int64_t MirrorPlugin::ask(json::object request, Reply reply) {
    if (!child_) {
        reply(false, "stead-fs does not run");
        return 0;
    }
    const std::int64_t id = ++last_id_;
    request["id"] = id;
    replies_.emplace(id, std::move(reply));
    child_->send(request);
    return id;
}

/// Is stead-fs alone frozen, or does it hang? What counts is how often this thread has come by and found nothing, not
/// the time: after a pause of the whole node one tick has passed, however long it was.
void MirrorPlugin::watch_fs() {
    watch_timer_.expires_after(tick);
    watch_timer_.async_wait([this](boost::system::error_code error) {
        if (error || !child_) {
            return;
        }
        if (++silent_ticks_ > silent_ticks_max) {
            host_.error("stead-fs says nothing any more: it is killed");
            hung_ = true;
            child_->kill();
            return;
        }
        child_->send({{"do", "ping"}});
        keep_schedule();
        watch_fs();
    });
}

void MirrorPlugin::on_fs_message(const json::object& said) {
    const std::string what = text_of(said, "say");
    silent_ticks_ = 0;
    if (what == "ready") {
        fs_ready_ = true;
        watch_fs(); // not before: to open a large tree takes its time
        tell_peer_limits();
        if (!peer_word_.empty()) {
            tell_peer(peer_word_);
        }
        for (const Order& order : std::exchange(waiting_commands_, {})) {
            command(order.token, order.verb, order.arguments);
        }
    } else if (what == "role") {
        on_role(text_of(said, "role"), text_of(said, "reason"));
    } else if (what == "bus" && peer_) {
        host_.send(std::uint64_t{1} << *peer_, "core", 1, from_hex(text_of(said, "bytes")));
    } else if (what == "done") {
        on_fs_done(said);
    } else if (what == "status") {
        publish_status(said);
    } else if (what == "note") {
        flag_of(said, "alarm") ? host_.warning(text_of(said, "text")) : host_.event(text_of(said, "text"));
    } else if (what == "limits") {
        publish(std::string{limits_prefix} + std::to_string(number_of(said, "directory")), text_of(said, "limits"));
    } else if (what == "owners") {
        for (const auto& [owner, name] : said) {
            if (owner != "say") {
                publish(std::string{owner_prefix} + std::string{owner}, std::string{name.as_string()});
            }
        }
    } else if (what == "ask_witness") {
        ask_witness(said);
    } else if (what == "probe_vip") {
        probe_vip(number_of(said, "ticket"));
    } else if (what == "closing") {
        watch_timer_.cancel(); // so does this
    } else if (what == "failed") {
        reason_ = text_of(said, "text");
        host_.error(reason_);
    } else if (what == "ended") {
        host_.request("stopstart", "the file system of " + text_of(said, "place") + " was unmounted by somebody");
    }
}

void MirrorPlugin::on_fs_done(const json::object& said) {
    const auto found = replies_.find(number_of(said, "id"));
    if (found != replies_.end()) {
        const Reply reply = std::move(found->second);
        replies_.erase(found);
        reply(flag_of(said, "ok"), text_of(said, "text"));
    }
}

void MirrorPlugin::on_role(const std::string& role, const std::string& reason) {
    const bool together = role_ == Role::prim || role_ == Role::second;
    role_ = role == "alone"    ? Role::alone
            : role == "prim"   ? Role::prim
            : role == "second" ? Role::second
                               : Role::waiting;
    reason_ = reason;
    status_["handshake"] = ""; // of the role before; the next status has what is to be said of this one
    host_.event("role " + role + ": " + reason);
    const bool lost = role_ == Role::alone && together && !peer_present_;
    caller_ = !lost ? "mirror: " + reason : peer_left_ ? "heart: remote stop" : "heart: no heartbeat";
    if (serving()) {
        remember_prim(true);
    } else if (role_ == Role::waiting) {
        host_.unpublish("splitbrain.claim"); // it would be asked again until it is granted, and the peer's then refused
        network_.remove(options_.tcp_reset); // who does not serve is not reached; the scripts stop what runs
    }
    lead();
}

std::string MirrorPlugin::why_waiting() const {
    const std::string handshake = text_of(status_, "handshake");
    if (flag_of(status_, "half_resynced") && !peer_present_) {
        const bool first_copy = text_of(status_, "generation").empty();
        return first_copy ? "its first copy broke off, so only a part of the data is here: start the other node"
                          : "a resync broke off, so the data here are half new: start the other node, which has all, "
                            "or say 'stead prim' here, which rolls them back to what they were before it";
    }
    return handshake.empty() ? reason_ : handshake;
}

/// Where the node belongs. The host walks there and asks for PREPARE and RELEASE on its way.
void MirrorPlugin::lead() {
    if (swap_wanted_ && serving()) {
        host_.set_role(STEAD_SECOND, "swap", true);
        return;
    }
    switch (role_) {
    case Role::none: host_.set_role(STEAD_WAIT, reason_.empty() ? "starting" : reason_, true); break;
    case Role::waiting: {
        if (flag_of(status_, "waits_for_schedule")) {
            host_.set_role(STEAD_WAIT, "rfs_syncat_wait, the next synchronisation is at " + next_sync_, false);
            break;
        }
        const std::string failure = text_of(status_, "storage_failure");
        host_.set_role(STEAD_WAIT, why_waiting() + (failure.empty() ? "" : "; its storage failed (" + failure + ")"),
                       flag_of(status_, "deciding"));
        break;
    }
    case Role::second: {
        const bool in_sync = flag_of(status_, "eligible");
        const bool copies = !text_of(status_, "progress").empty(); // how far is in rfs.resync: each reason is logged
        const std::string why = "not uptodate: " + (copies ? std::string{"being resynced"} : progress());
        host_.set_role(STEAD_SECOND, in_sync ? "" : why, !in_sync);
        break;
    }
    case Role::prim:
    case Role::alone: {
        const stead_state state = role_ == Role::prim ? STEAD_PRIM : STEAD_ALONE;
        if (!caller_.empty()) { // for the log: what serves needs no reason beside its state
            host_.set_role(state, std::exchange(caller_, ""), false);
        }
        host_.set_role(state, "", false);
        break;
    }
    case Role::died: host_.set_role(STEAD_WAIT, reason_, false); break;
    }
}

/// The process is gone with all that it had open: nobody waits for a file any more.
void MirrorPlugin::on_fs_end(int code, const std::string& how) {
    child_.reset();
    witness_token_.clear(); // its answer is not for the next one, whose questions have the same numbers
    witness_timer_.cancel();
    for (auto& [id, reply] : std::exchange(replies_, {})) {
        reply(false, "stead-fs ended");
    }
    const bool as_asked = stop_said_ && (code == 0 || code == exit_gave_up); // of the latter it has said why
    role_ = Role::none;
    fs_ready_ = mounted_ = false;
    watch_timer_.cancel();
    status_ = {};
    publish("rfs.resync", "no");
    publish_figures();
    if (as_asked) {
        reason_.clear();
        transition_over();
        publish("rfs.uptodate", "unknown");
        begin();
        return;
    }
    role_ = Role::died;
    network_.remove(options_.tcp_reset);
    const bool told = code == exit_cannot_start || code == exit_gave_up;
    if (!told || reason_.empty()) {
        reason_ =
            hung_ ? "stead-fs said nothing for " + std::to_string(silent_ticks_max) + " s" : "stead-fs ended " + how;
        host_.error(reason_);
    }
    for (const ReplicatedDirectory& directory : options_.directories) {
        ::umount2(directory.path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
    }
    if (peer_) { // it has our word that nothing here answers any more
        host_.send(std::uint64_t{1} << *peer_, "fs_died", 1, "");
    }
    for (const Order& order : std::exchange(waiting_commands_, {})) {
        finish_command(order.token, false, reason_);
    }
    lead();
    transition_over();
    host_.request(code == exit_cannot_start ? "stop" : "stopstart", reason_);
}

} // namespace stead::mirror

// SPDX-License-Identifier: Apache-2.0
// What this node knows of the other one, told to stead-fs; the witness, and who wants to be primary.
#include "plugin.hpp"

#include <stead/base/files.hpp>
#include <stead/mirror/owners.hpp>

#include <algorithm>
#include <bit>
#include <charconv>
#include <filesystem>

namespace stead::mirror {
namespace json = boost::json;
namespace {
constexpr auto witness_limit = seconds{4};
constexpr auto swap_back_after = seconds{10}; ///< of quiet: a failback storm restarts the application twice
} // namespace

/// To who owns the other node's files: files that come here keep their numbers, not their names.
void MirrorPlugin::compare_owner(const std::string& text, const std::string& name) {
    Owner owner;
    if (!parse(text, owner)) {
        return;
    }
    const std::string wrong = Accounts::read().disagreement(owner, name, peer_name_);
    if (!wrong.empty() && owners_told_.insert(wrong).second) {
        host_.warning(wrong + ": the mirrored files would belong to somebody else after a failover; give both nodes "
                              "the same numbers (usermod -u, groupmod -g)");
    }
    if (wrong.empty()) {
        owners_wrong_.erase(text);
    } else {
        owners_wrong_.insert(text);
    }
    publish("rfs.owners", owners_wrong_.empty() ? "up" : "down");
}

/// Empty is no value of a resource.
void MirrorPlugin::publish_settings() {
    for (const auto& [name, value] : options_.alike()) {
        publish(std::string{setting_prefix} + name, value.empty() ? "none" : value);
    }
    for (const auto& [name, value] : peer_resources_) {
        if (name.starts_with(setting_prefix)) {
            compare_setting(name.substr(setting_prefix.size()), value);
        }
    }
}

/// The two work with different ones; but what a failover changes besides the node is then a surprise.
void MirrorPlugin::compare_setting(const std::string& name, const std::string& theirs) {
    const auto mine = published_.find(std::string{setting_prefix} + name);
    if (theirs.empty() || mine == published_.end()) { // it is away, or one of the two is of another version
        return;
    }
    if (mine->second == theirs) {
        settings_unlike_.erase(name);
    } else if (const std::string both = "'" + mine->second + "' here and '" + theirs + "' on " + peer_name_;
               std::exchange(settings_unlike_[name], both) != both) {
        host_.warning(name + " is " + both + ": give both nodes the same userconfig.xml, or a failover changes it");
    }
    publish("settings.same", settings_unlike_.empty() ? "up" : "down");
}

/// The last that it told, also while it is away: it will come back.
void MirrorPlugin::tell_peer_limits() {
    for (const auto& [name, value] : peer_resources_) {
        const std::string number = name.starts_with(limits_prefix) ? name.substr(limits_prefix.size()) : "";
        std::uint32_t directory{};
        const auto failed = std::from_chars(number.data(), number.data() + number.size(), directory).ec;
        if (fs_ready_ && !number.empty() && failed == std::errc{} && !value.empty()) {
            child_->send({{"do", "peer_limits"}, {"directory", directory}, {"limits", value}});
        }
    }
}

/// Views of the module's bus. Two nodes carry a mirror: a third one is a mistake that is named.
void MirrorPlugin::view(const Seen& seen) {
    const std::uint64_t self = std::uint64_t{1} << host_.self();
    const std::uint64_t others = seen.members & ~self;
    if (seen.members == 0) { // frozen or voted out: what the peer does meanwhile is not known
        if (peer_present_ && !std::exchange(excluded_, true) && role_ == Role::second) {
            tell_peer("excluded"); // it may be long until the two are in one view again
        }
        return;
    }
    if (std::popcount(others) > 1) {
        host_.error("more than two nodes run this mirror module; uninstall it on all but two");
    }
    if (others != 0) {
        const auto node = static_cast<std::uint32_t>(std::countr_zero(others));
        if (peer_ != node) {
            peer_resources_.clear();
        }
        peer_ = node;
        peer_name_ = seen.names.contains(node) ? seen.names.at(node) : std::to_string(node);
        peer_died_ = false;
        if (std::exchange(excluded_, false)) {
            tell_peer("excluded");
            peer_present_ = false;
        }
        if (!std::exchange(peer_present_, true)) {
            peer_word_ = "back";
            tell_peer("back");
        }
        return;
    }
    if (std::exchange(excluded_, false)) { // it may have gone on without this node before it fell silent
        tell_peer("excluded");
    }
    if (!std::exchange(peer_present_, false) && !peer_word_.empty()) {
        return;
    }
    const std::uint64_t peer_bit = peer_ ? std::uint64_t{1} << *peer_ : 0;
    peer_resources_.clear();
    peer_left_ = (seen.left & peer_bit) != 0;
    peer_word_ = peer_died_ || peer_left_ ? "died" : "silent"; // silent: also one that was never heard
    tell_peer(peer_word_);
    if (role_ == Role::waiting) {
        lead(); // what it waits for is another thing now
    }
}

void MirrorPlugin::tell_peer(const std::string& how) {
    if (child_ && fs_ready_) {
        child_->send({{"do", "peer"},
                      {"how", how},
                      {"node", peer_.value_or(0)},
                      {"address", peer_ ? host_.node_address(flow_lan(), *peer_).value_or("") : ""}});
    }
}

/// One of them does not hear the other there any more, while both do on another network: TCP would find out much
/// later. Looked at twice, for where all fall silent they do so one after the other, and that is no case for this.
void MirrorPlugin::watch_flow(const std::string& fallen) {
    const std::string mine = flow_heartbeat();
    const auto cut = [this, mine] {
        const auto heard = [&](const auto& one) {
            return one.first != mine && one.second == "up" && peer_resources_[one.first] == "up";
        };
        return peer_present_ && (heartbeats_[mine] == "down" || peer_resources_[mine] == "down") &&
               std::ranges::any_of(heartbeats_, heard);
    };
    if (!options_.replicates || fallen != mine) { // without data the other network carries the roles
        return;
    }
    flow_timer_.expires_after(milliseconds{300});
    flow_timer_.async_wait([this, cut](boost::system::error_code error) {
        if (!error && cut() && child_ && fs_ready_) {
            child_->send({{"do", "flow_cut"}});
        }
    });
}

/// The resource of the heartbeats on the network of the replication; empty: there are none.
std::string MirrorPlugin::flow_heartbeat() const {
    constexpr std::string_view prefix = "heartbeat.";
    if (const std::string lan = flow_lan(); !lan.empty()) {
        const auto ident = options_.idents.find(lan);
        return std::string{prefix} + (ident == options_.idents.end() ? lan : ident->second);
    }
    const auto used = host_.node_address("", host_.self()); // all of cluster.xml have heartbeats, under their names
    const auto found = std::ranges::find_if(heartbeats_, [&](const auto& one) {
        return host_.node_address(one.first.substr(prefix.size()), host_.self()) == used;
    });
    return found == heartbeats_.end() ? "" : found->first;
}

/// Of the replication: as configured, else the first network of the heartbeats.
std::string MirrorPlugin::flow_lan() const {
    return !options_.flow_lan.empty() ? options_.flow_lan : !options_.lans.empty() ? options_.lans.front() : "";
}

void MirrorPlugin::message(std::uint32_t from, const std::string& kind, const std::string& body) {
    if (!peer_ || from != *peer_) {
        return;
    }
    if (kind == "core" && child_ && fs_ready_) {
        child_->send({{"do", "bus"}, {"bytes", to_hex(body)}});
    } else if (kind == "fs_died") {
        tell_peer("died");
    }
}

// ---- Witness
// ----------------------------------------------------------------------------------------------------------

void MirrorPlugin::ask_witness(const json::object& said) {
    witness_ticket_ = number_of(said, "ticket");
    witness_token_ = std::to_string(++witness_asked_);
    // Of this mirror: one that is made anew counts from 1 again, and the word that the witness gave the old one is not
    // about it.
    const std::string mirror = text_of(said, "mirror");
    host_.publish("splitbrain.claim", witness_token_ + " " + std::to_string(number_of(said, "counter")) + " " +
                                          std::to_string(number_of(said, "holder")) +
                                          (mirror.empty() ? "" : " claim." + mirror));
    witness_timer_.expires_after(witness_limit);
    witness_timer_.async_wait([this, token = witness_token_](boost::system::error_code error) {
        if (!error) {
            witness_answer(token + " unanswered");
        }
    });
}

/// "TOKEN granted|refused|unanswered". An answer to an older question is not one.
void MirrorPlugin::witness_answer(const std::string& verdict) {
    const auto blank = verdict.find(' ');
    if (witness_token_.empty() || verdict.substr(0, blank) != witness_token_ || !child_) {
        return;
    }
    witness_token_.clear();
    witness_timer_.cancel();
    const std::string word = blank == std::string::npos ? "" : verdict.substr(blank + 1);
    child_->send({{"do", "answer"},
                  {"ticket", witness_ticket_},
                  {"yes", word == "granted"},
                  {"unanswered", word != "granted" && word != "refused"}});
}

void MirrorPlugin::probe_vip(std::int64_t ticket) {
    const std::string foreign = network_.foreign_owner({}); // the peer's answer counts: it lives
    if (!foreign.empty()) {
        host_.warning(foreign);
    }
    if (child_) {
        child_->send({{"do", "answer"}, {"ticket", ticket}, {"yes", !foreign.empty()}, {"unanswered", false}});
    }
}

// ---- defaultprim
// ------------------------------------------------------------------------------------------------------

/// "lastprim": a node that was primary until it ended, and not because a person moved the role, wants it back.
std::filesystem::path MirrorPlugin::prim_marker() const { return state_folder() / "was_prim"; }

void MirrorPlugin::remember_prim(bool prim) {
    std::error_code ignored;
    if (prim) {
        if (const auto written = write_file_atomically(prim_marker(), "yes\n"); !written) {
            host_.warning("defaultprim: " + written.error().text());
        }
    } else {
        std::filesystem::remove(prim_marker(), ignored);
    }
}

bool MirrorPlugin::wants_prim() const {
    std::error_code ignored;
    return options_.default_prim == host_.node() ||
           (options_.default_prim == "lastprim" && std::filesystem::exists(prim_marker(), ignored));
}

/// The primary gives the role to a peer that wants it, once both have been equal and quiet for a while, and what the
/// resync sent is equal on both disks: the application is about to believe it.
void MirrorPlugin::consider_swap_back() {
    publish("mirror.wants_prim", role_ == Role::second && wants_prim() ? "yes" : "no");
    const auto wish = peer_resources_.find("mirror.wants_prim");
    const bool due = role_ == Role::prim && flag_of(status_, "equal") && wish != peer_resources_.end() &&
                     wish->second == "yes" && !swap_wanted_;
    if (!due) {
        swap_timer_.cancel();
        swap_back_ = SwapBack::no;
    } else if (swap_back_ == SwapBack::no || (swap_back_ == SwapBack::refused && compared() && !differs())) {
        swap_back_ = SwapBack::quiet;
        swap_timer_.expires_after(swap_back_after);
        swap_timer_.async_wait([this](boost::system::error_code error) {
            if (!error && swap_back_ == SwapBack::quiet) {
                compare_before_swap();
            }
        });
    }
}

void MirrorPlugin::compare_before_swap() {
    swap_back_ = SwapBack::comparing;
    ask({{"do", "command"}, {"name", "verify_sent"}}, [this](bool ok, const std::string& text) {
        if (swap_back_ != SwapBack::comparing) {
            return;
        }
        if (ok) {
            swap_back_ = SwapBack::no;
            swap(0, "defaultprim=" + options_.default_prim);
            return;
        }
        if (!text.starts_with(copies_differ)) { // broken off, or an administrator compares just now
            swap_back_ = SwapBack::no;
            return;
        }
        swap_back_ = SwapBack::refused;
        host_.warning("defaultprim: the role stays here: what the resync sent to " + peer_name_ +
                      " was compared: " + text + "; 'stead rfsdiff' names it, 'stead rfsverify repair' mends it");
    });
}

} // namespace stead::mirror

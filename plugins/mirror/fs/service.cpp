// SPDX-License-Identifier: Apache-2.0
// The main thread of stead-fs: the host's requests, time, mounts.
#include "driver.hpp"

#include <stead/base/utf8.hpp>
#include <stead/mirror/lost.hpp>
#include <stead/mirror/owners.hpp>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <sys/mount.h>
#include <sys/stat.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace stead::mirror {
namespace json = boost::json;
namespace {

constexpr nanoseconds longest_wait = milliseconds{100};
constexpr nanoseconds lease_look = milliseconds{5}; ///< while it is over
constexpr nanoseconds status_every = milliseconds{250};

struct CommandName {
    const char* name;
    Command command;
};
constexpr CommandName command_names[] = {
    {"prim", Command::prim},
    {"second", Command::second},
    {"primforce", Command::primforce},
    {"prim_full", Command::prim_full},
    {"second_full", Command::second_full},
    {"swap", Command::swap},
    {"stop", Command::stop},
    {"verify", Command::verify},
    {"repair", Command::repair},
    {"verify_sent", Command::verify_sent},
};

std::string name_of(const LostSet& set) { return "split-" + std::to_string(set.number); }

std::string text_of_lost(const std::vector<LostSet>& sets) {
    constexpr std::size_t shown_max = 100;
    std::string text;
    for (const LostSet& set : sets) {
        text += name_of(set) + ": " + std::to_string(set.items.size()) + " items\n";
        for (std::size_t i = 0; i < std::min(set.items.size(), shown_max); ++i) {
            const LostItem& item = set.items[i];
            text += "  " + printable(item.path, "") +
                    (item.again   ? " (another name)"
                     : item.whole ? " (removed)"
                                  : " (" + std::to_string(item.zones) + " zones overwritten)") +
                    "\n";
        }
        if (set.items.size() > shown_max) {
            text += "  and " + std::to_string(set.items.size() - shown_max) + " more\n";
        }
    }
    text.pop_back();
    return text;
}

} // namespace

int Driver::run() {
    say({{"say", "ready"}});
    sync_pool_->post([this] { tell_place(); });
    for (;;) {
        const int events = wait_and_tick();
        for (bool more = (events & POLLIN) != 0; more;) {
            auto message = channel_.receive();
            if (!message && message.error().code == Errc::malformed) {
                continue;
            }
            if (!message) {
                if (message.error().code != Errc::timed_out) {
                    host_gone_.store(true);
                }
                break;
            }
            serve(*message);
        }
        if (host_gone_) {
            return 1; // whoever waits is released by the end of this process
        }
        follow_role();
        tell_status(false);
        const std::lock_guard lock(mutex_);
        if (stopped_) {
            break;
        }
    }
    return finish();
}

/// Waits for a message, a wake-up or the core's next deadline. Returns poll's events of the channel.
int Driver::wait_and_tick() {
    Instant now = BootClock::now();
    Instant until = now + longest_wait;
    {
        const std::lock_guard lock(mutex_);
        until = std::min(until, core_->next_deadline());
        if (!withheld_.empty() || (serves() && !core_->answers(now))) {
            until = std::min(until, now + lease_look);
        }
    }
    armed_ns_.store(to_ns(until));
    std::array<pollfd, 2> fds{{{channel_.fd(), POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
    const auto left = std::max<std::int64_t>(0, (until - BootClock::now()).count());
    const timespec limit{left / 1'000'000'000, left % 1'000'000'000};
    ::ppoll(fds.data(), fds.size(), &limit, nullptr);
    std::uint64_t count = 0;
    [[maybe_unused]] const auto read = ::read(wake_.get(), &count, sizeof count);
    set_window();
    feed(Tick{});
    return (fds[0].revents & (POLLHUP | POLLERR)) != 0 ? fds[0].revents | POLLIN : fds[0].revents;
}

void Driver::serve(const json::object& message) {
    const std::string what = text_of(message, "do");
    const std::int64_t id = number_of(message, "id");
    if (what == "peer") {
        on_peer(message);
    } else if (what == "bus") {
        if (auto decoded = decode_bus_message(from_hex(text_of(message, "bytes")))) {
            feed(BusReceived{std::move(*decoded)});
        } else {
            note_seldom(true, "message of the peer over the bus: " + decoded.error().text());
        }
    } else if (what == "command") {
        on_command(message);
    } else if (what == "let_in") {
        feed(LetIn{});
    } else if (what == "start_behind") {
        feed(StartBehind{});
    } else if (what == "mount") {
        mount(id);
    } else if (what == "unmount") {
        unmount(id, flag_of(message, "force"));
    } else if (what == "answer") {
        Done answer;
        answer.ticket = static_cast<Ticket>(number_of(message, "ticket"));
        answer.yes = flag_of(message, "yes");
        answer.unanswered = flag_of(message, "unanswered");
        feed(answer);
    } else if (what == "differences") {
        differences(id);
    } else if (what == "lost_list" || what == "lost_export" || what == "lost_drop") {
        lost(message);
    } else if (what == "ping") {
        say({{"say", "pong"}}); // the host's watchdog asks
    } else if (what == "peer_limits") {
        take_peer_limits(message);
    } else if (what == "flow_cut") {
        flow_cut();
    } else if (what == "update") {
        update(message);
    } else {
        note(true, "the host asks for '" + what + "', which stead-fs does not know");
    }
}

void Driver::on_peer(const json::object& message) {
    const std::string how = text_of(message, "how");
    if (how == "back") {
        start_link(static_cast<std::uint8_t>(number_of(message, "node")), text_of(message, "address"));
        feed(PeerBack{});
    } else {
        feed(PeerLost{how == "died"       ? PeerLost::How::died
                      : how == "excluded" ? PeerLost::How::excluded_us
                                          : PeerLost::How::silent});
    }
}

void Driver::on_command(const json::object& message) {
    const std::string name = text_of(message, "name");
    const auto* const found =
        std::ranges::find_if(command_names, [&](const CommandName& one) { return name == one.name; });
    if (found == std::end(command_names)) {
        done(number_of(message, "id"), false, "stead-fs has no command '" + name + "'");
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        commands_[found->command].push_back(number_of(message, "id"));
    }
    feed(found->command);
}

void Driver::done(std::int64_t id, bool ok, const std::string& text) {
    constexpr std::size_t text_bytes_max = 60'000; // what the host shows, and a datagram takes
    if (id != 0) {
        say({{"say", "done"}, {"id", id}, {"ok", ok}, {"text", printable(text, "\n", text_bytes_max)}});
    }
}

// ---- Mounts
// -----------------------------------------------------------------------------------------------------------

void Driver::mount(std::int64_t id) {
    drop_fronts();
    show_read_only(false); // below a file system of ours it would be this that ends with the role
    for (std::size_t root = 0; root < tree_->roots(); ++root) {
        FrontOptions options;
        options.tree = tree_.get();
        options.root = root;
        options.mount_point = tree_->describe(root).place.string();
        options.acl = settings_.acl;
        options.peer = peer_limits_[root];
        options.submit = [this](Operation operation, std::function<void(int)> answer) {
            submit(std::move(operation), std::move(answer));
        };
        options.note = [this](bool alarm, const std::string& text) { note(alarm, text); };
        options.failing = [this] { look_at_storage(); };
        auto mounted = Front::mount(std::move(options));
        if (!mounted) {
            const Error error = mounted.error();
            drop_fronts();
            done(id, false, error.text());
            return;
        }
        (*mounted)->on_end([this, place = tree_->describe(root).place.string()] {
            say({{"say", "ended"}, {"place", place}});
        });
        const std::lock_guard lock(fronts_mutex_);
        fronts_.push_back(std::move(*mounted));
    }
    bool late = false;
    {
        const std::lock_guard lock(mutex_);
        late = !serves();
    }
    if (late) {
        drop_fronts();
        done(id, false, "this node does not serve any more: " + role_reason_);
    } else {
        done(id, true, {});
    }
}

/// For the other node: whom the data belong to, and what the file systems take.
void Driver::tell_place() {
    std::vector<std::filesystem::path> directories;
    for (const auto& directory : settings_.directories) {
        directories.push_back(directory.path + directory.hidden_suffix + "/data");
        const Fd fd(::open(directories.back().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (const auto limits = fd ? probe_limits(fd.get()) : Result<Limits>(Error{Errc::io, "", ""}); limits) {
            say({{"say", "limits"}, {"directory", directories.size() - 1}, {"limits", to_text(*limits)}});
        }
    }
    const Accounts accounts = Accounts::read();
    json::object owners{{"say", "owners"}};
    for (const Owner& owner : owners_in(directories)) {
        owners[to_text(owner)] = accounts.name_of(owner);
    }
    say(std::move(owners));
}

/// "peer_limits": what one of them, perhaps, does not take, this node's applications are refused.
void Driver::take_peer_limits(const json::object& message) {
    const auto directory = static_cast<std::size_t>(number_of(message, "directory"));
    const auto limits = limits_from(text_of(message, "limits"));
    if (!limits || directory >= peer_limits_.size()) {
        return note(true, "what the other node's file system takes is not known: " +
                              (limits ? "no such directory" : limits.error().text()));
    }
    peer_limits_[directory]->set(*limits);
}

/// One bad sector is the application's error; nothing can be written is the end of this node's copy.
void Driver::look_at_storage() {
    if (storage_looked_at_.exchange(true)) {
        return;
    }
    sync_pool_->post([this] {
        const int error = tree_->probe();
        storage_looked_at_ = false;
        if (error != 0 && error != ENOSPC && error != EDQUOT && error != ENOMEM) {
            feed(StorageFailed{});
        }
    });
}

void Driver::unmount(std::int64_t id, bool force) {
    std::string busy;
    {
        const std::lock_guard lock(fronts_mutex_);
        for (const auto& front : fronts_) {
            if (force) {
                front->abort();
            } else if (!front->unmount()) {
                busy = "files are still open";
            }
        }
    }
    if (busy.empty()) {
        drop_fronts();
    }
    done(id, busy.empty(), busy);
}

/// Ends what is mounted. Nobody answers through a front any more when it goes.
void Driver::drop_fronts() {
    std::vector<std::unique_ptr<Front>> old;
    {
        const std::lock_guard lock(fronts_mutex_);
        old.swap(fronts_);
    }
    if (old.empty()) {
        return;
    }
    for (const auto& front : old) {
        front->abort();
    }
    std::unique_lock lock(mutex_);
    pending_.clear();
    withheld_.clear();
    replied_.wait(lock, [this] { return replying_ == 0; });
}

/// The secondary may show its copy, read-only: a bind mount of the hidden tree.
void Driver::follow_role() {
    Role role = Role::none;
    {
        const std::lock_guard lock(mutex_);
        if (!std::exchange(role_changed_, false)) {
            return;
        }
        role = role_;
    }
    if (role == Role::waiting) {
        drop_fronts();
    }
    show_read_only(role == Role::second);
    tell_status(true);
}

void Driver::show_read_only(bool shown) {
    for (const std::string& place : shown_) {
        ::umount2(place.c_str(), MNT_DETACH);
    }
    shown_.clear();
    for (std::size_t i = 0; shown && i < settings_.directories.size(); ++i) {
        const ReplicatedDirectory& directory = settings_.directories[i];
        if (!directory.read_only) {
            continue;
        }
        const std::string data = directory.path + directory.hidden_suffix + "/data";
        if (::mount(data.c_str(), directory.path.c_str(), nullptr, MS_BIND, nullptr) != 0 ||
            ::mount(nullptr, directory.path.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) != 0) {
            note(true, os_error(directory.path, "cannot be shown read-only", errno).text());
            continue;
        }
        shown_.push_back(directory.path);
    }
}

// ---- What was lost in a split
// -----------------------------------------------------------------------------------------

/// One after the other: what is exported must not be dropped meanwhile.
void Driver::lost(const json::object& message) {
    reader_pool_->post(
        [this, id = number_of(message, "id"), what = text_of(message, "do"), name = text_of(message, "name")] {
            const std::lock_guard lock(lost_mutex_);
            static_cast<void>(tree_->tidy()); // what is just being kept is part of it
            const auto sets = list_lost(settings_.state_folder);
            if (!sets || sets->empty()) {
                done(id, static_cast<bool>(sets), sets ? "nothing was lost in a split" : sets.error().text());
                return;
            }
            const auto told = what == "lost_list"     ? Result<std::string>(text_of_lost(*sets))
                              : what == "lost_export" ? export_sets(*sets, name)
                                                      : drop_sets(*sets, name);
            done(id, static_cast<bool>(told), told ? *told : told.error().text());
        });
}

/// Of several splits: a folder each.
Result<std::string> Driver::export_sets(const std::vector<LostSet>& sets, const std::string& folder) const {
    std::size_t count = 0;
    for (const LostSet& set : sets) {
        const std::string to = folder + (sets.size() == 1 ? "" : "/" + name_of(set));
        const auto written = export_lost(settings_.state_folder, set.number, to);
        if (!written) {
            return written.error();
        }
        count += *written;
    }
    return std::to_string(count) + " items written below " + folder;
}

/// Nothing is dropped by guessing: of several splits a person says which.
Result<std::string> Driver::drop_sets(const std::vector<LostSet>& sets, const std::string& name) const {
    std::string names;
    std::vector<const LostSet*> chosen;
    for (const LostSet& set : sets) {
        names += (names.empty() ? "" : ", ") + name_of(set);
        if (name == "all" || name == name_of(set) || (name.empty() && sets.size() == 1)) {
            chosen.push_back(&set);
        }
    }
    if (chosen.empty()) {
        return Error{Errc::not_found, "mirror lost drop",
                     (name.empty() ? "there are several" : "'" + name + "' is none") + "; allowed: " + names + ", all"};
    }
    std::string text;
    for (const LostSet* set : chosen) {
        if (const auto dropped = drop_lost(settings_.state_folder, set->number); !dropped) {
            return dropped.error();
        }
        text += (text.empty() ? "" : "\n") + name_of(*set) + ": " + std::to_string(set->items.size()) +
                " items removed for good";
    }
    return text;
}

/// What the last comparison found, by path.
void Driver::differences(std::int64_t id) {
    reader_pool_->post([this, id] {
        std::vector<Target> found;
        {
            const std::lock_guard lock(mutex_);
            found = core_->status().differing;
        }
        std::set<Fid> inodes;
        for (const Target& target : found) {
            inodes.insert(target.fid);
        }
        std::map<Fid, std::string> paths;
        const Errno error = inodes.empty() ? 0 : tree_->paths_of(inodes, paths);
        std::string text;
        for (const Target& target : found) {
            const auto path = paths.find(target.fid);
            text += "\n  " + (path == paths.end() ? "an inode without name" : printable(path->second, "")) +
                    (target.kind == TargetKind::directory ? ": names in it"
                     : target.kind == TargetKind::inode   ? ": attributes"
                                                        : ": bytes from " + std::to_string(target.index * zone_bytes));
        }
        done(id, error == 0,
             error == 0 ? text : os_error("the replicated directories", "cannot be read", error).text());
    });
}

// ---- Status and end
// ---------------------------------------------------------------------------------------------------

void Driver::tell_status(bool now) {
    const Instant at = BootClock::now();
    if (!status_due_.exchange(false) && !now && at < status_at_ + status_every) {
        return;
    }
    status_at_ = at;
    json::object all = status();
    std::string text = json::serialize(all);
    if (text != last_status_) {
        last_status_ = std::move(text);
        say(all);
    }
}

int Driver::finish() {
    say({{"say", "closing"}});
    follow_role();
    show_read_only(false);
    drop_fronts();
    end_threads();
    {
        const std::lock_guard lock(mutex_);
        resync_ends(BootClock::now(), false);
    }
    if (const auto closed = tree_->close(); !closed) {
        note(true, closed.error().text());
    }
    if (!failure_.empty()) {
        say({{"say", "failed"}, {"text", failure_}});
        return exit_gave_up;
    }
    say({{"say", "stopped"}});
    return 0;
}

} // namespace stead::mirror

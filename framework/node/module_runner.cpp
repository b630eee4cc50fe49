// SPDX-License-Identifier: Apache-2.0
#include "value_or.hpp"

#include <stead/node/module_runner.hpp>

#include <stead/control/host_protocol.hpp>
#include <stead/control/loop_count.hpp>
#include <stead/node/registry.hpp>

#include <boost/asio/post.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <thread>

namespace stead::node {
namespace asio = boost::asio;
namespace json = boost::json;
namespace {

constexpr milliseconds connect_interval{10};
constexpr int connect_attempts = 1000; // 10 s
constexpr seconds cleanup_limit{10};
constexpr seconds reboot_limit{60}; // until the reboot is asked for, not until it is done
constexpr std::uint64_t lease_page_bytes = 4096;

std::string text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string{};
}

ModuleState state_of(const json::object& object) {
    return {text_of(object, "state"), text_of(object, "qualifier"), text_of(object, "reason"),
            text_of(object, "started"), text_of(object, "share")};
}

/// Text where it may be large: JSON has no number that holds all of them everywhere.
bool take_word(const json::object& body, std::string_view name, std::uint64_t& word) {
    const json::value* value = body.if_contains(name);
    if (value != nullptr && value->is_int64() && value->get_int64() >= 0) {
        word = static_cast<std::uint64_t>(value->get_int64());
        return true;
    }
    if (value == nullptr || !value->is_string()) {
        return false;
    }
    const std::string_view text = value->get_string();
    const auto [last, failed] = std::from_chars(text.data(), text.data() + text.size(), word);
    return failed == std::errc{} && last == text.data() + text.size();
}

std::optional<WitnessQuestion> question_in(const json::object& body) {
    const auto number = [&](std::string_view name) {
        const json::value* value = body.if_contains(name);
        return value != nullptr && value->is_int64() ? value->get_int64() : std::int64_t{-1};
    };
    WitnessQuestion question{.id = number("question"),
                             .node = text_of(body, "node"),
                             .key = text_of(body, "key"),
                             .claim = {},
                             .timeout = milliseconds{number("timeout_ms")}};
    const bool whole = take_word(body, "counter", question.claim.counter) &&
                       take_word(body, "holder", question.claim.holder) &&
                       (!body.contains("nodes") || take_word(body, "nodes", question.claim.nodes));
    const bool good = whole && question.id > 0 && question.timeout > milliseconds{0};
    return good ? std::optional(std::move(question)) : std::nullopt;
}

Error stopped(const std::string& module) {
    return Error{Errc::refused, "",
                 "module '" + module + "' is stopped on this node; 'stead start -m " + module + "' starts it"};
}

/// As /proc shows it: 'T' stopped, 'D' waiting for a device; ' ' when it is gone.
char process_state(pid_t pid) {
    const Result<std::string> text = read_file("/proc/" + std::to_string(pid) + "/stat", 4096);
    const std::size_t name_end = text ? text->rfind(") ") : std::string::npos;
    return name_end == std::string::npos || name_end + 2 >= text->size() ? ' ' : (*text)[name_end + 2];
}

std::vector<std::string> reboot_command() {
    std::error_code ignored;
    if (const char* own = std::getenv("STEAD_REBOOT_COMMAND"); own != nullptr && *own != '\0') {
        return {own};
    }
    if (std::filesystem::exists("/run/systemd/system", ignored)) {
        return {"/usr/bin/systemctl", "reboot"};
    }
    return {"/sbin/reboot"};
}

std::int64_t wall_seconds() { return static_cast<std::int64_t>(std::time(nullptr)); }

} // namespace

ModuleRunner::ModuleRunner(asio::io_context& io, const control::Paths& paths, std::string module, Events events)
    : io_(io), paths_(paths), module_(std::move(module)), events_(std::move(events)),
      log_(paths_.module_log(module_), module_), connect_timer_(io), kill_timer_(io), stop_timer_(io),
      retry_timer_(io) {}

// ---- Start and adoption
// ----------------------------------------------------------------------------------------------

bool ModuleRunner::leaving() const noexcept {
    const bool asked = stop_asked_ && !on_stop_.empty();
    const bool by_itself = phase_ == Phase::up && (ends_ || state_.state == "STOP");
    return phase_ != Phase::down && (asked || by_itself);
}

void ModuleRunner::start(const std::string& by, Done done, bool at_boot) {
    if (phase_ == Phase::up && !leaving()) {
        done(json::object{{"text", "module '" + module_ + "' is started already"}});
        return;
    }
    on_start_.push_back(std::move(done));
    log_.write(log::Level::event, "steadd", "Action start called by " + by);
    started_by_ = by;
    if (phase_ == Phase::down) {
        if (!at_boot) {
            [[maybe_unused]] const bool reset = loop("reset");
        }
        spawn(at_boot);
    } else if (leaving()) { // again when it is gone
        [[maybe_unused]] const bool reset = loop("reset");
        on_stop_.push_back([self = shared_from_this()](const Result<json::object>& stopped) {
            if (!stopped) {
                self->finish_start(stopped.error());
            } else if (self->phase_ == Phase::down && !self->on_start_.empty()) {
                self->spawn(false);
            }
        });
    }
}

void ModuleRunner::spawn(bool insist) {
    retry_timer_.cancel();
    insist_ = insist;
    stop_asked_ = ends_ = false;
    said_exit_.reset();
    session_.clear();
    std::error_code ignored;
    std::filesystem::create_directories(paths_.host_folder(), ignored);
    const std::filesystem::path output = paths_.host_folder() / (module_ + ".out");
    std::filesystem::remove(output, ignored);
    std::filesystem::remove(paths_.host_end(module_), ignored);
    Result<Child> child = spawn_detached({paths_.host().string(), "--module", module_}, output);
    if (!child) {
        return finish_start(child.error());
    }
    phase_ = Phase::starting;
    pid_ = child->pid;
    ours_ = true;
    set_state({"WAIT", "Transient", "starting"});
    watch(std::move(child->pidfd));
    try_connect(connect_attempts);
}

void ModuleRunner::try_connect(int attempts_left) {
    if (phase_ != Phase::starting) {
        return;
    }
    Result<std::shared_ptr<control::Connection>> connected =
        control::Connection::connect(io_.get_executor(), paths_.host_socket(module_));
    if (connected) {
        channel_ = std::move(*connected);
        return hello();
    }
    if (attempts_left == 0) {
        log_.write(log::Level::error, "steadd", "stead-host does not answer on its socket; it is ended");
        ::kill(pid_, SIGKILL);
        return;
    }
    connect_timer_.expires_after(connect_interval);
    connect_timer_.async_wait([self = shared_from_this(), attempts_left](const boost::system::error_code& error) {
        if (!error) {
            self->try_connect(attempts_left - 1);
        }
    });
}

bool ModuleRunner::adopt() {
    if (phase_ != Phase::down) {
        return true;
    }
    Result<std::shared_ptr<control::Connection>> connected =
        control::Connection::connect(io_.get_executor(), paths_.host_socket(module_));
    if (!connected) {
        return false;
    }
    const control::PeerCredentials peer = (*connected)->peer();
    if (peer.uid != ::geteuid()) {
        log_.write(log::Level::error, "steadd",
                   "the socket of stead-host belongs to uid " + std::to_string(peer.uid) + "; it is not adopted");
        return false;
    }
    channel_ = std::move(*connected);
    pid_ = peer.pid;
    ours_ = false;
    phase_ = Phase::starting;
    set_state({"WAIT", "Transient", "the running stead-host has not answered this steadd yet"});
    watch(Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0))));
    log_.write(log::Level::event, "steadd", "adopted the running stead-host, pid " + std::to_string(pid_));
    hello();
    return true;
}

void ModuleRunner::hello() {
    const std::weak_ptr<ModuleRunner> weak = shared_from_this();
    channel_->start(
        [weak](const std::shared_ptr<control::Connection>&, control::Frame frame) {
            if (const auto self = weak.lock()) {
                self->on_frame(std::move(frame));
            }
        },
        [weak](const std::shared_ptr<control::Connection>&, const std::string& reason) {
            if (const auto self = weak.lock()) {
                self->on_channel_closed(reason);
            }
        });
    channel_->send(json::object{{"id", 0}, {"verb", "hello"}, {"version", control::host_protocol::version}});
}

void ModuleRunner::on_hello(control::Frame frame) {
    const json::object& answer = frame.body.get_object();
    leases_ = std::move(frame.fds);
    config_ = text_of(answer, "config");
    phase_ = Phase::up;
    retry_wait_ = retry_first;
    set_session(text_of(answer, "session"));
    if (!text_of(answer, "state").empty()) {
        set_state(state_of(answer));
    }
    finish_start(answer);
}

void ModuleRunner::finish_start(Result<json::object> result) {
    for (const Done& done : std::exchange(on_start_, {})) {
        done(result);
    }
}

// ---- Conversation
// ----------------------------------------------------------------------------------------------------

void ModuleRunner::on_frame(control::Frame frame) {
    const json::object& body = frame.body.get_object();
    if (text_of(body, "event") == "state") {
        set_session(text_of(body, "session"));
        const json::value* ends = body.if_contains("ends");
        ends_ = ends != nullptr && ends->is_bool() && ends->get_bool();
        return set_state(state_of(body));
    }
    if (const std::string event = text_of(body, "event"); event == "witness" || event == "claim") {
        if (const std::optional<WitnessQuestion> question = question_in(body); question && events_.witness) {
            events_.witness(module_, *question);
        }
        return;
    }
    if (text_of(body, "event") == "finished") {
        const json::value* code = body.if_contains("exit");
        said_exit_ =
            code != nullptr && code->is_int64() ? std::optional(static_cast<int>(code->get_int64())) : said_exit_;
        return;
    }
    const json::value* id = body.if_contains("id");
    if (id == nullptr || !id->is_int64()) {
        return;
    }
    if (id->get_int64() == 0) {
        return on_hello(std::move(frame));
    }
    const auto found = pending_.find(id->get_int64());
    if (found == pending_.end()) {
        return;
    }
    const Done done = std::move(found->second.done);
    pending_.erase(found);
    const json::value* ok = body.if_contains("ok");
    if (ok != nullptr && ok->is_bool() && ok->get_bool()) {
        done(body);
        return;
    }
    const std::string code = text_of(body, "code");
    done(Error{code == "not_found"      ? Errc::not_found
               : code == "malformed"    ? Errc::malformed
               : code == "out_of_range" ? Errc::out_of_range
               : code == "conflict"     ? Errc::conflict
                                        : Errc::refused,
               "", text_of(body, "error")});
}

void ModuleRunner::request(json::object body, Done done) { send(std::move(body), silence_max, std::move(done)); }

void ModuleRunner::request_long(json::object body, Done done) {
    const std::int64_t id = next_id_;
    send(std::move(body), std::nullopt, std::move(done));
    watch_answer(id);
}

void ModuleRunner::watch_answer(std::int64_t id) {
    const auto waiting = pending_.find(id);
    if (waiting == pending_.end()) {
        return;
    }
    waiting->second.timer = std::make_unique<asio::steady_timer>(io_, seconds{1});
    waiting->second.timer->async_wait([self = shared_from_this(), id](const boost::system::error_code& error) {
        if (error || !self->pending_.contains(id)) {
            return;
        }
        const auto heard = [self, id](const Result<json::object>& alive) {
            const auto found = self->pending_.find(id);
            if (found == self->pending_.end()) {
                return;
            }
            if (alive || alive.error().code != Errc::timed_out) {
                return self->watch_answer(id);
            }
            const Done late = std::move(found->second.done);
            self->pending_.erase(found);
            late(self->silent(silence_max));
        };
        self->send(json::object{{"verb", "state"}}, silence_max, heard);
    });
}

void ModuleRunner::send(json::object body, std::optional<seconds> limit, Done done) {
    if (phase_ != Phase::up || !channel_ || !channel_->open()) {
        done(phase_ == Phase::down ? stopped(module_)
                                   : Error{Errc::conflict, "",
                                           "stead-host of module '" + module_ + "' is just " +
                                               (phase_ == Phase::starting ? "starting" : "ending") + "; try again"});
        return;
    }
    const std::int64_t id = next_id_++;
    body["id"] = id;
    Pending& pending = pending_[id];
    pending.done = std::move(done);
    if (limit) {
        pending.timer = std::make_unique<asio::steady_timer>(io_, *limit);
        pending.timer->async_wait(
            [self = shared_from_this(), id, limit = *limit](const boost::system::error_code& error) {
                const auto found = self->pending_.find(id);
                if (!error && found != self->pending_.end()) {
                    const Done late = std::move(found->second.done);
                    self->pending_.erase(found);
                    late(self->silent(limit));
                }
            });
    }
    channel_->send(body);
}

/// What a person can do about a host that answers nothing.
Error ModuleRunner::silent(seconds time) const {
    const char state = process_state(pid_);
    const char* why = state == 'T' || state == 't' ? "stopped by a signal"
                      : state == 'D'               ? "waiting for a device"
                                                   : "busy or hanging in a plugin";
    return Error{Errc::timed_out, "",
                 "stead-host of module '" + module_ + "' (pid " + std::to_string(pid_) + ") has not answered for " +
                     std::to_string(time.count()) + " s; it is " + why + "; 'stead forcestop -m " + module_ +
                     "' kills it"};
}

void ModuleRunner::on_channel_closed(const std::string& reason) {
    // The process decides, not the socket: a host that closed it is about to exit, and the pidfd will say so.
    fail_pending("stead-host closed its connection" + (reason.empty() ? "" : ": " + reason));
}

void ModuleRunner::fail_pending(const std::string& why) {
    for (const auto& [id, pending] : std::exchange(pending_, {})) {
        pending.done(Error{Errc::refused, "", why});
    }
}

void ModuleRunner::stop(bool force, const std::string& by, bool automatic, Done done) {
    if (phase_ == Phase::down) {
        const bool waited = retry_timer_.cancel() > 0;
        if (waited) {
            log_.write(log::Level::event, "steadd", "Action stop called by " + by);
            set_state({});
        }
        done(json::object{{"text", "module '" + module_ + (waited ? "' is stopped" : "' is stopped already")}});
        return;
    }
    // The last word counts.
    finish_start(Error{Errc::refused, "", "module '" + module_ + "' was stopped before it started"});
    stop_asked_ = true;
    on_stop_.push_back(std::move(done));
    if (phase_ == Phase::starting) {
        ::kill(pid_, SIGTERM);
        return kill_later(seconds{10});
    }
    send(json::object{{"verb", "stop"}, {"force", force}, {"by", by}, {"automatic", automatic}}, std::nullopt,
         [self = shared_from_this()](const Result<json::object>& answer) {
             if (!answer && self->phase_ == Phase::up) {
                 self->log_.write(log::Level::warning, "steadd", "stop: " + answer.error().text());
             }
         });
    watch_stop(force);
    if (force) {
        kill_later(seconds{20});
    }
}

/// A host whose scripts run answers; one that answers nothing would be waited for in vain.
void ModuleRunner::watch_stop(bool force) {
    const seconds limit = force ? forced_silence_max : silence_max;
    send(json::object{{"verb", "state"}}, limit,
         [self = shared_from_this(), force](const Result<json::object>& answer) {
             if (self->phase_ != Phase::up || self->on_stop_.empty()) {
                 return;
             }
             if (!answer && answer.error().code == Errc::timed_out) {
                 return self->on_silent_stop(force);
             }
             self->stop_timer_.expires_after(seconds{1});
             self->stop_timer_.async_wait([self, force](const boost::system::error_code& error) {
                 if (!error && !self->on_stop_.empty()) {
                     self->watch_stop(force);
                 }
             });
         });
}

void ModuleRunner::on_silent_stop(bool force) {
    if (force) {
        log_.write(log::Level::warning, "steadd",
                   "stead-host answers nothing for " + std::to_string(forced_silence_max.count()) + " s; it is killed");
        ::kill(pid_, SIGKILL);
        return;
    }
    const Error error = silent(silence_max);
    log_.write(log::Level::error, "steadd", "stop: " + error.text());
    for (const Done& done : std::exchange(on_stop_, {})) {
        done(error);
    }
}

void ModuleRunner::kill_later(seconds after) {
    kill_timer_.expires_after(after);
    kill_timer_.async_wait([self = shared_from_this(), pid = pid_](const boost::system::error_code& error) {
        if (!error && self->phase_ != Phase::down && self->pid_ == pid) {
            self->log_.write(log::Level::warning, "steadd", "stead-host does not stop; it is killed");
            ::kill(pid, SIGKILL);
        }
    });
}

// ---- End of the process
// ----------------------------------------------------------------------------------------------

void ModuleRunner::watch(Fd pidfd) {
    pidfd_.emplace(io_, pidfd.release());
    pidfd_->async_wait(asio::posix::stream_descriptor::wait_read,
                       [self = shared_from_this(), pid = pid_](const boost::system::error_code& error) {
                           if (!error && self->pid_ == pid) {
                               self->on_exit();
                           }
                       });
}

std::optional<int> ModuleRunner::exit_code() {
    if (!ours_) {
        return said_exit_; // not our child: only its last word tells
    }
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) != pid_) {
        return std::nullopt;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void ModuleRunner::reset_connection() {
    if (channel_) {
        channel_->close();
        channel_.reset();
    }
    pidfd_.reset();
    connect_timer_.cancel();
    kill_timer_.cancel();
    stop_timer_.cancel();
    fail_pending("stead-host has ended");
}

void ModuleRunner::on_exit() {
    const std::optional<int> code = exit_code();
    const bool was_starting = phase_ == Phase::starting;
    const bool said_stop = state_.state == "STOP";
    const bool clean = code ? *code == control::host_protocol::exit_stopped : said_stop;
    // A host that ended by itself has closed its lease; of another one steadd must have the lease to do so.
    const bool by_itself = code && *code <= 128;
    const bool closed = !clean && close_lease() && !leases_.empty();
    std::error_code ignored;
    if (by_itself || closed) {
        std::filesystem::resize_file(paths_.host_lock(module_), 0, ignored);
    }
    reset_connection();
    leases_.clear();
    std::filesystem::remove(paths_.host_socket(module_), ignored); // of one that was killed
    std::filesystem::remove(paths_.host_end(module_), ignored);
    if (code && *code == control::host_protocol::exit_start_again && !stop_asked_) {
        return spawn(true);
    }
    phase_ = Phase::down;
    if (code && *code == control::host_protocol::exit_reboot && !stop_asked_) {
        return reboot();
    }
    if (clean && !stop_asked_) {
        runs_no_more();
    }
    const std::string how = !code         ? "without a word"
                            : *code > 128 ? std::string("by signal ") + ::strsignal(*code - 128)
                                          : "with exit code " + std::to_string(*code);
    if (was_starting && !ours_ && !clean) { // it was dying as it was adopted
        return found_dead();
    }
    if (was_starting && (stop_asked_ || !ours_)) {
        set_state({});
    } else if (was_starting) {
        const std::string output = early_output();
        finish_start(Error{Errc::refused, "", "stead-host ended " + how + (output.empty() ? "" : ": " + output)});
        const std::string last = output.substr(output.rfind('\n') + 1); // npos + 1 = 0
        const std::string why = "could not start" + (last.empty() ? "" : ": " + last);
        if (insist_) {
            return retry(why);
        }
        set_state({"STOP", "NotReady", why});
    } else if (!clean && !stop_asked_) {
        return on_death(how);
    } else if (!clean) {
        log_.write(log::Level::warning, "steadd", "stead-host ended " + how + " while stopping; cleaning up after it");
        if (events_.died) {
            events_.died(module_, session_);
        }
        return clean_up([self = shared_from_this()] { self->set_state({}); });
    } else if (!said_stop) {
        set_state({});
    } else { // why it stopped stays known
        check_waiters();
    }
    for (const Done& done : std::exchange(on_stop_, {})) {
        done(json::object{});
    }
}

/// Nobody watches a start at boot or after a stopstart of its own, and what it lacks may come: a network that was away.
void ModuleRunner::retry(const std::string& why) {
    log_.write(log::Level::warning, "steadd",
               "the start is tried again in " + std::to_string(retry_wait_.count()) + " s, until 'stead stop'");
    set_state({"WAIT", "NotReady", why});
    retry_timer_.expires_after(retry_wait_);
    retry_wait_ = std::min(2 * retry_wait_, retry_longest);
    retry_timer_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
        std::error_code failed;
        if (error || self->phase_ != Phase::down) {
            return;
        }
        if (!std::filesystem::exists(self->paths_.active(self->module_), failed)) { // deconfigured meanwhile
            return self->set_state({});
        }
        self->spawn(true);
    });
}

// ---- automatic_reboot

void ModuleRunner::reboot() {
    set_state({"STOP", "NotReady", "the server reboots (automatic_reboot)"});
    const std::vector<std::string> command = reboot_command();
    log_.write(log::Level::warning, "steadd", "automatic_reboot: the server reboots: " + command.front());
    log::warning("steadd", "module '" + module_ + "': automatic_reboot: the server reboots: " + command.front());
    std::thread([self = shared_from_this(), command] {
        const Result<Finished> done = run_limited(command, reboot_limit);
        if (!done || done->exit != 0) {
            const std::string why = done ? command.front() + " ended with exit code " + std::to_string(done->exit) +
                                               (done->output.empty() ? "" : ": " + done->output)
                                         : done.error().text();
            asio::post(self->io_, [self, why] { self->on_reboot_failed(why); });
        }
    }).detach();
}

void ModuleRunner::on_reboot_failed(const std::string& why) {
    log_.write(log::Level::error, "steadd", "the server does not reboot: " + why + "; a stopstart instead");
    if (phase_ == Phase::down) {
        spawn(true);
    }
}

void ModuleRunner::on_death(const std::string& how) {
    log_.write(log::Level::error, "steadd", "stead-host died " + how + "; its lease is closed, its peers are told");
    if (events_.died) {
        events_.died(module_, session_);
    }
    const std::string output = early_output();
    if (!output.empty()) {
        log_.write(log::Level::error, "steadd", "last words of stead-host: " + output);
    }
    begin_again();
}

void ModuleRunner::begin_again() {
    if (loop("inc")) {
        runs_no_more();
        log_.write(log::Level::error, "steadd", "Action stop called by maxloop: stead-host died too often");
        finish_start(Error{Errc::refused, "", "stead-host died too often"});
        return clean_up([self = shared_from_this()] { self->set_state({"STOP", "NotReady", "died too often"}); });
    }
    log_.write(log::Level::event, "steadd", "Action start called by steadd: stead-host died");
    spawn(true);
}

void ModuleRunner::found_ended(std::string_view last_word) {
    int code = 0;
    const auto [end, failed] = std::from_chars(last_word.data(), last_word.data() + last_word.size(), code);
    std::error_code ignored;
    std::filesystem::remove(paths_.host_end(module_), ignored);
    if (failed != std::errc{} || code == control::host_protocol::exit_stopped) {
        const std::string_view rest = last_word.substr(static_cast<std::size_t>(end - last_word.data()));
        set_state({"STOP", "NotReady", std::string(rest.substr(std::min<std::size_t>(rest.size(), 1)))});
        return runs_no_more();
    }
    log_.write(log::Level::event, "steadd", "stead-host ended while steadd did not run, to be started again");
    if (code == control::host_protocol::exit_reboot) {
        return reboot();
    }
    spawn(true);
}

/// It stopped by itself: boot="auto" does not start it.
void ModuleRunner::runs_no_more() {
    std::error_code ignored;
    std::filesystem::remove(paths_.running_mark(module_), ignored);
}

bool ModuleRunner::is_dead() const {
    const Fd lock(::open(paths_.host_lock(module_).c_str(), O_RDWR | O_CLOEXEC));
    return phase_ == Phase::down && (!lock || ::flock(lock.get(), LOCK_EX | LOCK_NB) == 0);
}

void ModuleRunner::found_dead() {
    log_.write(log::Level::error, "steadd", "stead-host died while steadd did not run");
    std::error_code ignored;
    std::filesystem::remove(paths_.host_socket(module_), ignored);
    if (std::filesystem::exists(paths_.running_mark(module_), ignored)) {
        return begin_again();
    }
    clean_up([self = shared_from_this()] { self->set_state({}); });
}

void ModuleRunner::clean_up(std::function<void()> then) {
    // On a thread of its own: the clean-up of a dead host may take as long as a hook.
    std::thread([self = shared_from_this(), then = std::move(then)] {
        const Result<Finished> cleaned =
            run_limited({self->paths_.host().string(), "--cleanup", self->module_}, cleanup_limit);
        asio::post(self->io_, [self, then, cleaned] {
            if (!cleaned || cleaned->exit != 0) {
                self->log_.write(log::Level::error, "steadd",
                                 "stead-host --cleanup failed: " +
                                     (cleaned ? cleaned->output : cleaned.error().text()));
            }
            then();
            for (const Done& done : std::exchange(self->on_stop_, {})) {
                done(json::object{});
            }
        });
    }).detach();
}

bool ModuleRunner::close_lease() {
    bool closed = true;
    for (const Fd& lease : leases_) {
        void* page = ::mmap(nullptr, lease_page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, lease.get(), 0);
        if (page == MAP_FAILED) {
            log_.write(log::Level::error, "steadd",
                       os_error("lease", "cannot close the lease of the dead host; it ends by itself", errno).text());
            closed = false;
            continue;
        }
        __atomic_store_n(static_cast<std::uint64_t*>(page), std::uint64_t{0}, __ATOMIC_RELEASE);
        ::munmap(page, lease_page_bytes);
    }
    return closed;
}

void ModuleRunner::set_session(std::string session) {
    if (session.empty() || session == session_) {
        return;
    }
    session_ = std::move(session);
    if (events_.began) {
        events_.began(module_);
    }
}

std::optional<std::string> ModuleRunner::only_session() const {
    if (phase_ == Phase::down) {
        return only_session_of_idle(paths_, module_);
    }
    const auto said = read_file(paths_.host_lock(module_), 64);
    const bool only = phase_ == Phase::up && !session_.empty() && said && *said == control::host_protocol::past_over;
    return only ? std::optional(session_) : std::nullopt;
}

std::optional<std::string> ModuleRunner::only_session_of_idle(const control::Paths& paths, const std::string& module) {
    std::error_code failed;
    const auto left = std::filesystem::file_size(paths.host_lock(module), failed);
    const bool none = failed == std::errc::no_such_file_or_directory || (!failed && left == 0);
    return none ? std::optional(std::string(32, '0')) : std::nullopt;
}

std::string ModuleRunner::early_output() const {
    Result<std::string> output = read_file(paths_.host_folder() / (module_ + ".out"), 1u << 20);
    if (!output) {
        return {};
    }
    while (!output->empty() && output->back() == '\n') {
        output->pop_back();
    }
    constexpr std::size_t shown_bytes = 2000;
    return output->size() > shown_bytes ? "…" + output->substr(output->size() - shown_bytes) : *output;
}

// ---- States and counting
// ---------------------------------------------------------------------------------------------

void ModuleRunner::set_state(ModuleState state) {
    const bool changed = state != state_;
    state_ = std::move(state);
    if (changed && events_.state) {
        events_.state(module_, state_);
    }
    check_waiters();
}

void ModuleRunner::wait_for(std::function<bool()> condition, std::optional<seconds> limit,
                            std::function<void(bool)> done) {
    if (condition()) {
        return done(true);
    }
    const std::int64_t id = next_id_++;
    Waiter& waiter = waiters_[id];
    waiter = {std::move(condition), std::move(done), nullptr};
    if (limit) {
        waiter.timer = std::make_unique<asio::steady_timer>(io_, *limit);
        waiter.timer->async_wait([self = shared_from_this(), id](const boost::system::error_code& error) {
            const auto found = self->waiters_.find(id); // gone when it was reached just as the time was over
            if (!error && found != self->waiters_.end()) {
                const auto give_up = std::move(found->second.done);
                self->waiters_.erase(found);
                give_up(false);
            }
        });
    }
}

void ModuleRunner::check_waiters() {
    for (auto waiter = waiters_.begin(); waiter != waiters_.end();) {
        const auto present = waiter++;
        if (present->second.condition()) {
            const auto done = std::move(present->second.done);
            waiters_.erase(present); // its timer, if any, is cancelled by destruction
            done(true);
        }
    }
}

automaton::LoopGuard ModuleRunner::load_guard() const {
    const json::object settings = module_settings(paths_.active(module_));
    const auto number = [&](std::string_view name, std::int64_t otherwise) {
        const json::value* value = settings.if_contains(name);
        return value != nullptr && value->is_int64() ? value->get_int64() : otherwise;
    };
    constexpr nanoseconds day = std::chrono::hours{24};
    return {static_cast<std::uint32_t>(number("maxloop", 3)),
            std::chrono::duration_cast<seconds>(nanoseconds{number("loop_interval_ns", day.count())})};
}

bool ModuleRunner::loop(std::string_view op) {
    automaton::LoopGuard guard = load_guard();
    guard.load(value_or(control::read_loop_count(paths_, module_), std::string{}));
    bool reached = false;
    if (op == "check") {
        return guard.exhausted(wall_seconds());
    }
    if (op == "inc") {
        reached = !guard.count(wall_seconds());
    } else {
        guard.reset();
    }
    if (const Result<void> written = control::write_loop_count(paths_, module_, guard.save()); !written) {
        log_.write(log::Level::warning, "steadd", "cannot keep the count of restarts: " + written.error().text());
    }
    return reached;
}

} // namespace stead::node

// SPDX-License-Identifier: Apache-2.0
#include "driver.hpp"

#include <stead/base/utf8.hpp>

#include <boost/json/object.hpp>

#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace stead::mirror {
namespace json = boost::json;
namespace {

constexpr unsigned sync_threads = 8, store_threads = 4;

constexpr std::uint32_t copies_per_reader = 4;

Options core_options(const Settings& settings);

std::uint32_t readers_of(std::int64_t wanted) {
    return static_cast<std::uint32_t>(std::clamp<std::int64_t>(wanted, 1, readers_max));
}

} // namespace

Driver::Driver(Settings settings, Channel& channel, LeasePage lease)
    : settings_(std::move(settings)), channel_(channel), lease_(std::move(lease)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    pacer_.set_cap(settings_.resync_bytes_per_second);
}

Driver::~Driver() {
    {
        const std::lock_guard lock(fronts_mutex_);
        fronts_.clear(); // (normally dropped before)
    }
    end_threads();
}

/// Threads end before what they use: first those that bring inputs, then those that complete.
void Driver::end_threads() {
    take_link().reset();
    for (std::optional<Pool>* pool : {&reader_pool_, &store_pool_, &sync_pool_, &undo_pool_, &state_pool_}) {
        pool->reset();
    }
}

Result<void> Driver::open() {
    auto files = StateFiles::open(settings_.state_folder);
    if (!files) {
        return files.error();
    }
    files_ = std::move(*files);
    auto record = files_->load_record();
    if (!record) {
        return record.error();
    }
    Start start;
    start.record = *record;
    start.peer_heard = settings_.peer_heard;
    if (start.record && start.record->log != 0) {
        start.log = files_->load_log(start.record->log);
        if (!start.log.readable) {
            note(true,
                 settings_.state_folder +
                     "/log: what was changed without the other node is not known, for the log is damaged or not whole: "
                     "everything will be compared");
        }
    }
    const bool has_data = start.record && !start.record->current.none();
    Tree::Options options;
    options.state = settings_.state_folder;
    options.note = [this](bool alarm, const std::string& text) { note(alarm, text); };
    const bool good = has_data && (start.record->role == Role::alone || start.record->role == Role::prim);
    for (const ReplicatedDirectory& directory : settings_.directories) {
        peer_limits_.push_back(std::make_shared<PeerLimits>());
        options.roots.push_back({directory.path, directory.hidden_suffix, directory.excluded, directory.excluded_regex,
                                 has_data ? directory.to_check : std::vector<std::string>{}, good});
    }
    auto tree = Tree::open(std::move(options));
    if (!tree) {
        return tree.error();
    }
    tree_ = std::move(*tree);
    start.foreign = tree_->foreign();
    start.configured_anew = tree_->configured_anew();
    start.last_parked = tree_->last_parked();
    if (!start.foreign.empty()) {
        note(true, "changed behind the mirror while it was stopped: " + std::to_string(start.foreign.size()) +
                       " targets; they become part of the resync");
    }
    if (::getrandom(&start.entropy, sizeof start.entropy, 0) != sizeof start.entropy) {
        return os_error("stead-fs", "getrandom", errno);
    }
    state_pool_.emplace(1);
    undo_pool_.emplace(1);
    sync_pool_.emplace(sync_threads);
    store_pool_.emplace(store_threads);
    reader_pool_.emplace(readers_of(settings_.readers));
    const Options core = core_options(settings_);
    window_copies_.store(core.window_copies);
    core_.emplace(core);
    feed(start);
    return {};
}

namespace {

Options core_options(const Settings& settings) {
    Options options;
    options.node = settings.node;
    options.ack = settings.ack;
    options.intent_log = settings.intent_log || settings.ack == Ack::commit;
    options.witness = settings.witness;
    options.probe_vip = settings.probe_vip;
    options.failover = settings.failover;
    options.data = !settings.directories.empty();
    options.zones_per_extent = zones_per_extent;
    options.window_copies = copies_per_reader * readers_of(settings.readers);
    options.checkpoint_every = settings.checkpoint_every;
    options.slow_peer = settings.slow_peer;
    options.witness_wait = std::max(options.witness_wait, settings.heard_for + seconds{1});
    options.batch = settings.batch;
    options.note_sent = settings.note_sent;
    return options;
}

} // namespace

/// What `stead update` may change. An older host names neither readers nor ack.
void Driver::update(const json::object& message) {
    pacer_.set_cap(static_cast<std::uint64_t>(number_of(message, "resync_bytes_per_second")));
    const std::uint32_t readers = readers_of(number_of(message, "readers", settings_.readers));
    reader_pool_->resize(readers);
    window_copies_.store(copies_per_reader * readers);
    window_reads_.store(0); // to be told in any case
    set_window();
    feed(SetAck{static_cast<Ack>(number_of(message, "ack", static_cast<int>(settings_.ack)))});
}

/// As the pacer wants it by now.
void Driver::set_window() {
    if (pacer_.at_once(BootClock::now(), zone_bytes) == window_reads_.load()) {
        return;
    }
    Work work;
    {
        const std::lock_guard lock(mutex_);
        window_reads_.store(pacer_.at_once(BootClock::now(), zone_bytes));
        step(SetWindow{window_copies_.load(), window_reads_.load()}, work);
    }
    run_all(work);
}

// ---- Inputs
// -----------------------------------------------------------------------------------------------------------

void Driver::feed(const Input& input) {
    Work work;
    {
        const std::lock_guard lock(mutex_);
        renew_lease(BootClock::now(), work);
        step(input, work);
    }
    run_all(work);
}

/// Under the lock.
void Driver::step(const Input& input, Work& work) {
    collect(core_->step(BootClock::now(), input), work);
    const std::int64_t due = to_ns(core_->next_deadline());
    if (due < armed_ns_.load(std::memory_order_relaxed)) {
        wake();
    }
}

/// The host's bus writes the page without a word. A lease that was over in between must be seen, however short.
void Driver::renew_lease(Instant now, Work& work) {
    const LeasePage::Value value = lease_.read();
    if (value == last_lease_) {
        return;
    }
    if (value.lapses != last_lease_.lapses) {
        collect(core_->step(now, Lease{Instant{}}), work);
    }
    last_lease_ = value;
    if (value.until_ns != 0) { // one that was taken back says nothing of the peer; reply() sees it
        collect(core_->step(now, Lease{from_ns(static_cast<std::int64_t>(value.until_ns))}), work);
        release_withheld(work);
    }
}

/// Under the lock.
void Driver::collect(std::vector<Output> outputs, Work& work) {
    for (Output& output : outputs) {
        std::visit([&](auto& what) { perform(std::move(what), work); }, output);
    }
}

/// What these do brings new inputs, which bring new work: in one queue, not one inside the other.
void Driver::run_all(Work& work) {
    thread_local std::deque<std::function<void()>>* queue = nullptr;
    if (queue != nullptr) {
        std::move(work.begin(), work.end(), std::back_inserter(*queue));
        return;
    }
    std::deque<std::function<void()>> mine{std::make_move_iterator(work.begin()), std::make_move_iterator(work.end())};
    queue = &mine;
    while (!mine.empty()) {
        const std::function<void()> next = std::move(mine.front());
        mine.pop_front();
        next();
    }
    queue = nullptr;
}

void Driver::wake() noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
}

// ---- The application's changes
// ----------------------------------------------------------------------------------------

void Driver::submit(Operation operation, std::function<void(int)> answer) {
    const Instant asked = BootClock::now();
    pacer_.asked(asked);
    Work work;
    {
        const std::lock_guard lock(mutex_);
        if (!serves()) {
            return; // the mount is being aborted: nobody waits any more
        }
        const OpId id = ++last_op_;
        pending_.emplace(id, [this, asked, answer = std::move(answer)](int error) {
            const Instant now = BootClock::now();
            pacer_.answered(now, now - asked, mirrored_.load(std::memory_order_relaxed));
            answer(error);
        });
        renew_lease(BootClock::now(), work); // under the lock: the core's time never goes back
        step(Request{id, std::move(operation)}, work);
    }
    run_all(work);
}

/// Right before the answer the lease is compared once more. Without the lock.
void Driver::reply(const std::function<void(int)>& answer, int error) {
    bool may = false;
    {
        const std::lock_guard lock(mutex_);
        const Instant now = BootClock::now();
        const bool without_lease = core_->answers(never);
        may =
            core_->answers(now) && (without_lease || now < from_ns(static_cast<std::int64_t>(lease_.read().until_ns)));
        if (!may && serves()) {
            withheld_.emplace_back(answer, error);
        }
    }
    if (may) {
        answer(error);
    }
    const std::lock_guard lock(mutex_);
    if (--replying_ == 0) {
        replied_.notify_all();
    }
}

/// Under the lock: once the node may answer again, what had to wait is answered; when it serves no more, never.
void Driver::release_withheld(Work& work) {
    if (withheld_.empty() || !core_->answers(BootClock::now())) {
        return;
    }
    for (auto& [answer, error] : std::exchange(withheld_, {})) {
        ++replying_;
        work.emplace_back([this, answer = std::move(answer), error = error] { reply(answer, error); });
    }
}

// ---- To the host and to the peer
// --------------------------------------------------------------------------------------

/// A host that does not take what it must know is as good as gone.
void Driver::say(const json::object& message) {
    const std::lock_guard lock(channel_mutex_);
    if (!channel_.send(message)) {
        host_gone_.store(true);
        wake();
    }
}

void Driver::note(bool alarm, const std::string& text) {
    say({{"say", "note"}, {"alarm", alarm}, {"text", printable(text, "\n")}});
}

/// For what a peer can cause as often as it likes.
void Driver::note_seldom(bool alarm, const std::string& text) {
    std::optional<std::string> told;
    {
        const std::lock_guard lock(limit_mutex_);
        told = limit_.admit(BootClock::now(), text);
    }
    if (told) {
        note(alarm, *told);
    }
}

/// To be ended without the lock, which its thread may want. An event of it that comes meanwhile meets no link.
std::unique_ptr<Link> Driver::take_link() {
    const std::lock_guard lock(mutex_);
    generation_ = 0;
    return std::move(link_);
}

/// The peer is heard, but not on the network of the stream.
void Driver::flow_cut() {
    Work work;
    {
        const std::lock_guard lock(mutex_);
        if (!link_ || generation_ == 0) {
            return;
        }
        note(true, "the network of the replication is cut: the peer is heard on another one");
        link_->close(std::exchange(generation_, 0));
        step(LinkDown{}, work);
    }
    run_all(work);
}

/// Main thread.
void Driver::start_link(std::uint8_t peer, const std::string& address) {
    if (address == link_peer_ && link_) {
        return;
    }
    bool was_up = false;
    {
        const std::lock_guard lock(mutex_);
        was_up = generation_ != 0;
    }
    take_link().reset();
    if (was_up) {
        feed(LinkDown{});
    }
    link_peer_ = address;
    LinkOptions options;
    options.connects = settings_.node < peer;
    options.local = settings_.local_address;
    options.peer = address;
    options.port = settings_.port;
    options.keys = settings_.keys;
    Link::Events events;
    events.up = [this] {
        Work work;
        {
            const std::lock_guard lock(mutex_);
            if (!link_) {
                return; // it is being ended
            }
            generation_ = link_->generation();
            step(LinkUp{}, work);
        }
        run_all(work);
    };
    events.received = [this](std::uint64_t generation, Message message) {
        Work work;
        {
            const std::lock_guard lock(mutex_);
            if (generation != generation_) {
                return;
            }
            renew_lease(BootClock::now(), work);
            watch(message.body, false);
            step(Received{std::move(message)}, work);
        }
        run_all(work);
    };
    events.down = [this](std::uint64_t generation, const std::string& reason) {
        note_seldom(false, "stream to the peer: " + reason);
        Work work;
        {
            const std::lock_guard lock(mutex_);
            if (generation != generation_) {
                return;
            }
            generation_ = 0;
            step(LinkDown{}, work);
        }
        run_all(work);
    };
    // Events may come before link_ is set: they take the lock first.
    const std::lock_guard lock(mutex_);
    auto started = Link::start(std::move(options), std::move(events));
    if (!started) {
        note(true, started.error().text());
        return;
    }
    link_ = std::move(*started);
}

} // namespace stead::mirror

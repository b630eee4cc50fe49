// SPDX-License-Identifier: Apache-2.0
#include "change_log.hpp"
#include "system.hpp"

#include <stead/mirror/codec.hpp>
#include <stead/mirror/state_files.hpp>

#include <array>

#include <unistd.h>

namespace stead::mirror {

namespace {

/// Apart, so that no drive writes both slots at once.
constexpr std::uint64_t slot_distance = 4096;
/// One copy of a record may go bad. A write that was torn at any byte leaves one sound copy in its slot:
/// the new one, or that of two records ago. A slot without any was damaged, and may have held the newest record.
constexpr std::uint64_t copies = 2;

std::string slot_of(const Record& record, std::uint64_t serial) {
    const std::string one = encode(record, serial);
    return one + one;
}

/// The newer of the copies in a slot.
struct Slot {
    std::optional<std::pair<Record, std::uint64_t>> sound;
    std::optional<Error> later_version; ///< only a later version can read one of them
    bool never_written{true};
};

Slot read_slot(std::string_view bytes) {
    Slot slot;
    for (std::uint64_t copy = 0; copy < copies; ++copy) {
        const std::string_view one = bytes.substr(copy * record_bytes, record_bytes);
        const auto decoded = decode_record(one);
        slot.never_written = slot.never_written && one.find_first_not_of('\0') == std::string_view::npos;
        if (!decoded) {
            slot.later_version = decoded.error().code == Errc::unsupported ? decoded.error() : slot.later_version;
        } else if (!slot.sound || decoded->second > slot.sound->second) {
            slot.sound = *decoded;
        }
    }
    return slot;
}

class Files final : public StateFiles {
public:
    explicit Files(const std::filesystem::path& folder)
        : record_path_(folder / "record"), made_path_(folder / "record.made"), log_(folder / "log") {}

    void reserve() { log_.take_space(); } // else the disk is full now: a log may find space later
    Result<std::optional<Record>> load_record() override;
    LoadedLog load_log(std::uint64_t id) override { return log_.load(id); }
    Result<void> persist(const Record& record) override;
    Result<void> reset_log(std::uint64_t id, const std::vector<LogEntry>& entries) override {
        return log_.reset(id, entries);
    }
    Result<void> append_log(const std::vector<LogEntry>& entries) override { return log_.append(entries); }
    void prepare_log() override { log_.prepare(); }

    int log_errno() const noexcept override { return log_.failed(); }

private:
    Result<void> first(const Record& record);
    Result<void> note_made() const;
    [[nodiscard]] Error lost(const std::string& what) const;

    std::filesystem::path record_path_;
    std::filesystem::path made_path_; ///< there is a record, or was: without it a lost one would look like a new node
    Fd record_;
    std::uint64_t serial_{}; ///< of the newest record
    std::uint64_t slot_{1};  ///< where that is
    ChangeLog log_;
};

Result<std::optional<Record>> Files::load_record() {
    Fd file(::open(record_path_.c_str(), O_RDWR | O_CLOEXEC));
    if (!file && errno == ENOENT) {
        std::error_code ignored;
        if (std::filesystem::exists(made_path_, ignored)) {
            return lost("the mirror's record is gone");
        }
        return std::optional<Record>();
    }
    std::string bytes;
    constexpr std::uint64_t size = slot_distance + copies * record_bytes;
    const int error = file ? sys::read_up_to(file.get(), size, 0, bytes) : errno;
    if (error != 0) {
        return os_error(record_path_.string(), "cannot be read", error);
    }
    bytes.resize(size);
    std::optional<Record> newest;
    bool damaged = false;
    bool one_unwritten = false;
    for (std::uint64_t number = 0; number < 2; ++number) {
        const Slot slot = read_slot(std::string_view(bytes).substr(number * slot_distance, copies * record_bytes));
        if (slot.later_version) { // the newer record may be the one that only a later version can read
            return Error{slot.later_version->code, record_path_.string(), slot.later_version->text()};
        }
        damaged = damaged || (!slot.sound && !slot.never_written);
        one_unwritten = one_unwritten || slot.never_written;
        if (slot.sound && (!newest || slot.sound->second > serial_)) {
            newest = slot.sound->first;
            serial_ = slot.sound->second;
            slot_ = number;
        }
    }
    damaged = damaged || (one_unwritten && serial_ != 1); // the first record of versions before this one had one slot
    if (!newest || damaged) {
        return lost(newest
                        ? "one of the two slots of the mirror's record is damaged, and it may have been the newer one"
                        : "both slots of the mirror's record are damaged");
    }
    if (const auto noted = note_made(); !noted) { // a version before this one did not
        return noted.error();
    }
    record_ = std::move(file);
    log_.named(newest->log);
    return newest;
}

/// Nobody but a person knows whether the other node's data are older.
Error Files::lost(const std::string& what) const {
    return {Errc::malformed, record_path_.string(),
            what +
                ": this node does not know how old its data are, and they may be the newer ones. If the other node's "
                "data are the good ones, remove " +
                record_path_.string() + " and " + made_path_.string() +
                ": this node becomes a copy of that one, and what only this one has is overwritten. Else do the same "
                "there, start there last, and here with `stead prim`"};
}

Result<void> Files::note_made() const {
    std::error_code ignored;
    return std::filesystem::exists(made_path_, ignored)
               ? Result<void>()
               : write_file_atomically(made_path_, "A mirror has been made here: see `record`.\n", 0600);
}

/// The file appears with its first record in both slots: one without a sound copy is damaged, never new.
Result<void> Files::first(const Record& record) {
    constexpr std::uint64_t first_serial = 2; // 1 is that of versions that wrote one slot
    std::string bytes = slot_of(record, first_serial);
    bytes.resize(slot_distance);
    bytes += slot_of(record, first_serial);
    if (const auto written = write_file_atomically(record_path_, bytes, 0600); !written) {
        return written;
    }
    if (const auto noted = note_made(); !noted) {
        return noted;
    }
    record_ = Fd(::open(record_path_.c_str(), O_RDWR | O_CLOEXEC));
    if (!record_) {
        return os_error(record_path_.string(), "cannot be opened", errno);
    }
    serial_ = first_serial;
    slot_ = 0;
    log_.named(record.log);
    return {};
}

/// Over the older one. After a failure the same slot is written again: the sound one is never touched.
Result<void> Files::persist(const Record& record) {
    if (!record_) {
        return first(record);
    }
    const std::uint64_t slot = 1 - slot_;
    int error = sys::write_all(record_.get(), slot_of(record, serial_ + 1), slot * slot_distance);
    error = error == 0 ? sys::result(::fdatasync(record_.get())) : error;
    if (error != 0) {
        return os_error(record_path_.string(), "cannot be written", error);
    }
    ++serial_;
    slot_ = slot;
    log_.named(record.log);
    return {};
}

} // namespace

Result<std::unique_ptr<StateFiles>> StateFiles::open(const std::filesystem::path& folder) {
    if (const int error = sys::private_folder(folder); error != 0) {
        return os_error(folder.string(), "cannot be made", error);
    }
    auto files = std::make_unique<Files>(folder);
    files->reserve();
    return std::unique_ptr<StateFiles>(std::move(files));
}

} // namespace stead::mirror

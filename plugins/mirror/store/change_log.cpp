// SPDX-License-Identifier: Apache-2.0
#include "change_log.hpp"
#include "checksum.hpp"
#include "system.hpp"

#include <algorithm>
#include <cstring>

#include <unistd.h>

namespace stead::mirror {

namespace {

constexpr std::uint32_t magic = 0x474c4d53; ///< "SMLG"
constexpr std::uint32_t format = 1;
constexpr std::size_t header_bytes = 40, entry_bytes = 26;
constexpr std::uint64_t step_bytes = std::uint64_t{1} << 20;
constexpr std::uint64_t log_bytes_max = std::uint64_t{8} << 30;
static_assert(header_bytes + ChangeLog::entries_per_sector * entry_bytes <= ChangeLog::sector_bytes);

void put(std::string& to, std::uint64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i, value >>= 8) {
        to.push_back(static_cast<char>(value & 0xff));
    }
}

std::uint64_t take(std::string_view& from, std::size_t bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = bytes; i-- > 0;) {
        value = value << 8 | static_cast<unsigned char>(from[i]);
    }
    from.remove_prefix(bytes);
    return value;
}

struct Sector {
    std::uint64_t index{};
    std::uint64_t batch{}; ///< first sector of the append that wrote it
    std::uint32_t round{}; ///< of the log: ids come again, and this only grows
    std::vector<LogEntry> entries;
};

std::string encode_sector(std::uint64_t id, std::uint32_t round, std::uint64_t index, std::uint64_t batch,
                          const LogEntry* entries, std::size_t count) {
    std::string body;
    put(body, format, 2);
    put(body, count, 2);
    put(body, round, 4);
    put(body, id, 8);
    put(body, index, 8);
    put(body, batch, 8);
    for (std::size_t i = 0; i < count; ++i) {
        put(body, static_cast<std::uint64_t>(entries[i].target.kind), 1);
        put(body, static_cast<std::uint64_t>(entries[i].mark), 1);
        put(body, entries[i].target.fid.high, 8);
        put(body, entries[i].target.fid.low, 8);
        put(body, entries[i].target.index, 8);
    }
    body.resize(ChangeLog::sector_bytes - 8);
    std::string sector;
    put(sector, magic, 4);
    put(sector, checksum(body), 4);
    return sector + body;
}

bool decode_sector(std::string_view bytes, std::uint64_t id, std::uint64_t index, Sector& out) {
    const std::string_view body = bytes.substr(8);
    if (take(bytes, 4) != magic || take(bytes, 4) != checksum(body) || take(bytes, 2) != format) {
        return false;
    }
    const std::size_t count = take(bytes, 2);
    out.round = static_cast<std::uint32_t>(take(bytes, 4));
    if (count > ChangeLog::entries_per_sector || take(bytes, 8) != id || take(bytes, 8) != index) {
        return false;
    }
    out.index = index;
    out.batch = take(bytes, 8);
    out.entries.clear();
    for (std::size_t i = 0; i < count; ++i) {
        const auto kind = static_cast<TargetKind>(take(bytes, 1));
        const auto mark = static_cast<Mark>(take(bytes, 1));
        const Fid fid{take(bytes, 8), take(bytes, 8)};
        const std::uint64_t zone = take(bytes, 8);
        if (kind > TargetKind::zone || mark > Mark::intent || (kind != TargetKind::zone && zone != 0)) {
            return false;
        }
        out.entries.push_back({{kind, fid, zone}, mark});
    }
    return out.batch <= index;
}

} // namespace

/// Of whatever log is in this file; 0 = there is none.
std::uint32_t ChangeLog::last_round(const std::filesystem::path& file) {
    const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    std::string bytes;
    if (!fd || sys::read_up_to(fd.get(), sector_bytes, 0, bytes) != 0 || bytes.size() < sector_bytes) {
        return 0;
    }
    std::string_view id_bytes = std::string_view(bytes).substr(16, 8);
    return round_of(bytes, take(id_bytes, 8)).value_or(0);
}

ChangeLog::ChangeLog(const std::filesystem::path& file) {
    slots_[0].file = file;
    slots_[1].file = file.string() + ".1";
    for (const Slot& slot : slots_) {
        last_round_ = std::max(last_round_, last_round(slot.file));
    }
}

std::string ChangeLog::sectors(const std::vector<LogEntry>& entries, std::uint64_t first) const {
    std::string bytes;
    std::size_t done = 0;
    do { // an empty log has one sector as well: it carries the id
        const std::size_t count = std::min(entries_per_sector, entries.size() - done);
        bytes += encode_sector(id_, round_, first + bytes.size() / sector_bytes, first, entries.data() + done, count);
        done += count;
    } while (done < entries.size());
    return bytes;
}

/// The round of the log in this file, if it is one of this id.
std::optional<std::uint32_t> ChangeLog::round_of(std::string_view bytes, std::uint64_t id) {
    Sector first;
    return bytes.size() >= sector_bytes && decode_sector(bytes.substr(0, sector_bytes), id, 0, first)
               ? std::optional(first.round)
               : std::nullopt;
}

/// A sector of zeros is what the last append did not get to, unless a later append wrote a good one behind it. One that
/// is neither sound nor zeros is damaged, and may have been acknowledged. What a torn append left behind its first
/// missing sector may come back once another append has written that one: marks that were never acknowledged, which
/// cost a comparison. Behind the last entry there is always room (see reserve()): a file that
/// ends within its entries, or is shorter than it was made, was cut off.
LoadedLog ChangeLog::read(std::string_view bytes, std::uint64_t id, std::uint64_t& next) {
    LoadedLog log{id, false, {}};
    const auto round = round_of(bytes, id);
    const std::uint64_t count = bytes.size() / sector_bytes;
    Sector sector;
    const auto sound = [&](std::uint64_t index) {
        return decode_sector(bytes.substr(index * sector_bytes, sector_bytes), id, index, sector) &&
               sector.round == *round;
    };
    if (!round) {
        return log;
    }
    for (next = 0; next < count && sound(next); ++next) {
        log.entries.insert(log.entries.end(), sector.entries.begin(), sector.entries.end());
    }
    log.readable = bytes.size() >= step_bytes && next < count;
    for (std::uint64_t index = next; index < count && log.readable; ++index) {
        const bool zeros = bytes.substr(index * sector_bytes, sector_bytes).find_first_not_of('\0') == bytes.npos;
        log.readable = zeros || (sound(index) && sector.batch <= next);
    }
    return log;
}

/// Of two logs of one id the one of the later round was written last: the other one's id has come again.
LoadedLog ChangeLog::load(std::uint64_t id) {
    const std::lock_guard lock(mutex_);
    fd_.reset();
    named_ = id;
    LoadedLog found{id, false, {}};
    std::optional<std::uint32_t> newest;
    for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
        const auto bytes = read_file(slots_[slot].file, log_bytes_max);
        const auto round = bytes ? round_of(*bytes, id) : std::nullopt;
        if (!round || (newest && *newest > *round)) {
            continue;
        }
        if (newest == round) { // no two logs are of one id and round
            found = LoadedLog{id, false, {}};
            continue;
        }
        newest = round;
        found = read(*bytes, id, next_);
        active_ = slot;
        reserved_ = bytes->size() / sector_bytes * sector_bytes;
    }
    if (newest) {
        slots_[active_].id = id;
        round_ = *newest;
        last_round_ = std::max(last_round_, round_);
        id_ = id;
        fd_ = found.readable ? Fd(::open(slots_[active_].file.c_str(), O_RDWR | O_CLOEXEC)) : Fd();
    }
    return found;
}

void ChangeLog::named(std::uint64_t id) {
    const std::lock_guard lock(mutex_);
    named_ = id;
}

/// Where the next log goes: never over the one that counts.
std::size_t ChangeLog::spare() const noexcept {
    const std::size_t other = 1 - active_;
    return named_ != 0 && slots_[other].id == named_ ? active_ : other;
}

int ChangeLog::make_ready(std::size_t slot) {
    Slot& one = slots_[slot];
    Fd fd(::open(one.file.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) {
        return errno;
    }
    one.id = 0;
    int error = sys::write_all(fd.get(), std::string(step_bytes, '\0'), 0);
    error = error == 0 ? sys::result(::ftruncate(fd.get(), static_cast<off_t>(step_bytes))) : error;
    error = error == 0 ? sys::result(::fsync(fd.get())) : error;
    if (error == 0 && !sync_folder(one.file.parent_path())) {
        error = EIO;
    }
    if (error == 0) {
        one.ready = std::move(fd);
    }
    return error;
}

void ChangeLog::prepare() {
    const std::lock_guard lock(mutex_);
    const std::size_t slot = spare();
    if (slot != active_ && !slots_[slot].ready) {
        static_cast<void>(make_ready(slot));
    }
}

int ChangeLog::reserve(int fd, std::uint64_t bytes) {
    const std::string zeros(step_bytes, '\0');
    int error = 0;
    while (error == 0 && reserved_ < bytes + sector_bytes) {
        error = sys::write_all(fd, zeros, reserved_);
        error = error == 0 ? sys::result(::fdatasync(fd)) : error;
        reserved_ += error == 0 ? step_bytes : 0;
    }
    return error;
}

void ChangeLog::take_space() const {
    for (const Slot& slot : slots_) {
        if (last_round(slot.file) != 0) { // a log, and if it is too short, then that must be seen
            continue;
        }
        const Fd fd(::open(slot.file.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
        struct stat now {};
        if (fd && sys::attributes(fd.get(), now) == 0 && static_cast<std::uint64_t>(now.st_size) < step_bytes) {
            const std::string zeros(step_bytes - static_cast<std::uint64_t>(now.st_size), '\0');
            static_cast<void>(sys::write_all(fd.get(), zeros, static_cast<std::uint64_t>(now.st_size)));
        }
    }
}

Result<void> ChangeLog::reset(std::uint64_t id, const std::vector<LogEntry>& entries) {
    const std::lock_guard lock(mutex_);
    const std::size_t slot = spare();
    Slot& one = slots_[slot];
    fd_.reset(); // whatever happens now, nothing is appended to the old one
    int error = one.ready ? 0 : make_ready(slot);
    Fd fd = std::move(one.ready); // written to, it is not ready any more
    one.ready.reset();
    id_ = id;
    round_ = ++last_round_;
    reserved_ = step_bytes;
    const std::string bytes = sectors(entries, 0);
    error = error == 0 ? reserve(fd.get(), bytes.size()) : error;
    error = error == 0 ? sys::write_all(fd.get(), bytes, 0) : error;
    error = error == 0 ? sys::result(::fdatasync(fd.get())) : error;
    failed_ = error;
    if (error != 0) {
        return os_error(one.file.string(), "cannot be written", error);
    }
    one.id = id;
    active_ = slot;
    fd_ = std::move(fd);
    next_ = bytes.size() / sector_bytes;
    return {};
}

Result<void> ChangeLog::append(const std::vector<LogEntry>& entries) {
    failed_ = 0;
    if (!fd_) {
        return Error{Errc::io, slots_[active_].file.string(),
                     "there is no change log to append to: its last reset failed"};
    }
    if (entries.empty()) {
        return {};
    }
    const std::string bytes = sectors(entries, next_);
    const std::uint64_t begin = next_ * sector_bytes;
    int error = reserve(fd_.get(), begin + bytes.size());
    error = error == 0 ? sys::write_all(fd_.get(), bytes, begin) : error;
    error = error == 0 ? sys::result(::fdatasync(fd_.get())) : error;
    failed_ = error;
    if (error != 0) {
        return os_error(slots_[active_].file.string(), "cannot be appended to", error);
    }
    next_ += bytes.size() / sector_bytes;
    return {};
}

} // namespace stead::mirror

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
    std::vector<LogEntry> entries;
};

std::string encode_sector(std::uint64_t id, std::uint64_t index, std::uint64_t batch, const LogEntry* entries,
                          std::size_t count) {
    std::string body;
    put(body, format, 2);
    put(body, count, 2);
    put(body, 0, 4);
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
    take(bytes, 4);
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
        if (kind > TargetKind::zone || mark > Mark::intent) {
            return false;
        }
        out.entries.push_back({{kind, fid, zone}, mark});
    }
    return out.batch <= index;
}

} // namespace

ChangeLog::ChangeLog(std::filesystem::path file) : file_(std::move(file)) {}

std::string ChangeLog::sectors(const std::vector<LogEntry>& entries, std::uint64_t first) const {
    std::string bytes;
    std::size_t done = 0;
    do { // an empty log has one sector as well: it carries the id
        const std::size_t count = std::min(entries_per_sector, entries.size() - done);
        bytes += encode_sector(id_, first + bytes.size() / sector_bytes, first, entries.data() + done, count);
        done += count;
    } while (done < entries.size());
    return bytes;
}

/// A bad sector is the torn tail of the last append, unless a later append wrote a good one behind it.
LoadedLog ChangeLog::load(std::uint64_t id) {
    LoadedLog log{id, false, {}};
    fd_.reset();
    const auto bytes = read_file(file_, log_bytes_max);
    if (!bytes || bytes->size() < sector_bytes) {
        return log;
    }
    const std::uint64_t count = bytes->size() / sector_bytes;
    const auto at = [&](std::uint64_t index) {
        return std::string_view(*bytes).substr(index * sector_bytes, sector_bytes);
    };
    Sector sector;
    std::uint64_t next = 0;
    for (; next < count && decode_sector(at(next), id, next, sector); ++next) {
        log.entries.insert(log.entries.end(), sector.entries.begin(), sector.entries.end());
    }
    log.readable = next > 0;
    for (std::uint64_t index = next + 1; index < count; ++index) {
        if (decode_sector(at(index), id, index, sector) && sector.batch > next) {
            log.readable = false;
        }
    }
    Fd fd(::open(file_.c_str(), O_RDWR | O_CLOEXEC));
    if (log.readable && fd) {
        fd_ = std::move(fd);
        id_ = id;
        next_ = next;
        reserved_ = count * sector_bytes;
    }
    return log;
}

int ChangeLog::reserve(int fd, std::uint64_t bytes) {
    const std::string zeros(step_bytes, '\0');
    int error = 0;
    while (error == 0 && reserved_ < bytes) {
        error = sys::write_all(fd, zeros, reserved_);
        error = error == 0 ? sys::result(::fdatasync(fd)) : error;
        reserved_ += error == 0 ? step_bytes : 0;
    }
    return error;
}

Result<void> ChangeLog::make_spare() {
    const std::string zeros(step_bytes, '\0');
    const Fd fd(::open(spare().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    int error = fd ? sys::result(::ftruncate(fd.get(), step_bytes)) : errno;
    error = error == 0 ? sys::write_all(fd.get(), zeros, 0) : error;
    if (error != 0) {
        return os_error(spare().string(), "space for the next change log cannot be reserved", error);
    }
    return {};
}

/// In the spare file, over the space that it has: a full disk must not keep a node from noting what it changes. The two
/// change their names, so that the old log is the next spare; ids are used again, so nothing of it may be left.
Result<void> ChangeLog::reset(std::uint64_t id, const std::vector<LogEntry>& entries) {
    Fd fd(::open(spare().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    failed_ = fd ? 0 : errno;
    if (!fd) {
        return os_error(spare().string(), "cannot be made", failed_);
    }
    fd_.reset(); // whatever happens now, nothing is appended to the old one
    id_ = id;
    reserved_ = 0;
    const std::string bytes = sectors(entries, 0);
    int error = sys::result(::ftruncate(fd.get(), step_bytes));
    error = error == 0 ? reserve(fd.get(), bytes.size() + 1) : error;
    error = error == 0 ? sys::write_all(fd.get(), bytes, 0) : error;
    error = error == 0 ? sys::result(::fsync(fd.get())) : error;
    error = error == 0 ? exchange() : error;
    if (error != 0) {
        failed_ = error;
        return os_error(spare().string(), "cannot be written", error);
    }
    if (const auto synced = sync_folder(file_.parent_path()); !synced) {
        return synced;
    }
    fd_ = std::move(fd);
    next_ = bytes.size() / sector_bytes;
    if (::access(spare().c_str(), F_OK) != 0) { // this was the first log
        static_cast<void>(make_spare());
    }
    return {};
}

int ChangeLog::exchange() {
    const int error = sys::result(::renameat2(AT_FDCWD, spare().c_str(), AT_FDCWD, file_.c_str(), RENAME_EXCHANGE));
    return error == ENOENT ? sys::result(::rename(spare().c_str(), file_.c_str())) : error; // the first log
}

Result<void> ChangeLog::append(const std::vector<LogEntry>& entries) {
    failed_ = 0;
    if (!fd_) {
        return Error{Errc::io, file_.string(), "there is no change log to append to: its last reset failed"};
    }
    if (entries.empty()) {
        return {};
    }
    const std::string bytes = sectors(entries, next_);
    const std::uint64_t begin = next_ * sector_bytes;
    int error = reserve(fd_.get(), begin + bytes.size());
    error = error == 0 ? sys::write_all(fd_.get(), bytes, begin) : error;
    error = error == 0 ? sys::result(::fdatasync(fd_.get())) : error;
    if (error != 0) {
        failed_ = error;
        return os_error(file_.string(), "cannot be appended to", error);
    }
    next_ += bytes.size() / sector_bytes;
    return {};
}

} // namespace stead::mirror

// SPDX-License-Identifier: Apache-2.0
#include "undo_log.hpp"
#include "checksum.hpp"

#include <stead/mirror/codec.hpp>

#include <bit>
#include <cstring>

#include <unistd.h>

namespace stead::mirror {

namespace {

static_assert(std::endian::native == std::endian::little, "the file is read by the machine that wrote it");

struct Header {
    std::uint32_t magic{}, crc{}; ///< of what follows, content included
    std::uint64_t batch{};
    std::uint32_t number{}, of{}; ///< within the batch
    std::uint64_t fid_high{}, fid_low{}, index{};
    std::uint32_t length{};
    std::uint8_t kind{}, there{};
    std::uint16_t zero{};
};
static_assert(sizeof(Header) == 56);
constexpr std::uint32_t magic = 0x6f646e75; ///< "undo"
constexpr std::size_t covered_from = offsetof(Header, batch);

/// Header and content at `offset`; false where no sound record begins.
bool record_at(int fd, std::uint64_t offset, std::uint64_t size, Header& header) {
    std::string bytes;
    if (size - offset < sizeof(Header) || sys::read_up_to(fd, sizeof(Header), offset, bytes) != 0 ||
        bytes.size() != sizeof(Header)) {
        return false;
    }
    std::memcpy(&header, bytes.data(), sizeof(header));
    std::string content;
    if (header.magic != magic || header.length > size - offset - sizeof(Header) ||
        sys::read_up_to(fd, header.length, offset + sizeof(Header), content) != 0) {
        return false;
    }
    return checksum(bytes.substr(covered_from) + content) == header.crc && header.kind <= 2;
}

} // namespace

void UndoLog::close() noexcept {
    file_.reset();
    entries_.clear();
    saved_.clear();
    end_ = batch_ = 0;
    damaged_ = false;
}

Errno UndoLog::start(const std::filesystem::path& path) {
    close();
    file_ = Fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file_) {
        return errno;
    }
    const int error = sys::result(::fsync(file_.get()));
    return error == 0 && !sync_folder(path.parent_path()) ? EIO : error;
}

Errno UndoLog::load(const std::filesystem::path& path) {
    close();
    Fd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    struct stat found {};
    if (!file) {
        return errno == ENOENT ? 0 : errno;
    }
    if (const int error = sys::attributes(file.get(), found); error != 0) {
        return error;
    }
    file_ = std::move(file);
    return scan(static_cast<std::uint64_t>(found.st_size));
}

/// A batch is written when the one before it is durable. So what is not sound is the torn tail of the last batch,
/// unless a batch that came after it is there.
Errno UndoLog::scan(std::uint64_t size) {
    bool complete = true; ///< the last batch seen
    for (Header header; end_ < size && record_at(file_.get(), end_, size, header);) {
        const Target target{static_cast<TargetKind>(header.kind), {header.fid_high, header.fid_low}, header.index};
        entries_.push_back({target, header.there != 0, end_ + sizeof(Header), header.length});
        saved_.insert(target);
        batch_ = header.batch;
        complete = header.number + 1 == header.of;
        end_ += sizeof(Header) + header.length;
    }
    if (end_ == size) {
        return 0;
    }
    damaged_ = later_batch_after(end_, size, batch_ + (complete ? 2 : 1));
    if (damaged_) {
        end_ = size; // it may still be looked at, and be written to, but not be rolled back
        return 0;
    }
    return sys::result(::ftruncate(file_.get(), static_cast<off_t>(end_)));
}

bool UndoLog::later_batch_after(std::uint64_t offset, std::uint64_t size, std::uint64_t batch) const {
    constexpr std::size_t step = 1u << 20;
    std::string bytes;
    for (std::uint64_t at = offset; at < size; at += step) {
        if (sys::read_up_to(file_.get(), step + sizeof(magic), at, bytes) != 0) {
            return true;
        }
        std::string_view rest(bytes);
        const std::string_view mark(reinterpret_cast<const char*>(&magic), sizeof(magic));
        for (std::size_t found = rest.find(mark); found < step; found = rest.find(mark, found + 1)) {
            Header header;
            if (record_at(file_.get(), at + found, size, header) && header.batch >= batch) {
                return true;
            }
        }
    }
    return false;
}

Errno UndoLog::append(const std::vector<Saved>& batch) {
    std::string bytes;
    std::vector<Entry> fresh;
    ++batch_;
    for (const Saved& saved : batch) {
        const std::string content = saved.content ? encode(*saved.content) : std::string();
        Header header;
        header.magic = magic;
        header.batch = batch_;
        header.number = static_cast<std::uint32_t>(fresh.size());
        header.of = static_cast<std::uint32_t>(batch.size());
        header.fid_high = saved.target.fid.high;
        header.fid_low = saved.target.fid.low;
        header.index = saved.target.index;
        header.length = static_cast<std::uint32_t>(content.size());
        header.kind = static_cast<std::uint8_t>(saved.target.kind);
        header.there = saved.content ? 1 : 0;
        std::string head(reinterpret_cast<const char*>(&header), sizeof(header));
        header.crc = checksum(head.substr(covered_from) + content);
        std::memcpy(head.data() + offsetof(Header, crc), &header.crc, sizeof(header.crc));
        fresh.push_back({saved.target, saved.content.has_value(), end_ + bytes.size() + sizeof(Header), header.length});
        bytes.append(head).append(content);
    }
    Errno error = sys::write_all(file_.get(), bytes, end_);
    error = error == 0 ? sys::result(::fdatasync(file_.get())) : error;
    if (error != 0) {
        static_cast<void>(::ftruncate(file_.get(), static_cast<off_t>(end_)) ==
                          0); // a torn tail is known as one anyway
        --batch_;
        return error;
    }
    end_ += bytes.size();
    for (const Entry& entry : fresh) {
        entries_.push_back(entry);
        saved_.insert(entry.target);
    }
    return 0;
}

Errno UndoLog::read(const Entry& entry, Content& out) const {
    std::string bytes;
    if (const int error = sys::read_up_to(file_.get(), entry.length, entry.offset, bytes); error != 0) {
        return error;
    }
    auto content = decode_content(bytes);
    if (!content) {
        return EIO;
    }
    out = std::move(*content);
    return 0;
}

} // namespace stead::mirror

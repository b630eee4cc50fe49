// SPDX-License-Identifier: Apache-2.0
#include "blocklog.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <random>
#include <stdexcept>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace stead::blocklog {

namespace {

constexpr std::uint64_t sector = 512;

[[noreturn]] void fail(const std::string& what) {
    throw std::runtime_error(what + (errno != 0 ? ": " + std::string(std::strerror(errno)) : ""));
}

/// The whole of a file, read only.
class Mapped {
public:
    explicit Mapped(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
        struct stat found {};
        if (fd_ < 0 || ::fstat(fd_, &found) != 0) {
            fail(path);
        }
        size_ = static_cast<std::uint64_t>(found.st_size);
        if (size_ > 0) {
            void* at = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd_, 0);
            if (at == MAP_FAILED) {
                fail(path);
            }
            bytes_ = static_cast<const char*>(at);
        }
    }
    ~Mapped() {
        if (bytes_ != nullptr) {
            ::munmap(const_cast<char*>(bytes_), size_);
        }
        ::close(fd_);
    }
    Mapped(const Mapped&) = delete;
    Mapped& operator=(const Mapped&) = delete;
    [[nodiscard]] int fd() const { return fd_; }
    [[nodiscard]] std::uint64_t size() const { return size_; }
    [[nodiscard]] const char* at(std::uint64_t offset) const { return bytes_ + offset; }

private:
    int fd_;
    std::uint64_t size_{};
    const char* bytes_{};
};

/// Without the holes.
int copy_of(const Mapped& base, const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(base.size())) != 0) {
        fail(path);
    }
    for (off_t from = 0, to = 0; (from = ::lseek(base.fd(), to, SEEK_DATA)) >= 0;) {
        to = ::lseek(base.fd(), from, SEEK_HOLE);
        if (::pwrite(fd, base.at(static_cast<std::uint64_t>(from)), static_cast<std::size_t>(to - from), from) !=
            to - from) {
            fail(path);
        }
    }
    errno = 0;
    return fd;
}

struct Operation {
    Entry entry;
    const char* bytes{};
};

/// Up to the moment of the cut.
std::vector<Operation> operations_of(const Mapped& log, std::uint64_t until) {
    std::vector<Operation> found;
    for (std::uint64_t at = 0; at + sizeof(Entry) <= log.size();) {
        Operation one;
        std::memcpy(&one.entry, log.at(at), sizeof(Entry));
        const std::uint64_t payload = one.entry.kind == Kind::write ? one.entry.length : 0;
        at += sizeof(Entry);
        if (one.entry.magic != Entry{}.magic || one.entry.kind > Kind::off || payload > log.size() - at) {
            errno = 0;
            fail("the log is damaged before byte " + std::to_string(at));
        }
        if (one.entry.at > until || one.entry.kind == Kind::off) {
            break;
        }
        one.bytes = log.at(at);
        at += payload;
        found.push_back(one);
    }
    return found;
}

struct Counts {
    std::uint64_t flushed{}, pending{}, kept{}, torn{};
};

class Image {
public:
    Image(int fd, std::uint64_t seed) : fd_(fd), random_(seed) {
        static constexpr double chances[] = {0, 0.1, 0.5, 0.5, 0.9, 1};
        keep_ = chances[random_() % std::size(chances)];
        tear_ = random_() % 2 == 0 ? 0 : 0.4;
    }

    void apply(const Operation& one) {
        if (one.entry.kind == Kind::write) {
            put(one, 0, one.entry.length);
        } else if (one.entry.kind == Kind::discard) {
            ::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(one.entry.offset),
                        static_cast<off_t>(one.entry.length));
        }
    }

    /// All, nothing, or some of its sectors. The first block is the file system's own superblock, which no file system
    /// expects to be torn: it is written where it is, and has no second copy that a mount would look at.
    void maybe(const Operation& one, Counts& counts) {
        const bool whole = one.entry.kind != Kind::write || one.entry.offset < 4096;
        if (!whole && chance(tear_)) {
            ++counts.torn;
            for (std::uint64_t at = 0; at < one.entry.length; at += sector) {
                if (chance(0.5)) {
                    put(one, at, std::min(sector, one.entry.length - at));
                }
            }
        } else if (chance(keep_)) {
            ++counts.kept;
            apply(one);
        }
    }

private:
    void put(const Operation& one, std::uint64_t from, std::uint64_t length) {
        if (::pwrite(fd_, one.bytes + from, length, static_cast<off_t>(one.entry.offset + from)) !=
            static_cast<ssize_t>(length)) {
            fail("the image cannot be written");
        }
    }
    bool chance(double of) { return static_cast<double>(random_() >> 11) < of * 0x1p53; }

    int fd_;
    std::mt19937_64 random_;
    double keep_{}, tear_{};
};

} // namespace

int replay(const Cut& cut) {
    try {
        const Mapped base(cut.base), log(cut.log);
        const std::vector<Operation> done = operations_of(log, cut.at);
        std::size_t durable = done.size();
        while (!cut.keep_all && durable > 0 && done[durable - 1].entry.kind != Kind::flush) {
            --durable;
        }
        const int fd = copy_of(base, cut.image);
        Image image(fd, cut.seed);
        Counts counts;
        for (std::size_t i = 0; i < durable; ++i, ++counts.flushed) {
            image.apply(done[i]);
        }
        for (std::size_t i = durable; i < done.size(); ++i, ++counts.pending) {
            image.maybe(done[i], counts);
        }
        ::close(fd);
        std::printf("{\"flushed\": %llu, \"pending\": %llu, \"kept\": %llu, \"torn\": %llu}\n",
                    static_cast<unsigned long long>(counts.flushed), static_cast<unsigned long long>(counts.pending),
                    static_cast<unsigned long long>(counts.kept), static_cast<unsigned long long>(counts.torn));
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "stead-blocklog: %s\n", error.what());
        return 1;
    }
}

} // namespace stead::blocklog

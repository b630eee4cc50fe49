// SPDX-License-Identifier: Apache-2.0
#include "front_fixture.hpp"

#include <linux/falloc.h>
#include <sys/mman.h>

#include <cstdlib>
#include <random>
#include <string>
#include <vector>

/// Random operations on one file against a model in memory, in the manner of fsx.
namespace stead::mirror {
namespace {

constexpr std::size_t file_max = 256 * 1024;
constexpr std::size_t block = 512;

/// A file, and what it should contain.
class Modelled {
public:
    Modelled(const std::string& path, std::uint64_t seed)
        : path_(path), other_(path + ".copy"), random_(seed), fd_(open_it(path, 0)), direct_(open_it(path, O_DIRECT)),
          buffer_(static_cast<char*>(std::aligned_alloc(4096, file_max * 2))) {
        EXPECT_TRUE(fd_) << std::strerror(errno);
    }
    ~Modelled() { std::free(buffer_); }
    Modelled(const Modelled&) = delete;
    Modelled& operator=(const Modelled&) = delete;

    /// One operation; its description, for the one that fails.
    std::string act() {
        switch (pick(12)) {
        case 0:
        case 1: return write();
        case 2: return read();
        case 3: return truncate();
        case 4: return punch_or_zero();
        case 5: return map_write();
        case 6: return map_read();
        case 7: return direct_write();
        case 8: return direct_read();
        case 9: return copy_range();
        case 10: return append_elsewhere();
        default: return reopen();
        }
    }
    void check() {
        struct stat value {};
        ASSERT_EQ(fstat(fd_.get(), &value), 0);
        ASSERT_EQ(static_cast<std::size_t>(value.st_size), model_.size());
        ASSERT_EQ(pread(fd_.get(), buffer_, file_max, 0), static_cast<ssize_t>(model_.size()));
        for (std::size_t at = 0; at < model_.size(); ++at) {
            ASSERT_EQ(buffer_[at], model_[at]) << "at offset " << at << " of " << model_.size();
        }
    }

private:
    static Fd open_it(const std::string& path, int flags) {
        return Fd(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC | flags, 0644));
    }
    std::size_t pick(std::size_t below) { return below == 0 ? 0 : random_() % below; }
    std::string text(std::size_t size) {
        const auto first = static_cast<char>(random_());
        std::string result(size, first);
        for (std::size_t at = 0; at < size; at += 97) {
            result[at] = static_cast<char>(random_());
        }
        return result;
    }
    void put(std::size_t at, const std::string& bytes) {
        model_.resize(std::max(model_.size(), at + bytes.size()));
        model_.replace(at, bytes.size(), bytes);
    }
    static std::string describe(const char* what, std::size_t at, std::size_t size) {
        return std::string(what) + " " + std::to_string(size) + " at " + std::to_string(at);
    }

    std::string write() {
        const std::size_t at = pick(file_max - 1);
        const std::string bytes = text(1 + pick(std::min<std::size_t>(file_max - at, 70'000)));
        EXPECT_EQ(pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(at)),
                  static_cast<ssize_t>(bytes.size()));
        put(at, bytes);
        return describe("write", at, bytes.size());
    }
    std::string read() {
        const std::size_t at = pick(file_max);
        const std::size_t size = pick(70'000);
        const ssize_t got = pread(fd_.get(), buffer_, size, static_cast<off_t>(at));
        compare(at, size, got);
        return describe("read", at, size);
    }
    void compare(std::size_t at, std::size_t size, ssize_t got) {
        const std::size_t wanted = at >= model_.size() ? 0 : std::min(size, model_.size() - at);
        EXPECT_EQ(got, static_cast<ssize_t>(wanted));
        EXPECT_TRUE(wanted == 0 || model_.compare(at, wanted, buffer_, wanted) == 0) << "bytes differ";
    }
    std::string truncate() {
        const std::size_t size = pick(file_max);
        EXPECT_EQ(pick(2) == 0 ? ftruncate(fd_.get(), static_cast<off_t>(size))
                               : ::truncate(path_.c_str(), static_cast<off_t>(size)),
                  0);
        model_.resize(size, '\0');
        return describe("truncate", size, 0);
    }
    std::string punch_or_zero() {
        const std::size_t at = pick(file_max);
        const std::size_t size = 1 + pick(file_max - at);
        const bool punch = pick(2) == 0;
        const int mode = (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
        EXPECT_EQ(fallocate(fd_.get(), mode, static_cast<off_t>(at), static_cast<off_t>(size)), 0);
        if (at < model_.size()) {
            const std::size_t inside = std::min(size, model_.size() - at);
            model_.replace(at, inside, inside, '\0');
        }
        return describe(punch ? "punch" : "zero", at, size);
    }
    /// Maps what there is of the file.
    char* map(int protection) {
        void* const result = mmap(nullptr, model_.size(), protection, MAP_SHARED, fd_.get(), 0);
        EXPECT_NE(result, MAP_FAILED) << std::strerror(errno);
        return static_cast<char*>(result);
    }
    std::string map_write() {
        if (model_.empty()) {
            return "map of nothing";
        }
        const std::size_t at = pick(model_.size());
        const std::string bytes = text(1 + pick(std::min<std::size_t>(model_.size() - at, 70'000)));
        char* const bytes_of_file = map(PROT_READ | PROT_WRITE);
        std::memcpy(bytes_of_file + at, bytes.data(), bytes.size());
        if (pick(2) == 0) {
            EXPECT_EQ(msync(bytes_of_file, model_.size(), MS_SYNC), 0);
        }
        EXPECT_EQ(munmap(bytes_of_file, model_.size()), 0);
        put(at, bytes);
        return describe("map write", at, bytes.size());
    }
    std::string map_read() {
        if (model_.empty()) {
            return "map of nothing";
        }
        char* const bytes_of_file = map(PROT_READ);
        EXPECT_TRUE(model_.compare(0, model_.size(), bytes_of_file, model_.size()) == 0) << "mapped bytes differ";
        EXPECT_EQ(munmap(bytes_of_file, model_.size()), 0);
        return "map read";
    }
    std::string direct_write() {
        const std::size_t at = pick(file_max / block - 1) * block;
        const std::string bytes = text(block * (1 + pick(std::min<std::size_t>((file_max - at) / block, 100))));
        std::memcpy(buffer_, bytes.data(), bytes.size());
        EXPECT_EQ(pwrite(direct_.get(), buffer_, bytes.size(), static_cast<off_t>(at)),
                  static_cast<ssize_t>(bytes.size()))
            << std::strerror(errno);
        put(at, bytes);
        return describe("direct write", at, bytes.size());
    }
    std::string direct_read() {
        const std::size_t at = pick(file_max / block) * block;
        const std::size_t size = block * (1 + pick(100));
        compare(at, size, pread(direct_.get(), buffer_, size, static_cast<off_t>(at)));
        return describe("direct read", at, size);
    }
    std::string copy_range() {
        if (model_.empty()) {
            return "copy of nothing";
        }
        off_t from = static_cast<off_t>(pick(model_.size()));
        const std::size_t size =
            1 + pick(std::min<std::size_t>(model_.size() - static_cast<std::size_t>(from), 30'000));
        const auto start = static_cast<std::size_t>(from);
        off_t to = static_cast<off_t>(pick(file_max - size));
        const auto target = static_cast<std::size_t>(to);
        if (start < target + size && target < start + size) {
            return "copy onto itself";
        }
        for (std::size_t done = 0; done < size;) {
            const ssize_t copied = copy_file_range(fd_.get(), &from, fd_.get(), &to, size - done, 0);
            EXPECT_GT(copied, 0) << std::strerror(errno);
            if (copied <= 0) {
                break;
            }
            done += static_cast<std::size_t>(copied);
        }
        put(target, model_.substr(start, size));
        return describe("copy to", target, size);
    }
    /// The same file by another descriptor.
    std::string append_elsewhere() {
        if (model_.size() > file_max - 1000) {
            return "no room to append";
        }
        const Fd other(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
        const std::string bytes = text(1 + pick(999));
        EXPECT_EQ(::write(other.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
        const std::size_t at = model_.size();
        put(at, bytes);
        return describe("append", at, bytes.size());
    }
    std::string reopen() {
        if (pick(3) == 0) {
            EXPECT_EQ(fsync(fd_.get()), 0);
        }
        fd_ = open_it(path_, 0);
        direct_ = open_it(path_, O_DIRECT);
        return "reopen";
    }

    std::string path_, other_;
    std::mt19937_64 random_;
    Fd fd_, direct_;
    char* buffer_;
    std::string model_;
};

std::uint64_t seed_or(std::uint64_t otherwise) {
    const char* const given = std::getenv("STEAD_FSX_SEED");
    return given != nullptr ? std::stoull(given) : otherwise;
}

std::size_t operations_or(std::size_t otherwise) {
    const char* const given = std::getenv("STEAD_FSX_OPERATIONS");
    return given != nullptr ? std::stoull(given) : otherwise;
}

class RandomOps : public Posix {};
STEAD_POSIX(RandomOps);

TEST_P(RandomOps, AFileIsWhatTheModelSaysAfterEachOperation) {
    for (std::uint64_t seed = seed_or(1), last = seed + 1; seed <= last; ++seed) {
        Modelled file(at("file" + std::to_string(seed)), seed);
        std::vector<std::string> history;
        for (std::size_t step = 0, steps = operations_or(1000); step < steps; ++step) {
            history.push_back(file.act());
            if (step % 10 == 9) {
                file.check();
            }
            if (HasFailure()) {
                std::string tail;
                for (std::size_t each = history.size() > 12 ? history.size() - 12 : 0; each < history.size(); ++each) {
                    tail += history[each] + "\n";
                }
                FAIL() << "replay with STEAD_FSX_SEED=" << seed << ", step " << step << "; the last operations:\n"
                       << tail;
            }
        }
        file.check();
    }
}

} // namespace
} // namespace stead::mirror

// SPDX-License-Identifier: Apache-2.0
#include "front_fixture.hpp"

#include <linux/falloc.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <thread>
#include <vector>

/// Bytes of files: what holds on the backing file system holds on the mount.
namespace stead::mirror {
namespace {

class PosixFiles : public Posix {};
STEAD_POSIX(PosixFiles);

TEST_P(PosixFiles, WhatWasWrittenIsReadAtAnyOffsetAndLength) {
    const Fd fd = open(at("f"), O_CREAT | O_RDWR);
    const std::string text = "0123456789";
    ASSERT_EQ(pwrite(fd.get(), text.data(), 10, 0), 10);
    ASSERT_EQ(pwrite(fd.get(), "xyz", 3, 4), 3);
    char bytes[16]{};
    EXPECT_EQ(pread(fd.get(), bytes, sizeof(bytes), 2), 8);
    EXPECT_STREQ(bytes, "23xyz789");
    EXPECT_EQ(pread(fd.get(), bytes, sizeof(bytes), 10), 0);
    EXPECT_EQ(content(at("f")), "0123xyz789");
}

TEST_P(PosixFiles, OpenWithTruncEmptiesTheFileAndMovesItsMtime) {
    const std::string path = file("f", "content");
    const timespec old[2] = {{1000, 1}, {1000, 1}};
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), old, 0), 0);
    const Fd fd = open(path, O_WRONLY | O_TRUNC);
    EXPECT_TRUE(fd);
    EXPECT_EQ(status(path).st_size, 0);
    EXPECT_GT(status(path).st_mtim.tv_sec, 1000);
    EXPECT_EQ(content(path), "");
}

TEST_P(PosixFiles, ExclusiveCreationFailsOnAnythingThatIsThere) {
    file("f");
    ASSERT_EQ(::symlink("nowhere", at("s").c_str()), 0);
    EXPECT_EQ(error_of(::open(at("f").c_str(), O_CREAT | O_EXCL | O_RDWR, 0644)), EEXIST);
    EXPECT_EQ(error_of(::open(at("s").c_str(), O_CREAT | O_EXCL | O_RDWR, 0644)), EEXIST);
}

TEST_P(PosixFiles, HolesAreZeroTakeNoSpaceAndAreFound) {
    const Fd fd = open(at("f"), O_CREAT | O_RDWR);
    constexpr off_t mib = 1024 * 1024;
    ASSERT_EQ(pwrite(fd.get(), "end", 3, 8 * mib), 3);
    EXPECT_EQ(status(at("f")).st_size, 8 * mib + 3);
    EXPECT_LT(status(at("f")).st_blocks * 512, mib);
    char byte = 1;
    EXPECT_EQ(pread(fd.get(), &byte, 1, mib), 1);
    EXPECT_EQ(byte, 0);
    EXPECT_EQ(lseek(fd.get(), 0, SEEK_HOLE), 0);
    EXPECT_EQ(lseek(fd.get(), 0, SEEK_DATA), 8 * mib);
    EXPECT_EQ(lseek(fd.get(), 8 * mib, SEEK_HOLE), 8 * mib + 3);
    EXPECT_EQ(error_of(lseek(fd.get(), 9 * mib, SEEK_DATA)), ENXIO);
}

TEST_P(PosixFiles, FallocatePunchesZeroesAndReserves) {
    const std::string path = file("f", std::string(256 * 1024, 'x'));
    const Fd fd = open(path, O_RDWR);
    ASSERT_EQ(fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 65536, 65536), 0);
    ASSERT_EQ(fallocate(fd.get(), FALLOC_FL_ZERO_RANGE, 4096, 100), 0);
    ASSERT_EQ(fallocate(fd.get(), FALLOC_FL_KEEP_SIZE, 0, 1024 * 1024), 0);
    EXPECT_EQ(status(path).st_size, 256 * 1024);
    ASSERT_EQ(fallocate(fd.get(), 0, 0, 300 * 1024), 0);
    EXPECT_EQ(status(path).st_size, 300 * 1024);
    std::string wanted(256 * 1024, 'x');
    wanted.replace(65536, 65536, 65536, '\0');
    wanted.replace(4096, 100, 100, '\0');
    wanted.resize(300 * 1024, '\0');
    EXPECT_TRUE(content(path) == wanted);
}

TEST_P(PosixFiles, CollapseAndInsertAreRefused) {
    if (!mounted()) {
        GTEST_SKIP() << "the backing file system may do them: a documented difference";
    }
    const Fd fd = open(file("f", std::string(65536, 'x')), O_RDWR);
    EXPECT_EQ(error_of(fallocate(fd.get(), FALLOC_FL_COLLAPSE_RANGE, 0, 4096)), EOPNOTSUPP);
    EXPECT_EQ(error_of(fallocate(fd.get(), FALLOC_FL_INSERT_RANGE, 0, 4096)), EOPNOTSUPP);
    EXPECT_EQ(error_of(fallocate(fd.get(), FALLOC_FL_UNSHARE_RANGE, 0, 4096)), EOPNOTSUPP);
}

TEST_P(PosixFiles, SharedMappingsReachTheFileAndSeeWhatOthersWrite) {
    const std::string path = file("f", std::string(3 * 4096, 'a'));
    const Fd fd = open(path, O_RDWR);
    auto* const map = static_cast<char*>(mmap(nullptr, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
    ASSERT_NE(map, MAP_FAILED);
    map[5000] = 'b';
    ASSERT_EQ(msync(map, 3 * 4096, MS_SYNC), 0);
    char byte = 0;
    EXPECT_EQ(pread(fd.get(), &byte, 1, 5000), 1);
    EXPECT_EQ(byte, 'b');
    ASSERT_EQ(pwrite(fd.get(), "c", 1, 100), 1);
    EXPECT_EQ(map[100], 'c');
    map[9000] = 'd'; // without msync: at munmap and close
    ASSERT_EQ(munmap(map, 3 * 4096), 0);
    EXPECT_EQ(fsync(fd.get()), 0);
    EXPECT_EQ(content(path)[9000], 'd');
}

TEST_P(PosixFiles, MappedPagesBeyondTheEndAreCutByTruncate) {
    const std::string path = file("f", std::string(8192, 'a'));
    const Fd fd = open(path, O_RDWR);
    auto* const map = static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
    ASSERT_NE(map, MAP_FAILED);
    map[4095] = 'z';
    ASSERT_EQ(ftruncate(fd.get(), 100), 0);
    EXPECT_EQ(map[4095], 0);
    ASSERT_EQ(ftruncate(fd.get(), 4096), 0);
    EXPECT_EQ(content(path), std::string(100, 'a') + std::string(3996, '\0'));
    munmap(map, 8192);
}

TEST_P(PosixFiles, DirectIoWorksAtTheApplicationsAlignment) {
    const Fd fd = open(at("f"), O_CREAT | O_RDWR | O_DIRECT);
    ASSERT_TRUE(fd);
    alignas(4096) static char block[8192];
    std::memset(block, 'q', sizeof(block));
    ASSERT_EQ(pwrite(fd.get(), block, 4096, 4096), 4096);
    ASSERT_EQ(pwrite(fd.get(), block + 512, 512, 512), 512) << std::strerror(errno);
    std::memset(block, 0, sizeof(block));
    ASSERT_EQ(pread(fd.get(), block, 8192, 0), 8192);
    EXPECT_EQ(block[511], 0);
    EXPECT_EQ(block[512], 'q');
    EXPECT_EQ(block[8191], 'q');
    EXPECT_EQ(content(at("f")).substr(4096), std::string(4096, 'q')); // a cached read of another descriptor
}

TEST_P(PosixFiles, DirectIoFromAnUnalignedBufferWorksOnTheMount) {
    if (!mounted()) {
        GTEST_SKIP() << "the backing file system may refuse it";
    }
    const Fd fd = open(at("f"), O_CREAT | O_RDWR | O_DIRECT);
    std::vector<char> bytes(3 * 4096 + 1, 'u');
    ASSERT_EQ(pwrite(fd.get(), bytes.data() + 1, 3 * 4096, 0), 3 * 4096) << std::strerror(errno);
    EXPECT_EQ(pread(fd.get(), bytes.data() + 1, 4096, 4096), 4096);
}

TEST_P(PosixFiles, AppendingProcessesNeverOverwriteEachOther) {
    const std::string path = file("f");
    constexpr int each = 200;
    std::vector<pid_t> children;
    for (const char letter : {'a', 'b'}) {
        const pid_t child = fork();
        if (child == 0) {
            const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND);
            const std::string line(9, letter);
            for (int i = 0; i < each; ++i) {
                if (write(fd, (line + "\n").data(), 10) != 10) {
                    _exit(1);
                }
            }
            _exit(0);
        }
        children.push_back(child);
    }
    for (const pid_t child : children) {
        int result = 0;
        waitpid(child, &result, 0);
        EXPECT_EQ(result, 0);
    }
    const std::string all = content(path);
    ASSERT_EQ(all.size(), 2 * each * 10u);
    for (std::size_t from = 0; from < all.size(); from += 10) {
        EXPECT_EQ(all.substr(from, 10), std::string(9, all[from]) + "\n");
    }
}

TEST_P(PosixFiles, LocksHoldBetweenProcesses) {
    const std::string path = file("f", "x");
    const Fd fd = open(path, O_RDWR);
    struct flock lock {};
    lock.l_type = F_WRLCK;
    ASSERT_EQ(fcntl(fd.get(), F_SETLK, &lock), 0);
    EXPECT_EQ(as_user(0, 0,
                      [&] {
                          const int other = ::open(path.c_str(), O_RDWR);
                          struct flock wanted {};
                          wanted.l_type = F_WRLCK;
                          return fcntl(other, F_SETLK, &wanted) == 0 ? 0 : errno;
                      }),
              EAGAIN);
    lock.l_type = F_UNLCK;
    ASSERT_EQ(fcntl(fd.get(), F_SETLK, &lock), 0);
    ASSERT_EQ(flock(fd.get(), LOCK_EX), 0);
    const Fd second = open(path, O_RDWR);
    EXPECT_EQ(error_of(flock(second.get(), LOCK_EX | LOCK_NB)), EWOULDBLOCK);
}

TEST_P(PosixFiles, AnUnlinkedOpenFileGoesOnToWork) {
    const std::string path = file("f", "before");
    const Fd fd = open(path, O_RDWR);
    ASSERT_EQ(unlink(path.c_str()), 0);
    EXPECT_EQ(error_of(access(path.c_str(), F_OK)), ENOENT);
    ASSERT_EQ(pwrite(fd.get(), "after!", 6, 100), 6);
    ASSERT_EQ(ftruncate(fd.get(), 103), 0);
    ASSERT_EQ(fchmod(fd.get(), 0600), 0);
    ASSERT_EQ(fchown(fd.get(), 12, 13), 0);
    ASSERT_EQ(fsync(fd.get()), 0);
    const timespec times[2] = {{11, 12}, {13, 14}};
    ASSERT_EQ(futimens(fd.get(), times), 0);
    ASSERT_EQ(fallocate(fd.get(), 0, 0, 8192), 0);
    struct stat value {};
    ASSERT_EQ(fstat(fd.get(), &value), 0);
    EXPECT_EQ(value.st_nlink, 0u);
    EXPECT_EQ(value.st_size, 8192);
    EXPECT_EQ(value.st_mode & 07777, 0600u);
    EXPECT_EQ(value.st_uid, 12u);
    char bytes[4]{};
    EXPECT_EQ(pread(fd.get(), bytes, 3, 100), 3);
    EXPECT_STREQ(bytes, "aft");
    const Fd again = open("/proc/self/fd/" + std::to_string(fd.get()), O_RDWR); // opened anew, without a name
    ASSERT_TRUE(again) << std::strerror(errno);
    EXPECT_EQ(pwrite(again.get(), "new", 3, 0), 3);
    EXPECT_EQ(pread(fd.get(), bytes, 3, 0), 3);
    EXPECT_STREQ(bytes, "new");
}

TEST_P(PosixFiles, AFileThatIsRenamedOverStaysForWhoHasItOpen) {
    const std::string old = file("old", "old content");
    const std::string fresh = file("new", "new content");
    const Fd fd = open(old, O_RDWR);
    auto* const map = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
    ASSERT_NE(map, MAP_FAILED);
    ASSERT_EQ(rename(fresh.c_str(), old.c_str()), 0);
    map[0] = 'O';
    ASSERT_EQ(msync(map, 4096, MS_SYNC), 0);
    char bytes[12]{};
    EXPECT_EQ(pread(fd.get(), bytes, 11, 0), 11);
    EXPECT_STREQ(bytes, "Old content");
    EXPECT_EQ(content(old), "new content");
    munmap(map, 4096);
}

TEST_P(PosixFiles, AWriteOfAMappingThatMeetsTheRemovalOfTheLastNameIsNotLost) {
    constexpr std::size_t size = 1 << 20;
    for (int round = 0; round < 20; ++round) {
        const Fd fd = open(at("f"), O_CREAT | O_RDWR);
        ASSERT_EQ(ftruncate(fd.get(), size), 0);
        auto* const map = static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
        ASSERT_NE(map, MAP_FAILED);
        std::memset(map, 'm', size);
        std::thread flusher([&] { EXPECT_EQ(msync(map, size, MS_SYNC), 0); });
        EXPECT_EQ(unlink(at("f").c_str()), 0);
        flusher.join();
        char byte = 0;
        ASSERT_EQ(posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
        EXPECT_EQ(pread(fd.get(), &byte, 1, size - 1), 1);
        EXPECT_EQ(byte, 'm');
        munmap(map, size);
    }
}

TEST_P(PosixFiles, FilesMayBeLargerThan4GiB) {
    const Fd fd = open(at("f"), O_CREAT | O_RDWR);
    constexpr off_t far = (off_t{5} << 30) + 12345;
    ASSERT_EQ(pwrite(fd.get(), "far", 3, far), 3);
    EXPECT_EQ(status(at("f")).st_size, far + 3);
    char bytes[4]{};
    EXPECT_EQ(pread(fd.get(), bytes, 3, far), 3);
    EXPECT_STREQ(bytes, "far");
    ASSERT_EQ(ftruncate(fd.get(), far), 0);
    EXPECT_EQ(status(at("f")).st_size, far);
}

TEST_P(PosixFiles, BeyondTheLargestFileOfTheBackingFileSystemIsEFBIG) {
    const Fd fd = open(at("f"), O_CREAT | O_RDWR);
    constexpr off_t huge = INT64_MAX - 8192;
    EXPECT_EQ(error_of(pwrite(fd.get(), "x", 1, huge)), EFBIG);
    EXPECT_EQ(error_of(ftruncate(fd.get(), huge)), EFBIG);
    EXPECT_EQ(error_of(fallocate(fd.get(), 0, huge, 10)), EFBIG);
    EXPECT_EQ(status(at("f")).st_size, 0);
}

TEST_P(PosixFiles, CopyFileRangeCopies) {
    std::string text(300'000, '\0');
    for (std::size_t i = 0; i < text.size(); ++i) {
        text[i] = static_cast<char>(i * 7 >> 3);
    }
    const Fd from = open(file("from", text), O_RDONLY);
    const Fd to = open(at("to"), O_CREAT | O_RDWR);
    off_t in = 1000;
    off_t out = 10;
    std::size_t left = 250'000;
    while (left > 0) {
        const ssize_t copied = copy_file_range(from.get(), &in, to.get(), &out, left, 0);
        ASSERT_GT(copied, 0) << std::strerror(errno);
        left -= static_cast<std::size_t>(copied);
    }
    EXPECT_TRUE(content(at("to")) == std::string(10, '\0') + text.substr(1000, 250'000));
}

TEST_P(PosixFiles, TimesAreKeptToTheNanosecond) {
    const std::string path = file("f");
    const timespec times[2] = {{1'000'000'001, 123'456'789}, {1'600'000'002, 987'654'321}};
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
    const auto value = status(path);
    EXPECT_EQ(value.st_atim.tv_nsec, 123'456'789);
    EXPECT_EQ(value.st_mtim.tv_sec, 1'600'000'002);
    EXPECT_EQ(value.st_mtim.tv_nsec, 987'654'321);
    const timespec one[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), one, 0), 0);
    EXPECT_EQ(status(path).st_atim.tv_nsec, 123'456'789);
    EXPECT_GT(status(path).st_mtim.tv_sec, 1'700'000'000);
}

TEST_P(PosixFiles, AWriteMovesMtimeAndCtime) {
    const std::string path = file("f", "x");
    const timespec times[2] = {{1000, 0}, {1000, 0}};
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
    const auto before = status(path);
    const Fd fd = open(path, O_WRONLY);
    ASSERT_EQ(write(fd.get(), "y", 1), 1);
    EXPECT_GT(status(path).st_mtim.tv_sec, 1000);
    EXPECT_GE(status(path).st_ctim.tv_sec, before.st_ctim.tv_sec);
}

TEST_P(PosixFiles, TruncateToTheSameSizeMovesMtime) {
    const std::string path = file("f", "x");
    const timespec times[2] = {{1000, 5}, {1000, 5}};
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
    ASSERT_EQ(truncate(path.c_str(), 1), 0);
    EXPECT_GT(status(path).st_mtim.tv_sec, 1000);
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
    const Fd fd = open(path, O_WRONLY);
    ASSERT_EQ(ftruncate(fd.get(), 1), 0);
    EXPECT_GT(status(path).st_mtim.tv_sec, 1000);
}

TEST_P(PosixFiles, TemporaryFilesWithoutNameWorkOrAreRefusedAsDocumented) {
    const Fd fd = open(root(), O_TMPFILE | O_RDWR);
    if (mounted()) {
        EXPECT_EQ(error_of(fd.get()), EOPNOTSUPP);
    } else {
        EXPECT_TRUE(fd || errno == EOPNOTSUPP);
    }
}

TEST_P(PosixFiles, SyncsOfEveryKindSucceed) {
    const Fd fd = open(at("f"), O_CREAT | O_RDWR | O_SYNC);
    ASSERT_EQ(write(fd.get(), "x", 1), 1);
    EXPECT_EQ(fsync(fd.get()), 0);
    EXPECT_EQ(fdatasync(fd.get()), 0);
    EXPECT_EQ(syncfs(fd.get()), 0);
    const Fd directory = open(root(), O_RDONLY | O_DIRECTORY);
    EXPECT_EQ(fsync(directory.get()), 0);
}

TEST_P(PosixFiles, ThreadsWriteTheirOwnPartsOfOneFile) {
    const Fd fd = open(at("f"), O_CREAT | O_RDWR);
    constexpr int threads = 8;
    constexpr int blocks = 50;
    std::vector<std::thread> writers;
    for (int writer = 0; writer < threads; ++writer) {
        writers.emplace_back([&fd, writer] {
            const std::string block(1000, static_cast<char>('a' + writer));
            for (int each = 0; each < blocks; ++each) {
                EXPECT_EQ(pwrite(fd.get(), block.data(), block.size(), (each * threads + writer) * 1000), 1000);
            }
        });
    }
    for (std::thread& each : writers) {
        each.join();
    }
    const std::string all = content(at("f"));
    ASSERT_EQ(all.size(), threads * blocks * 1000u);
    for (std::size_t block = 0; block < threads * blocks; ++block) {
        EXPECT_EQ(all.substr(block * 1000, 1000), std::string(1000, static_cast<char>('a' + block % threads)));
    }
}

} // namespace
} // namespace stead::mirror

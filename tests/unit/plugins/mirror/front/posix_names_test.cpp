// SPDX-License-Identifier: Apache-2.0
#include "front_fixture.hpp"

#include <dirent.h>
#include <linux/fs.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include <set>
#include <thread>
#include <vector>

/// Names and directories: what holds on the backing file system holds on the mount.
namespace stead::mirror {
namespace {

class PosixNames : public Posix {
protected:
    static std::multiset<std::string> names(const std::string& path) {
        std::multiset<std::string> result;
        DIR* const directory = opendir(path.c_str());
        EXPECT_NE(directory, nullptr) << path << ": " << std::strerror(errno);
        if (directory != nullptr) {
            for (const dirent* entry = nullptr; (entry = ::readdir(directory)) != nullptr;) {
                result.insert(entry->d_name);
            }
            closedir(directory);
        }
        result.erase(".");
        result.erase("..");
        return result;
    }
    int rename2(const std::string& from, const std::string& to, unsigned flags) const {
        return error_of(renameat2(AT_FDCWD, at(from).c_str(), AT_FDCWD, at(to).c_str(), flags));
    }
};
STEAD_POSIX(PosixNames);

TEST_P(PosixNames, AnyNameOfUpTo255BytesIsPossible) {
    const std::vector<std::string> odd{
        std::string(255, 'n'), "with space", "line\nbreak", "\xff\xfe not UTF-8", "-rf", "*", "\\", "..."};
    std::multiset<std::string> wanted;
    for (const std::string& name : odd) {
        file(name, name);
        wanted.insert(name);
    }
    EXPECT_EQ(names(root()), wanted);
    for (const std::string& name : odd) {
        EXPECT_EQ(content(at(name)), name);
    }
}

TEST_P(PosixNames, ALongerNameIsENAMETOOLONGForEveryCall) {
    const std::string name = at(std::string(256, 'n'));
    const std::string here = file("f");
    EXPECT_EQ(error_of(::open(name.c_str(), O_CREAT | O_RDWR, 0644)), ENAMETOOLONG);
    EXPECT_EQ(error_of(mkdir(name.c_str(), 0755)), ENAMETOOLONG);
    EXPECT_EQ(error_of(mknod(name.c_str(), S_IFIFO | 0644, 0)), ENAMETOOLONG);
    EXPECT_EQ(error_of(::symlink("x", name.c_str())), ENAMETOOLONG);
    EXPECT_EQ(error_of(::link(here.c_str(), name.c_str())), ENAMETOOLONG);
    EXPECT_EQ(error_of(::rename(here.c_str(), name.c_str())), ENAMETOOLONG);
    EXPECT_EQ(error_of(::unlink(name.c_str())), ENAMETOOLONG);
    EXPECT_EQ(error_of(::rmdir(name.c_str())), ENAMETOOLONG);
    EXPECT_EQ(error_of(access(name.c_str(), F_OK)), ENAMETOOLONG);
}

TEST_P(PosixNames, RenameFlagsExchangeAndRefuseToReplace) {
    file("a", "of a");
    file("b", "of b");
    ASSERT_EQ(mkdir(at("d").c_str(), 0755), 0);
    EXPECT_EQ(rename2("a", "b", RENAME_NOREPLACE), EEXIST);
    EXPECT_EQ(rename2("a", "b", RENAME_EXCHANGE), 0);
    EXPECT_EQ(content(at("a")), "of b");
    EXPECT_EQ(content(at("b")), "of a");
    EXPECT_EQ(rename2("a", "none", RENAME_EXCHANGE), ENOENT);
    EXPECT_EQ(rename2("a", "d", RENAME_EXCHANGE), 0); // of different kinds, too
    EXPECT_TRUE(S_ISDIR(status(at("a")).st_mode));
    EXPECT_EQ(rename2("d", "c", RENAME_NOREPLACE), 0);
    EXPECT_EQ(content(at("c")), "of b");
    EXPECT_EQ(rename2("b", "c", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
    if (mounted()) { // overlayfs wants it; documented as refused
        EXPECT_EQ(rename2("b", "w", RENAME_WHITEOUT), EINVAL);
    }
}

TEST_P(PosixNames, RenameReplacesOnlyWhatItMay) {
    file("f", "f");
    file("g", "g");
    ASSERT_EQ(mkdir(at("full").c_str(), 0755), 0);
    ASSERT_EQ(mkdir(at("empty").c_str(), 0755), 0);
    ASSERT_EQ(mkdir(at("d").c_str(), 0755), 0);
    file("full/x");
    file("d/y");
    EXPECT_EQ(rename2("f", "full", 0), EISDIR);
    EXPECT_EQ(rename2("d", "f", 0), ENOTDIR);
    EXPECT_EQ(rename2("d", "full", 0), ENOTEMPTY);
    EXPECT_EQ(rename2("d", "d/below", 0), EINVAL);
    EXPECT_EQ(rename2("none", "g", 0), ENOENT);
    EXPECT_EQ(rename2("d", "empty", 0), 0);
    EXPECT_EQ(names(at("empty")), (std::multiset<std::string>{"y"}));
    EXPECT_EQ(rename2("f", "g", 0), 0);
    EXPECT_EQ(content(at("g")), "f");
    ASSERT_EQ(::link(at("g").c_str(), at("h").c_str()), 0);
    EXPECT_EQ(rename2("g", "h", 0), 0); // two names of one file: both stay
    EXPECT_EQ(status(at("g")).st_nlink, 2u);
}

TEST_P(PosixNames, HardLinksAreOneFile) {
    const std::string one = file("one", "text");
    ASSERT_EQ(::link(one.c_str(), at("two").c_str()), 0);
    EXPECT_EQ(status(one).st_ino, status(at("two")).st_ino);
    EXPECT_EQ(status(one).st_nlink, 2u);
    EXPECT_EQ(error_of(::link(one.c_str(), at("two").c_str())), EEXIST);
    ASSERT_EQ(unlink(one.c_str()), 0);
    EXPECT_EQ(status(at("two")).st_nlink, 1u);
    EXPECT_EQ(content(at("two")), "text");
    ASSERT_EQ(mkdir(at("d").c_str(), 0755), 0);
    EXPECT_EQ(error_of(::link(at("d").c_str(), at("e").c_str())), EPERM);
}

TEST_P(PosixNames, DirectoriesAreRemovedWhenTheyAreEmpty) {
    ASSERT_EQ(mkdir(at("d").c_str(), 0755), 0);
    EXPECT_EQ(status(at("d")).st_nlink, 2u);
    ASSERT_EQ(mkdir(at("d/e").c_str(), 0755), 0);
    EXPECT_EQ(status(at("d")).st_nlink, 3u);
    EXPECT_EQ(error_of(rmdir(at("d").c_str())), ENOTEMPTY);
    EXPECT_EQ(error_of(unlink(at("d").c_str())), EISDIR);
    file("f");
    EXPECT_EQ(error_of(rmdir(at("f").c_str())), ENOTDIR);
    ASSERT_EQ(rmdir(at("d/e").c_str()), 0);
    const Fd open_directory = open(at("d"), O_RDONLY | O_DIRECTORY);
    ASSERT_EQ(rmdir(at("d").c_str()), 0);
    struct stat value {};
    EXPECT_EQ(fstat(open_directory.get(), &value), 0);
    EXPECT_EQ(value.st_nlink, 0u);
    EXPECT_EQ(error_of(openat(open_directory.get(), "x", O_CREAT | O_RDWR, 0644)), ENOENT);
    EXPECT_EQ(error_of(rmdir(at("d").c_str())), ENOENT);
}

TEST_P(PosixNames, ARemovedWorkingDirectoryStaysReachable) {
    ASSERT_EQ(mkdir(at("d").c_str(), 0755), 0);
    const Fd only_a_path = open(at("d"), O_PATH | O_DIRECTORY);
    ASSERT_EQ(rmdir(at("d").c_str()), 0);
    struct stat value {};
    EXPECT_EQ(fstat(only_a_path.get(), &value), 0) << std::strerror(errno);
    EXPECT_TRUE(S_ISDIR(value.st_mode));
    EXPECT_EQ(value.st_nlink, 0u);
}

TEST_P(PosixNames, SymbolicLinksKeepAnyTargetUpTo4095Bytes) {
    const std::string target(4095, 't');
    ASSERT_EQ(::symlink(target.c_str(), at("long").c_str()), 0);
    std::string read(5000, '\0');
    EXPECT_EQ(::readlink(at("long").c_str(), read.data(), read.size()), 4095);
    EXPECT_EQ(status(at("long")).st_size, 4095);
    ASSERT_EQ(::symlink("loop", at("loop").c_str()), 0);
    EXPECT_EQ(error_of(access(at("loop").c_str(), F_OK)), ELOOP);
    ASSERT_EQ(lchown(at("loop").c_str(), 7, 8), 0);
    EXPECT_EQ(status(at("loop")).st_uid, 7u);
    EXPECT_EQ(status(at("loop")).st_mode & 07777, 0777u);
    const timespec times[2] = {{1, 2}, {3, 4}};
    ASSERT_EQ(utimensat(AT_FDCWD, at("loop").c_str(), times, AT_SYMLINK_NOFOLLOW), 0);
    EXPECT_EQ(status(at("loop")).st_mtim.tv_sec, 3);
}

TEST_P(PosixNames, FifosSocketsAndDevicesAreNodesThatWork) {
    ASSERT_EQ(mkfifo(at("fifo").c_str(), 0640), 0);
    EXPECT_TRUE(S_ISFIFO(status(at("fifo")).st_mode));
    const Fd reader = open(at("fifo"), O_RDONLY | O_NONBLOCK);
    const Fd writer = open(at("fifo"), O_WRONLY | O_NONBLOCK);
    EXPECT_EQ(write(writer.get(), "x", 1), 1);
    ASSERT_EQ(mknod(at("null").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
    EXPECT_EQ(status(at("null")).st_rdev, makedev(1, 3));
    EXPECT_EQ(content(at("null")), "");
    ASSERT_EQ(mknod(at("block").c_str(), S_IFBLK | 0600, makedev(300, 70000)), 0);
    EXPECT_EQ(status(at("block")).st_rdev, makedev(300, 70000));
    ASSERT_EQ(mknod(at("plain").c_str(), S_IFREG | 0600, 0), 0);
    EXPECT_TRUE(S_ISREG(status(at("plain")).st_mode));
    const Fd socket_fd(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    ASSERT_EQ(chdir(root().c_str()), 0); // its path may be longer than an address
    std::strcpy(address.sun_path, "socket");
    EXPECT_EQ(bind(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_TRUE(S_ISSOCK(status(at("socket")).st_mode));
    EXPECT_EQ(listen(socket_fd.get(), 1), 0);
    const Fd client(::socket(AF_UNIX, SOCK_STREAM, 0));
    EXPECT_EQ(connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    ASSERT_EQ(chdir("/"), 0);
}

TEST_P(PosixNames, PathsMayBeDeeperThan4096Bytes) {
    const std::string name(200, 'd');
    Fd here = open(root(), O_RDONLY | O_DIRECTORY);
    constexpr int depth = 30; // 6,000 bytes
    for (int level = 0; level < depth; ++level) {
        ASSERT_EQ(mkdirat(here.get(), name.c_str(), 0755), 0) << level << ": " << std::strerror(errno);
        here = Fd(openat(here.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        ASSERT_TRUE(here);
    }
    const Fd fd(openat(here.get(), "deep", O_CREAT | O_RDWR | O_CLOEXEC, 0644));
    EXPECT_EQ(write(fd.get(), "x", 1), 1);
    EXPECT_EQ(renameat(here.get(), "deep", here.get(), "deeper"), 0);
    struct stat value {};
    EXPECT_EQ(fstatat(here.get(), "deeper", &value, 0), 0);
    EXPECT_EQ(value.st_size, 1);
}

TEST_P(PosixNames, ADirectoryOf20000NamesListsEachOnce) {
    std::multiset<std::string> wanted;
    const Fd directory = open(root(), O_RDONLY | O_DIRECTORY);
    for (int each = 0; each < 20'000; ++each) {
        const std::string name = "name" + std::to_string(each);
        const Fd fd(openat(directory.get(), name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
        ASSERT_TRUE(fd) << name << ": " << std::strerror(errno);
        wanted.insert(name);
    }
    EXPECT_TRUE(names(root()) == wanted);
    for (int each = 0; each < 20'000; each += 2) {
        const std::string name = "name" + std::to_string(each);
        ASSERT_EQ(unlinkat(directory.get(), name.c_str(), 0), 0);
        wanted.erase(name);
    }
    EXPECT_TRUE(names(root()) == wanted);
}

TEST_P(PosixNames, RemovingWhileListingMissesNothingElse) {
    for (int each = 0; each < 500; ++each) {
        file("name" + std::to_string(each));
    }
    DIR* const directory = opendir(root().c_str());
    std::set<std::string> seen;
    for (const dirent* entry = nullptr; (entry = ::readdir(directory)) != nullptr;) {
        const std::string name = entry->d_name;
        if (name != "." && name != "..") {
            EXPECT_TRUE(seen.insert(name).second) << name;
            EXPECT_EQ(unlinkat(dirfd(directory), entry->d_name, 0), 0);
        }
    }
    EXPECT_EQ(seen.size(), 500u);
    rewinddir(directory);
    int left = 0;
    while (::readdir(directory) != nullptr) {
        ++left;
    }
    EXPECT_EQ(left, 2);
    closedir(directory);
}

TEST_P(PosixNames, ThreadsMakeMoveAndRemoveInOneDirectory) {
    constexpr int threads = 6;
    std::vector<std::thread> workers;
    for (int worker = 0; worker < threads; ++worker) {
        workers.emplace_back([this, worker] {
            for (int each = 0; each < 60; ++each) {
                const std::string name = at("w" + std::to_string(worker) + "." + std::to_string(each));
                const Fd fd = open(name, O_CREAT | O_EXCL | O_RDWR);
                EXPECT_TRUE(fd) << std::strerror(errno);
                EXPECT_EQ(write(fd.get(), "x", 1), 1);
                EXPECT_EQ(::rename(name.c_str(), (name + "~").c_str()), 0);
                EXPECT_EQ(::link((name + "~").c_str(), name.c_str()), 0);
                EXPECT_EQ(unlink((name + "~").c_str()), 0);
                if (each % 2 == 0) {
                    EXPECT_EQ(unlink(name.c_str()), 0);
                    EXPECT_EQ(write(fd.get(), "y", 1), 1);
                }
            }
        });
    }
    for (std::thread& each : workers) {
        each.join();
    }
    EXPECT_EQ(names(root()).size(), threads * 30u);
}

TEST_P(PosixNames, StatfsIsThatOfTheBackingFileSystem) {
    struct statvfs here {
    }, below{};
    ASSERT_EQ(statvfs(root().c_str(), &here), 0);
    ASSERT_EQ(statvfs(TEST_FOLDER, &below), 0);
    EXPECT_EQ(here.f_blocks, below.f_blocks);
    EXPECT_EQ(here.f_frsize, below.f_frsize);
    EXPECT_EQ(here.f_namemax, below.f_namemax);
}

} // namespace
} // namespace stead::mirror

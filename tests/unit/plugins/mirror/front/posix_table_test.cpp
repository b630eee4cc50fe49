// SPDX-License-Identifier: Apache-2.0
#include "front_fixture.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <sstream>
#include <thread>
#include <vector>

#include <dirent.h>

/// Who may do what, and what a call changes besides: tables of calls, each with its errno.
namespace stead::mirror {
namespace {

using Words = std::vector<std::string>;

int number(const std::string& word) { return std::stoi(word, nullptr, 8); }

int open_flags(const std::string& word) {
    int flags = 0;
    for (const char letter : word) {
        switch (letter) {
        case 'r': flags |= O_RDONLY; break;
        case 'w': flags |= O_WRONLY; break;
        case 'c': flags |= O_CREAT; break;
        case 'x': flags |= O_EXCL; break;
        case 't': flags |= O_TRUNC; break;
        case 'd': flags |= O_DIRECTORY; break;
        case 'n': flags |= O_NOFOLLOW; break;
        default: ADD_FAILURE() << "flag " << letter;
        }
    }
    return flags;
}

int make_long(const std::string& name) { // a path of more than PATH_MAX bytes
    std::string path;
    while (path.size() < 4096) {
        path += name + "/";
    }
    return error_of(access(path.c_str(), F_OK));
}

/// errno of a call like "mkdir d 0755"; ids and modes are octal, as in a shell.
int call(const Words& w) {
    const char* const a = w.size() > 1 ? w[1].c_str() : "";
    const char* const b = w.size() > 2 ? w[2].c_str() : "";
    const auto n = [&](std::size_t word) { return static_cast<unsigned>(std::stoi(w.at(word))); };
    const std::map<std::string, std::function<int()>> calls{
        {"mkdir", [&] { return error_of(mkdir(a, number(b))); }},
        {"rmdir", [&] { return error_of(rmdir(a)); }},
        {"unlink", [&] { return error_of(unlink(a)); }},
        {"mkfifo", [&] { return error_of(mkfifo(a, number(b))); }},
        {"mknod", [&] { return error_of(mknod(a, S_IFCHR | 0644, 0x103)); }},
        {"symlink", [&] { return error_of(::symlink(a, b)); }},
        {"link", [&] { return error_of(::link(a, b)); }},
        {"rename", [&] { return error_of(::rename(a, b)); }},
        {"chmod", [&] { return error_of(chmod(a, number(b))); }},
        {"chown", [&] { return error_of(chown(a, n(2), n(3))); }},
        {"lchown", [&] { return error_of(lchown(a, n(2), n(3))); }},
        {"truncate", [&] { return error_of(truncate(a, n(2))); }},
        {"open", [&] { return error_of(::open(a, open_flags(w.at(2)), w.size() > 3 ? number(w[3]) : 0)); }},
        {"touch", [&] { return error_of(utimensat(AT_FDCWD, a, nullptr, 0)); }},
        {"set_time",
         [&] {
             const timespec times[2] = {{1, 0}, {2, 0}};
             return error_of(utimensat(AT_FDCWD, a, times, 0));
         }},
        {"list",
         [&] {
             DIR* const directory = opendir(a);
             const int error = directory == nullptr ? errno : 0;
             return directory != nullptr ? closedir(directory) : error;
         }},
        {"long", [&] { return make_long(a); }},
        {"mode",
         [&] { // mode PATH OCTAL: is it?
             struct stat value {};
             return lstat(a, &value) != 0 ? errno : (value.st_mode & 07777) == static_cast<mode_t>(number(b)) ? 0 : 250;
         }},
        {"owner",
         [&] { // owner PATH UID GID: is it?
             struct stat value {};
             return lstat(a, &value) != 0 ? errno : value.st_uid == n(2) && value.st_gid == n(3) ? 0 : 250;
         }},
        {"links",
         [&] {
             struct stat value {};
             return lstat(a, &value) != 0 ? errno : value.st_nlink == n(2) ? 0 : 250;
         }},
    };
    const auto found = calls.find(w.front());
    return found == calls.end() ? 254 : found->second();
}

const std::map<std::string, int> errors{
    {"ok", 0},
    {"EACCES", EACCES},
    {"EPERM", EPERM},
    {"EEXIST", EEXIST},
    {"ENOENT", ENOENT},
    {"ENOTDIR", ENOTDIR},
    {"EISDIR", EISDIR},
    {"ELOOP", ELOOP},
    {"ENOTEMPTY", ENOTEMPTY},
    {"EINVAL", EINVAL},
    {"EBUSY", EBUSY},
    {"ENXIO", ENXIO},
    {"ENAMETOOLONG", ENAMETOOLONG},
};

class PosixTable : public Posix {
protected:
    /// Lines "USER GROUP CALL ARGUMENTS = ERROR", one after the other in the root.
    void run(const char* lines) {
        ASSERT_EQ(chdir(root().c_str()), 0);
        std::istringstream table(lines);
        int rows = 0;
        for (std::string line; std::getline(table, line);) {
            std::istringstream words(line);
            const Words all{std::istream_iterator<std::string>(words), {}};
            if (all.empty()) {
                continue;
            }
            ASSERT_GE(all.size(), 5u) << line;
            ASSERT_EQ(all[all.size() - 2], "=") << line;
            const Words wanted(all.begin() + 2, all.end() - 2);
            const int got = as_user(std::stoul(all[0]), std::stoul(all[1]), [&] { return call(wanted); });
            EXPECT_EQ(got, errors.at(all.back())) << line << " (" << std::strerror(got) << ")";
            ++rows;
        }
        EXPECT_GT(rows, 3);
        ASSERT_EQ(chdir("/"), 0);
    }
};
STEAD_POSIX(PosixTable);

TEST_P(PosixTable, SearchAndWritePermissionOfDirectoriesIsNeeded) {
    run(R"(
        0    0    mkdir d 0755            = ok
        0    0    chown d 4001 4001       = ok
        4001 4001 open d/f wc 0644        = ok
        4001 4001 mkdir d/e 0755          = ok
        4001 4001 chmod d 0644            = ok
        4001 4001 open d/f r              = EACCES
        4001 4001 unlink d/f              = EACCES
        4001 4001 chmod d/f 0600          = EACCES
        4001 4001 link d/f g              = EACCES
        4001 4001 truncate d/f 10         = EACCES
        4001 4001 chmod d 0555            = ok
        4001 4001 open d/new wc 0644      = EACCES
        4001 4001 mkdir d/new 0755        = EACCES
        4001 4001 mkfifo d/new 0644       = EACCES
        4001 4001 symlink x d/new         = EACCES
        4001 4001 unlink d/f              = EACCES
        4001 4001 rmdir d/e               = EACCES
        4001 4001 rename d/f d/g          = EACCES
        4001 4001 link d/f d/g            = EACCES
        4001 4001 open d/f w              = ok
        4002 4002 open d/f w              = EACCES
        4002 4002 truncate d/f 3          = EACCES
        4001 4001 chmod d 0311            = ok
        4001 4001 list d                  = EACCES
        4001 4001 open d/f r              = ok
        0    0    list d                  = ok
        4001 4001 chmod d 0755            = ok
        4001 4001 unlink d/f              = ok
        4001 4001 rmdir d/e               = ok
    )");
}

TEST_P(PosixTable, OnlyOwnersChangeModesOwnersAndTimes) {
    run(R"(
        0    0    open f wc 0666          = ok
        0    0    chown f 4001 4001       = ok
        4002 4002 chmod f 0600            = EPERM
        4002 4002 chown f 4002 4002       = EPERM
        4001 4001 chown f 4002 4001       = EPERM
        4001 4001 chown f 4001 4002       = EPERM
        4001 4001 chown f 4001 4001       = ok
        4002 4002 touch f                 = ok
        4002 4002 set_time f              = EPERM
        4001 4001 chmod f 0444            = ok
        4002 4002 touch f                 = EACCES
        4001 4001 touch f                 = ok
        4001 4001 set_time f              = ok
        4001 4001 chmod f 01644           = ok
        0    0    mode f 01644            = ok
        0    0    chmod f 06755           = ok
        4001 4001 chown f 4001 4001       = ok
        0    0    mode f 0755             = ok
        0    0    symlink f s             = ok
        0    0    chown s 4002 4002       = ok
        0    0    owner f 4002 4002       = ok
        0    0    owner s 0 0             = ok
        0    0    lchown s 7 8            = ok
        0    0    owner s 7 8             = ok
    )");
}

TEST_P(PosixTable, AStickyDirectoryLetsOnlyOwnersRemoveAndMove) {
    run(R"(
        0    0    mkdir t 0777            = ok
        0    0    chmod t 01777           = ok
        4001 4001 open t/f wc 0666        = ok
        4001 4001 mkdir t/d 0777          = ok
        4002 4002 open t/g wc 0666        = ok
        4002 4002 unlink t/f              = EPERM
        4002 4002 rmdir t/d               = EPERM
        4002 4002 rename t/f t/h          = EPERM
        4002 4002 rename t/g t/f          = EPERM
        4002 4002 rename t/d t/e          = EPERM
        4001 4001 rename t/f t/h          = ok
        0    0    chown t 4002 4002       = ok
        4002 4002 unlink t/h              = ok
        4002 4002 rmdir t/d               = ok
        4001 4001 unlink t/g              = EPERM
        0    0    unlink t/g              = ok
    )");
}

TEST_P(PosixTable, PathsFailAsTheyShould) {
    run(R"(
        0 0 open f wc 0644                = ok
        0 0 mkdir d 0755                  = ok
        0 0 symlink loop loop             = ok
        0 0 symlink nowhere dangling      = ok
        0 0 symlink f s                   = ok
        0 0 open f/x r                    = ENOTDIR
        0 0 mkdir f/x 0755                = ENOTDIR
        0 0 unlink f/x                    = ENOTDIR
        0 0 rmdir f/x                     = ENOTDIR
        0 0 rename f/x g                  = ENOTDIR
        0 0 link f/x g                    = ENOTDIR
        0 0 truncate f/x 0                = ENOTDIR
        0 0 open none/x wc 0644           = ENOENT
        0 0 mkdir none/x 0755             = ENOENT
        0 0 chmod none 0644               = ENOENT
        0 0 rename none g                 = ENOENT
        0 0 link none g                   = ENOENT
        0 0 open loop/x r                 = ELOOP
        0 0 mkdir loop/x 0755             = ELOOP
        0 0 chmod loop 0644               = ELOOP
        0 0 open s rn                     = ELOOP
        0 0 open f rd                     = ENOTDIR
        0 0 open d w                      = EISDIR
        0 0 truncate d 0                  = EISDIR
        0 0 open dangling wc 0644         = ok
        0 0 unlink nowhere                = ok
        0 0 open dangling wcx 0644        = EEXIST
        0 0 mkdir d 0755                  = EEXIST
        0 0 mkdir f 0755                  = EEXIST
        0 0 mkdir dangling 0755           = EEXIST
        0 0 mkfifo f 0644                 = EEXIST
        0 0 mknod f                       = EEXIST
        0 0 symlink x f                   = EEXIST
        0 0 link f d                      = EEXIST
        0 0 rmdir .                       = EINVAL
        0 0 rmdir d/..                    = ENOTEMPTY
        0 0 rename d d/sub                = EINVAL
        0 0 long dir                      = ENAMETOOLONG
        0 0 mkfifo p 0644                 = ok
    )");
}

TEST_P(PosixTable, DevicesNeedPrivilegeAndLinksCount) {
    run(R"(
        0    0    mkdir d 0777            = ok
        0    0    chmod d 0777            = ok
        4001 4001 mknod d/dev             = EPERM
        4001 4001 mkfifo d/p 0644         = ok
        4001 4001 open d/f wc 0644        = ok
        4001 4001 link d/f d/g            = ok
        4001 4001 link d/p d/q            = ok
        0    0    links d/f 2             = ok
        0    0    links d/q 2             = ok
        4001 4001 unlink d/f              = ok
        0    0    links d/g 1             = ok
        4001 4001 mkdir d/e 0755          = ok
        0    0    links d 3               = ok
        4001 4001 mkdir d/e/e 0755        = ok
        4001 4001 rename d/e/e d/e2       = ok
        0    0    links d 4               = ok
        0    0    links d/e 2             = ok
    )");
}

/// Which times each call moves: of its argument, and of the directories.
struct Moves {
    const char* prepare; ///< calls separated by ';'
    const char* act;
    const char* path;
    bool mtime, ctime;
};
constexpr Moves moves[] = {
    {"mkdir d 0755", "open d/f wc 0644", "d", true, true},
    {"mkdir d 0755", "mkdir d/e 0755", "d", true, true},
    {"mkdir d 0755", "mkfifo d/p 0644", "d", true, true},
    {"mkdir d 0755", "symlink x d/s", "d", true, true},
    {"mkdir d 0755;open d/f wc 0644", "unlink d/f", "d", true, true},
    {"mkdir d 0755;mkdir d/e 0755", "rmdir d/e", "d", true, true},
    {"mkdir d 0755;open f wc 0644", "link f d/g", "d", true, true},
    {"open f wc 0644", "link f g", "f", false, true},
    {"open f wc 0644;link f g", "unlink g", "f", false, true},
    {"mkdir d 0755;open d/f wc 0644", "rename d/f g", "d", true, true},
    {"mkdir d 0755;open f wc 0644", "rename f d/g", "d", true, true},
    {"open f wc 0644", "rename f g", "g", false, true},
    {"open f wc 0644", "chmod f 0600", "f", false, true},
    {"open f wc 0644", "chown f 1 1", "f", false, true},
    {"open f wc 0644", "truncate f 10", "f", true, true},
    {"open f wc 0644", "open f wt", "f", true, true},
    {"open f wc 0644", "touch f", "f", true, true},
    {"open f wc 0644", "open f r", "f", false, false},
    {"open f wc 0644", "chmod none 0644", "f", false, false},
    {"open f wc 0644;mkdir f2 0755", "mkdir f2 0755", "f2", false, false},
};

TEST_P(PosixTable, CallsMoveTheTimesTheyShouldAndNoOthers) {
    const auto split = [](const std::string& line) {
        std::istringstream words(line);
        return Words{std::istream_iterator<std::string>(words), {}};
    };
    for (std::size_t row = 0; row < std::size(moves); ++row) {
        const Moves& each = moves[row];
        SCOPED_TRACE(std::string(each.act) + ": times of " + each.path);
        const std::string folder = at(std::to_string(row));
        ASSERT_EQ(mkdir(folder.c_str(), 0755), 0);
        ASSERT_EQ(chdir(folder.c_str()), 0);
        std::istringstream preparation(each.prepare);
        for (std::string line; std::getline(preparation, line, ';');) {
            ASSERT_EQ(call(split(line)), 0) << line;
        }
        const bool moved = std::string(each.path) == "g"; // of a name that is not there yet
        const auto before = status(moved ? "f" : each.path);
        std::this_thread::sleep_for(std::chrono::milliseconds(10)); // more than a tick of the kernel's coarse clock
        static_cast<void>(call(split(each.act)));
        const auto after = status(each.path);
        const auto later = [](const timespec& a, const timespec& b) {
            return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
        };
        EXPECT_EQ(later(after.st_mtim, before.st_mtim), each.mtime);
        EXPECT_EQ(later(after.st_ctim, before.st_ctim), each.ctime);
    }
    ASSERT_EQ(chdir("/"), 0);
}

} // namespace
} // namespace stead::mirror

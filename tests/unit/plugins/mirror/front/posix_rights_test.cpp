// SPDX-License-Identifier: Apache-2.0
#include "front_fixture.hpp"

#include <sys/xattr.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <thread>

/// Owners, modes, ACLs and extended attributes: what holds on the backing file system holds on the mount.
namespace stead::mirror {
namespace {

constexpr uid_t user = 4001;
constexpr uid_t other = 4002;

class PosixRights : public Posix {
protected:
    /// A file of `user` with this mode.
    std::string owned(const std::string& name, mode_t mode) const {
        const std::string path = file(name, "text", 0600);
        EXPECT_EQ(chown(path.c_str(), user, user), 0);
        EXPECT_EQ(chmod(path.c_str(), mode), 0);
        return path;
    }
    static int write_as(uid_t who, const std::string& path) {
        return as_user(who, who, [&] {
            const int fd = ::open(path.c_str(), O_WRONLY);
            return fd < 0 ? errno : write(fd, "x", 1) == 1 ? 0 : errno;
        });
    }
    static mode_t mode(const std::string& path) { return status(path).st_mode & 07777; }
};
STEAD_POSIX(PosixRights);

TEST_P(PosixRights, AWriteByAUserTakesSetIdsAway) {
    const std::string path = owned("f", 06777);
    ASSERT_EQ(write_as(other, path), 0);
    EXPECT_EQ(mode(path), 0777u);
    const std::string locking = owned("g", 02666); // set-gid without group execution stays for who is in the group
    ASSERT_EQ(write_as(user, locking), 0);
    EXPECT_EQ(mode(locking), 02666u);
    ASSERT_EQ(write_as(other, locking), 0);
    EXPECT_EQ(mode(locking), 0666u);
}

TEST_P(PosixRights, AWriteByRootKeepsSetIds) {
    const std::string path = owned("f", 06755);
    ASSERT_EQ(write_as(0, path), 0);
    EXPECT_EQ(mode(path), 06755u);
}

TEST_P(PosixRights, ChownToNobodyNewMovesCtimeAndTakesSetIdsAway) {
    const std::string path = owned("f", 06755);
    const auto ctime_of = [&](const std::string& of) {
        const struct stat found = status(of);
        return std::pair{found.st_ctim.tv_sec, found.st_ctim.tv_nsec};
    };
    const struct stat before = status(path);
    std::this_thread::sleep_for(std::chrono::milliseconds{20}); // longer than the file system's clock ticks
    ASSERT_EQ(chown(path.c_str(), static_cast<uid_t>(-1), static_cast<gid_t>(-1)), 0);
    EXPECT_GT(ctime_of(path), (std::pair{before.st_ctim.tv_sec, before.st_ctim.tv_nsec}));
    EXPECT_EQ(mode(path), 0755u);
    EXPECT_EQ(status(path).st_uid, before.st_uid);
    EXPECT_EQ(status(path).st_mtim.tv_nsec, before.st_mtim.tv_nsec);
    ASSERT_EQ(mkdir(at("d").c_str(), 0755), 0);
    ASSERT_EQ(chmod(at("d").c_str(), 02755), 0);
    const auto directory = ctime_of(at("d"));
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
    ASSERT_EQ(chown(at("d").c_str(), static_cast<uid_t>(-1), static_cast<gid_t>(-1)), 0);
    EXPECT_GT(ctime_of(at("d")), directory);
    EXPECT_EQ(mode(at("d")), 02755u);
}

TEST_P(PosixRights, SetIdsThatAreSetAgainAreTakenAwayAgain) {
    const std::string path = owned("f", 0777);
    ASSERT_EQ(write_as(other, path), 0);
    ASSERT_EQ(chmod(path.c_str(), 04777), 0);
    ASSERT_EQ(write_as(other, path), 0);
    EXPECT_EQ(mode(path), 0777u);
}

TEST_P(PosixRights, TruncateByAUserTakesSetIdsAway) {
    const std::string by_name = owned("f", 06777);
    EXPECT_EQ(as_user(other, other, [&] { return error_of(truncate(by_name.c_str(), 1)); }), 0);
    EXPECT_EQ(mode(by_name), 0777u);
    const std::string by_open = owned("g", 04777);
    EXPECT_EQ(as_user(other, other, [&] { return error_of(::open(by_open.c_str(), O_WRONLY | O_TRUNC)); }), 0);
    EXPECT_EQ(mode(by_open), 0777u);
    EXPECT_EQ(status(by_open).st_size, 0);
    const std::string by_root = owned("h", 04777);
    EXPECT_EQ(truncate(by_root.c_str(), 1), 0);
    EXPECT_EQ(mode(by_root), 04777u);
}

TEST_P(PosixRights, ChownTakesSetIdsAwayOfFilesEvenFromRoot) {
    const std::string path = owned("f", 06755);
    ASSERT_EQ(chown(path.c_str(), other, other), 0);
    EXPECT_EQ(mode(path), 0755u);
    ASSERT_EQ(mkdir(at("d").c_str(), 0755), 0);
    ASSERT_EQ(chmod(at("d").c_str(), 06755), 0);
    ASSERT_EQ(chown(at("d").c_str(), other, other), 0);
    EXPECT_EQ(mode(at("d")), 06755u);
}

TEST_P(PosixRights, AWriteTakesCapabilitiesAwayEvenFromRoot) {
    const std::string path = owned("f", 0777);
    const std::array<std::uint32_t, 5> capability{0x02000001, 1U << 10, 0, 0, 0}; // net_bind_service
    ASSERT_EQ(setxattr(path.c_str(), "security.capability", capability.data(), sizeof(capability), 0), 0);
    ASSERT_EQ(write_as(0, path), 0);
    EXPECT_EQ(error_of(getxattr(path.c_str(), "security.capability", nullptr, 0)), ENODATA);
}

TEST_P(PosixRights, ChmodByAStrangerToTheGroupDropsSetGid) {
    const std::string path = owned("f", 0755);
    ASSERT_EQ(chown(path.c_str(), user, other), 0);
    EXPECT_EQ(as_user(user, user, [&] { return error_of(chmod(path.c_str(), 02755)); }), 0);
    EXPECT_EQ(mode(path), 0755u);
}

TEST_P(PosixRights, NewInodesFollowASetGidDirectory) {
    ASSERT_EQ(mkdir(at("d").c_str(), 0777), 0);
    ASSERT_EQ(chown(at("d").c_str(), 0, 4711), 0);
    ASSERT_EQ(chmod(at("d").c_str(), 02777), 0);
    EXPECT_EQ(as_user(user, user,
                      [&] {
                          return error_of(::open(at("d/f").c_str(), O_CREAT | O_RDWR, 0640)) |
                                 error_of(mkdir(at("d/e").c_str(), 0750)) | error_of(::symlink("x", at("d/s").c_str()));
                      }),
              0);
    EXPECT_EQ(status(at("d/f")).st_gid, 4711u);
    EXPECT_EQ(status(at("d/f")).st_uid, user);
    EXPECT_EQ(mode(at("d/e")), 02750u);
    EXPECT_EQ(status(at("d/e")).st_gid, 4711u);
    EXPECT_EQ(status(at("d/s")).st_gid, 4711u);
}

TEST_P(PosixRights, TheUmaskCounts) {
    umask(027);
    file("f", "", 0666);
    EXPECT_EQ(mkdir(at("d").c_str(), 0777), 0);
    EXPECT_EQ(mknod(at("p").c_str(), S_IFIFO | 0666, 0), 0);
    umask(0);
    EXPECT_EQ(mode(at("f")), 0640u);
    EXPECT_EQ(mode(at("d")), 0750u);
    EXPECT_EQ(mode(at("p")), 0640u);
}

/// Version 2, little endian: tag, permissions, id.
struct AclEntry {
    std::uint16_t tag, permissions;
    std::uint32_t id;
};
template <std::size_t N>
std::string acl(const std::array<AclEntry, N>& entries) {
    const std::uint32_t version = 2;
    std::string result(reinterpret_cast<const char*>(&version), sizeof(version));
    return result.append(reinterpret_cast<const char*>(entries.data()), sizeof(entries));
}
constexpr std::uint32_t nobody = 0xffffffff;
const std::string user_may_all =
    acl<5>({{{0x01, 7, nobody}, {0x02, 7, user}, {0x04, 5, nobody}, {0x10, 7, nobody}, {0x20, 0, nobody}}});

TEST_P(PosixRights, AnAccessAclIsKeptAndEnforced) {
    const std::string path = file("f", "text", 0600);
    EXPECT_EQ(write_as(user, path), EACCES);
    ASSERT_EQ(setxattr(path.c_str(), "system.posix_acl_access", user_may_all.data(), user_may_all.size(), 0), 0);
    EXPECT_EQ(mode(path), 0770u); // the group's bits are the mask
    EXPECT_EQ(write_as(user, path), 0);
    EXPECT_EQ(write_as(other, path), EACCES);
    ASSERT_EQ(chmod(path.c_str(), 0700), 0); // an empty mask
    EXPECT_EQ(write_as(user, path), EACCES);
    ASSERT_EQ(removexattr(path.c_str(), "system.posix_acl_access"), 0);
    EXPECT_EQ(error_of(getxattr(path.c_str(), "system.posix_acl_access", nullptr, 0)), ENODATA);
}

TEST_P(PosixRights, ADefaultAclIsInheritedInsteadOfTheUmask) {
    ASSERT_EQ(mkdir(at("d").c_str(), 0777), 0);
    umask(077);
    file("d/before", "", 0666);
    ASSERT_EQ(setxattr(at("d").c_str(), "system.posix_acl_default", user_may_all.data(), user_may_all.size(), 0), 0);
    file("d/f", "", 0666);
    EXPECT_EQ(mkdir(at("d/e").c_str(), 0777), 0);
    EXPECT_EQ(mknod(at("d/p").c_str(), S_IFIFO | 0666, 0), 0);
    umask(0);
    EXPECT_EQ(mode(at("d/before")), 0600u);
    EXPECT_EQ(mode(at("d/f")), 0660u);
    EXPECT_EQ(mode(at("d/e")), 0770u);
    EXPECT_EQ(mode(at("d/p")), 0660u);
    EXPECT_EQ(write_as(user, at("d/f")), 0);
    EXPECT_EQ(write_as(other, at("d/f")), EACCES);
    std::string inherited(200, '\0');
    const ssize_t size = getxattr(at("d/e").c_str(), "system.posix_acl_default", inherited.data(), inherited.size());
    EXPECT_EQ(inherited.substr(0, static_cast<std::size_t>(std::max<ssize_t>(size, 0))), user_may_all);
    ASSERT_EQ(removexattr(at("d").c_str(), "system.posix_acl_default"), 0);
    umask(077);
    file("d/after", "", 0666);
    umask(0);
    EXPECT_EQ(mode(at("d/after")), 0600u);
}

TEST_P(PosixRights, AnAclSetByAStrangerToTheGroupDropsSetGid) {
    const std::string path = owned("f", 0755);
    ASSERT_EQ(chown(path.c_str(), user, other), 0);
    ASSERT_EQ(chmod(path.c_str(), 02755), 0);
    EXPECT_EQ(as_user(user, user,
                      [&] {
                          return error_of(setxattr(path.c_str(), "system.posix_acl_access", user_may_all.data(),
                                                   user_may_all.size(), 0));
                      }),
              0);
    EXPECT_EQ(mode(path) & 02000, 0u);
}

TEST_P(PosixRights, ADefaultAclSetByAStrangerToTheGroupKeepsSetGid) {
    const std::string path = at("d");
    ASSERT_EQ(mkdir(path.c_str(), 0755), 0);
    ASSERT_EQ(chown(path.c_str(), user, other), 0);
    ASSERT_EQ(chmod(path.c_str(), 02755), 0);
    const auto set = [&](const char* name) {
        return as_user(user, user, [&] {
            return error_of(setxattr(path.c_str(), name, user_may_all.data(), user_may_all.size(), 0));
        });
    };
    EXPECT_EQ(set("system.posix_acl_default"), 0);
    EXPECT_EQ(mode(path), 02755u);
    EXPECT_EQ(set("system.posix_acl_access"), 0);
    EXPECT_EQ(mode(path) & 02000, 0u);
}

TEST_P(PosixRights, ExtendedAttributesFollowTheManual) {
    const std::string path = file("f");
    const char* const text = path.c_str();
    EXPECT_EQ(error_of(getxattr(text, "user.a", nullptr, 0)), ENODATA);
    EXPECT_EQ(error_of(setxattr(text, "user.a", "1", 1, XATTR_REPLACE)), ENODATA);
    EXPECT_EQ(setxattr(text, "user.a", "12345", 5, XATTR_CREATE), 0);
    EXPECT_EQ(error_of(setxattr(text, "user.a", "1", 1, XATTR_CREATE)), EEXIST);
    EXPECT_EQ(setxattr(text, "user.empty", "", 0, 0), 0);
    EXPECT_EQ(getxattr(text, "user.a", nullptr, 0), 5);
    char value[8]{};
    EXPECT_EQ(error_of(getxattr(text, "user.a", value, 4)), ERANGE);
    EXPECT_EQ(getxattr(text, "user.a", value, 8), 5);
    EXPECT_STREQ(value, "12345");
    EXPECT_EQ(getxattr(text, "user.empty", value, 8), 0);
    std::string names(200, '\0');
    const ssize_t size = listxattr(text, names.data(), names.size());
    EXPECT_EQ(size, listxattr(text, nullptr, 0));
    names.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    EXPECT_EQ(names.size(), sizeof("user.a") + sizeof("user.empty"));
    EXPECT_EQ(error_of(listxattr(text, value, 3)), ERANGE);
    EXPECT_EQ(removexattr(text, "user.a"), 0);
    EXPECT_EQ(error_of(removexattr(text, "user.a")), ENODATA);
    EXPECT_EQ(error_of(setxattr(text, "nonsense", "1", 1, 0)), EOPNOTSUPP);
}

TEST_P(PosixRights, TrustedAttributesAreListedForRootOnly) {
    const std::string path = file("f");
    ASSERT_EQ(setxattr(path.c_str(), "trusted.other", "1", 1, 0), 0);
    ASSERT_EQ(setxattr(path.c_str(), "user.a", "1", 1, 0), 0);
    constexpr int all = sizeof("trusted.other") + sizeof("user.a");
    constexpr int open_to_all = sizeof("user.a");
    EXPECT_EQ(listxattr(path.c_str(), nullptr, 0), all);
    EXPECT_EQ(as_user(user, user, [&] { return static_cast<int>(listxattr(path.c_str(), nullptr, 0)); }), open_to_all);
    EXPECT_EQ(as_user(user, user,
                      [&] {
                          char names[open_to_all]{}; // exactly as much as the size that was told
                          const bool right = listxattr(path.c_str(), names, sizeof(names)) == open_to_all &&
                                             std::string_view(names) == "user.a";
                          return right ? 0 : 1;
                      }),
              0);
}

TEST_P(PosixRights, WhatAnInodeCannotHoldIsRefused) {
    const std::string path = file("f");
    const std::string most(2000, 'v');
    int last = 0;
    int kept = 0;
    for (; kept < 1000 && last == 0; ++kept) {
        last = error_of(setxattr(path.c_str(), ("user.n" + std::to_string(kept)).c_str(), most.data(), most.size(), 0));
    }
    EXPECT_TRUE(last == ENOSPC || kept == 1000) << std::strerror(last);
    EXPECT_EQ(getxattr(path.c_str(), "user.n0", nullptr, 0), 2000);
}

TEST_P(PosixRights, OurOwnAttributesDoNotExistForTheApplication) {
    if (!mounted()) {
        GTEST_SKIP() << "of the mount only";
    }
    const std::string path = file("f");
    EXPECT_EQ(listxattr(path.c_str(), nullptr, 0), 0);
    EXPECT_EQ(error_of(getxattr(path.c_str(), "trusted.stead.fid", nullptr, 0)), ENODATA);
    EXPECT_EQ(error_of(setxattr(path.c_str(), "trusted.stead.fid", "1", 1, 0)), EPERM);
    EXPECT_EQ(error_of(setxattr(path.c_str(), "trusted.stead.other", "1", 1, 0)), EPERM);
    EXPECT_EQ(error_of(removexattr(path.c_str(), "trusted.stead.fid")), EPERM);
    EXPECT_EQ(setxattr(path.c_str(), "trusted.other", "1", 1, 0), 0);
    EXPECT_EQ(listxattr(path.c_str(), nullptr, 0), static_cast<ssize_t>(sizeof("trusted.other")));
}

} // namespace
} // namespace stead::mirror

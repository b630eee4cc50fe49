// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/codec.hpp>
#include <stead/mirror/tree.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/// A replicated directory in a folder of the test's own on the machine's file system (trusted xattrs, file handles).
namespace stead::mirror::test {

namespace fs = std::filesystem;

inline constexpr const char* suffix = "_aside";

inline void set_flag(const fs::path& path, bool immutable) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW);
    int flags = 0;
    if (fd >= 0 && ::ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags = immutable ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
        ::ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
    ::close(fd);
}

inline std::string slurp(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline void spew(const fs::path& path, const std::string& bytes) {
    std::error_code ignored;
    fs::remove(path, ignored); // writing over it would wait for the disk
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline struct stat attributes_of(const fs::path& path) {
    struct stat found {};
    EXPECT_EQ(::lstat(path.c_str(), &found), 0) << path;
    return found;
}

inline Time mtime(const fs::path& path) {
    const struct stat found = attributes_of(path);
    return {found.st_mtim.tv_sec, static_cast<std::uint32_t>(found.st_mtim.tv_nsec)};
}

inline std::string xattr(const fs::path& path, const char* name) {
    std::string value(1000, '\0');
    const ssize_t size = ::lgetxattr(path.c_str(), name, value.data(), value.size());
    return size < 0 ? "none" : value.substr(0, static_cast<std::size_t>(size));
}

inline Target directory(const Fid& fid) { return {TargetKind::directory, fid, 0}; }
inline Target inode(const Fid& fid) { return {TargetKind::inode, fid, 0}; }
inline Target zone(const Fid& fid, std::uint64_t index) { return {TargetKind::zone, fid, index}; }

class TreeTest : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (fs::temp_directory_path() / "stead-store-XXXXXX").string();
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        base = pattern;
        place = base / "data";
        hidden = base / (std::string("data") + suffix);
        aside = hidden / "data";
        park = hidden / "park";
        fs::create_directory(place);
        ::umask(0);
    }
    void TearDown() override {
        tree.reset();
        set_flag(place, false);
        set_flag(aside, false);
        set_flag(base / "other", false);
        fs::remove_all(base);
    }
    Tree::Options options() {
        Tree::Options result;
        result.roots.push_back({place, suffix, excluded, excluded_regex, to_check, good_copy});
        result.state = base / "state";
        result.note = [this](bool alarm, const std::string& text) { (alarm ? alarms : notes).push_back(text); };
        return result;
    }
    void start() {
        tree.reset();
        auto opened = Tree::open(options());
        ASSERT_TRUE(opened) << opened.error().text();
        tree = std::move(*opened);
        root = tree->root(0);
    }
    /// What open() says; it must fail.
    std::string refusal() {
        tree.reset();
        const auto opened = Tree::open(options());
        EXPECT_FALSE(opened);
        return opened ? "opened" : opened.error().text();
    }
    void stop() {
        const auto closed = tree->close();
        EXPECT_TRUE(closed) << closed.error().text();
        tree.reset();
    }
    void end_resync(bool keep_undo) {
        tree->end_resync(keep_undo);
        while (tree->tidy()) {
        }
    }
    template <class Change>
    Errno apply(Change change, Seq parked = 0) {
        at.seconds += 1;
        Content content;
        content.at = at;
        content.what = std::move(change);
        return tree->apply(operation_of(std::move(content)), parked);
    }
    Fid make(const Fid& parent, const std::string& name, std::uint32_t mode, const std::string& link = {},
             std::uint64_t device = 0) {
        const Fid fid = tree->fresh();
        EXPECT_EQ(apply(change::Make{parent, name, fid, mode, 0, 0, device, link}), 0) << name;
        return fid;
    }
    Fid file(const std::string& name, const std::string& bytes = {}) {
        const Fid fid = make(root, name, S_IFREG | 0644);
        EXPECT_EQ(apply(change::Write{fid, 0, bytes, false}), 0);
        return fid;
    }
    Fid folder(const std::string& name) { return make(root, name, S_IFDIR | 0755); }
    /// Of a name in a directory; zero when there is none.
    Fid at_name(const Fid& parent, const std::string& name) {
        Tree::Entry entry;
        return tree->lookup(parent, name, entry) == 0 ? entry.inode : Fid{};
    }
    template <class What>
    What read(const Target& target) {
        Payload payload;
        EXPECT_EQ(tree->read(target, payload), 0);
        EXPECT_NE(payload, nullptr);
        return payload == nullptr ? What{} : std::get<What>(payload->what);
    }
    bool is_there(const Target& target) {
        Payload payload;
        EXPECT_EQ(tree->read(target, payload), 0);
        return payload != nullptr;
    }
    std::vector<std::string> names_in(const fs::path& path) {
        std::vector<std::string> names;
        for (const auto& entry : fs::directory_iterator(path)) {
            names.push_back(entry.path().filename().string());
        }
        std::sort(names.begin(), names.end());
        return names;
    }

    fs::path base, place, hidden, aside, park;
    std::vector<std::string> excluded, excluded_regex, to_check, alarms, notes;
    bool good_copy{};
    std::unique_ptr<Tree> tree;
    Fid root;
    Time at{1'000'000, 5};
};

} // namespace stead::mirror::test

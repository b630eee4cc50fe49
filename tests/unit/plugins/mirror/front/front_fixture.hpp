// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "applier.hpp"
#include "place.hpp"

#include "front.hpp"

#include <stead/base/files.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <string>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace stead::mirror {

/// errno of a call that fails with -1; 0 when it does not.
template <class Value>
[[nodiscard]] int error_of(Value result) {
    return result == static_cast<Value>(-1) ? errno : 0;
}

/// A directory, and the file system mounted on it.
class MountedPlace {
public:
    explicit MountedPlace(Applier::Mode mode = Applier::Mode::at_once, bool read_only = false,
                          std::vector<std::string> excluded = {})
        : tree_(make_tree(place_.path(), std::move(excluded))), applier_(*tree_, mode) {
        FrontOptions options;
        options.tree = tree_.get();
        options.mount_point = place_.path();
        options.read_only = read_only;
        options.submit = [this](Operation operation, std::function<void(int)> answer) {
            applier_.submit(std::move(operation), std::move(answer));
        };
        options.note = [](bool alarm, const std::string& text) { EXPECT_FALSE(alarm) << text; };
        auto front = Front::mount(std::move(options));
        if (!front) {
            ADD_FAILURE() << front.error().text();
            std::abort(); // nothing below makes sense on the directory itself
        }
        front_ = std::move(*front);
    }
    ~MountedPlace() {
        if (front_) {
            front_->abort();
        }
        applier_.stop();
        front_.reset();
        if (tree_) {
            const auto closed = tree_->close();
            EXPECT_TRUE(closed) << closed.error().text();
        }
    }
    MountedPlace(const MountedPlace&) = delete;
    MountedPlace& operator=(const MountedPlace&) = delete;

    [[nodiscard]] const std::string& path() const { return place_.path(); }
    [[nodiscard]] Front& front() { return *front_; }
    [[nodiscard]] Applier& applier() { return applier_; }
    [[nodiscard]] Tree& tree() { return *tree_; }

private:
    Place place_;
    std::unique_ptr<Tree> tree_;
    Applier applier_;
    std::unique_ptr<Front> front_;
};

enum class Where { directory, mount, slow_mount };

/// Facts that hold in a directory of the backing file system hold on the mount: each test runs on both, and once more on a
/// mount whose answers come later and from another thread.
class Posix : public testing::TestWithParam<Where> {
protected:
    Posix() {
        umask(0);
        if (GetParam() == Where::directory) {
            plain_ = std::make_unique<Place>();
            root_ = plain_->path();
        } else {
            mounted_ = std::make_unique<MountedPlace>(GetParam() == Where::mount ? Applier::Mode::at_once
                                                                                 : Applier::Mode::later);
            root_ = mounted_->path();
        }
    }
    /// Path of a name below the root.
    [[nodiscard]] std::string at(const std::string& name) const { return root_ + "/" + name; }
    [[nodiscard]] const std::string& root() const { return root_; }
    [[nodiscard]] bool mounted() const { return mounted_ != nullptr; }
    [[nodiscard]] MountedPlace& mount() { return *mounted_; }

    /// Makes a file with this content.
    std::string file(const std::string& name, const std::string& content = "", mode_t mode = 0644) const {
        const Fd fd(::open(at(name).c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, mode));
        EXPECT_TRUE(fd) << name << ": " << std::strerror(errno);
        EXPECT_EQ(write(fd.get(), content.data(), content.size()), static_cast<ssize_t>(content.size()));
        return at(name);
    }
    static Fd open(const std::string& path, int flags, mode_t mode = 0644) {
        return Fd(::open(path.c_str(), flags | O_CLOEXEC, mode));
    }
    static struct stat status(const std::string& path) {
        struct stat value {};
        EXPECT_EQ(lstat(path.c_str(), &value), 0) << path << ": " << std::strerror(errno);
        return value;
    }
    static std::string content(const std::string& path) {
        const Fd fd = open(path, O_RDONLY);
        EXPECT_TRUE(fd) << path << ": " << std::strerror(errno);
        std::string result;
        char bytes[8192];
        for (ssize_t got = 0; (got = read(fd.get(), bytes, sizeof(bytes))) > 0;) {
            result.append(bytes, static_cast<std::size_t>(got));
        }
        return result;
    }

private:
    std::unique_ptr<Place> plain_;
    std::unique_ptr<MountedPlace> mounted_;
    std::string root_;
};

inline std::string where_name(const testing::TestParamInfo<Where>& info) {
    return info.param == Where::directory ? "directory" : info.param == Where::mount ? "mount" : "slow_mount";
}

#define STEAD_POSIX(Suite)                                                                                             \
    INSTANTIATE_TEST_SUITE_P(Both, Suite, testing::Values(Where::directory, Where::mount, Where::slow_mount),          \
                             where_name)

/// Runs `act` in a child as this user with no other group; the value it returns (0 to 255).
int as_user(uid_t user, gid_t group, const std::function<int()>& act);

} // namespace stead::mirror

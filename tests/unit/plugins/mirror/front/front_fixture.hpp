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

/// The file system mounted on a directory, served by this process. The test may not map its files: munmap() holds the
/// lock of the address space while it waits for the server, which needs the same lock for its memory.
class Server {
public:
    Server(const std::string& path, Applier::Mode mode, bool read_only, std::vector<std::string> excluded)
        : tree_(make_tree(path, std::move(excluded))), applier_(*tree_, mode) {
        FrontOptions options;
        options.tree = tree_.get();
        options.mount_point = path;
        options.read_only = read_only;
        options.peer = peer_;
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
    ~Server() {
        front_->abort();
        applier_.stop();
        front_.reset();
        const auto closed = tree_->close();
        EXPECT_TRUE(closed) << closed.error().text();
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    [[nodiscard]] Front& front() { return *front_; }
    [[nodiscard]] Applier& applier() { return applier_; }
    [[nodiscard]] Tree& tree() { return *tree_; }
    [[nodiscard]] PeerLimits& peer() { return *peer_; }

private:
    std::shared_ptr<PeerLimits> peer_{std::make_shared<PeerLimits>()};
    std::unique_ptr<Tree> tree_;
    Applier applier_;
    std::unique_ptr<Front> front_;
};

/// A directory with a Server.
class MountedPlace : private Place, public Server {
public:
    explicit MountedPlace(Applier::Mode mode = Applier::Mode::at_once, bool read_only = false,
                          std::vector<std::string> excluded = {})
        : Server(Place::path(), mode, read_only, std::move(excluded)) {}
    using Place::path;
};

/// A directory served by a process of its own, as in life.
class ServedPlace : public Place {
public:
    explicit ServedPlace(Applier::Mode mode);
    ~ServedPlace();

private:
    Fd end_; ///< closed: the server ends
    pid_t server_{};
};

enum class Where { directory, mount, slow_mount };

/// Facts that hold in a directory of the backing file system hold on the mount: each test runs on both, and once more
/// on a mount whose answers come later and from another thread.
class Posix : public testing::TestWithParam<Where> {
protected:
    Posix() {
        umask(0);
        if (GetParam() == Where::directory) {
            plain_ = std::make_unique<Place>();
            root_ = plain_->path();
        } else {
            served_ = std::make_unique<ServedPlace>(GetParam() == Where::mount ? Applier::Mode::at_once
                                                                               : Applier::Mode::later);
            root_ = served_->path();
        }
    }
    /// Path of a name below the root.
    [[nodiscard]] std::string at(const std::string& name) const { return root_ + "/" + name; }
    [[nodiscard]] const std::string& root() const { return root_; }
    [[nodiscard]] bool mounted() const { return served_ != nullptr; }

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
    std::unique_ptr<ServedPlace> served_;
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

// SPDX-License-Identifier: Apache-2.0
#include "front_fixture.hpp"

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

namespace stead::mirror {
namespace {

/// Once per process, before any thread: mounts that nobody else sees. Without /dev/fuse nothing here can run.
class Private : public testing::Environment {
public:
    void SetUp() override {
        if (access("/dev/fuse", R_OK | W_OK) != 0) {
            std::puts("SKIPPED: /dev/fuse cannot be opened: this kernel or container has no FUSE");
            std::exit(77);
        }
        ASSERT_EQ(unshare(CLONE_NEWNS), 0) << std::strerror(errno);
        ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0) << std::strerror(errno);
    }
};
[[maybe_unused]] const auto* const once = testing::AddGlobalTestEnvironment(new Private);

} // namespace

Place::Place() {
    folder_ = TEST_FOLDER "/front.XXXXXX";
    if (mkdtemp(folder_.data()) == nullptr) {
        ADD_FAILURE() << folder_ << ": " << std::strerror(errno);
        std::abort();
    }
    chmod(folder_.c_str(), 0755);
    path_ = folder_ + "/place";
    EXPECT_EQ(mkdir(path_.c_str(), 0755), 0);
    EXPECT_EQ(chmod(path_.c_str(), 0777), 0);
}

Place::~Place() {
    std::error_code error;
    std::filesystem::remove_all(folder_, error);
    EXPECT_FALSE(error) << folder_ << ": " << error.message();
}

std::unique_ptr<Tree> make_tree(const std::string& path, std::vector<std::string> excluded) {
    Tree::Options options;
    Root root;
    root.place = path;
    root.excluded = std::move(excluded);
    options.roots.push_back(std::move(root));
    options.state = std::filesystem::path(path).parent_path() / "state";
    options.note = [](bool alarm, const std::string& text) { EXPECT_FALSE(alarm) << text; };
    auto tree = Tree::open(std::move(options));
    if (!tree) {
        ADD_FAILURE() << tree.error().text();
        std::abort();
    }
    return std::move(*tree);
}

ServedPlace::ServedPlace(Applier::Mode mode) {
    int serving[2];
    int ready[2];
    EXPECT_EQ(pipe2(serving, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(ready, O_CLOEXEC), 0);
    const Fd serving_read(serving[0]);
    const Fd ready_read(ready[0]);
    end_ = Fd(serving[1]);
    Fd ready_write(ready[1]);
    server_ = fork();
    char byte = 0;
    if (server_ == 0) {
        end_.reset();
        {
            const Server server(path(), mode, false, {});
            EXPECT_EQ(write(ready_write.get(), "r", 1), 1);
            EXPECT_EQ(read(serving_read.get(), &byte, 1), 0);
        }
        _exit(testing::Test::HasFailure() ? 1 : 0);
    }
    ready_write.reset();
    EXPECT_EQ(read(ready_read.get(), &byte, 1), 1) << "the server has not mounted";
}

ServedPlace::~ServedPlace() {
    end_.reset();
    int status = 0;
    EXPECT_EQ(waitpid(server_, &status, 0), server_);
    EXPECT_EQ(status, 0) << "the server failed: see above";
}

int as_user(uid_t user, gid_t group, const std::function<int()>& act) {
    const pid_t child = fork();
    if (child == 0) {
        if (setgroups(0, nullptr) != 0 || setresgid(group, group, group) != 0 || setresuid(user, user, user) != 0) {
            _exit(255);
        }
        _exit(act());
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    return WEXITSTATUS(status);
}

} // namespace stead::mirror

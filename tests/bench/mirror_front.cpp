// SPDX-License-Identifier: Apache-2.0
/// bench_mirror_front DIRECTORY COMMAND…: runs a command in a directory on which the mirror's file system is mounted, with
/// every change answered as soon as it is applied here. What it takes more than in the directory itself is the price of
/// the interception, without the peer. In a mount namespace of its own; needs root.
#include "plain_tree.hpp"

#include "front.hpp"

#include <csignal>
#include <cstdio>

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

int main(int argc, char** argv) {
    using namespace stead::mirror;
    if (argc < 3) {
        std::fprintf(stderr, "usage: bench_mirror_front DIRECTORY COMMAND [ARGUMENT…]\n");
        return 64;
    }
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
        std::perror("bench_mirror_front: a mount namespace of its own (needs root)");
        return 1;
    }
    umask(0);
    PlainTree tree(argv[1]);
    FrontOptions options;
    options.tree = &tree;
    options.mount_point = argv[1];
    options.submit = [&tree](const Operation& operation, const std::function<void(int)>& answer) {
        answer(operation.kind == OpKind::sync ? tree.sync(operation.targets.front().fid) : tree.apply(operation, 0));
    };
    options.note = [](bool, const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); };
    auto front = Front::mount(std::move(options));
    if (!front) {
        std::fprintf(stderr, "bench_mirror_front: %s\n", front.error().text().c_str());
        return 1;
    }
    const pid_t child = fork();
    if (child == 0) {
        umask(022);
        if (chdir(argv[1]) == 0) {
            execvp(argv[2], argv + 2);
        }
        std::perror(argv[2]);
        _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// SPDX-License-Identifier: Apache-2.0
/// bench_mirror_front DIRECTORY STATE COMMAND…: runs a command in a directory on which the mirror's file system is
/// mounted (absolute paths), with
/// every change answered as soon as it is applied here. What it takes more than in the directory itself is the price of
/// the interception, without the peer. In a mount namespace of its own; needs root.
#include "front.hpp"

#include <csignal>
#include <cstdio>

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

int main(int argc, char** argv) {
    using namespace stead::mirror;
    if (argc < 4) {
        std::fprintf(stderr, "usage: bench_mirror_front DIRECTORY STATE COMMAND [ARGUMENT…]\n");
        return 64;
    }
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
        std::perror("bench_mirror_front: a mount namespace of its own (needs root)");
        return 1;
    }
    umask(0);
    const auto note = [](bool, const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); };
    Root root;
    root.place = argv[1];
    auto opened = Tree::open({{root}, argv[2], note});
    if (!opened) {
        std::fprintf(stderr, "bench_mirror_front: %s\n", opened.error().text().c_str());
        return 1;
    }
    Tree& tree = **opened;
    FrontOptions options;
    options.tree = &tree;
    options.mount_point = argv[1];
    options.submit = [&tree](const Operation& operation, const std::function<void(int)>& answer) {
        answer(operation.kind == OpKind::sync ? tree.sync(operation.targets.front().fid) : tree.apply(operation, 0));
    };
    options.note = note;
    auto front = Front::mount(std::move(options));
    if (!front) {
        std::fprintf(stderr, "bench_mirror_front: %s\n", front.error().text().c_str());
        return 1;
    }
    const pid_t child = fork();
    if (child == 0) {
        umask(022);
        if (chdir(argv[1]) == 0) {
            execvp(argv[3], argv + 3);
        }
        std::perror(argv[3]);
        _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    front->reset();
    if (const auto closed = tree.close(); !closed) {
        std::fprintf(stderr, "bench_mirror_front: %s\n", closed.error().text().c_str());
        return 1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// SPDX-License-Identifier: Apache-2.0
// example_run LIBRARY FILE: the checker of docs/examples, as it was built outside of the tree, under a fake host.
#include <stead/test/fake_host.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>

int main(int argc, char** argv) {
    using namespace stead::test;
    if (argc != 3) {
        return 64;
    }
    const std::filesystem::path file = argv[2];
    bool good = true;
    const auto wanted = [&](bool is, const char* what) {
        if (!is) {
            std::printf("not so: %s\n", what);
            good = false;
        }
    };
    try {
        const stead_plugin_descriptor& plugin = load_plugin(argv[1]);
        FakeHost host;
        std::ofstream(file) << "here\n";
        Running running(plugin, host,
                        {"service",
                         {},
                         {{"check", {}, {{"file", {{"ident", "flag"}, {"path", file}, {"interval", "200ms"}}, {}}}}}});
        wanted(host.rules() == std::vector<std::string>{"f_flag: if (file.flag == down) then restart();"}, "its rule");
        wanted(host.resource("file.flag") == "init", "init before it is armed");
        running.arm(STEAD_WHEN_PRIM);
        wanted(host.wait("file.flag", "up"), "up while the file is there");
        std::filesystem::remove(file);
        wanted(host.wait("file.flag", "down"), "down when it is gone");
        wanted(host.wait_log(file.string() + " is not there"), "the reason in the log");
        running.arm(0);
        wanted(host.resource("file.flag") == "init", "init when it is disarmed");
    } catch (const std::exception& e) {
        std::printf("%s\n", e.what());
        return 1;
    }
    return good ? 0 : 1;
}

// SPDX-License-Identifier: Apache-2.0
#include <stead/control/paths.hpp>

#include <gtest/gtest.h>

namespace stead::control {
namespace {

TEST(Paths, EveryProgramOfATreeFindsTheSamePrefix) {
    for (const char* program : {"/opt/x/bin/stead", "/opt/x/sbin/steadd", "/opt/x/libexec/stead/stead-host"}) {
        const Paths found = paths_for_program(program);
        EXPECT_EQ(found.prefix, "/opt/x") << program;
        EXPECT_EQ(found.host(), "/opt/x/libexec/stead/stead-host");
        EXPECT_EQ(found.plugins(), "/opt/x/lib/stead/plugins");
    }
}

TEST(Paths, EnvironmentMovesTheRoots) {
    ::setenv("STEAD_RUN", "/tmp/r", 1);
    EXPECT_EQ(paths_for_program("/usr/bin/stead").host_socket("web"), "/tmp/r/host/web.sock");
    ::unsetenv("STEAD_RUN");
    EXPECT_EQ(paths_for_program("/usr/bin/stead").daemon_socket(), "/run/stead/steadd.sock");
}

TEST(Paths, ModuleNamesCannotLeaveTheirFolder) {
    for (const char* good : {"farm", "nginx_farm", "a.b-c", "9"}) {
        EXPECT_TRUE(is_module_name(good)) << good;
    }
    for (const std::string& bad : {std::string(""), std::string(".."), std::string("a/b"), std::string("-m"),
                                   std::string(".hidden"), std::string("a b"), std::string(64, 'x')}) {
        EXPECT_FALSE(is_module_name(bad)) << bad;
    }
}

} // namespace
} // namespace stead::control

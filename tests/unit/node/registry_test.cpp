// SPDX-License-Identifier: Apache-2.0
#include <stead/test/temporary_folder.hpp>

#include <stead/base/files.hpp>
#include <stead/node/registry.hpp>

#include <gmock/gmock.h>

#include <set>
#include <thread>

namespace stead::node {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class RegistryTest : public ::testing::Test {
protected:
    RegistryTest() : registry_(paths()) {
        for (const char* name : {"web", "db"}) {
            fs::create_directories(folder_.path() / "etc/modules" / name / "conf");
            EXPECT_TRUE(
                write_file_atomically(folder_.path() / "etc/modules" / name / "conf/userconfig.xml", "<safe/>"));
        }
    }
    control::Paths paths() const {
        return {folder_.path() / "prefix", folder_.path() / "etc", folder_.path() / "var", folder_.path() / "run"};
    }
    stead::testing::TemporaryFolder folder_;
    Registry registry_;
};

TEST_F(RegistryTest, AnEditedFolderIsTakenAsItIs) {
    const auto installed = registry_.install("web", 7, false, {});
    ASSERT_TRUE(installed) << installed.error().text();
    EXPECT_EQ(installed->id, 7u);
    EXPECT_FALSE(installed->configured);
    EXPECT_EQ(registry_.list().size(), 1u);
}

TEST_F(RegistryTest, AModuleWhoseIdIsDamagedIsStillThereAndSaysSo) {
    ASSERT_TRUE(registry_.install("web", 7, false, {}));
    for (const std::string damaged : {"", "0\n", "65\n", "7 8\n", "7\n7\n", "-7\n"}) {
        ASSERT_TRUE(write_file_atomically(paths().module_id("web"), damaged));
        const auto found = registry_.find("web");
        ASSERT_TRUE(found) << damaged;
        ASSERT_TRUE(found->damage) << damaged;
        EXPECT_THAT(found->damage->text(), HasSubstr(paths().module_id("web").string()));
        EXPECT_THAT(found->damage->text(), HasSubstr("allowed: 1 to 64; 'stead module install -m web -M ID'"));
        EXPECT_TRUE(registry_.ports(*found).empty());
        EXPECT_FALSE(registry_.install("web", std::nullopt, false, {})) << "another id than the other nodes have";
    }
    EXPECT_EQ(registry_.install("web", 7, false, {})->id, 7u);
    EXPECT_FALSE(registry_.find("web")->damage);
    EXPECT_EQ(registry_.install("web", 7, false, {}).error().code, Errc::conflict);
}

TEST_F(RegistryTest, IdsAreUniqueAndInRange) {
    ASSERT_TRUE(registry_.install("web", 1, false, {}));
    EXPECT_THAT(registry_.install("db", 1, false, {}).error().what, HasSubstr("belongs to module 'web'"));
    EXPECT_EQ(registry_.install("db", 65, false, {}).error().code, Errc::out_of_range);
    EXPECT_EQ(registry_.install("db", 0, false, {}).error().code, Errc::out_of_range);
    EXPECT_EQ(registry_.install("db", std::nullopt, false, {})->id, 2u);
    EXPECT_EQ(registry_.install("db", std::nullopt, false, {}).error().code, Errc::conflict);
}

TEST_F(RegistryTest, ModulesThatAreInstalledAtOnceGetDifferentIds) {
    constexpr int modules = 8;
    std::vector<std::thread> commands;
    for (int i = 0; i < modules; ++i) {
        const auto conf = folder_.path() / "etc/modules" / ("m" + std::to_string(i)) / "conf";
        fs::create_directories(conf);
        ASSERT_TRUE(write_file_atomically(conf / "userconfig.xml", "<safe/>"));
        commands.emplace_back([this, i] {
            EXPECT_TRUE(Registry(paths()).install("m" + std::to_string(i), std::nullopt, false, {}));
        });
    }
    for (std::thread& command : commands) {
        command.join();
    }
    std::set<unsigned> ids;
    for (const InstalledModule& module : registry_.list()) {
        ids.insert(module.id);
    }
    EXPECT_EQ(ids.size(), static_cast<std::size_t>(modules));
}

TEST_F(RegistryTest, UnknownModulesGetASuggestion) {
    ASSERT_TRUE(registry_.install("web", 1, false, {}));
    EXPECT_THAT(registry_.find("wbe").error().what, HasSubstr("did you mean 'web'?"));
    EXPECT_THAT(registry_.install("nowhere", 3, false, {}).error().what, HasSubstr("no package given"));
}

TEST_F(RegistryTest, ABadPackageLeavesNothing) {
    ASSERT_TRUE(write_file_atomically(folder_.path() / "bad.safe", "this is no zip"));
    EXPECT_FALSE(registry_.install("fresh", 5, false, folder_.path() / "bad.safe"));
    EXPECT_FALSE(fs::exists(folder_.path() / "etc/modules/fresh"));
    EXPECT_TRUE(registry_.list().empty());
}

TEST_F(RegistryTest, WhatAReplacementKeepsIsNoModule) {
    fs::create_directories(folder_.path() / "etc/modules/web.before/conf");
    const auto config = folder_.path() / "etc/modules/web.before/conf/userconfig.xml";
    ASSERT_TRUE(write_file_atomically(config, "<safe><!-- its own --></safe>"));
    ASSERT_TRUE(registry_.install("web", 1, false, {}));
    ASSERT_TRUE(registry_.install("web.before", 2, false, {}));
    ASSERT_TRUE(write_file_atomically(folder_.path() / "bad.safe", "this is no zip"));
    EXPECT_FALSE(registry_.install("web", 1, true, folder_.path() / "bad.safe"));
    EXPECT_THAT(*read_file(config, 100), HasSubstr("its own"));
}

TEST_F(RegistryTest, UninstallRemovesItAndFreesTheId) {
    ASSERT_TRUE(registry_.install("web", 1, false, {}));
    ASSERT_TRUE(registry_.uninstall("web"));
    EXPECT_TRUE(registry_.list().empty());
    EXPECT_FALSE(fs::exists(folder_.path() / "var/modules/web"));
    EXPECT_EQ(registry_.uninstall("web").error().code, Errc::not_found);
    EXPECT_EQ(registry_.install("db", std::nullopt, false, {})->id, 1u);
}

TEST_F(RegistryTest, BootIsWhatIsConfiguredAndWhatWasSetWhereThatIsIgnore) {
    ASSERT_TRUE(registry_.install("web", 1, false, {}));
    EXPECT_EQ(registry_.boot("web"), "ignore");
    ASSERT_TRUE(registry_.set_boot("web", true));
    EXPECT_EQ(registry_.boot("web"), "on");
    fs::create_directories(folder_.path() / "var/modules/web/active");
    const auto configure = [&](const std::string& json) {
        ASSERT_TRUE(write_file_atomically(folder_.path() / "var/modules/web/active/module.json", json));
    };
    configure(R"({"boot":"auto","mode":"farm","boot_delay_ns":3000000000})");
    EXPECT_EQ(registry_.boot("web"), "auto");
    EXPECT_EQ(registry_.boot_delay("web"), seconds{3});
    EXPECT_EQ(registry_.list()[0].mode, "farm");
    configure(R"({"boot":"ignore","mode":"farm"})");
    EXPECT_EQ(registry_.boot("web"), "on");
    EXPECT_EQ(registry_.configured_boot("web"), "ignore");
    EXPECT_EQ(registry_.boot_delay("web"), seconds{0});
    ASSERT_TRUE(registry_.set_boot("web", false));
    EXPECT_EQ(registry_.boot("web"), "off");
}

TEST_F(RegistryTest, PortsAreThoseOfTheConfigurationInForce) {
    ASSERT_TRUE(registry_.install("web", 2, false, {}));
    const auto active = folder_.path() / "var/modules/web/active";
    fs::create_directories(active);
    const auto ports = [&](const std::string& mode, const std::string& inside) {
        EXPECT_TRUE(write_file_atomically(active / "module.json", R"({"mode":")" + mode + "\"}"));
        EXPECT_TRUE(write_file_atomically(active / "safeconf.xml", "<safe><service>" + inside + "</service></safe>"));
        std::string text;
        for (const ModulePort& port : registry_.ports(*registry_.find("web"))) {
            text += port.protocol + " " + std::to_string(port.port) + " " + port.what + "\n";
        }
        return text;
    };
    EXPECT_EQ(ports("farm", "<farm port=\"5005\"/>"), "udp 5005 farm\n");
    EXPECT_EQ(ports("farm", "<farm/>"), "udp 4806 farm\n");
    EXPECT_EQ(ports("light", ""), "udp 4806 light\n");
    EXPECT_EQ(ports("mirror", "<heart port=\"7001\"/><rfs port=\"7002\"/>"),
              "udp 7001 mirror heartbeat\ntcp 7002 mirror replication\n");
}

TEST(Ports, FollowFromTheId) {
    EXPECT_EQ(ports_of(1)[0].port, 4803);
    EXPECT_EQ(ports_of(3)[0].port, 4809);
    EXPECT_EQ(ports_of(2)[1].port, 8889);
    EXPECT_EQ(ports_of(2)[2].port, 5604);
}

} // namespace
} // namespace stead::node

// SPDX-License-Identifier: Apache-2.0
#include "virtual_host.hpp"

#include <stead/base/files.hpp>
#include <stead/test/temporary_folder.hpp>

#include <array>
#include <cstdio>
#include <fstream>

#include <gmock/gmock.h>

namespace stead::host {
namespace {

namespace fs = std::filesystem;
using config::Element;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class VirtualHost : public ::testing::Test {
protected:
    VirtualHost() {
        module_.user.present = true;
        module_.mode = config::Module::Mode::mirror;
        vhost_.name = "vhost";
        vhost_.line = 4;
    }
    void add(const std::string& name, const std::string& file, const std::string& when = "prim") {
        Element one;
        one.name = "virtualhostname";
        one.line = 5;
        one.attributes = {{"name", name}, {"envfile", file}, {"when", when}};
        vhost_.children.push_back(one);
        module_.service.children = {vhost_};
    }
    std::vector<std::string> findings() {
        std::vector<std::string> texts;
        for (const config::Finding& finding : virtual_host_findings(module_, folder_.path())) {
            texts.push_back((finding.warning ? "W " : "E ") + finding.text());
        }
        return texts;
    }
    /// What the programs of a script of that name find, which reads "env" twice.
    std::string names_in(const std::string& script) {
        EXPECT_TRUE(write_virtual_hosts(module_, folder_.path(), folder_.path() / "generated", HOST_NAME_LIBRARY));
        const fs::path file = folder_.path() / script;
        std::ofstream(file) << "set -eu; unset LD_PRELOAD\n. " << folder_.path().string() << "/env\n. "
                            << folder_.path().string() << "/env\n"
                            << "echo $(uname -n) $(python3 -c 'import socket; print(socket.gethostname())') "
                               "$(uname -s)\n";
        return run("sh " + file.string());
    }
    static std::string run(const std::string& command) {
        std::array<char, 4096> text{};
        FILE* pipe = ::popen(command.c_str(), "r");
        const std::size_t size = std::fread(text.data(), 1, text.size(), pipe);
        EXPECT_EQ(::pclose(pipe), 0);
        return {text.data(), size};
    }

    stead::testing::TemporaryFolder folder_;
    config::Module module_;
    Element vhost_;
};

TEST_F(VirtualHost, WhatIsStartedAfterTheFileWasReadFindsTheName) {
    add("app.example", "env");
    EXPECT_THAT(findings(), IsEmpty());
    EXPECT_EQ(names_in("start_prim"), "app.example app.example Linux\n");
    EXPECT_EQ(*read_file(folder_.path() / "generated", 100), "bin/env\n");
}

TEST_F(VirtualHost, TheOtherRolesScriptsKeepTheTrueName) {
    const std::string name = run("uname -n").substr(0, run("uname -n").size() - 1);
    const std::string true_names = name + " " + name + " Linux\n";
    add("app", "env", "prim");
    EXPECT_EQ(names_in("start_second"), true_names);
    EXPECT_EQ(names_in("stop_prim"), "app app Linux\n");
    module_.mode = config::Module::Mode::light;
    EXPECT_EQ(names_in("start_second"), "app app Linux\n") << "no other role";
    module_.mode = config::Module::Mode::mirror;
    vhost_.children.clear();
    add("app", "env", "second");
    EXPECT_EQ(names_in("start_prim"), true_names);
    EXPECT_EQ(names_in("start_second"), "app app Linux\n");
    vhost_.children.clear();
    add("app", "env", "both");
    EXPECT_EQ(names_in("start_prim"), "app app Linux\n");
    EXPECT_EQ(names_in("start_second"), "app app Linux\n");
}

TEST_F(VirtualHost, NamesThatCannotBeAreRefused) {
    add("a b'c", "../env");
    add(std::string(65, 'a'), "-");
    add("ok", "twice");
    add("ok-2", "twice");
    std::ofstream(folder_.path() / "start_prim") << "x";
    add("ok", "start_prim");
    EXPECT_THAT(findings(),
                ElementsAre("E userconfig.xml:5: virtualhostname/@name: 'a b'c' is no host name; allowed: up to 64 "
                            "letters, digits, '-' and '.'",
                            "E userconfig.xml:5: virtualhostname/@envfile: '../env' is no name of a file in bin; "
                            "allowed: letters, digits, '-', '_' and '.'",
                            "E userconfig.xml:5: virtualhostname/@name: '" + std::string(65, 'a') +
                                "' is no host name; allowed: up to 64 letters, digits, '-' and '.'",
                            "E userconfig.xml:5: virtualhostname/@envfile: 'twice' stands twice; allowed: one file "
                            "for each name",
                            "E userconfig.xml:5: virtualhostname/@envfile: 'start_prim' is a file of the module's bin "
                            "already; allowed: a name that is free"));
}

TEST_F(VirtualHost, WarnsOfWhatHasNoEffect) {
    add("app", "env", "second");
    module_.mode = config::Module::Mode::farm;
    module_.user.present = false;
    EXPECT_THAT(
        findings(),
        ElementsAre("W userconfig.xml:5: virtualhostname/@when: 'second' has no meaning here: only a mirror has "
                    "a second node; the name is always given",
                    "W userconfig.xml:4: vhost: scripts give the name to what they start; without <user> none "
                    "runs"));
}

} // namespace
} // namespace stead::host

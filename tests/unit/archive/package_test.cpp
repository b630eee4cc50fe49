// SPDX-License-Identifier: Apache-2.0
#include "zip_maker.hpp"

#include <stead/archive/archive.hpp>

#include <map>

namespace stead::archive::test {
namespace {

using ::testing::HasSubstr;

class Package : public ArchiveTest {
protected:
    fs::path module(const std::string& name) {
        write(name + "/conf/userconfig.xml", "<safe/>");
        write(name + "/bin/start_both", "#!/bin/sh\n");
        fs::permissions(root_ / name / "bin/start_both", fs::perms{0755});
        write(name + "/web/index.html", std::string(100'000, 'x'));
        fs::create_directories(root_ / name / "empty");
        fs::create_symlink("../web/index.html", root_ / name / "bin/page");
        return root_ / name;
    }
    static std::map<std::string, std::string> tree(const fs::path& root) {
        std::map<std::string, std::string> out;
        for (const auto& entry : fs::recursive_directory_iterator{root}) {
            std::string text = std::to_string(mode(entry.path())) + " ";
            if (entry.is_symlink()) {
                text += "-> " + fs::read_symlink(entry.path()).string();
            } else if (entry.is_regular_file()) {
                text += read(entry.path());
            }
            out[entry.path().lexically_relative(root)] = text;
        }
        return out;
    }
};

TEST_F(Package, RoundTrip) {
    for (const std::string top : {"", "nginx"}) {
        const auto folder = module("source" + top);
        const auto made = package(folder, root_ / "out.safe", top);
        ASSERT_TRUE(made.has_value()) << made.error().text();
        const auto back = install(root_ / "out.safe", root_ / "modules" / "am", Replace::yes);
        ASSERT_TRUE(back.has_value()) << back.error().text();
        EXPECT_EQ(tree(folder), tree(root_ / "modules/am"));
        EXPECT_EQ(back->bytes, made->bytes);
        const auto listed = list(root_ / "out.safe");
        ASSERT_TRUE(listed.has_value());
        EXPECT_EQ(listed->entries.size(), made->entries.size());
        EXPECT_EQ(listed->name, top);
    }
}

TEST_F(Package, EqualTreesGiveEqualBytes) {
    ASSERT_TRUE(package(module("a"), root_ / "a.safe").has_value());
    const auto b = module("b");
    fs::last_write_time(b / "conf/userconfig.xml", fs::file_time_type::clock::now() - std::chrono::hours{1000});
    ::setenv("TZ", "Asia/Tokyo", 1);
    ASSERT_TRUE(package(b, root_ / "b.safe").has_value());
    ::unsetenv("TZ");
    EXPECT_EQ(read(root_ / "a.safe"), read(root_ / "b.safe"));
}

TEST_F(Package, RefusesWhatInstallWouldRefuse) {
    const auto folder = module("m");
    fs::create_symlink("/etc", folder / "out");
    const auto result = package(folder, root_ / "modules/m.safe");
    ASSERT_FALSE(result.has_value());
    EXPECT_THAT(result.error().text(), HasSubstr("the link to '/etc' is empty, too long or absolute"));
    EXPECT_TRUE(left_behind().empty());
    fs::remove(folder / "out");
    ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
    EXPECT_THAT(package(folder, root_ / "modules/m.safe").error().text(), HasSubstr("is a device, pipe or socket"));
    EXPECT_THAT(package(root_ / "modules", root_ / "m.safe").error().text(),
                HasSubstr("conf/userconfig.xml is missing"));
    EXPECT_EQ(package(root_ / "none", root_ / "m.safe").error().code, Errc::not_found);
}

TEST_F(Package, BombIsRefusedByInstall) {
    const auto folder = module("m");
    write("m/zeros", std::string(40u << 20, '\0'));
    ASSERT_TRUE(package(folder, root_ / "bomb.safe").has_value());
    EXPECT_THAT(install(root_ / "bomb.safe", root_ / "modules/am").error().text(),
                HasSubstr("unpacks to more than 200 times the size"));
    EXPECT_TRUE(left_behind().empty());
}

} // namespace
} // namespace stead::archive::test

// SPDX-License-Identifier: Apache-2.0
#include "zip_maker.hpp"

#include <stead/archive/archive.hpp>
#include <stead/base/files.hpp>

#include <fcntl.h>
#include <sys/file.h>

namespace stead::archive::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Install : public ArchiveTest {
protected:
    Result<Summary> install_bytes(const std::string& bytes, Replace replace = Replace::no) {
        return install(write("x.safe", bytes), root_ / "modules" / "am", replace);
    }
    /// Refused by install and by list, with the same words; nothing is left behind.
    void refused(const std::string& bytes, Errc code, const std::string& words) {
        const auto result = install_bytes(bytes);
        ASSERT_FALSE(result.has_value()) << words;
        EXPECT_EQ(result.error().code, code) << result.error().text();
        EXPECT_THAT(result.error().text(), HasSubstr(words));
        EXPECT_THAT(result.error().where, HasSubstr("x.safe"));
        EXPECT_THAT(left_behind(), IsEmpty());
        EXPECT_FALSE(list(root_ / "x.safe").has_value());
    }
    void refused_entry(const std::string& name, Errc code, const std::string& words) {
        refused(ZipMaker{}.module().file(name, "x").bytes(), code, words);
    }
};

TEST_F(Install, WithAndWithoutATopFolder) {
    for (const std::string top : {"", "nginx/"}) {
        const auto made =
            install_bytes(ZipMaker{}.module(top).file(top + "bin/start_both", "#!/bin/sh\n").bytes(), Replace::yes);
        ASSERT_TRUE(made.has_value()) << made.error().text();
        EXPECT_EQ(made->name, top.empty() ? "" : "nginx");
        EXPECT_EQ(read(root_ / "modules/am/conf/userconfig.xml"), "<safe/>");
        EXPECT_EQ(mode(root_ / "modules/am/bin/start_both"), 0755u);
        EXPECT_THAT(left_behind(), ElementsAre("am"));
    }
}

TEST_F(Install, ZipOfWindows) {
    const auto made = install_bytes(ZipMaker{}
                                        .file("conf/userconfig.xml", "<safe/>", 0)
                                        .file("bin/start_both", "#!/bin/sh\n", 0)
                                        .file("bin/start_prim.lua", "#!/usr/bin/lua\n", 0)
                                        .file("bin/data", "text", 0)
                                        .bytes());
    ASSERT_TRUE(made.has_value()) << made.error().text();
    EXPECT_EQ(mode(root_ / "modules/am/bin/start_both"), 0755u);
    EXPECT_EQ(mode(root_ / "modules/am/bin/start_prim.lua"), 0644u);
    EXPECT_EQ(mode(root_ / "modules/am/bin/data"), 0644u);
    EXPECT_EQ(mode(root_ / "modules/am"), 0755u);
}

TEST_F(Install, DropsSetIdAndForeignWriting) {
    ASSERT_TRUE(install_bytes(ZipMaker{}.module().file("bin/tool", "x", S_IFREG | 06777).bytes()).has_value());
    EXPECT_EQ(mode(root_ / "modules/am/bin/tool"), 0755u);
}

TEST_F(Install, ReplacesOnlyWhenAsked) {
    ASSERT_TRUE(install_bytes(ZipMaker{}.module().file("old", "1").bytes()).has_value());
    const auto second = install_bytes(ZipMaker{}.module().file("new", "2").bytes());
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().code, Errc::conflict);
    EXPECT_TRUE(fs::exists(root_ / "modules/am/old"));
    EXPECT_FALSE(install_bytes(ZipMaker{}.module().file("../evil", "3").bytes(), Replace::yes).has_value());
    EXPECT_TRUE(fs::exists(root_ / "modules/am/old")) << "a refused package leaves the old module alone";
    ASSERT_TRUE(install_bytes(ZipMaker{}.module().file("new", "2").bytes(), Replace::yes).has_value());
    EXPECT_FALSE(fs::exists(root_ / "modules/am/old"));
    EXPECT_TRUE(fs::exists(root_ / "modules/am/new"));
    EXPECT_THAT(left_behind(), ElementsAre("am"));
}

TEST_F(Install, Names) {
    refused_entry("/etc/passwd", Errc::refused, "is an absolute path");
    refused_entry("C:/x", Errc::refused, "is an absolute path");
    refused_entry("../x", Errc::refused, "holds '..'");
    refused_entry("bin/../../x", Errc::refused, "holds '..'");
    refused_entry("bin/..", Errc::refused, "holds '..'");
    refused_entry("bin//x", Errc::refused, "holds an empty or '.' component");
    refused_entry("bin/./x", Errc::refused, "holds an empty or '.' component");
    refused_entry("bin/a\nb", Errc::refused, "control character");
    refused_entry("bin/a\x1b[31m", Errc::refused, "control character");
    refused_entry("bin/" + std::string(256, 'a'), Errc::out_of_range, "a name has 256 bytes; at most 255");
    refused_entry(std::string(5, 'a') + std::string(1100, 'b'), Errc::out_of_range, "at most 1024");
    std::string deep;
    for (int i = 0; i < 40; ++i) {
        deep += "d/";
    }
    refused_entry(deep + "x", Errc::out_of_range, "at most 32");
}

TEST_F(Install, UnicodeNamesAreKept) {
    const std::string name = "web/\xC3\xA9t\xC3\xA9.html";
    ASSERT_TRUE(install_bytes(ZipMaker{}.module().file(name, "x", S_IFREG | 0644, 0x800).bytes()).has_value());
    EXPECT_TRUE(fs::exists(root_ / "modules/am" / name));
}

TEST_F(Install, NamesThatWouldBecomeOthers) {
    refused_entry(std::string("bin/start_both\0.txt", 19), Errc::refused,
                  "entry 'bin/start_both?.txt': has a NUL byte");
    refused_entry("web/caf\xE9.html", Errc::refused, "entry 'web/caf?.html': has a name that is not UTF-8");
    refused(ZipMaker{}.module().file("web/caf\xE9.html", "x", S_IFREG | 0644, 0x800).bytes(), Errc::refused,
            "is not UTF-8");
    auto two_names = ZipMaker{}.module().file("bin/start_prim", "x").bytes();
    two_names[two_names.find("bin/start_prim") + 9] = '\0'; // in front of the contents; the directory has the good name
    refused(two_names, Errc::refused, "has a NUL byte");
}

TEST_F(Install, LeftoversOfOneThatWasKilledGoAndOthersStay) {
    const auto modules = root_ / "modules";
    for (const char* name : {".am.installing-Ab3dE6", ".am.backup", "am", ".am.installing-Ab3dE6x"}) {
        fs::create_directories(modules / name / "conf");
    }
    fs::create_directory(modules / ".am.installing-Zz9Zz9");
    const Fd held(::open((modules / ".am.installing-Zz9Zz9").c_str(), O_RDONLY));
    ASSERT_EQ(::flock(held.get(), LOCK_EX), 0);
    EXPECT_THAT(remove_leftovers(modules), ElementsAre(modules / ".am.installing-Ab3dE6"));
    EXPECT_THAT(left_behind(),
                ::testing::UnorderedElementsAre(".am.backup", "am", ".am.installing-Ab3dE6x", ".am.installing-Zz9Zz9"));
}

TEST_F(Install, Duplicates) {
    refused(ZipMaker{}.module().file("bin/x", "1").file("bin/x", "2").bytes(), Errc::refused, "is there twice");
    refused(ZipMaker{}.module().file("a", "1").file("a/b", "2").bytes(), Errc::refused,
            "lies below 'a', which is not a folder");
    refused(ZipMaker{}.module().link("a", "bin").file("a/b", "2").bytes(), Errc::refused,
            "lies below 'a', which is not a folder");
    refused(ZipMaker{}.module().file("a/b", "1").file("a", "2").bytes(), Errc::refused, "is there twice");
}

TEST_F(Install, Links) {
    refused(ZipMaker{}.module().link("l", "/etc/passwd").bytes(), Errc::refused,
            "the link to '/etc/passwd' is empty, too long or absolute");
    refused(ZipMaker{}.module().link("bin/l", "../../x").bytes(), Errc::refused, "leads out of the module's folder");
    refused(ZipMaker{}.module("am/").link("am/l", "../x").bytes(), Errc::refused, "leads out of the module's folder");
    refused(ZipMaker{}.module().link("d/e/up", "../..").link("l", "d/e/up/../x").bytes(), Errc::refused,
            "leads through another link");
    ASSERT_TRUE(install_bytes(ZipMaker{}.module().file("web/x", "text").link("bin/l", "../web/x").bytes()).has_value());
    EXPECT_EQ(read(root_ / "modules/am/bin/l"), "text");
}

TEST_F(Install, Kinds) {
    for (const std::uint32_t kind : {S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK}) {
        refused(ZipMaker{}.module().file("dev", "", kind | 0666).bytes(), Errc::refused, "is a device, pipe or socket");
    }
    refused(ZipMaker{}.module().file("secret", "x", S_IFREG | 0644, 1).bytes(), Errc::refused, "is encrypted");
}

TEST_F(Install, Sizes) {
    refused(ZipMaker{}.module().file("big", std::string((64u << 20) + 1, 'x')).bytes(), Errc::out_of_range,
            "is larger than 64 MiB");
    ZipMaker many;
    many.module();
    for (int i = 0; i < 10'000; ++i) {
        many.file("f" + std::to_string(i), "");
    }
    refused(many.bytes(), Errc::out_of_range, "at most 10000 entries");
}

TEST_F(Install, NotAModule) {
    refused("", Errc::malformed, "is not a zip file");
    refused("hello", Errc::malformed, "is not a zip file");
    refused(std::string("PK\3\4") + std::string(100, 'x'), Errc::malformed, "truncated or damaged");
    refused(ZipMaker{}.file("bin/x", "1").bytes(), Errc::malformed, "conf/userconfig.xml is missing");
    refused(ZipMaker{}.module("a/").file("b/x", "1").bytes(), Errc::malformed, "conf/userconfig.xml is missing");
    refused(ZipMaker{}.link("conf/userconfig.xml", "x").bytes(), Errc::malformed, "conf/userconfig.xml is missing");
    refused(ZipMaker{}.bytes(), Errc::malformed, "conf/userconfig.xml is missing");
    refused(ZipMaker{}.module().file("bin", "x").bytes(), Errc::malformed, "entry 'bin': is where scripts lie");
    refused(ZipMaker{}.module("a/").file("a/bin", "x").bytes(), Errc::malformed, "allowed: a folder");
    EXPECT_EQ(install(root_ / "none.safe", root_ / "modules/am").error().code, Errc::not_found);
    EXPECT_EQ(install(root_, root_ / "modules/am").error().code, Errc::malformed);
}

TEST_F(Install, EveryTruncationIsRefused) {
    const auto whole = ZipMaker{}.module().file("bin/start_both", "#!/bin/sh\nexit 0\n").bytes();
    for (std::size_t size = 0; size < whole.size(); ++size) {
        const auto result = install_bytes(whole.substr(0, size));
        ASSERT_FALSE(result.has_value()) << size << " of " << whole.size();
        ASSERT_EQ(result.error().code, Errc::malformed);
        ASSERT_THAT(left_behind(), IsEmpty());
    }
}

TEST_F(Install, FlippedBytesNeverEscape) {
    const auto whole = ZipMaker{}.module().file("bin/start_both", "#!/bin/sh\nexit 0\n").link("l", "bin").bytes();
    for (std::size_t at = 0; at < whole.size(); ++at) {
        auto bytes = whole;
        bytes[at] = static_cast<char>(bytes[at] ^ 0x2F);
        const auto result = install_bytes(bytes, Replace::yes);
        const auto names = left_behind();
        ASSERT_TRUE(names.empty() || (names.size() == 1 && names[0] == "am")) << at;
        ASSERT_EQ(std::distance(fs::directory_iterator{root_}, {}), 2) << at;
        (void)result;
    }
}

} // namespace
} // namespace stead::archive::test

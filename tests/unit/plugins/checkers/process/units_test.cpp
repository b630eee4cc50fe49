// SPDX-License-Identifier: Apache-2.0
#include <stead/process/units.hpp>

#include <stead/base/files.hpp>
#include <stead/test/temporary_folder.hpp>

#include <gmock/gmock.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include <fstream>

namespace stead::process {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// A stand-in for systemctl, and a control group folder.
class UnitsTest : public ::testing::Test {
protected:
    std::string systemctl(const std::string& body) {
        const auto path = folder_.path() / "systemctl";
        std::ofstream{path} << "#!/bin/sh\n" << body;
        ::chmod(path.c_str(), 0755);
        return path;
    }
    Result<std::vector<Found>> ask(const std::string& body, const std::vector<std::string>& names) {
        return Units{systemctl(body), folder_.path() / "cgroup"}.query(names, cancel_.get());
    }
    testing::TemporaryFolder folder_;
    Fd cancel_{::eventfd(0, EFD_CLOEXEC)};
};

TEST_F(UnitsTest, ReadsOneBlockPerUnit) {
    const auto answer = ask("printf '%s\\n' \"$*\" >" + (folder_.path() / "asked").string() + R"(
cat <<END
MainPID=812
ControlGroup=/system.slice/nginx.service
ActiveState=active

MainPID=0
ControlGroup=
ActiveState=failed

MainPID=0
ControlGroup=
ActiveState=activating
END
)",
                            {"nginx", "broken", "between"});
    ASSERT_TRUE(answer) << answer.error().text();
    ASSERT_EQ(answer->size(), 3U);
    EXPECT_EQ((*answer)[0].count, 1U);
    EXPECT_THAT((*answer)[0].pids, ElementsAre(812));
    EXPECT_EQ((*answer)[1].count, 0U);
    EXPECT_EQ((*answer)[2].count, 0U) << "systemd restarts it: it is not running";
    EXPECT_EQ(*read_file(folder_.path() / "asked", 1000),
              "show --property=ActiveState,MainPID,ControlGroup -- nginx broken between\n");
}

TEST_F(UnitsTest, WithoutAMainProcessTheControlGroupTells) {
    std::filesystem::create_directories(folder_.path() / "cgroup" / "s.slice");
    std::ofstream{folder_.path() / "cgroup" / "s.slice" / "cgroup.procs"} << "41\n42\n";
    const auto answer = ask("printf 'MainPID=0\\nControlGroup=/s.slice\\nActiveState=active\\n'", {"a"});
    ASSERT_TRUE(answer) << answer.error().text();
    EXPECT_EQ((*answer)[0].count, 1U);
    EXPECT_THAT((*answer)[0].pids, ElementsAre(41, 42));
    EXPECT_THAT(ask("printf 'MainPID=0\\nControlGroup=/gone\\nActiveState=active\\n'", {"a"})->at(0).pids, IsEmpty());
}

TEST_F(UnitsTest, AnAnswerAboutLessIsNone) {
    EXPECT_THAT(ask("exit 1", {"a"}).error().text(), HasSubstr("answered about 0 of 1 units"));
    EXPECT_FALSE(ask("printf 'ActiveState=active\\n'", {"a", "b"}));
    EXPECT_FALSE(ask("echo hello", {"a"}));
    EXPECT_THAT(Units{"/nonexistent/systemctl"}.query({"a"}, cancel_.get()).error().text(), HasSubstr("cannot run it"));
}

TEST_F(UnitsTest, AHangingSystemctlIsEnded) {
    const Instant begun = BootClock::now();
    const auto answer = ask("exec sleep 60", {"a"});
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, Errc::timed_out);
    EXPECT_LT(BootClock::now() - begun, seconds{20});
}

TEST_F(UnitsTest, CancelledAtOnce) {
    ::eventfd_write(cancel_.get(), 1);
    EXPECT_THAT(ask("exec sleep 60", {"a"}).error().text(), HasSubstr("cancelled"));
}

TEST_F(UnitsTest, SystemdIsWhereItsFolderIs) {
    EXPECT_TRUE(Units::here(folder_.path()));
    EXPECT_FALSE(Units::here((folder_.path() / "missing").string()));
}

} // namespace
} // namespace stead::process

// SPDX-License-Identifier: Apache-2.0
#include <stead/process/scanner.hpp>

#include <stead/test/temporary_folder.hpp>

#include <gmock/gmock.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

namespace stead::process {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// A folder that looks like /proc.
class FakeProc {
public:
    void add(pid_t pid, const std::string& command, const std::string& line = {}, char state = 'S',
             unsigned flags = 0x400000) {
        const auto folder = folder_.path() / std::to_string(pid);
        std::filesystem::create_directories(folder);
        std::ofstream{folder / "stat"} << pid << " (" << command << ") " << state << " 1 1 1 0 -1 " << flags
                                       << " 100 0 0 0 1 1 0 0 20 0 1 0 4711 0 0";
        std::ofstream cmdline{folder / "cmdline"};
        for (const char c : line) {
            cmdline.put(c == ' ' ? '\0' : c);
        }
        if (!line.empty()) {
            cmdline.put('\0');
        }
    }
    void remove(pid_t pid) { std::filesystem::remove_all(folder_.path() / std::to_string(pid)); }
    [[nodiscard]] const std::filesystem::path& path() const { return folder_.path(); }

private:
    testing::TemporaryFolder folder_;
};

Spec named(std::string name) {
    Spec spec;
    spec.name = std::move(name);
    return spec;
}

std::optional<Regex> regex(const char* text) {
    auto compiled = Regex::compile(text);
    EXPECT_TRUE(compiled) << text;
    return *compiled;
}

Found find(const FakeProc& proc, Spec spec) {
    const std::vector<Spec> specs{std::move(spec)};
    Scanner scanner(specs, proc.path());
    std::vector<Found> found(1);
    EXPECT_TRUE(scanner.scan({true}, found));
    return found[0];
}

TEST(Scanner, FindsByNameOfFifteenCharacters) {
    FakeProc proc;
    proc.add(10, "nginx");
    proc.add(11, "nginx");
    proc.add(12, "nginx2");
    proc.add(13, "systemd-network"); // systemd-networkd, as the kernel keeps it
    EXPECT_EQ(find(proc, named("nginx")).count, 2U);
    EXPECT_EQ(find(proc, named("systemd-networkd")).count, 1U);
    EXPECT_EQ(find(proc, named("ngin")).count, 0U);
}

TEST(Scanner, NamesMayHoldBlanksAndParentheses) {
    FakeProc proc;
    proc.add(10, "a) S 1 (b");
    EXPECT_EQ(find(proc, named("a) S 1 (b")).count, 1U);
}

TEST(Scanner, ZombiesAndKernelThreadsDoNotCount) {
    FakeProc proc;
    proc.add(10, "app", "", 'Z');
    proc.add(11, "app", "", 'X');
    proc.add(12, "app", "", 'I', 0x208040);
    proc.add(13, "app", "", 'R');
    EXPECT_EQ(find(proc, named("app")).count, 1U);
}

// Goal: a program whose main thread ended, and that works on in others, lives. Method: a real one.
TEST(Scanner, AProcessWithoutItsMainThreadIsAlive) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::prctl(PR_SET_NAME, "st-leaderless");
        std::thread([] {
            for (;;) {
                ::pause();
            }
        }).detach();
        ::syscall(SYS_exit, 0); // this thread alone
    }
    const std::string stat = "/proc/" + std::to_string(child) + "/stat";
    std::string line;
    for (int i = 0; i < 2000 && line.find(") Z ") == line.npos; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
        std::ifstream file{stat};
        std::getline(file, line);
    }
    EXPECT_NE(line.find("(st-leaderless) Z "), line.npos) << line;
    std::vector<Spec> specs{named("st-leaderless"), named("st-leaderless")};
    specs[1].arg_regex = regex("unit_checker_process|scanner|process");
    Scanner scanner(specs);
    std::vector<Found> found(2);
    ASSERT_TRUE(scanner.scan({true, true}, found));
    EXPECT_THAT(found[0].pids, ElementsAre(child));
    EXPECT_THAT(found[1].pids, ElementsAre(child)) << "its arguments are those of the thread that runs";
    ::kill(child, SIGKILL);
    siginfo_t ended{};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
    ASSERT_TRUE(scanner.scan({true, true}, found));
    EXPECT_EQ(found[0].count, 0U) << "now it is one";
    ::waitpid(child, nullptr, 0);
}

TEST(Scanner, ExpressionsOnNameAndCommandLine) {
    FakeProc proc;
    proc.add(10, "java", "/usr/bin/java -jar /srv/shop.jar");
    proc.add(11, "java", "/usr/bin/java -jar /srv/mail.jar");
    proc.add(12, "python3", "python3 /srv/shop.jar");
    Spec shop = named("java");
    shop.arg_regex = regex("-jar /srv/(shop|cart)\\.jar$");
    EXPECT_EQ(find(proc, shop).count, 1U) << "arguments are joined by single blanks, and end where the last one ends";
    Spec any = named("label only");
    any.name_regex = regex("^(java|python[0-9]+)$");
    EXPECT_EQ(find(proc, any).count, 3U);
    any.arg_regex = regex("shop");
    EXPECT_EQ(find(proc, any).count, 2U);
}

TEST(Scanner, LongCommandLines) {
    FakeProc proc;
    proc.add(10, "java", "java " + std::string(100'000, 'x') + " end");
    Spec spec = named("java");
    spec.arg_regex = regex(" end$");
    EXPECT_EQ(find(proc, spec).count, 1U);
}

TEST(Scanner, AServiceWithoutSystemdIsTheProcessOfItsName) {
    FakeProc proc;
    proc.add(10, "nginx");
    Spec spec = named("nginx.service");
    EXPECT_EQ(find(proc, spec).count, 0U);
    spec.service = true;
    EXPECT_EQ(find(proc, spec).count, 1U);
}

TEST(Scanner, NamesAreComparedAnewInEachPass) {
    FakeProc proc;
    proc.add(10, "sh");
    const std::vector<Spec> specs{named("nginx"), named("sh")};
    Scanner scanner(specs, proc.path());
    std::vector<Found> found(2);
    ASSERT_TRUE(scanner.scan({true, true}, found));
    EXPECT_EQ(found[0].count, 0U);
    proc.add(10, "nginx"); // exec
    ASSERT_TRUE(scanner.scan({true, false}, found));
    EXPECT_THAT(found[0].pids, ElementsAre(10));
    EXPECT_EQ(found[1].count, 1U) << "not wanted: left alone";
    proc.remove(10);
    ASSERT_TRUE(scanner.scan({true, true}, found));
    EXPECT_THAT(found[0].pids, IsEmpty());
    EXPECT_EQ(found[1].count, 0U);
}

TEST(Scanner, GarbageInProcIsNobody) {
    FakeProc proc;
    proc.add(10, "app");
    for (const char* text : {"", "10 (app", "10 app) S", "10 (app) S", "10 (app) S 1 2"}) {
        std::ofstream{proc.path() / "10" / "stat"} << text;
        EXPECT_EQ(find(proc, named("app")).count, 0U) << text;
    }
}

TEST(Scanner, FindsItself) {
    const std::string name = "me" + std::to_string(::getpid()); // others may run this test or build it
    ASSERT_EQ(::prctl(PR_SET_NAME, name.c_str()), 0);
    Spec spec = named("label");
    spec.name_regex = regex(name.c_str());
    spec.arg_regex = regex("unit_checker_process");
    const std::vector<Spec> specs{spec};
    Scanner scanner(specs);
    std::vector<Found> found(1);
    ASSERT_TRUE(scanner.scan({true}, found));
    EXPECT_THAT(found[0].pids, ::testing::Contains(::getpid()));
}

TEST(Scanner, NoSuchFolderIsAnError) {
    const std::vector<Spec> specs{named("a")};
    Scanner scanner(specs, "/nonexistent");
    std::vector<Found> found(1);
    EXPECT_FALSE(scanner.scan({true}, found));
}

TEST(Regex, ABadExpressionSaysWhy) {
    const auto bad = Regex::compile("a(b");
    ASSERT_FALSE(bad);
    EXPECT_THAT(bad.error().text(), ::testing::HasSubstr("'a(b'"));
}

} // namespace
} // namespace stead::process

// SPDX-License-Identifier: Apache-2.0
// The split brain checker under a fake host; witnesses are addresses of a cable in a namespace of its own.
#include <stead/test/fake_host.hpp>

#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

namespace {

using stead::test::Element;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const stead_plugin_descriptor& plugin() {
    static const auto& loaded = stead::test::load_plugin(SPLITBRAIN_PLUGIN);
    return loaded;
}
void run(const std::string& command) { ASSERT_EQ(std::system((command + " 2>/dev/null").c_str()), 0) << command; }

Element service(const std::string& arg) {
    return {"service",
            {{"mode", "mirror"}},
            {{"check",
              {},
              {{"splitbrain", {{"ident", "w"}, {"exec", "ping"}, {"arg", arg}, {"timeout", "1000000000"}}, {}}}}}};
}

class Splitbrain : public ::testing::Test {
protected:
    void SetUp() override {
        std::system("ip link del w0 2>/dev/null");
        run("ip link add w0 type veth peer name w1 && ip link set w1 up && ip link set w0 up && ip addr add "
            "192.0.2.1/24 dev w0");
    }
    void TearDown() override { std::system("ip link del w0 2>/dev/null"); }
    void begin(const std::string& arg) {
        running_.emplace(plugin(), host_, service(arg));
        running_->arm(STEAD_WHEN_PRE);
        view(0b11, 0);
    }
    void view(std::uint64_t members, std::uint64_t dead) {
        stead_view next{};
        next.self = 0;
        next.members = members;
        next.dead = dead;
        plugin().on_view(running_->self(), &next);
    }
    stead::test::FakeHost host_;
    std::optional<stead::test::Running> running_;
};

TEST_F(Splitbrain, AWitnessThatAnswersIsEnough) {
    begin("192.0.2.99 192.0.2.1");
    EXPECT_EQ(host_.resource("splitbrain.w"), "init");
    EXPECT_EQ(host_.resource("splitbrain.uptodate"), "up");
    view(0b01, 0b10);
    EXPECT_TRUE(host_.wait("splitbrain.w", "up"));
    EXPECT_TRUE(host_.wait("splitbrain.uptodate", "up"));
    EXPECT_TRUE(host_.wait_log("isolated; witness 192.0.2.1 answers; 192.0.2.99: no answer yet"));
    EXPECT_TRUE(host_.wait_reason("splitbrain.uptodate", "witness 192.0.2.1 answers"));
    view(0b11, 0);
    EXPECT_EQ(host_.resource("splitbrain.w"), "init");
    EXPECT_THAT(host_.history("splitbrain.uptodate"), ElementsAre("up", "init", "up", "up"));
}

TEST_F(Splitbrain, NoAnswerIsDownUntilOneComesOrThePeersDo) {
    begin("192.0.2.99 192.0.2.98");
    view(0b01, 0b10);
    ASSERT_TRUE(host_.wait("splitbrain.uptodate", "down"));
    EXPECT_EQ(host_.resource("splitbrain.w"), "down");
    EXPECT_TRUE(host_.wait_log("no witness answers: 192.0.2.99: "));
    EXPECT_TRUE(host_.wait_reason("splitbrain.w", "no witness answers: 192.0.2.99: "));
    EXPECT_TRUE(host_.wait_reason("splitbrain.w", "; 192.0.2.98: "));
    run("ip addr add 192.0.2.98/24 dev w0");
    EXPECT_TRUE(host_.wait("splitbrain.uptodate", "up")) << "asked again";
    view(0b11, 0);
    run("ip addr del 192.0.2.98/24 dev w0");
    view(0b01, 0b10);
    ASSERT_TRUE(host_.wait("splitbrain.uptodate", "down"));
    view(0b11, 0);
    EXPECT_EQ(host_.resource("splitbrain.uptodate"), "up");
    EXPECT_EQ(host_.resource("splitbrain.w"), "init");
}

TEST_F(Splitbrain, AGoodbyeOrALonelyStartIsNoIsolation) {
    begin("192.0.2.99");
    view(0b01, 0);
    EXPECT_THAT(host_.history("splitbrain.uptodate"), ElementsAre("up"));
}

TEST_F(Splitbrain, SwitchedOffItSaysNothing) {
    begin("192.0.2.99");
    view(0b01, 0b10);
    ASSERT_TRUE(host_.wait("splitbrain.uptodate", "down"));
    running_->arm(0);
    EXPECT_EQ(host_.resource("splitbrain.uptodate"), "up");
    running_->arm(STEAD_WHEN_PRE);
    EXPECT_TRUE(host_.wait("splitbrain.uptodate", "down")) << "still isolated";
}

TEST_F(Splitbrain, ATcpPortIsAWitness) {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
    ASSERT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
    begin("tcp:127.0.0.1:" + std::to_string(ntohs(address.sin_port)));
    view(0b01, 0b10);
    ASSERT_TRUE(host_.wait("splitbrain.uptodate", "down")) << "nobody listens yet";
    ASSERT_EQ(::listen(listener, 5), 0);
    EXPECT_TRUE(host_.wait("splitbrain.uptodate", "up"));
    ::close(listener);
}

TEST_F(Splitbrain, AnUpdateTakesOtherWitnesses) {
    begin("192.0.2.99");
    view(0b01, 0b10);
    ASSERT_TRUE(host_.wait("splitbrain.uptodate", "down"));
    EXPECT_EQ(running_->update(service("192.0.2.1")), "");
    EXPECT_TRUE(host_.wait("splitbrain.uptodate", "up"));
    EXPECT_THAT(running_->update(service("nobody")), HasSubstr("line 7: splitbrain/@arg: 'nobody'"));
}

TEST(SplitbrainCheck, FindingsHaveAPlace) {
    const auto one = [](const std::string& arg) { return stead::test::findings(plugin(), service(arg)); };
    EXPECT_THAT(one("192.0.2.1 fd00::1 tcp:[fd00::1]:443 tcp:192.0.2.1:1"), ElementsAre());
    EXPECT_THAT(one("router.example"),
                ElementsAre(HasSubstr("7: splitbrain/@arg: 'router.example': not an IP address")));
    EXPECT_THAT(one("tcp:192.0.2.1"), ElementsAre(HasSubstr("no port")));
    EXPECT_THAT(one("tcp:192.0.2.1:99999"), ElementsAre(HasSubstr("the port is not 1 to 65535")));
    EXPECT_THAT(one(" "), ElementsAre(HasSubstr("0 witnesses")));
}

} // namespace

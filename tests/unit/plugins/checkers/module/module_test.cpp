// SPDX-License-Identifier: Apache-2.0
#include "local_server.hpp"

#include <stead/test/fake_host.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace stead::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// The health URL of module db, as stead-web answers it.
class Health {
public:
    void set(bool ready, const std::string& tag) {
        const std::lock_guard lock(mutex_);
        ready_ = ready;
        tag_ = tag;
    }
    [[nodiscard]] std::string port() const { return server_.port(); }
    LocalServer& server() { return server_; }

private:
    void serve(int fd) {
        const std::string request = read_until(fd, "\r\n\r\n");
        const std::lock_guard lock(mutex_);
        const bool known = request.starts_with("GET /var/modules/db/ready.txt HTTP/1.1\r\n");
        say(fd, ready_ && known ? "HTTP/1.1 200 OK\r\nETag: " + tag_ + "\r\nContent-Length: 3\r\n\r\nOK\n"
                                : "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    }
    std::mutex mutex_;
    bool ready_{};
    std::string tag_;
    LocalServer server_{[this](int fd) { serve(fd); }};
};

Element service(std::vector<Element> modules) { return {"service", {}, {{"check", {}, std::move(modules)}}}; }
Element module(const std::string& port) {
    return {"module", {{"name", "db"}}, {{"to", {{"addr", "127.0.0.1"}, {"port", port}, {"interval", "100ms"}}, {}}}};
}

class ModuleChecker : public testing::Test {
protected:
    const stead_plugin_descriptor& plugin_ = load_plugin(CHECKER_PLUGIN);
    FakeHost host_;
};

TEST_F(ModuleChecker, FollowsTheOtherModule) {
    Health health;
    health.set(true, "\"1\"");
    Running running(plugin_, host_, service({module(health.port())}));
    EXPECT_THAT(host_.rules(), IsEmpty()) << "the default rule module_failure acts";
    const std::string resource = "module.db_127.0.0.1";
    running.arm(STEAD_WHEN_PRE);
    EXPECT_TRUE(host_.wait(resource, "up"));
    health.set(false, "");
    EXPECT_TRUE(host_.wait(resource, "down"));
    EXPECT_TRUE(host_.wait_log("status 404"));
    health.set(true, "\"2\"");
    EXPECT_TRUE(host_.wait(resource, "up"));
    health.server().close();
    EXPECT_TRUE(host_.wait(resource, "down"));
    EXPECT_THAT(host_.log(), Not(Contains(HasSubstr("request stopstart")))) << "waiting for it was enough";
}

TEST_F(ModuleChecker, BeginsAnewWhenTheOtherDid) {
    Health health;
    health.set(true, "\"1\"");
    Running running(plugin_, host_, service({module(health.port())}));
    running.arm(STEAD_WHEN_PRE);
    EXPECT_TRUE(host_.wait("module.db_127.0.0.1", "up"));
    health.set(true, "\"2\"");
    EXPECT_TRUE(host_.wait_log("request stopstart: module db of 127.0.0.1 was restarted"));
    EXPECT_EQ(host_.resource("module.db_127.0.0.1"), "up");
    // What happened while nobody looked is no reason.
    host_.clear();
    running.arm(0);
    health.set(true, "\"3\"");
    running.arm(STEAD_WHEN_PRE);
    EXPECT_TRUE(host_.wait("module.db_127.0.0.1", "up"));
    EXPECT_THAT(host_.log(), Not(Contains(HasSubstr("request"))));
}

TEST_F(ModuleChecker, NamesItsResources) {
    const Running running(plugin_, host_,
                          service({{"module", {{"name", "db"}}, {}},
                                   {"module", {{"name", "db"}, {"ident", "far"}}, {{"to", {{"addr", "db2"}}, {}}}},
                                   {"module", {{"name", "db"}}, {{"to", {{"addr", "192.0.2.12"}}, {}}}}}));
    EXPECT_EQ(host_.resource("module.db_127.0.0.1"), "init");
    EXPECT_EQ(host_.resource("module.far"), "init");
    EXPECT_EQ(host_.resource("module.db_192.0.2.12"), "init");
    EXPECT_THAT(findings(plugin_, service({module("80"), module("81")})), ElementsAre(HasSubstr("defined twice")));
}

} // namespace
} // namespace stead::test

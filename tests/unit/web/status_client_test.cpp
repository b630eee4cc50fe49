// SPDX-License-Identifier: Apache-2.0
#include <stead/web/status_client.hpp>

#include <stead/control/status_protocol.hpp>

#include <boost/json/object.hpp>
#include <gmock/gmock.h>

#include <sys/socket.h>

#include <optional>

namespace stead::web {
namespace {

using boost::json::object;

/// steadd is the test itself, on the other end of a socket pair.
class StatusClientTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::array<int, 2> ends{};
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
        steadd_.emplace(control::Client::adopt(Fd(ends[0])));
        client_ = std::make_unique<StatusClient>(
            io_, control::Connection::adopt(io_.get_executor(), Fd(ends[1])),
            StatusClient::Events{[this](const web::Setup& setup) { setup_ = setup; }, [this] { lost_ = true; }});
    }
    void say(const object& body) {
        ASSERT_TRUE(steadd_->send(body));
        run();
    }
    void run(milliseconds time = milliseconds{20}) {
        io_.restart();
        io_.run_for(time);
    }
    object heard() {
        auto frame = steadd_->receive(seconds{5});
        EXPECT_TRUE(frame) << frame.error().text();
        return frame ? frame->body.get_object() : object{};
    }

    boost::asio::io_context io_{1};
    std::optional<control::Client> steadd_;
    std::unique_ptr<StatusClient> client_;
    std::optional<web::Setup> setup_;
    bool lost_{};
};

TEST_F(StatusClientTest, ReadinessIsOnlySteaddsLastWord) {
    EXPECT_FALSE(client_->is_ready("web"));
    say({{"event", "ready"}, {"modules", object{{"web", true}, {"db", false}}}});
    EXPECT_TRUE(client_->is_ready("web"));
    EXPECT_FALSE(client_->is_ready("db"));
    say({{"event", "ready"}, {"modules", object{{"db", true}}}});
    EXPECT_FALSE(client_->is_ready("web"));
    EXPECT_TRUE(client_->is_ready("db"));
}

TEST_F(StatusClientTest, StampsOfStartsComeWithReadiness) {
    say({{"event", "ready"},
         {"modules", object{{"web", true}, {"db", true}, {"bad", true}, {"off", false}}},
         {"started", object{{"web", "17641728"}, {"bad", "1\r\nSet-Cookie: x"}, {"off", "5"}}}});
    EXPECT_EQ(client_->started("web"), "17641728");
    EXPECT_EQ(client_->started("db"), "");
    EXPECT_EQ(client_->started("bad"), "") << "what would end a header line is left out";
    EXPECT_EQ(client_->started("off"), "") << "not ready";
    EXPECT_EQ(client_->started("nosuch"), "");
}

TEST_F(StatusClientTest, ASilentSteaddMakesNothingReady) {
    say({{"event", "ready"}, {"modules", object{{"web", true}}}});
    run(control::status_protocol::silence_max + milliseconds{50});
    EXPECT_FALSE(client_->is_ready("web"));
    Reply reply;
    client_->ask({"level", "", {}, ""}, "", [&](Reply got) { reply = std::move(got); });
    run();
    EXPECT_EQ(reply.status, 503u);
    say({{"event", "ready"}, {"modules", object{{"web", true}}}});
    EXPECT_TRUE(client_->is_ready("web"));
}

TEST_F(StatusClientTest, ADeadSteaddMakesNothingReady) {
    say({{"event", "ready"}, {"modules", object{{"web", true}}}});
    unsigned status = 0;
    client_->ask({"level", "", {}, ""}, "", [&](const Reply& got) { status = got.status; });
    steadd_.reset();
    run();
    EXPECT_TRUE(lost_);
    EXPECT_FALSE(client_->is_ready("web"));
    EXPECT_EQ(status, 503u);
}

TEST_F(StatusClientTest, QuestionsAndAnswersFindEachOther) {
    say({{"event", "setup"}, {"port", 9011}, {"address", "127.0.0.1"}, {"api", false}, {"version", "7"}});
    ASSERT_TRUE(setup_);
    EXPECT_EQ(setup_->port, 9011);
    EXPECT_FALSE(setup_->api);
    std::vector<Reply> replies(2);
    client_->ask({"level", "", {}, ""}, "", [&](Reply got) { replies[0] = std::move(got); });
    client_->ask({"log", "web", {{"s", "5"}}, ""}, "secret", [&](Reply got) { replies[1] = std::move(got); });
    run();
    const object first = heard();
    const object second = heard();
    EXPECT_EQ(second.at("token"), "secret");
    EXPECT_EQ(second.at("options").at("s"), "5");
    say({{"id", second.at("id")}, {"exit", 0}, {"data", "two"}});
    say({{"id", first.at("id")}, {"exit", 66}, {"error", "one"}});
    say({{"id", first.at("id")}, {"exit", 0}, {"data", "again"}}); // not asked any more
    EXPECT_EQ(replies[1].body, "two");
    EXPECT_EQ(replies[0].status, 404u);
}

TEST_F(StatusClientTest, NoMoreQuestionsAreUnderWayThanAgreed) {
    say({{"event", "ready"}, {"modules", object{}}});
    std::size_t refused = 0;
    for (std::size_t i = 0; i < control::status_protocol::questions_max + 5; ++i) {
        client_->ask({"level", "", {}, ""}, "", [&](const Reply& got) { refused += got.status == 503; });
    }
    run();
    EXPECT_EQ(refused, 5u);
}

} // namespace
} // namespace stead::web

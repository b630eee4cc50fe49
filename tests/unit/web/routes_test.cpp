// SPDX-License-Identifier: Apache-2.0
#include <stead/control/command.hpp>
#include <stead/web/routes.hpp>
#include <stead/web/server.hpp>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <gmock/gmock.h>

namespace stead::web {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

Question asked(std::string_view target) {
    const Route found = route("GET", target);
    const auto* question = std::get_if<Question>(&found);
    EXPECT_NE(question, nullptr) << target;
    return question != nullptr ? *question : Question{};
}

Refusal refused(std::string_view method, std::string_view target) {
    const Route found = route(method, target);
    const auto* refusal = std::get_if<Refusal>(&found);
    EXPECT_NE(refusal, nullptr) << method << " " << target;
    return refusal != nullptr ? *refusal : Refusal{};
}

TEST(Routes, TheHealthUrlNamesAModule) {
    for (const char* target : {"/var/modules/web/ready.txt", "/var/modules/web/ready.txt?x=1",
                               "http://192.0.2.1:9010/var/modules/web/ready.txt"}) {
        const Route found = route("GET", target);
        ASSERT_TRUE(std::holds_alternative<HealthOf>(found)) << target;
        EXPECT_EQ(std::get<HealthOf>(found).module, "web");
    }
    EXPECT_TRUE(std::holds_alternative<HealthOf>(route("HEAD", "/var/modules/web/ready.txt")));
    EXPECT_EQ(refused("POST", "/var/modules/web/ready.txt").status, 405u);
    for (const char* target : {"/var/modules//ready.txt", "/var/modules/ready.txt", "/var/modules/../ready.txt",
                               "/var/modules/a/b/ready.txt", "/var/modules/a%2fb/ready.txt", "/ready.txt", "/", "", "*",
                               "http://x", "/var/modules/web/ready.txt/"}) {
        EXPECT_EQ(refused("GET", target).status, 404u) << target;
    }
}

TEST(Routes, EveryReadOfTheTableHasItsPath) {
    for (const control::Command& command : control::commands()) {
        if (!command.rest.starts_with("GET ") || command.verb == "module listid") {
            continue;
        }
        std::string target = std::string(api_root) + std::string(command.rest.substr(4));
        for (const auto& [variable, value] : {std::pair{"{m}", "web"}, std::pair{"{r}", "custom.x"}}) {
            if (const std::size_t at = target.find(variable); at != target.npos) {
                target.replace(at, 3, value);
            }
        }
        EXPECT_EQ(asked(target).verb, command.verb) << target;
        EXPECT_EQ(refused("DELETE", target).allow, "GET, HEAD");
    }
}

TEST(Routes, NoPathLeadsToACommandThatChangesSomething) {
    for (const control::Command& command : control::commands()) {
        const std::size_t space = command.rest.find(' ');
        if (command.access != control::Access::change || space == command.rest.npos) {
            continue;
        }
        std::string target = std::string(api_root) + std::string(command.rest.substr(space + 1));
        if (const std::size_t at = target.find("{m}"); at != target.npos) {
            target.replace(at, 3, "web");
        }
        EXPECT_EQ(refused(command.rest.substr(0, space), target).status, 405u) << target;
    }
}

TEST(Routes, ModuleAndParametersBecomeOptions) {
    const Question log = asked("/api/v1/modules/web/log?lines=20&debug=1");
    EXPECT_EQ(log.verb, "log");
    EXPECT_EQ(log.module, "web");
    EXPECT_THAT(log.options, ElementsAre(Pair("A", "on"), Pair("s", "20")));
    EXPECT_EQ(asked("/api/v1/log?lines=5").module, "");
    EXPECT_THAT(asked("/api/v1/modules/web/state?verbose").options, ElementsAre(Pair("v", "on")));
    EXPECT_THAT(asked("/api/v1/modules/web/state?verbose=0").options, ElementsAre());
    const Question resources = asked("/api/v1/modules/web/resources/");
    EXPECT_EQ(resources.verb, "state");
    EXPECT_EQ(resources.pick, "/detail/resources");
    EXPECT_THAT(asked("/api/v1/modules/web/resources/custom%2Edisk").options, ElementsAre(Pair("r", "custom.disk")));
    EXPECT_EQ(asked("/api/v1/modules/web").pick, "/modules/0");
    EXPECT_EQ(asked("/api/v1/modules").verb, "module list");
    EXPECT_EQ(asked("/api/v1/modules/db/mirror").verb, "mirror status");
}

TEST(Routes, WhatIsWrongIsToldWithWhatIsAllowed) {
    EXPECT_THAT(refused("GET", "/api/v1/nosuch").allowed, Contains("/api/v1/modules/{m}/state"));
    EXPECT_THAT(refused("GET", "/api/v1/modules/web/log?size=1").allowed, ElementsAre("lines", "debug"));
    for (const char* lines : {"x", "-1", "10001", "1e3", "", "99999999999999999999"}) {
        const Refusal bad = refused("GET", std::string("/api/v1/modules/web/log?lines=") + lines);
        EXPECT_EQ(bad.status, 400u) << lines;
        EXPECT_THAT(bad.allowed, ElementsAre("0..10000"));
    }
    EXPECT_EQ(refused("GET", "/api/v1/modules/%2e%2e/state").status, 404u);
    EXPECT_EQ(refused("GET", "/api/v1/modules/a%0ab/state").status, 404u);
    EXPECT_EQ(refused("GET", "/api/v1/modules/a%zz/state").status, 404u);
    EXPECT_EQ(refused("GET", "/api/v1/modules/%/state").status, 404u);
    EXPECT_EQ(refused("GET", "/api/v2/modules").status, 404u);
    EXPECT_EQ(refused("GET", "/api/v1modules").status, 404u);
    // The user log holds what scripts print: not over HTTP.
    EXPECT_EQ(refused("GET", "/api/v1/modules/web/log?u=1").status, 400u);
}

TEST(Routes, TheIndexListsPathsAndTheirParameters) {
    EXPECT_TRUE(std::holds_alternative<ShowIndex>(route("GET", "/api/v1/")));
    EXPECT_TRUE(std::holds_alternative<ShowIndex>(route("GET", "/api/v1")));
    EXPECT_EQ(refused("PUT", "/api/v1/").allow, "GET, HEAD");
    const std::string index = boost::json::serialize(index_of_paths("9.9"));
    for (const char* text :
         {"/api/v1/cluster/state", "/api/v1/modules/{m}/log", "\"lines\"", "\"token\":true", "9.9"}) {
        EXPECT_THAT(index, HasSubstr(text));
    }
    EXPECT_THAT(index, Not(HasSubstr("start")));
}

TEST(Answers, ExitCodesBecomeStatusCodes) {
    const auto status = [](const char* answer) { return reply_to({}, boost::json::parse(answer).as_object()).status; };
    EXPECT_EQ(status(R"({"exit":0,"data":{}})"), 200u);
    EXPECT_EQ(status(R"({"exit":1,"data":{}})"), 200u);
    EXPECT_EQ(status(R"({"exit":64,"error":"x"})"), 400u);
    EXPECT_EQ(status(R"({"exit":66,"error":"x"})"), 404u);
    EXPECT_EQ(status(R"({"exit":77,"error":"x"})"), 403u);
    EXPECT_EQ(status(R"({"exit":77,"error":"x","token_missing":true})"), 401u);
    EXPECT_EQ(status(R"({"exit":78,"error":"x"})"), 409u);
    EXPECT_EQ(status(R"({"exit":75,"error":"x"})"), 504u);
    EXPECT_EQ(status(R"({"exit":70})"), 500u);
    EXPECT_EQ(status(R"({})"), 500u);
}

TEST(Answers, OnlyThePartAskedForIsShown) {
    const auto data =
        boost::json::parse(R"({"exit":0,"data":{"modules":[{"name":"web"}],"detail":{"resources":[1]}}})");
    EXPECT_EQ(boost::json::serialize(reply_to(asked("/api/v1/modules/web"), data.as_object()).body),
              R"({"name":"web"})");
    EXPECT_EQ(boost::json::serialize(reply_to(asked("/api/v1/modules/web/resources"), data.as_object()).body), "[1]");
    const auto stopped = boost::json::parse(R"({"exit":0,"data":{"modules":[]}})");
    EXPECT_EQ(reply_to(asked("/api/v1/modules/web/resources"), stopped.as_object()).status, 409u);
    const auto no = boost::json::parse(R"({"exit":1,"error":"it is in WAIT"})");
    EXPECT_EQ(reply_to(asked("/api/v1/modules/db/mirror"), no.as_object()).status, 409u);
    EXPECT_EQ(boost::json::serialize(reply_to({}, boost::json::parse(R"({"exit":0,"text":"hi"})").as_object()).body),
              R"({"text":"hi"})");
}

TEST(ApiAccess, LocalCallersOnlyAndNoForeignNames) {
    const auto at = [](const char* text) { return boost::asio::ip::make_address(text); };
    const auto allowed = [&](const char* peer, const char* own, const char* host) {
        return !api_refusal(true, {at(peer), at(own), host});
    };
    EXPECT_TRUE(allowed("127.0.0.1", "127.0.0.1", "127.0.0.1:9010"));
    EXPECT_TRUE(allowed("::1", "::1", "[::1]:9010"));
    EXPECT_TRUE(allowed("::ffff:127.0.0.1", "::ffff:127.0.0.1", "localhost"));
    EXPECT_TRUE(allowed("192.0.2.7", "192.0.2.7", ""));
    EXPECT_FALSE(allowed("192.0.2.8", "192.0.2.7", "192.0.2.7"));
    EXPECT_FALSE(allowed("::ffff:192.0.2.8", "::ffff:192.0.2.7", "192.0.2.7"));
    EXPECT_FALSE(allowed("127.0.0.1", "127.0.0.1", "attacker.example"));
    EXPECT_FALSE(allowed("127.0.0.1", "127.0.0.1", "[attacker"));
    EXPECT_EQ(api_refusal(false, {at("127.0.0.1"), at("127.0.0.1"), ""})->status, 404u);
}

TEST(ApiAccess, FromAnotherMachineOnlyWithTheTokenAndOverTls) {
    Caller caller{boost::asio::ip::make_address("192.0.2.8"), boost::asio::ip::make_address("192.0.2.7"), "n.example"};
    EXPECT_EQ(api_refusal(true, caller)->status, 403u);
    caller.has_token = true;
    EXPECT_EQ(api_refusal(true, caller)->status, 403u) << "a token that went over the network in clear proves nothing";
    caller.tls = true;
    EXPECT_FALSE(api_refusal(true, caller)) << "whatever name it knows the node by";
    EXPECT_EQ(api_refusal(false, caller)->status, 404u);
    caller.has_token = false;
    EXPECT_EQ(api_refusal(true, caller)->status, 401u);
}

TEST(ApiAccess, TokensComeAsBearer) {
    EXPECT_EQ(bearer_token("Bearer abc"), "abc");
    EXPECT_EQ(bearer_token("bearer  abc"), "abc");
    EXPECT_EQ(bearer_token("Basic abc"), "");
    EXPECT_EQ(bearer_token("Bearer "), "");
    EXPECT_EQ(bearer_token(""), "");
}

} // namespace
} // namespace stead::web

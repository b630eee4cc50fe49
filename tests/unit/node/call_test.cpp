// SPDX-License-Identifier: Apache-2.0
#include <stead/control/channel.hpp>
#include <stead/node/call.hpp>

#include <gtest/gtest.h>

namespace stead::node {
namespace {

// Goal: only an answer that says so leaves no line in the command log.
TEST(Answer, SaysThatNothingChanged) {
    const auto with = [](boost::json::value data) {
        Answer answer = Answer::done("");
        answer.data = std::move(data);
        return answer;
    };
    EXPECT_TRUE(with(boost::json::object{{"changed", false}}).changed_nothing());
    EXPECT_FALSE(with(boost::json::object{{"changed", true}}).changed_nothing());
    EXPECT_FALSE(with(boost::json::object{{"changed", "no"}}).changed_nothing());
    EXPECT_FALSE(with(boost::json::object{}).changed_nothing());
    EXPECT_FALSE(with(nullptr).changed_nothing());
}

// Goal: what a plugin wrote for --json is passed on as it is, and a broken answer is told as such.
TEST(Answer, CarriesTheJsonOfAPlugin) {
    EXPECT_EQ(Answer::of_json(R"({"processes":[],"complete":true})").data.at("complete"), true);
    EXPECT_EQ(Answer::of_json("usage: errd list").exit, control::exit_code::internal);
}

// Goal: the largest log that a module keeps, two files of 4 MiB, goes into one answer.
TEST(Answer, HoldsAWholeLog) {
    const std::vector<std::string> lines((8u << 20) / 100, std::string(99, 'x'));
    for (const bool json : {false, true}) {
        EXPECT_TRUE(control::encode_frame(Answer::of_lines(lines, json).to_json())) << json;
    }
    EXPECT_TRUE(control::encode_frame(Answer::too_long().to_json()));
}

} // namespace
} // namespace stead::node

// SPDX-License-Identifier: Apache-2.0
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

} // namespace
} // namespace stead::node

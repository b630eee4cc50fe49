// SPDX-License-Identifier: Apache-2.0
// Goal: every example in docs/lua.md works. Method: run each block marked lua as a hook.
#include "hook_fixture.hpp"

namespace stead::script::test {

struct LuaGuide : HookTest {};

TEST_F(LuaGuide, EveryExampleRuns) {
    const auto text = read_file(STEAD_SOURCE "/docs/lua.md", 1u << 20);
    ASSERT_TRUE(text);
    int blocks = 0;
    for (std::size_t at = 0; (at = text->find("\n```lua\n", at)) != std::string::npos; ++blocks) {
        at += 8;
        const std::size_t end = text->find("\n```", at);
        ASSERT_NE(end, std::string::npos);
        const std::string block = text->substr(at, end + 1 - at);
        const HookResult result = lua(block, {"WAIT", "UP", "start"});
        EXPECT_TRUE(result.ok()) << result.reason << "\n" << block;
        at = end;
    }
    EXPECT_GE(blocks, 15);
}

} // namespace stead::script::test

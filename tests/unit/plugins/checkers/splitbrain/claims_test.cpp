// SPDX-License-Identifier: Apache-2.0
// Nodes as witnesses: the test is the host, and says what they answer.
#include <ballot.hpp>

#include <stead/test/fake_host.hpp>

#include <gmock/gmock.h>

#include <condition_variable>
#include <cstdlib>
#include <mutex>

namespace {

using stead::splitbrain::Ballot;
using stead::test::Element;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

const stead_plugin_descriptor& plugin() {
    static const auto& loaded = stead::test::load_plugin(SPLITBRAIN_PLUGIN);
    return loaded;
}

Element service(const std::string& exec, const std::string& arg) {
    return {"service",
            {{"mode", "farm"}},
            {{"check",
              {},
              {{"splitbrain", {{"ident", "w"}, {"exec", exec}, {"arg", arg}, {"timeout", "300000000"}}, {}}}}}};
}

struct Question {
    std::string node, key;
    std::uint64_t counter{};
    std::uint32_t holder{};
    std::uint64_t token{};
};

class Claims : public ::testing::Test {
protected:
    Claims() {
        now_ = this;
        host_.c.self = 1;
        host_.c.ask_witness = [](void*, stead_str node, stead_str key, std::uint64_t counter, std::uint32_t holder,
                                 std::uint64_t) { return now_->ask(node, key, counter, holder); };
    }
    ~Claims() override { running_.reset(); }

    void begin(const char* mode, const std::string& exec, const std::string& arg) {
        host_.c.mode = stead::plugin::to_c(mode);
        running_.emplace(plugin(), host_, service(exec, arg));
        running_->arm(STEAD_WHEN_PRE);
        view(0b11, 0, 7);
    }
    void view(std::uint64_t members, std::uint64_t dead, std::uint64_t epoch = 8) {
        stead_view next{};
        next.self = 1;
        next.members = members;
        next.dead = dead;
        next.epoch = epoch;
        plugin().on_view(running_->self(), &next);
    }
    void isolate() { view(0b10, 0b01); }
    void claim(const char* text) {
        const stead_str value = text != nullptr ? stead::plugin::to_c(text) : stead_str{nullptr, 0};
        plugin().on_resource(running_->self(), 1, stead::plugin::to_c("splitbrain.claim"), value);
    }
    std::uint64_t ask(stead_str node, stead_str key, std::uint64_t counter, std::uint32_t holder) {
        const std::lock_guard lock(mutex_);
        if (stead::plugin::to_view(node) == "nosuch") {
            return 0;
        }
        asked_.push_back(
            {stead::test::FakeHost::text(node), stead::test::FakeHost::text(key), counter, holder, ++last_token_});
        changed_.notify_all();
        return last_token_;
    }
    /// The oldest question to the node that nobody answered yet.
    Question question(const std::string& node) {
        std::unique_lock lock(mutex_);
        Question found;
        const bool came = changed_.wait_for(lock, 20s, [&] {
            for (auto it = asked_.begin(); it != asked_.end(); ++it) {
                if (it->node == node) {
                    found = *it;
                    asked_.erase(it);
                    return true;
                }
            }
            return false;
        });
        EXPECT_TRUE(came) << node << " was not asked";
        return found;
    }
    Question answer(const std::string& node, stead_witness_verdict verdict) {
        const Question asked = question(node);
        plugin().on_witness(running_->self(), asked.token, verdict);
        return asked;
    }
    std::size_t open() {
        const std::lock_guard lock(mutex_);
        return asked_.size();
    }

    static inline Claims* now_{};
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Question> asked_;
    std::uint64_t last_token_{};
    stead::test::FakeHost host_;
    std::optional<stead::test::Running> running_;
};

TEST_F(Claims, TheFirstOfTwoIsolatedNodesGoesOn) {
    begin("farm", "cas", "node3");
    isolate();
    const Question asked = answer("node3", STEAD_WITNESS_GRANTED);
    EXPECT_EQ(asked.key, "isolation");
    EXPECT_EQ(asked.counter, 7U) << "the epoch of the last view with others: the other node names it too";
    EXPECT_EQ(asked.holder, 1U);
    EXPECT_TRUE(host_.wait("splitbrain.uptodate", "up"));
    EXPECT_EQ(host_.resource("splitbrain.w"), "up");
    EXPECT_TRUE(host_.wait_log("isolated; witness node3: granted"));
    view(0b11, 0, 12);
    EXPECT_EQ(host_.resource("splitbrain.w"), "init");
    isolate();
    EXPECT_EQ(answer("node3", STEAD_WITNESS_REFUSED).counter, 12U);
    EXPECT_TRUE(host_.wait("splitbrain.uptodate", "down"));
    EXPECT_TRUE(host_.wait_log("another node goes on: node3: refused"));
    view(0b11, 0, 14);
    EXPECT_EQ(host_.resource("splitbrain.uptodate"), "up");
}

TEST_F(Claims, WithoutAWordItIsAskedAgain) {
    begin("farm", "ping", "node:node3");
    isolate();
    answer("node3", STEAD_WITNESS_UNANSWERED);
    EXPECT_TRUE(host_.wait("splitbrain.uptodate", "down"));
    EXPECT_EQ(answer("node3", STEAD_WITNESS_GRANTED).counter, 7U);
    EXPECT_TRUE(host_.wait("splitbrain.uptodate", "up"));
}

TEST_F(Claims, AHostThatNeverAnswersIsNoWord) {
    begin("farm", "cas", "node3");
    isolate();
    const Question late = question("node3");
    EXPECT_TRUE(host_.wait("splitbrain.uptodate", "down"));
    plugin().on_witness(running_->self(), late.token, STEAD_WITNESS_GRANTED);
    answer("node3", STEAD_WITNESS_REFUSED);
    EXPECT_TRUE(host_.wait_log("another node goes on")) << "the late answer was of a round that is over";
    EXPECT_EQ(host_.resource("splitbrain.uptodate"), "down");
}

TEST_F(Claims, InAMirrorItsOwnClaimDecides) {
    begin("mirror", "cas", "node3");
    isolate();
    EXPECT_EQ(host_.resource("splitbrain.w"), "init");
    EXPECT_EQ(open(), 0U) << "nobody claims but the mirror";
    claim("4711 17 1");
    const Question asked = answer("node3", STEAD_WITNESS_REFUSED);
    EXPECT_EQ(asked.key, "claim");
    EXPECT_EQ(asked.counter, 17U);
    EXPECT_EQ(asked.holder, 1U);
    EXPECT_TRUE(host_.wait("splitbrain.verdict", "4711 refused"));
    EXPECT_TRUE(host_.wait("splitbrain.w", "down"));
    claim("4712 18 1");
    answer("node3", STEAD_WITNESS_GRANTED);
    EXPECT_TRUE(host_.wait("splitbrain.verdict", "4712 granted"));
    EXPECT_TRUE(host_.wait("splitbrain.w", "up"));
    claim(nullptr);
    EXPECT_EQ(host_.resource("splitbrain.verdict"), "");
    view(0b11, 0);
    EXPECT_THAT(host_.history("splitbrain.uptodate"), ::testing::Each("up")) << "a wait rule would end who asks";
}

TEST_F(Claims, AClaimOfANodeThatIsNotIsolatedIsAnsweredToo) {
    begin("mirror", "cas", "node3");
    claim("1 2 0");
    answer("node3", STEAD_WITNESS_UNANSWERED);
    EXPECT_TRUE(host_.wait("splitbrain.verdict", "1 unanswered"));
    EXPECT_EQ(host_.resource("splitbrain.uptodate"), "up") << "nothing is in doubt";
    answer("node3", STEAD_WITNESS_GRANTED);
    EXPECT_TRUE(host_.wait("splitbrain.verdict", "1 granted")) << "asked again by itself";
    claim("two 2 0");
    EXPECT_TRUE(host_.wait_log("splitbrain.claim is 'two 2 0'; allowed: TOKEN COUNTER HOLDER"));
    for (const char* bad : {"", "1", "1 2", "1 2 0 ", "1 2 0 3", "1 -2 0", "1 2 99999999999"}) {
        claim("5 5 1");
        claim(bad);
        EXPECT_EQ(host_.resource("splitbrain.verdict"), "") << bad;
    }
}

TEST_F(Claims, AMajorityOfSeveralNodesDecides) {
    begin("mirror", "cas", "node3 node4, node5");
    isolate();
    claim("1 5 1");
    answer("node3", STEAD_WITNESS_GRANTED);
    answer("node5", STEAD_WITNESS_GRANTED);
    EXPECT_TRUE(host_.wait("splitbrain.verdict", "1 granted")) << "the third need not answer";
    EXPECT_TRUE(host_.wait_log(
        "claim 5 granted: 2 of 3 granted, 2 must: node3: granted; node4: no answer yet; node5: granted"));
    claim("2 6 1");
    question("node4");
    answer("node4", STEAD_WITNESS_REFUSED);
    answer("node3", STEAD_WITNESS_REFUSED);
    EXPECT_TRUE(host_.wait("splitbrain.verdict", "2 refused"));
}

// Goal: a person reads in state -v and in the log who gave which word, and that one that granted was not enough.
TEST_F(Claims, TheReasonNamesEachWitness) {
    begin("farm", "cas", "node3 node4 nosuch");
    isolate();
    answer("node4", STEAD_WITNESS_GRANTED);
    answer("node3", STEAD_WITNESS_UNANSWERED);
    ASSERT_TRUE(host_.wait("splitbrain.uptodate", "down"));
    const std::string why = "no majority of the witnesses grants: 1 of 3 granted, 2 must: node3: no answer; node4: "
                            "granted; nosuch: no such node in cluster.xml";
    EXPECT_TRUE(host_.wait_log("isolated, and " + why));
    EXPECT_TRUE(host_.wait_reason("splitbrain.uptodate", why));
    EXPECT_TRUE(host_.wait_reason("splitbrain.w", why));
    answer("node4", STEAD_WITNESS_GRANTED);
    answer("node3", STEAD_WITNESS_GRANTED);
    EXPECT_TRUE(host_.wait_log("isolated; witnesses: 2 of 3 granted, 2 must: node3: granted; node4: granted"));
}

TEST_F(Claims, PingsAreAskedOnlyWithoutNodes) {
    begin("mirror", "ping", "127.0.0.1 node:node3");
    isolate();
    claim("1 5 1");
    answer("node3", STEAD_WITNESS_REFUSED);
    EXPECT_TRUE(host_.wait("splitbrain.verdict", "1 refused")) << "127.0.0.1 would have answered";
    EXPECT_EQ(running_->update(service("ping", "127.0.0.1")), "");
    EXPECT_TRUE(host_.wait("splitbrain.verdict", "1 granted"));
    EXPECT_EQ(running_->update(service("ping", "192.0.2.99")), "");
    EXPECT_TRUE(host_.wait("splitbrain.verdict", "1 unanswered"));
}

TEST_F(Claims, ANodeThatDoesNotExistGivesNoWord) {
    begin("farm", "cas", "nosuch");
    isolate();
    EXPECT_TRUE(host_.wait_log("no witness answers: nosuch: no such node in cluster.xml"));
    EXPECT_EQ(host_.resource("splitbrain.uptodate"), "down");
}

TEST(Ballot, OnlyAMajorityOfThoseNamedGrants) {
    const auto result = [](std::size_t voters, const std::string& votes) {
        Ballot ballot(voters);
        for (const char vote : votes) {
            ballot.vote(vote == 'g'   ? STEAD_WITNESS_GRANTED
                        : vote == 'r' ? STEAD_WITNESS_REFUSED
                                      : STEAD_WITNESS_UNANSWERED);
        }
        const auto found = ballot.result();
        return !found ? '-' : *found == STEAD_WITNESS_GRANTED ? 'g' : *found == STEAD_WITNESS_REFUSED ? 'r' : 'u';
    };
    EXPECT_EQ(result(1, ""), '-');
    EXPECT_EQ(result(1, "g"), 'g');
    EXPECT_EQ(result(1, "r"), 'r');
    EXPECT_EQ(result(1, "u"), 'u');
    EXPECT_EQ(result(1, "ug"), 'u') << "one vote each";
    EXPECT_EQ(result(2, "g"), '-');
    EXPECT_EQ(result(2, "gr"), 'r');
    EXPECT_EQ(result(2, "gu"), 'u');
    EXPECT_EQ(result(3, "gg"), 'g');
    EXPECT_EQ(result(3, "gu"), '-');
    EXPECT_EQ(result(3, "rr"), 'r');
    EXPECT_EQ(result(3, "gru"), 'u') << "the silent one may still grant";
    EXPECT_EQ(result(3, "guu"), 'u');
    EXPECT_EQ(result(3, "rru"), 'r');
    EXPECT_EQ(result(4, "ggr"), '-');
    EXPECT_EQ(result(4, "ggrr"), 'r') << "two candidates with two votes each: neither";
    EXPECT_EQ(result(5, "ggg"), 'g');
}

TEST(ClaimsCheck, FindingsHaveAPlace) {
    const auto one = [](const std::string& exec, const std::string& arg) {
        return stead::test::findings(plugin(), service(exec, arg));
    };
    EXPECT_THAT(one("cas", "node1 node2,node:node3"), ElementsAre());
    EXPECT_THAT(one("ping", "node:node1 192.0.2.1"), ElementsAre());
    EXPECT_THAT(one("cas", "tcp:192.0.2.1:443"), ElementsAre(HasSubstr("7: splitbrain/@arg: 'tcp:192.0.2.1:443': not "
                                                                       "the name of a node")));
    EXPECT_THAT(one("ping", "node:"), ElementsAre(HasSubstr("not the name of a node")));
    EXPECT_THAT(one("cas", "node1 node:node1"), ElementsAre(HasSubstr("named twice")));
    EXPECT_THAT(one("ping", "node1"), ElementsAre(HasSubstr("not an IP address")));
    EXPECT_THAT(one("cas", " "), ElementsAre(HasSubstr("0 witnesses")));
}

} // namespace

// SPDX-License-Identifier: Apache-2.0
#include <stead/net/net.hpp>
#include <stead/plugin.hpp>
#include <stead/test/fake_host.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>

namespace stead::farm {
namespace {

using test::Element;
using test::Xml;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;

Element rule(std::vector<std::pair<std::string, std::string>> attributes) {
    return {"rule", std::move(attributes), {}};
}

Element configuration(const std::string& type, std::vector<Element> rules) {
    return {"service",
            {},
            {{"farm", {{"backend", "ebpf"}}, {}},
             {"vip",
              {{"drain", "0"}, {"movecap", "0"}, {"slowstart", "0"}},
              {{"interface_list",
                {},
                {{"interface",
                  {{"arpinterval", "60000000000"}},
                  {{"virtual_interface", {{"type", type}}, {{"virtual_addr", {{"addr", "192.0.2.50"}}, {}}}}}}}},
               {"loadbalancing_list", {}, {{"group", {{"name", "web"}}, std::move(rules)}}}}}}};
}

/// With the network functions that a farm of one needs, on a real interface.
struct FarmHost : test::FakeHost {
    std::vector<std::string> answers; ///< of transitions: "" = done
    std::uint32_t weight{};
    std::uint64_t digest{};
    std::uint32_t ifindex{};

    static FarmHost& farm(void* context) { return static_cast<FarmHost&>(of(context)); }

    explicit FarmHost(std::uint32_t a_ifindex) : ifindex(a_ifindex) {
        c.set_weight = [](void* h, std::uint32_t wanted) { farm(h).weight = wanted; };
        c.set_config = [](void* h, std::uint64_t value) { farm(h).digest = value; };
        c.transition_done = [](void* h, std::uint64_t, std::int32_t ok, stead_str why) {
            farm(h).answers.push_back(ok != 0 ? "" : "refused: " + text(why));
        };
        c.add_address = [](void* h, const stead_address* a, char*, std::uint32_t) {
            return net::add_address(farm(h).ifindex, text(a->address)) ? 0 : -1;
        };
        c.remove_address = [](void* h, const stead_address* a) {
            static_cast<void>(net::remove_address(farm(h).ifindex, text(a->address)));
        };
        c.announce = [](void* h, const stead_address* a, const std::uint8_t* mac, char*, std::uint32_t) {
            net::Mac copy{};
            std::copy_n(mac, 6, copy.begin());
            return net::announce(farm(h).ifindex, text(a->address), copy) ? 0 : -1;
        };
        c.probe = [](void* h, const stead_address* a, std::uint64_t timeout, std::uint8_t* mac) {
            const auto found = net::probe(farm(h).ifindex, text(a->address), nanoseconds{timeout});
            if (found && found.value()) {
                std::copy(found.value()->begin(), found.value()->end(), mac);
                return 1;
            }
            return found ? 0 : -1;
        };
        c.find_interface = [](void*, const stead_address* a, char* name, std::uint32_t* index, std::uint8_t* mac) {
            const auto found = net::interface_for(text(a->address));
            if (!found) {
                return -1;
            }
            found.value().name.copy(name, 15);
            *index = found.value().index;
            std::copy(found.value().mac.begin(), found.value().mac.end(), mac);
            return 0;
        };
    }
};

class FarmPluginTest : public testing::Test {
protected:
    void SetUp() override {
        std::system("ip link del a0 2>/dev/null");
        ASSERT_EQ(std::system("ip link add a0 type veth peer name b0 && ip addr add 192.0.2.11/24 dev a0 && "
                              "ip link set a0 up && ip link set b0 up"),
                  0);
        plugin_ = &test::load_plugin(FARM_PLUGIN);
        host_ = std::make_unique<FarmHost>(net::interface_for("192.0.2.50").value().index);
    }
    void TearDown() override { std::system("ip link del a0 2>/dev/null"); }

    void view(std::uint32_t weight) {
        const stead_member member{0, weight, plugin::to_c("node1")};
        ++epoch_;
        const stead_view v{epoch_, epoch_, 1, 0, 0, 0, 1, &member};
        plugin_->on_lease(self_, host_->c.now(nullptr) + 60'000'000'000u);
        plugin_->on_view(self_, &v);
    }
    void move(stead_moment moment) {
        stead_transition t{};
        t.token = ++epoch_;
        t.moment = moment;
        plugin_->on_transition(self_, &t);
    }
    /// Runs the timers as they fall due until the transition was answered.
    std::string answer() {
        const Instant end = BootClock::now() + seconds{10};
        while (host_->answers.empty() && BootClock::now() < end) {
            const auto now = host_->c.now(nullptr);
            for (const auto& [id, at] : host_->timers()) {
                if (at != 0 && at <= now) {
                    host_->timer_ran(id);
                    plugin_->on_timer(self_, id);
                }
            }
        }
        const std::string first = host_->answers.empty() ? "no answer" : host_->answers.front();
        host_->answers.clear();
        return first;
    }
    bool has_address() { return std::system("ip addr show dev a0 | grep -q 192.0.2.50/32") == 0; }

    const stead_plugin_descriptor* plugin_{};
    std::unique_ptr<FarmHost> host_;
    void* self_{};
    std::uint64_t epoch_{};
};

// One node's whole life: prepare, open, change of power, close, release.
TEST_F(FarmPluginTest, LivesAndLeavesNothingBehind) {
    for (const std::string type : {"vmac_directed", "vmac_invisible"}) {
        const Xml xml{configuration(type, {rule({{"proto", "tcp"}, {"port", "80"}})})};
        char err[512]{};
        self_ = plugin_->create(&host_->c, xml.get(), err, sizeof err);
        ASSERT_NE(self_, nullptr) << err;
        EXPECT_NE(host_->digest, 0u);
        plugin_->start(self_);
        view(0);
        move(STEAD_MOMENT_PREPARE);
        EXPECT_EQ(answer(), "");
        EXPECT_TRUE(has_address());
        EXPECT_EQ(host_->weight, 0u);
        move(STEAD_MOMENT_OPEN);
        EXPECT_EQ(host_->weight, 1024u + 32u + 20u); // power 1, all twenty twentieths of it
        view(host_->weight);
        EXPECT_EQ(answer(), "");
        EXPECT_EQ(host_->resource("farm.web"), "100%");
        EXPECT_THAT(host_->log(), Contains("farm membership: node1 (group web)"));
        EXPECT_THAT(host_->log(), Contains("farm load: 65536/65536 (group web)"));

        const stead_str arguments[]{plugin::to_c("node1"), plugin::to_c("3")};
        char out[256]{};
        EXPECT_EQ(plugin_->on_command(self_, plugin::to_c("power"), arguments, 2, out, sizeof out), 0) << out;
        EXPECT_GE(host_->weight, 1024u);
        char text[4096]{};
        EXPECT_EQ(plugin_->on_command(self_, plugin::to_c("describe"), nullptr, 0, text, sizeof text), 0);
        EXPECT_THAT(text,
                    AllOf(HasSubstr("packet filter: "), HasSubstr("group web: power node1=1; packets accepted ")));
        const stead_str wrong[]{plugin::to_c("node9"), plugin::to_c("3")};
        EXPECT_EQ(plugin_->on_command(self_, plugin::to_c("power"), wrong, 2, out, sizeof out), -1);
        EXPECT_THAT(out, HasSubstr("node1"));

        move(STEAD_MOMENT_CLOSE);
        EXPECT_EQ(host_->weight, 0u);
        view(0);
        EXPECT_EQ(answer(), "");
        move(STEAD_MOMENT_RELEASE);
        EXPECT_EQ(answer(), "");
        EXPECT_FALSE(has_address());
        plugin_->stop(self_);
        plugin_->destroy(self_);
        EXPECT_EQ(std::system("tc filter show dev a0 ingress | grep -q ."), 256) << "a filter was left behind";
        EXPECT_THAT(host_->log(), testing::Not(Contains(HasSubstr("request"))));
        host_->clear();
    }
}

TEST_F(FarmPluginTest, RefusesToStartBesideAForeignOwner) {
    ASSERT_EQ(std::system("ip addr add 192.0.2.50/32 dev b0"), 0);
    const Xml xml{configuration("vmac_directed", {rule({{"proto", "tcp"}, {"port", "80"}})})};
    char err[512]{};
    self_ = plugin_->create(&host_->c, xml.get(), err, sizeof err);
    ASSERT_NE(self_, nullptr) << err;
    plugin_->start(self_);
    view(0);
    move(STEAD_MOMENT_PREPARE);
    EXPECT_THAT(answer(), HasSubstr("192.0.2.50 is in use"));
    plugin_->stop(self_);
    plugin_->destroy(self_);
}

TEST_F(FarmPluginTest, CheckNamesWhatTheSchemaCannotSay) {
    const auto findings = [&](const Element& root) {
        const Xml xml{root};
        std::string all;
        plugin_->check(xml.get(), &all, [](void* to, std::uint32_t, std::uint32_t, stead_str line) {
            *static_cast<std::string*>(to) += std::string{plugin::to_view(line)} + "\n";
        });
        return all;
    };
    EXPECT_EQ(findings(configuration("vmac_directed", {rule({{"proto", "tcp"}, {"port", "80"}})})), "");
    EXPECT_THAT(findings(configuration("vmac_invisible", {rule({{"proto", "arp"}})})), HasSubstr("'arp' needs"));
    EXPECT_THAT(findings(configuration("vmac_directed", {rule({{"proto", "tcp"}, {"filter", "on_ipid"}})})),
                HasSubstr("'on_ipid' is for proto=\"udp\""));
    EXPECT_THAT(findings(configuration("vmac_directed", {rule({{"proto", "tcp"}, {"port", "99999"}})})),
                HasSubstr("1..65535"));
    EXPECT_THAT(findings(configuration("vmac_directed", {rule({{"proto", "tcp"}, {"virtual_addr", "192.0.2.9"}})})),
                HasSubstr("192.0.2.9"));
}

} // namespace
} // namespace stead::farm

// SPDX-License-Identifier: Apache-2.0
#include <stead/net/net.hpp>
#include <stead/plugin.hpp>
#include <stead/test/fake_host.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

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

Element web_rule() { return rule({{"proto", "tcp"}, {"port", "80"}}); }

Element configuration(const std::string& type, std::vector<Element> rules, const std::string& vip = "192.0.2.50") {
    return {"service",
            {},
            {{"farm", {{"backend", "ebpf"}}, {}},
             {"vip",
              {{"drain", "0"}, {"movecap", "0"}, {"slowstart", "0"}},
              {{"interface_list",
                {},
                {{"interface",
                  {{"arpinterval", "60000000000"}},
                  {{"virtual_interface", {{"type", type}}, {{"virtual_addr", {{"addr", vip}}, {}}}}}}}},
               {"loadbalancing_list", {}, {{"group", {{"name", "web"}}, std::move(rules)}}}}}}};
}

/// With the network functions that a farm of one needs, on a real interface.
struct FarmHost : test::FakeHost {
    std::vector<std::string> answers; ///< of transitions: "" = done
    std::uint32_t weight{};
    std::uint64_t digest{};
    std::uint32_t ifindex{};
    std::string announced; ///< the MAC

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
            farm(h).announced = net::to_text(copy);
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
    void create(const Xml& xml) {
        char err[512]{};
        self_ = plugin_->create(&host_->c, xml.get(), err, sizeof err);
        ASSERT_NE(self_, nullptr) << err;
        plugin_->start(self_);
        view(0);
    }
    /// In service: prepared and opened, as far as the configuration opens by itself.
    void serve(const Xml& xml) {
        create(xml);
        move(STEAD_MOMENT_PREPARE);
        ASSERT_EQ(answer(), "");
        move(STEAD_MOMENT_OPEN);
        view(host_->weight);
        ASSERT_EQ(answer(), "");
    }
    void leave() {
        move(STEAD_MOMENT_RELEASE);
        EXPECT_EQ(answer(), "");
        plugin_->stop(self_);
        plugin_->destroy(self_);
    }
    bool wait_for(const std::string& command, milliseconds limit) {
        for (const Instant end = BootClock::now() + limit; BootClock::now() < end;) {
            if (std::system((command + " >/dev/null 2>&1").c_str()) == 0) {
                return true;
            }
        }
        return false;
    }
    /// The second-timer is the plugin's first: what the audit found is told then.
    void look() {
        const auto due = host_->timers();
        for (const auto& [id, at] : due) {
            if (at != 0) {
                plugin_->on_timer(self_, id);
            }
        }
    }
    bool has_address() { return std::system("ip addr show dev a0 | grep -q 192.0.2.50/32") == 0; }

    const stead_plugin_descriptor* plugin_{};
    std::unique_ptr<FarmHost> host_;
    void* self_{};
    std::uint64_t epoch_{};
};

// type="external": no address, no filter; a person's stop gives the balancer the whole drain, a rule's does not.
TEST_F(FarmPluginTest, ExternalWaitsForTheBalancerButNotWithABrokenApplication) {
    Element service = configuration("external", {});
    service.children[1].attributes[0] = {"drain", "700000000"};
    for (const bool automatic : {false, true}) {
        const Xml xml{service};
        serve(xml);
        EXPECT_FALSE(has_address());
        const Instant begun = BootClock::now();
        stead_transition close{};
        close.token = ++epoch_;
        close.moment = STEAD_MOMENT_CLOSE;
        close.automatic = automatic ? 1 : 0;
        plugin_->on_transition(self_, &close);
        EXPECT_EQ(host_->weight, 0u);
        view(0);
        EXPECT_EQ(answer(), "");
        const auto took = BootClock::now() - begun;
        EXPECT_TRUE(automatic ? took < milliseconds{600} : took >= milliseconds{700}) << took.count();
        leave();
    }
}

// One node's whole life: prepare, open, change of power, close, release.
TEST_F(FarmPluginTest, LivesAndLeavesNothingBehind) {
    for (const std::string type : {"vmac_directed", "vmac_invisible"}) {
        const Xml xml{configuration(type, {web_rule()})};
        create(xml);
        EXPECT_NE(host_->digest, 0u);
        move(STEAD_MOMENT_PREPARE);
        EXPECT_EQ(answer(), "");
        EXPECT_TRUE(has_address());
        EXPECT_EQ(host_->weight, 0u);
        move(STEAD_MOMENT_OPEN);
        EXPECT_EQ(host_->weight, 32u + 20u); // power 1, all twenty twentieths of it
        view(host_->weight);
        EXPECT_EQ(answer(), "");
        EXPECT_EQ(host_->resource("farm.web"), "100%");
        EXPECT_THAT(host_->log(), Contains("farm membership: node1 (group web)"));
        EXPECT_THAT(host_->log(), Contains("farm load: 65536/65536 (group web)"));

        const stead_str arguments[]{plugin::to_c("node1"), plugin::to_c("3")};
        char out[256]{};
        EXPECT_EQ(plugin_->on_command(self_, plugin::to_c("power"), arguments, 2, out, sizeof out), 0) << out;
        EXPECT_EQ(host_->weight, 3u * 32u + 20u);
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
    const Xml xml{configuration("vmac_directed", {web_rule()})};
    create(xml);
    move(STEAD_MOMENT_PREPARE);
    EXPECT_THAT(answer(), HasSubstr("192.0.2.50 is in use")); // the rules are switched off: nothing acts
    plugin_->stop(self_);
    plugin_->destroy(self_);
}

// The rule takes the module back to WAIT until the stranger has gone: a node that runs with the cluster.xml of before,
// or that is not heard, must not cost this node its start.
TEST_F(FarmPluginTest, WaitsUntilAForeignOwnerHasGone) {
    ASSERT_EQ(std::system("ip addr add 192.0.2.50/32 dev b0"), 0);
    const Xml xml{configuration("vmac_directed", {web_rule()})};
    create(xml);
    EXPECT_THAT(host_->rules(), Contains("address_taken: if (farm.address == down) then wait();"));
    move(STEAD_MOMENT_PREPARE);
    for (const Instant end = BootClock::now() + seconds{6};
         host_->resource("farm.address") != "down" && BootClock::now() < end;) {
        look();
    }
    EXPECT_EQ(host_->resource("farm.address"), "down");
    EXPECT_THAT(host_->reason("farm.address"), HasSubstr("192.0.2.50 is in use"));
    EXPECT_TRUE(host_->answers.empty()) << "it is the rule's to end the start";
    move(STEAD_MOMENT_RELEASE);
    EXPECT_EQ(answer(), "");
    for (int looks = 0; looks < 4; ++looks) {
        look();
    }
    EXPECT_EQ(host_->resource("farm.address"), "down");
    ASSERT_EQ(std::system("ip addr del 192.0.2.50/32 dev b0"), 0);
    look();
    EXPECT_EQ(host_->resource("farm.address"), "down") << "one unanswered question may be a lost one";
    look();
    EXPECT_EQ(host_->resource("farm.address"), "up");
    move(STEAD_MOMENT_PREPARE);
    EXPECT_EQ(answer(), "");
    EXPECT_TRUE(has_address());
    leave();
}

TEST_F(FarmPluginTest, StartsBesideAForeignOwnerWhereOthersServe) {
    ASSERT_EQ(std::system("ip addr add 192.0.2.50/32 dev b0"), 0);
    const Xml xml{configuration("vmac_directed", {web_rule()})};
    create(xml);
    const stead_member members[]{{0, 0, plugin::to_c("node1")}, {1, 32, plugin::to_c("node2")}};
    ++epoch_;
    const stead_view both{epoch_, epoch_, 3, 0, 0, 0, 2, members};
    plugin_->on_view(self_, &both);
    move(STEAD_MOMENT_PREPARE);
    EXPECT_EQ(answer(), "");
    EXPECT_TRUE(has_address());
    EXPECT_THAT(host_->log(), Contains(HasSubstr("192.0.2.50 is in use")));
    move(STEAD_MOMENT_RELEASE);
    EXPECT_EQ(answer(), "");
    plugin_->stop(self_);
    plugin_->destroy(self_);
}

// A bond's failover or a bridge's new port changes the MAC of the interface: clients know the old one.
TEST_F(FarmPluginTest, AnnouncesANewMac) {
    const Xml xml{configuration("vmac_directed", {web_rule()})};
    serve(xml);
    EXPECT_NE(host_->announced, "");
    ASSERT_EQ(std::system("ip link set a0 address 02:00:00:00:00:77"), 0);
    look();
    EXPECT_EQ(host_->announced, "02:00:00:00:00:77");
    leave();
}

Element& vip_of(Element& root) { return root.children[1]; }

/// Two groups in which node1 has these powers.
Element two_groups(const std::string& first, const std::string& second) {
    Element root = configuration("vmac_directed", {web_rule()});
    auto& groups = vip_of(root).children[1].children;
    groups.push_back({"group", {{"name", "dns"}}, {rule({{"proto", "udp"}, {"port", "53"}})}});
    for (const auto& [group, power] : {std::pair{0, first}, std::pair{1, second}}) {
        groups[static_cast<std::size_t>(group)].children.push_back(
            {"cluster", {}, {{"host", {{"name", "node1"}, {"power", power}}, {}}}});
    }
    return root;
}

TEST_F(FarmPluginTest, PowersOfSeveralGroupsChangeWhileItRuns) {
    const Xml xml{two_groups("3", "1")}, later{two_groups("2", "0")}, alike{two_groups("4", "4")};
    serve(xml);
    const auto digest = host_->digest;
    const auto describe = [this] {
        char text[4096]{};
        EXPECT_EQ(plugin_->on_command(self_, plugin::to_c("describe"), nullptr, 0, text, sizeof text), 0);
        return std::string{text};
    };
    EXPECT_THAT(describe(), AllOf(HasSubstr("group web: power node1=3;"), HasSubstr("group dns: power node1=1;")));
    EXPECT_EQ(host_->resource("farm.dns"), "100%");
    const auto before = host_->weight;
    char err[256]{};
    EXPECT_EQ(plugin_->on_update(self_, later.get(), err, sizeof err), 0) << err;
    EXPECT_NE(host_->weight, before) << "membership must see a change to agree on";
    view(host_->weight);
    answer();
    EXPECT_THAT(describe(), AllOf(HasSubstr("group web: power node1=2;"), HasSubstr("group dns: power node1=0;")));
    EXPECT_EQ(host_->resource("farm.dns"), "0%");
    EXPECT_EQ(host_->resource("farm.web"), "100%");
    const stead_str arguments[]{plugin::to_c("node1"), plugin::to_c("7")};
    char out[256]{};
    EXPECT_EQ(plugin_->on_command(self_, plugin::to_c("power"), arguments, 2, out, sizeof out), 0) << out;
    EXPECT_EQ(host_->weight, 7u * 32u + 20u) << "an override counts in every group";
    EXPECT_EQ(plugin_->on_update(self_, alike.get(), err, sizeof err), 0) << err;
    EXPECT_EQ(host_->weight, 4u * 32u + 20u) << "a new configuration ends it";
    leave();
    create(later);
    EXPECT_EQ(host_->digest, digest) << "nodes that read other powers belong to one farm";
    plugin_->stop(self_);
    plugin_->destroy(self_);
}

TEST_F(FarmPluginTest, ScriptsHoldTheGate) {
    Element root = configuration("vmac_directed", {web_rule()});
    vip_of(root).attributes.emplace_back("scriptcontrol", "on");
    const Xml xml{root};
    const auto gate = [this](const char* value) {
        plugin_->on_resource(self_, 0, plugin::to_c("farm.gate"), plugin::to_c(value));
    };
    create(xml);
    gate("up");
    EXPECT_EQ(host_->weight, 0u) << "there is no address yet";
    move(STEAD_MOMENT_PREPARE);
    EXPECT_EQ(host_->resource("farm.gate"), "down");
    EXPECT_EQ(answer(), "");
    gate("up");
    EXPECT_EQ(host_->weight, 52u) << "a start script opens it";
    view(host_->weight);
    move(STEAD_MOMENT_OPEN);
    EXPECT_EQ(answer(), "");
    gate("down");
    EXPECT_EQ(host_->weight, 0u);
    gate("up");
    move(STEAD_MOMENT_CLOSE);
    EXPECT_EQ(answer(), "");
    EXPECT_EQ(host_->weight, 52u) << "closing is left to stop_both";
    leave();
    EXPECT_EQ(host_->weight, 0u) << "but never later than the address goes";
}

TEST_F(FarmPluginTest, ConnectionsThatAreLeftAreReset) {
    for (const bool reset : {true, false}) {
        Element root = configuration("vmac_directed", {web_rule()});
        vip_of(root).attributes.emplace_back("tcpreset", reset ? "on" : "off");
        const Xml xml{root};
        serve(xml);
        const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in vip{AF_INET, htons(80), {::inet_addr("192.0.2.50")}, {}};
        const int one = 1;
        ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&vip), sizeof vip), 0);
        ASSERT_EQ(::listen(listener, 1), 0);
        ASSERT_EQ(::connect(client, reinterpret_cast<sockaddr*>(&vip), sizeof vip), 0);
        const int server = ::accept(listener, nullptr, nullptr);
        leave();
        char byte{};
        errno = 0;
        EXPECT_EQ(::recv(server, &byte, 1, MSG_DONTWAIT), -1);
        const bool gone = errno == ECONNABORTED || errno == ECONNRESET; // both ends have the address here
        EXPECT_TRUE(reset ? gone : errno == EAGAIN) << errno;
        for (const int fd : {server, client, listener}) {
            ::close(fd);
        }
    }
}

TEST_F(FarmPluginTest, AFilterThatIsTakenAwayComesBackInPlace) {
    const Xml xml{configuration("vmac_invisible", {web_rule()})};
    serve(xml);
    const std::string there = "tc filter show dev a0 ingress | grep -q stead_ingress && "
                              "tc filter show dev a0 egress | grep -q stead_egress && "
                              "ip link show dev a0 | grep -q 'prog/xdp'";
    ASSERT_EQ(std::system(there.c_str()), 0);
    for (const char* harm : {"tc qdisc del dev a0 clsact", "tc filter del dev a0 egress", "ip link set a0 xdp off"}) {
        ASSERT_EQ(std::system(harm), 0) << harm;
        EXPECT_TRUE(wait_for(there, seconds{2})) << harm << ": not put back";
        look();
        EXPECT_THAT(host_->log(), Contains(HasSubstr("was taken away; put back"))) << harm;
        host_->clear();
    }
    EXPECT_THAT(host_->resource("farm.filter"), testing::AnyOf("", "up"));
    // Who insists is told of, and the module leaves.
    const auto told = [this](const char* line) { return testing::Value(host_->log(), Contains(HasSubstr(line))); };
    for (int i = 0; i < 30 && !told("again and again"); ++i) {
        std::system("tc qdisc del dev a0 clsact 2>/dev/null");
        wait_for("tc qdisc show dev a0 | grep -q clsact", milliseconds{500});
        look();
    }
    EXPECT_THAT(host_->log(), Contains(HasSubstr("again and again")));
    EXPECT_THAT(host_->log(), Contains(HasSubstr("request stopstart")));
    EXPECT_EQ(host_->resource("farm.filter"), "down");
    leave();
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
    EXPECT_THAT(findings(configuration("vmac_directed", {rule({{"proto", "tcp"}}), web_rule()})),
                HasSubstr("never reached"));
    EXPECT_EQ(findings(configuration("vmac_directed", {web_rule(), rule({{"proto", "tcp"}})})), "");
    EXPECT_THAT(findings(configuration("vmac_directed", {rule({{"proto", "tcp"}, {"filter", "on_ipid"}})})),
                HasSubstr("'on_ipid' is for proto=\"udp\""));
    EXPECT_THAT(findings(configuration("vmac_directed", {rule({{"proto", "tcp"}, {"port", "99999"}})})),
                HasSubstr("1..65535"));
    EXPECT_THAT(findings(configuration("vmac_directed", {rule({{"proto", "tcp"}, {"virtual_addr", "192.0.2.9"}})})),
                HasSubstr("192.0.2.9"));
    Element unreal = configuration("vmac_invisible", {web_rule()});
    auto& interface = unreal.children.at(1).children.at(0).children.at(0).children.at(0);
    ASSERT_EQ(interface.name, "virtual_interface");
    interface.attributes.emplace_back("addr", "00:00:00:00:00:00");
    EXPECT_THAT(findings(unreal), HasSubstr("'00:00:00:00:00:00' is nobody's address"));
    Element named = configuration("vmac_directed", {web_rule()});
    auto& group = named.children.at(1).children.at(1).children.at(0);
    ASSERT_EQ(group.name, "group");
    for (const char* name : {"gate", "filter", "flooding", "mac.0", "vmac.0", "gates", "mac"}) {
        group.attributes = {{"name", name}};
        const bool taken = std::string_view{name} != "gates" && std::string_view{name} != "mac";
        EXPECT_EQ(findings(named).find("take another name") != std::string::npos, taken) << name;
    }
    const auto of_address = [&](const std::string& address, const std::string& vip) {
        return findings(configuration("vmac_directed", {rule({{"proto", "tcp"}, {"virtual_addr", address}})}, vip));
    };
    for (const char* wrong : {"192.0.2.500", "192.0.2.5O", "vip.example.com", ""}) { // not "all of them"
        EXPECT_THAT(of_address(wrong, "192.0.2.50"), HasSubstr("is no virtual_addr of this module")) << wrong;
    }
    for (const char* good : {"2001:DB8::50", "2001:db8:0:0::50", "[2001:db8::50]", "*"}) {
        EXPECT_EQ(of_address(good, "2001:db8::50"), "") << good;
    }
}

} // namespace
} // namespace stead::farm

// SPDX-License-Identifier: Apache-2.0
#include "fixture.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

namespace stead::config::test {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> findings(const std::string& xml, const Cluster* cluster = nullptr) {
    return texts(module(xml, cluster));
}

const std::string classic_farm = R"(<!DOCTYPE safe>
<safe>
  <macro name="SERVICES" value="nginx"/>
  <service mode="farm" boot="on" maxloop="3" loop_interval="24h">
    <farm><lan name="default"/></farm>
    <vip>
      <interface_list>
        <interface check="on" arpreroute="on">
          <virtual_interface type="vmac_directed">
            <virtual_addr addr="192.0.2.50" where="alias" check="on"/>
          </virtual_interface>
        </interface>
      </interface_list>
      <loadbalancing_list>
        <group name="web">
          <cluster><host name="node1" power="2"/><host name="node2" power="1"/></cluster>
          <rule port="80" proto="tcp" filter="on_addr"/>
          <rule port="53" proto="udp" filter="on_ipid"/>
        </group>
      </loadbalancing_list>
    </vip>
    <errd polltimer="10s"><proc name="%UNSET_SERVICE%" service="yes" action="restart" class="both"/></errd>
    <check><tcp ident="web80" when="both" action="restart"><to addr="127.0.0.1" port="80"/></tcp></check>
    <user><var name="SERVICES" value="%SERVICES%"/></user>
  </service>
</safe>
)";

const std::string classic_mirror = R"(<safe>
  <service mode="mirror" boot="auto" defaultprim="alone" failover="on">
    <heart pulse="700ms" timeout="30s"><heartbeat name="default"/><heartbeat name="repli" ident="flow"/></heart>
    <vip><interface_list><interface check="on" arpreroute="on"><real_interface>
      <virtual_addr addr="192.0.2.51" where="one_side_alias" check="on"/>
    </real_interface></interface></interface_list></vip>
    <rfs async="none" nbrei="6">
      <replicated dir="/srv/data" mode="read_only"><tocheck path="MARKER"/><notreplicated path="tmp"/></replicated>
    </rfs>
    <errd><proc name="postgresql" service="yes" action="restart" class="prim"/></errd>
    <check><splitbrain ident="witness" exec="ping" arg="192.0.2.1 192.0.2.2"/></check>
    <user/>
  </service>
</safe>
)";

TEST(Module, ClassicFarm) {
    ::unsetenv("UNSET_SERVICE");
    const auto checked = module(classic_farm);
    EXPECT_THAT(
        texts(checked),
        ElementsAre(
            HasSubstr("W u.xml:22: proc/@name: '%UNSET_SERVICE%' is neither a macro"),
            "W u.xml:22: <errd> is inactive, with all in it: no plugin in /opt/lib/stead/plugins provides it",
            "W u.xml:23: <check> is inactive, with all in it: no plugin in /opt/lib/stead/plugins provides it"));
    ASSERT_TRUE(checked.ok());
    const Module& m = *checked.value;
    EXPECT_EQ(m.mode_name(), "farm");
    EXPECT_EQ(m.settings.boot, "on");
    EXPECT_EQ(m.settings.maxloop, 3u);
    EXPECT_EQ(m.settings.loop_interval, std::chrono::hours{24});
    EXPECT_TRUE(m.user.present);
    EXPECT_EQ(m.vars.at("SERVICES"), "nginx");
    EXPECT_EQ(m.service.child("vip")->attribute("slowstart"), "0");
    EXPECT_EQ(m.service.child("errd"), nullptr);
    EXPECT_THAT(m.expanded_xml, HasSubstr("<to addr=\"127.0.0.1\" port=\"80\"/>"))
        << "scripts still read classic parts";
    EXPECT_THAT(m.expanded_xml, HasSubstr("<var name=\"SERVICES\" value=\"nginx\"/>"));
}

TEST(Module, ClassicMirrorNeedsItsPlugin) {
    const auto checked = module(classic_mirror);
    ASSERT_TRUE(checked.ok());
    EXPECT_EQ(checked.findings.size(), 5u) << "heart, real_interface, rfs, errd, check";
    EXPECT_TRUE(std::ranges::all_of(checked.findings, &Finding::warning));
    EXPECT_EQ(checked.value->mode, Module::Mode::mirror);
}

TEST(Module, ExpandedFileSaysTheSame) {
    const auto once = module(classic_farm);
    const auto twice = module(once.value->expanded_xml);
    ASSERT_TRUE(twice.ok());
    EXPECT_EQ(once.value->digest, twice.value->digest);
    EXPECT_EQ(once.value->expanded_xml, twice.value->expanded_xml);
}

TEST(Module, AllErrorsAtOnceInFileOrder) {
    EXPECT_THAT(
        findings("<safe>\n<service mode=\"farm\" bot=\"on\">\n<farm><lan/></farm>\n<vip drain=\"5x\"/>\n"
                 "<redis ident=\"x\"/>\n<usr/>\n</service></safe>"),
        ElementsAre(
            "E u.xml:2: service/@bot: unknown attribute with value 'on'; allowed: mode, boot, boot_delay, "
            "failover, defaultprim, maxloop, loop_interval, automatic_reboot; did you mean 'boot'?",
            "E u.xml:3: <lan> needs the attribute name; allowed: 1 to 63 letters, digits, '_', '.' or '-'",
            "E u.xml:4: vip/@drain: '5x' is not a time; allowed: a whole number with d, h, m, s, ms or us, such as "
            "400ms (a bare number is in ms)",
            "E u.xml:5: unknown element <redis> in <service>; allowed: failover, farm, user, vhost, vip; "
            "no plugin in /opt/lib/stead/plugins owns it",
            "E u.xml:6: unknown element <usr> in <service>; allowed: failover, farm, user, vhost, vip; no plugin "
            "in /opt/lib/stead/plugins owns it; did you mean <user>?"));
}

TEST(Module, GoldenErrors) {
    const auto only = [](const std::string& xml) {
        const auto all = findings(xml);
        EXPECT_EQ(all.size(), 1u) << ::testing::PrintToString(all);
        return all.empty() ? "" : all.front();
    };
    EXPECT_EQ(only("<saf/>"), "E u.xml:1: the top element is <saf>; allowed: <safe>");
    EXPECT_EQ(only("<safe/>"), "E u.xml:1: <safe> needs the element <service>");
    EXPECT_EQ(only("<safe><service/></safe>"),
              "E u.xml:1: <service> needs the attribute mode; allowed: farm, mirror, light");
    EXPECT_EQ(only("<safe><service mode=\"frm\"/></safe>"),
              "E u.xml:1: service/@mode: 'frm' is not a choice; allowed: farm, mirror, light; did you mean 'farm'?");
    EXPECT_EQ(only("<safe><service mode=\"farm\"/></safe>"), "E u.xml:1: <service> needs the element <farm>");
    EXPECT_EQ(only("<safe><service mode=\"light\"><farm><lan name=\"x\"/></farm></service></safe>"),
              "E u.xml:1: <farm> is not allowed in mode 'light'; allowed: mode farm");
    EXPECT_EQ(only(farm_file("<user/>\n<user/>")),
              "E u.xml:2: <user> may stand once in <service>; the first is in line 1");
    EXPECT_EQ(only(farm_file("<vip>hello</vip>")), "E u.xml:1: <vip>: text 'hello' is not allowed here");
    EXPECT_EQ(only(farm_file("<user userlogsize=\"0\"/>")),
              "E u.xml:1: user/@userlogsize: '0' is out of range; allowed: 1 to 1048576");
    EXPECT_EQ(only(farm_file("<user userlogsize=\"1k\"/>")),
              "E u.xml:1: user/@userlogsize: '1k' is not a whole number; allowed: 1 to 1048576");
    EXPECT_EQ(only(farm_file("<vip tcpreset=\"maybe\"/>")),
              "E u.xml:1: vip/@tcpreset: 'maybe' is neither on nor off; allowed: on, off");
    EXPECT_EQ(only(farm_file("<failover handle_time=\"10us\"/>")),
              "E u.xml:1: failover/@handle_time: '10us' rounds to 0 ms; allowed: 0, or at least 1ms");
    EXPECT_EQ(only(farm_file("<vhost><virtualhostname name=\"v\"/></vhost>")),
              "E u.xml:1: <virtualhostname> needs the attribute envfile; allowed: text");
    EXPECT_EQ(only(farm_file("<vhost/>")), "E u.xml:1: <vhost> needs the element <virtualhostname>");
    EXPECT_EQ(only(farm_file("<user><var name=\"A-B\" value=\"\"/></user>")),
              "E u.xml:1: var/@name: 'A-B' is not an environment variable; allowed: a letter or '_', then letters, "
              "digits or '_'");
}

TEST(Module, NamesOfVirtualAddressesAreReplaced) {
    const std::string xml = farm_file(R"(
<vip><interface_list><interface><virtual_interface type="vmac_directed">
<virtual_addr addr="www.example"/>
<virtual_addr addr="192.0.2.50"/>
</virtual_interface></interface></interface_list><loadbalancing_list><group name="web">
<rule virtual_addr="www.example" port="80"/></group></loadbalancing_list></vip>)");
    int asked = 0;
    const auto with = [&](const Result<std::vector<std::string>>& answer) {
        return parse_module(xml, "u.xml", schemas(), {nullptr, [&asked, answer](const std::string& name) {
                                                          EXPECT_EQ(name, "www.example");
                                                          ++asked;
                                                          return answer;
                                                      }});
    };
    const auto good = with(std::vector<std::string>{"192.0.2.7", "2001:db8::7"});
    EXPECT_THAT(texts(good), ElementsAre("W u.xml:3: virtual_addr/@addr: 'www.example' is 192.0.2.7 until the next "
                                         "'stead config'; its other address, 2001:db8::7, needs a <virtual_addr> of "
                                         "its own, written with digits"));
    ASSERT_TRUE(good.ok());
    EXPECT_EQ(asked, 1);
    EXPECT_THAT(good.value->addresses, ElementsAre(testing::Pair("www.example", "192.0.2.7")));
    EXPECT_THAT(good.value->expanded_xml, testing::Not(HasSubstr("www.example")));
    EXPECT_NE(good.value->digest, with(std::vector<std::string>{"192.0.2.8"}).value->digest);
    EXPECT_THAT(
        texts(with(Error{Errc::not_found, {}, "no such name"})),
        ElementsAre("E u.xml:3: virtual_addr/@addr: no such name", "E u.xml:6: rule/@virtual_addr: no such name"));
}

TEST(Module, AddressesOfAName) {
    EXPECT_EQ(addresses_of_name("localhost")->front(), "127.0.0.1");
    EXPECT_THAT(addresses_of_name("no-such-host.invalid").error().what,
                HasSubstr("the name 'no-such-host.invalid' has no address"));
}

// Goal: a variable that Stead would overwrite, or that takes the system's programs from scripts, is refused.
TEST(Module, ADraftIsWhatIsSound) {
    const std::string xml = R"(<safe><service mode="farm" maxloop="many">
<farm/>
<vip><interface_list><interface><virtual_interface type="vmac_directed">
<virtual_addr addr="192.0.2.50"/>
<virtual_addr where="alias"/>
</virtual_interface></interface></interface_list>
<loadbalancing_list><group name="web">
<rule port="80" proto="tcp" filter="on_addr"/>
<rule port="80" proto="tcpp" filter="on_addr"/>
</group></loadbalancing_list></vip>
<user><var name="A" value="1"/></user>
</service></safe>)";
    EXPECT_FALSE(module(xml).ok());
    const auto draft = draft_module(xml, schemas(), {});
    ASSERT_TRUE(draft.has_value());
    const Element& service = draft->module.service;
    const Element* vip = service.child("vip");
    ASSERT_NE(vip, nullptr);
    const Element& interface = vip->child("interface_list")->children.at(0).children.at(0);
    ASSERT_EQ(interface.children.size(), 1u); // not the one without an address
    EXPECT_EQ(interface.children[0].attribute("addr"), "192.0.2.50");
    EXPECT_EQ(vip->child("loadbalancing_list")->child("group")->children.size(), 1u);
    EXPECT_NE(service.child("user"), nullptr);
    EXPECT_THAT(draft->gaps, Contains(3));
    EXPECT_THAT(draft->gaps, Contains(7));
    EXPECT_THAT(draft->gaps, testing::Not(Contains(11)));
    const auto fram = draft_module("<safe><service mode='fram'><vip><loadbalancing_list/></vip><failover>x</failover>"
                                   "</service></safe>",
                                   schemas(), {});
    ASSERT_TRUE(fram.has_value()) << "a wrong mode hides nothing";
    EXPECT_EQ(fram->module.mode, Module::Mode::farm);
    EXPECT_EQ(fram->module.service.child("failover")->text, "x");
    EXPECT_EQ(draft_module("<safe><service/></safe>", schemas(), {})->module.mode, Module::Mode::mirror);
    EXPECT_FALSE(draft_module("<safe><service", schemas(), {}).has_value());
}

TEST(Module, ReservedVariables) {
    const auto with = [](const std::string& name, const std::string& value) {
        return findings(farm_file("<user><var name=\"" + name + "\" value=\"" + value + "\"/></user>"));
    };
    for (const char* name : {"SAFE", "SAFEBIN", "SAFEVAR", "SAFEMODULE", "SAFEUSERBIN", "SAFEUSERCONF", "SAFEUSERVAR",
                             "STEAD", "STEAD_NODE", "STEAD_LATER"}) {
        EXPECT_THAT(with(name, "/x"), ElementsAre(HasSubstr("E u.xml:1: var/@name: '" + std::string{name} +
                                                            "' is set by Stead for every script; allowed: any name "
                                                            "but SAFE, SAFEBIN")))
            << name;
    }
    for (const char* name : {"SAFE_DIR", "SAFEX", "STEADY", "HOME", "LANG", "TZ", "SERVICES"}) {
        EXPECT_THAT(with(name, "/x"), IsEmpty()) << name;
    }
    EXPECT_THAT(with("PATH", "/opt/app/bin:/opt/b"), IsEmpty());
    for (const char* path : {"", "bin", "/opt/app/bin:bin", ".:/bin"}) {
        EXPECT_THAT(with("PATH", path), ElementsAre(HasSubstr("allowed: absolute folders with ':' between them")));
    }
}

TEST(Module, WarnedAndIgnored) {
    EXPECT_THAT(findings("<safe><service mode=\"farm\"><farm mlost_count=\"20\" winonly=\"%A b\"><lan "
                         "name=\"x\"/></farm></service></safe>"),
                ElementsAre("W u.xml:1: farm/@mlost_count is ignored; all are watched alike",
                            "W u.xml:1: farm/@winonly is for Windows only, and ignored"));
}

TEST(Module, NamesOfClusterXml) {
    const auto cluster = parse_cluster(R"(<cluster><lans><lan name="net"><node name="node1" addr="192.0.2.1"/>
        <node name="node3" addr="192.0.2.3"/></lan></lans></cluster>)",
                                       "c")
                             .value;
    EXPECT_THAT(findings(classic_farm, &*cluster),
                ::testing::IsSupersetOf(
                    {"E u.xml:5: lan/@name: 'default' is not a LAN of cluster.xml; allowed: net",
                     "E u.xml:16: host/@name: 'node2' is not a node of cluster.xml; allowed: node1, node3"}));
}

Checked<Module> with_var(const std::string& value, const std::string& macros) {
    return module(farm_file("<user><var name=\"V\" value=\"" + value + "\"/></user>", macros));
}

TEST(Macros, Expand) {
    ::setenv("STEAD_TEST_ENV", "from env", 1);
    ::setenv("STEAD_TEST_BOTH", "env", 1);
    const std::string macros = "<macro name=\"A\" value=\"a%B%\"/><macro name=\"B\" value=\"b\"/>"
                               "<macro name=\"STEAD_TEST_BOTH\" value=\"macro\"/><macro name=\"PC\" value=\"%\"/>";
    const auto value = [&](const std::string& text) {
        const auto checked = with_var(text, macros);
        EXPECT_TRUE(checked.ok()) << ::testing::PrintToString(texts(checked));
        return checked.ok() ? checked.value->vars.at("V") : "";
    };
    EXPECT_EQ(value("x%A%y%B%"), "xabyb");
    EXPECT_EQ(value("%STEAD_TEST_ENV%"), "from env");
    EXPECT_EQ(value("%STEAD_TEST_BOTH%"), "macro");
    EXPECT_EQ(value("50% of 60%"), "50% of 60%");
    EXPECT_EQ(value("%%"), "%%");
    EXPECT_EQ(value("%%B%%"), "%b%");
    EXPECT_EQ(value("%PC%B%PC%"), "%B%") << "the result is not read again";
}

TEST(Macros, Errors) {
    ::unsetenv("NOPE");
    EXPECT_THAT(texts(with_var("%NOPE%", "")),
                ElementsAre("E u.xml:1: var/@value: '%NOPE%' is neither a macro nor an environment variable; "
                            "define it with <macro name=\"NOPE\" value=\"...\"/>"));
    EXPECT_THAT(texts(with_var("%SERVICE_PROT%", "<macro name=\"SERVICE_PORT\" value=\"1\"/>")),
                ElementsAre(HasSubstr("did you mean '%SERVICE_PORT%'?")));
    EXPECT_THAT(texts(with_var("", "<macro name=\"A\" value=\"%B%\"/><macro name=\"B\" value=\"%A%\"/>")),
                Contains(testing::StartsWith("E u.xml:1: macro 'A' contains itself: A -> ")));
    EXPECT_THAT(texts(with_var("", "<macro name=\"A\"/>")),
                Contains("E u.xml:1: <macro> needs the attributes name and value"));
    EXPECT_THAT(texts(with_var("", "<macro name=\"1\" value=\"\"/>")), Contains(HasSubstr("'1' is not a macro name")));
}

TEST(Macros, BombIsHarmless) {
    std::string macros = "<macro name=\"M0\" value=\"0123456789\"/>";
    for (int i = 1; i < 60; ++i) {
        const auto before = "%M" + std::to_string(i - 1) + "%";
        macros += "<macro name=\"M" + std::to_string(i) + "\" value=\"" + before + before + "\"/>";
    }
    EXPECT_THAT(texts(with_var("%M59%", macros)), Contains(HasSubstr("longer than 65536 bytes after macros")));
}

TEST(Digest, OfTheMeaning) {
    const auto digest = [](const std::string& inside) { return module(farm_file(inside)).value->digest; };
    const auto base = digest("<vip slowstart=\"0s\" tcpreset=\"on\"/>");
    EXPECT_EQ(base, digest(" <!-- c -->\n<vip tcpreset=\"yes\"  slowstart=\"0ms\"/>"));
    EXPECT_EQ(base, digest("<vip/>")) << "defaults count as written";
    EXPECT_NE(base, digest("<vip drain=\"6s\"/>"));
    EXPECT_EQ(digest("<vip drain=\"5s\"/>"), digest("<vip drain=\"5000ms\"/>"));
}

TEST(Parts, EachPluginSeesItsOwnAndTheWayThere) {
    const auto set = schemas();
    const auto m = *module(classic_farm).value;
    const auto farm = m.part_for(set, "farm");
    EXPECT_NE(farm.child("farm"), nullptr);
    EXPECT_EQ(farm.child("user"), nullptr);
    ASSERT_NE(farm.child("vip"), nullptr);
    EXPECT_EQ(farm.child("vip")->attribute("slowstart"), "0");
    EXPECT_EQ(farm.child("vip")->child("loadbalancing_list")->child("group")->children.size(), 3u);
    EXPECT_TRUE(m.uses(set, "farm"));
    EXPECT_FALSE(m.uses(set, "mirror"));
    EXPECT_FALSE(module("<safe><service mode=\"light\"/></safe>").value->uses(set, "farm"));
    EXPECT_THAT(m.part_for(set, "other").children, IsEmpty());
}

TEST(Parts, AsAnElementTreeInC) {
    const auto m = *module(classic_farm).value;
    const CTree tree{m.service};
    const stead_xml* root = tree.root();
    EXPECT_EQ(std::string(root->name.data, root->name.size), "service");
    ASSERT_EQ(root->child_count, m.service.children.size());
    const stead_xml& farm = root->children[0];
    ASSERT_EQ(farm.child_count, 1u);
    const auto& name = farm.children[0].attrs[0];
    EXPECT_EQ(std::string(name.value.data, name.value.size), "default");
}

TEST(Plugins, ALibraryMakesItsElementLegal) {
    static constexpr stead_attr_schema ident[] = {
        {"ident", STEAD_TYPE_NAME, STEAD_ATTR_REQUIRED, nullptr, nullptr, nullptr, 0, 0, "name"}};
    static constexpr stead_elem_schema redis[] = {{"check/redis", nullptr, STEAD_ELEM_REPEATABLE, 1, ident, "a probe"}};
    auto set = schemas();
    set.owners.push_back({"redis", redis});
    const auto checked =
        parse_module(farm_file("<check><redis ident=\"r\"/>\n<tcp ident=\"t\"/>\n<rediz/></check>"), "u.xml", set, {});
    EXPECT_THAT(
        texts(checked),
        ElementsAre("W u.xml:2: <tcp> is inactive, with all in it: no plugin in /opt/lib/stead/plugins provides it",
                    "E u.xml:3: unknown element <rediz> in <check>; allowed: redis; no plugin in "
                    "/opt/lib/stead/plugins owns it; did you mean <redis>?"));
}

TEST(Failover, RulesAreKeptAsText) {
    const auto checked =
        module(farm_file("<failover><![CDATA[a: if (x == down) then stop();]]><![CDATA[--Lua Rules]]></failover>"));
    ASSERT_TRUE(checked.ok());
    EXPECT_EQ(checked.value->service.child("failover")->text, "a: if (x == down) then stop();\n\f\n--Lua Rules");
    EXPECT_TRUE(module(checked.value->expanded_xml).ok());
}

TEST(Failover, EachSectionOfTextKnowsWhereItStands) {
    const auto checked = module(farm_file("<failover>\n  <![CDATA[\na: x]]>\n\xc3\xa9 <![CDATA[b]]></failover>"));
    ASSERT_TRUE(checked.ok());
    const Element& failover = *checked.value->service.child("failover");
    ASSERT_EQ(failover.text_starts.size(), 2U);
    EXPECT_EQ(failover.text_starts[0].line, failover.line + 1);
    EXPECT_EQ(failover.text_starts[0].column, 12);
    EXPECT_EQ(failover.text_starts[1].line, failover.line + 3);
    EXPECT_EQ(failover.text_starts[1].column, 12);

    const auto plain = module(farm_file("<failover>\n\n  a: if (x.y == down) then stop();</failover>"));
    ASSERT_TRUE(plain.ok());
    EXPECT_EQ(plain.value->service.child("failover")->text_starts[0].line,
              plain.value->service.child("failover")->line);
}

TEST(Shipped, ModulesHaveNothingToReport) {
    for (const char* name : {"farm", "light", "lua_example", "mirror", "nginx_farm", "shell_farm"}) {
        const auto file = std::filesystem::path{STEAD_MODULES} / name / "conf/userconfig.xml";
        std::ifstream in{file};
        const std::string xml{std::istreambuf_iterator<char>{in}, {}};
        const auto checked = parse_module(xml, file.string(), schemas(), {});
        EXPECT_TRUE(checked.ok()) << name;
        for (const Finding& finding : checked.findings) { // plugins are not loaded here
            EXPECT_THAT(finding.message, testing::ContainsRegex("<(errd|check|heart|rfs|real_interface)>")) << name;
        }
    }
}

/// Mutations of real files: the answer is a value or errors, and each error has a line of the file.
TEST(Hostile, MutatedFilesGetAnAnswer) {
    std::mt19937 random{4711};
    const std::string pieces[] = {"<",   ">",  "\"",        "%",   "&",  "<!--", "<![CDATA[",
                                  "]]>", "/>", "<!DOCTYPE", "%X%", "\n", "'"};
    for (int round = 0; round < 3000; ++round) {
        std::string xml = round % 2 == 0 ? classic_farm : classic_mirror;
        for (int edits = 1 + static_cast<int>(random() % 4); edits > 0; --edits) {
            const auto at = random() % xml.size();
            switch (random() % 3) {
            case 0: xml.erase(at, 1 + random() % 20); break;
            case 1: xml.insert(at, pieces[random() % std::size(pieces)]); break;
            default: xml[at] = static_cast<char>(random()); break;
            }
        }
        const auto lines = static_cast<int>(std::ranges::count(xml, '\n')) + 1;
        const auto checked = module(xml);
        const bool errors = std::ranges::any_of(checked.findings, [](const Finding& f) { return !f.warning; });
        ASSERT_NE(checked.ok(), errors) << xml;
        for (const auto& finding : checked.findings) {
            ASSERT_TRUE(finding.line >= 1 && finding.line <= lines) << finding.text() << "\n" << xml;
            ASSERT_FALSE(finding.message.empty());
        }
    }
}

TEST(Reference, NamesEveryElementAndAttribute) {
    const auto text = reference_markdown(schemas());
    for (const auto& owner : schemas().owners) {
        for (const auto& element : owner.elements) {
            EXPECT_THAT(text, HasSubstr("`<" + std::string{element.path} + ">`"));
            for (std::uint32_t i = 0; i < element.attr_count; ++i) {
                EXPECT_THAT(text, HasSubstr("| `" + std::string{element.attrs[i].name} + "` |"));
            }
        }
    }
    EXPECT_EQ(text, reference_markdown(schemas()));
}

} // namespace
} // namespace stead::config::test

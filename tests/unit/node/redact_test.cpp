// SPDX-License-Identifier: Apache-2.0
// Goal: no secret leaves in a snapshot, and what is no secret stays.
#include <stead/node/redact.hpp>

#include <gmock/gmock.h>

namespace stead::node {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::UnorderedElementsAre;

TEST(Redact, NamesOfSecrets) {
    for (const char* name : {"PASSWORD", "db_pass", "MyToken", "API_KEY", "secret", "AWS_CREDENTIALS", "dbpwd"}) {
        EXPECT_TRUE(is_secret_name(name)) << name;
    }
    for (const char* name : {"SERVICES", "PORT", "", "VIP", "pas", "tok"}) {
        EXPECT_FALSE(is_secret_name(name)) << name;
    }
}

constexpr const char* xml = R"(<safe>
  <macro name="DB_PASSWORD" value="hunter2"/>
  <macro value='tok,en 5' name='API_TOKEN'/>
  <macro name="PORT" value="8080"/>
  <service><db password="sw0rdfish" user="app"/>
  <user><var name="DB_PASS" value="%DB_PASSWORD%"/><var name="FLAG_KEY" value="1"/></user></service></safe>)";

TEST(Redact, ValuesAreFoundInXml) {
    EXPECT_THAT(secret_values(xml), UnorderedElementsAre("hunter2", "tok,en 5", "sw0rdfish"));
}

TEST(Redact, XmlLosesThemAndNothingElse) {
    const std::string clean = redacted(xml, {});
    for (const char* secret : {"hunter2", "tok,en 5", "sw0rdfish"}) {
        EXPECT_THAT(clean, Not(HasSubstr(secret)));
    }
    EXPECT_THAT(clean, HasSubstr(R"x(<macro name="DB_PASSWORD" value="(removed)"/>)x"));
    EXPECT_THAT(clean, HasSubstr(R"(<macro name="PORT" value="8080"/>)"));
    EXPECT_THAT(clean, HasSubstr(R"(user="app")"));
}

// Goal: what applications print is the value without XML's escapes; awkward tags hide nothing.
TEST(Redact, EscapesAndAwkwardTags) {
    const std::string awkward =
        "<var name=\"DB_PASSWORD\" value=\"p&amp;w&lt;d&quot;9&#x41;&#66;\"/><var value=\"a>b1\" name=\"X_TOKEN\"/>"
        "<var name=\"value_key\" value=\"s3cret\"/><macro name = \"my.api-key\"\n value = 'two\nlines'/>"
        "<var name=\"A\" value=\"see the key\"/>";
    const std::set<std::string> secrets = secret_values(awkward);
    EXPECT_THAT(secrets, UnorderedElementsAre("p&amp;w&lt;d&quot;9&#x41;&#66;", "p&w<d\"9AB", "p&w<d\\\"9AB", "a>b1",
                                              "s3cret", "two\nlines"));
    EXPECT_EQ(redacted("login p&w<d\"9AB {\"p&w<d\\\"9AB\"}", secrets), "login (removed) {\"(removed)\"}");
    const std::string clean = redacted(awkward, {});
    for (const char* secret : {"p&amp;", "a>b1", "s3cret", "two", "lines"}) {
        EXPECT_THAT(clean, Not(HasSubstr(secret)));
    }
    EXPECT_THAT(clean, HasSubstr("value=\"see the key\""));
    EXPECT_EQ(redacted("abcdef abc", {"abc", "abcdef"}), "(removed) (removed)") << "nothing of the longer one is left";
}

TEST(Redact, ScriptsLogsAndJson) {
    const std::set<std::string> secrets{"hunter2"};
    EXPECT_EQ(redacted("export DB_PASS='a b c'; PGPASSWORD=xyz psql -p 5432\n", secrets),
              "export DB_PASS='(removed)'; PGPASSWORD=(removed) psql -p 5432\n");
    EXPECT_EQ(redacted("login with hunter2 failed", secrets), "login with (removed) failed");
    EXPECT_EQ(redacted(R"({"api_key": "k-1", "port": 1})", secrets), R"x({"api_key": "(removed)", "port": 1})x");
    EXPECT_EQ(redacted("token: abc def", secrets), "token: (removed) def");
    EXPECT_EQ(redacted("cluster key read again", secrets), "cluster key read again");
}

TEST(Redact, PrivateKeys) {
    const std::string clean = redacted("a\n-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\nb\n"
                                       "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
                                       {});
    EXPECT_THAT(clean, Not(HasSubstr("MHcC")));
    EXPECT_THAT(clean, HasSubstr("MIIB"));
    EXPECT_THAT(clean, HasSubstr("\nb\n"));
    EXPECT_THAT(redacted("-----BEGIN PRIVATE KEY-----\nabc", {}), Not(HasSubstr("abc")));
}

TEST(Redact, AnyBytesAreFine) {
    for (const char* text :
         {"KEY", "KEY=", "KEY=\"", "\"KEY\"", "\"KEY\":", "<var name=\"KEY\"", "<var name='KEY' value",
          "<var name='KEY' value='", "'KEY'=='", "-----BEGIN", "KEY=\n\n"}) {
        EXPECT_FALSE(redacted(text, {}).empty()) << text;
        (void)secret_values(text);
    }
}

} // namespace
} // namespace stead::node

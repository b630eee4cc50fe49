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
    for (const char* name :
         {"PASSWORD", "db_pass", "MyToken", "API_KEY", "secret", "AWS_CREDENTIALS", "dbpwd", "AUTH", "db_auth",
          "authHeader", "HTTPAuth2", "basic-auth", "Authorization", "BEARER", "bearer_id"}) {
        EXPECT_TRUE(is_secret_name(name)) << name;
    }
    for (const char* name :
         {"SERVICES", "PORT", "", "VIP", "pas", "tok", "author", "AUTHORITY", "co_author", "authenticate"}) {
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

TEST(Redact, OptionsOfCommandsThatTakeAPassword) {
    EXPECT_EQ(
        redacted("mysql -u root -pHunter2 shop\nmysqladmin '-phunter3' ping; /usr/bin/mariadb -p\"hunter 4\" x", {}),
        "mysql -u root -p(removed) shop\nmysqladmin '-p(removed)' ping; /usr/bin/mariadb -p\"(removed)\" x");
    EXPECT_EQ(redacted("sshpass -p hunter5 ssh -p 22 h\nredis-cli -a hunter6 -p 6379 ping", {}),
              "sshpass -p (removed) ssh -p (removed) h\nredis-cli -a (removed) -p 6379 ping");
    for (const char* same :
         {"mysql -p shop", "mkdir -p /srv/x; cp -a /x /y", "mysql shop\nmkdir -p/srv/x", "ps -p 12"}) {
        EXPECT_EQ(redacted(same, {}), same);
    }
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

TEST(Redact, LuaTables) {
    EXPECT_EQ(redacted(R"(t = { ["api_key"]="s3cr3t", ['x-token'] = 's4', secret = "s5", ["port"]=1 })", {}),
              R"x(t = { ["api_key"]="(removed)", ['x-token'] = '(removed)', secret = "(removed)", ["port"]=1 })x");
}

TEST(Redact, LuaLongStringsAndFatArrows) {
    EXPECT_EQ(redacted("password = [[a\nb ]c]]; token=[==[d]]e]==] port = [[1]]", {}),
              "password = [[(removed)]]; token=[==[(removed)]==] port = [[1]]");
    EXPECT_EQ(redacted("'password' => 'x y', \"api_key\"=>\"z\", :token => k1, 'port' => 1", {}),
              "'password' => '(removed)', \"api_key\"=>\"(removed)\", :token => (removed), 'port' => 1");
}

TEST(Redact, PasswordsInUrls) {
    EXPECT_EQ(redacted("A=postgres://app:p@w:1@db:5432/x 'redis://:s3@h' http://h:80/a@b https://me@h ://:@", {}),
              "A=postgres://app:(removed)@db:5432/x 'redis://:(removed)@h' http://h:80/a@b https://me@h ://:@");
    EXPECT_THAT(secret_values(R"(<var name="DB_URL" value="amqp://u:r4bbit@h/"/><x url="amqp://u:%PW%@h/"/>)"),
                UnorderedElementsAre("r4bbit"));
}

TEST(Redact, HeadersAndArguments) {
    EXPECT_EQ(redacted("curl -H 'Authorization: Basic dTpw' -H \"X: Bearer a1.b2\" h; a bearer of news", {}),
              "curl -H 'Authorization: (removed)' -H \"X: Bearer (removed)\" h; a bearer of news");
    EXPECT_EQ(
        redacted("curl -u me:p1 h; curl -su 'me:p 2' h; curl --user=me:p3 -ume:p4; run{'curl', '-u', 'me:p5'}", {}),
        "curl -u me:(removed) h; curl -su 'me:(removed)' h; curl --user=me:(removed) -ume:(removed); "
        "run{'curl', '-u', 'me:(removed)'}");
    EXPECT_EQ(redacted("app --password p1 -db-pass 'p 2' --port 1; run{'app', '--token', \"p3\"}", {}),
              "app --password (removed) -db-pass '(removed)' --port 1; run{'app', '--token', \"(removed)\"}");
    for (const char* kept : {"app --no-password --port 1", "app --password", "x '--key', '--port'",
                             "docker run -u 1000:100 x", "date -u +%H:%M", "journalctl -u app", "run -u http://h:80/",
                             "author: me", "-u", "x --user", "echo in-u a:b"}) {
        EXPECT_EQ(redacted(kept, {}), kept);
    }
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
    for (const char* text : {"KEY", "KEY=", "KEY=\"", "\"KEY\"", "\"KEY\":", "<var name=\"KEY\"",
                             "<var name='KEY' value", "<var name='KEY' value='", "'KEY'=='", "-----BEGIN", "KEY=\n\n",
                             "KEY=[", "KEY=[=", "KEY=[[", "--key", "--key ", "'--key', '"}) {
        EXPECT_FALSE(redacted(text, {}).empty()) << text;
        (void)secret_values(text);
    }
}

TEST(Redact, ValuesOfResourcesWithSecretNames) {
    EXPECT_EQ(
        redacted(R"j({"node":"a","name":"custom.db_password","value":"hun\"ter2"},{"name":"x.y","value":"up"})j", {}),
        R"j({"node":"a","name":"custom.db_password","value":"(removed)"},{"name":"x.y","value":"up"})j");
    EXPECT_EQ(redacted("{\"name\": \"API_TOKEN\",\n  \"value\" : \"t\"}", {}),
              "{\"name\": \"API_TOKEN\",\n  \"value\" : \"(removed)\"}");
    EXPECT_EQ(redacted(R"j({"name":"API_TOKEN"})j", {}), R"j({"name":"API_TOKEN"})j");
    EXPECT_EQ(redacted(R"j({"name":"API_TOKEN","value":)j", {}), R"j({"name":"API_TOKEN","value":)j");
}

} // namespace
} // namespace stead::node

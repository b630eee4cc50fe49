// SPDX-License-Identifier: Apache-2.0
#include <stead/web/request_reader.hpp>

#include <gmock/gmock.h>

namespace stead::web {
namespace {

using Outcome = std::variant<NeedMore, Request, Malformed>;

Outcome read(std::string_view bytes) {
    RequestReader reader;
    reader.feed(bytes);
    return reader.next();
}

unsigned status_of(std::string_view bytes) {
    const Outcome outcome = read(bytes);
    return std::holds_alternative<Malformed>(outcome) ? std::get<Malformed>(outcome).status : 0;
}

TEST(RequestReader, ReadsARequestInAnyPieces) {
    constexpr std::string_view text = "GET /a?b=c HTTP/1.1\r\nHost: here:9010\r\nAuthorization: Bearer t\r\n\r\n";
    for (std::size_t piece = 1; piece <= text.size(); ++piece) {
        RequestReader reader;
        EXPECT_FALSE(reader.in_request());
        for (std::size_t at = 0; at < text.size(); at += piece) {
            ASSERT_TRUE(std::holds_alternative<NeedMore>(reader.next()));
            reader.feed(text.substr(at, piece));
            EXPECT_TRUE(reader.in_request());
        }
        const Outcome outcome = reader.next();
        ASSERT_TRUE(std::holds_alternative<Request>(outcome)) << piece;
        const auto& request = std::get<Request>(outcome);
        EXPECT_EQ(request.method, "GET");
        EXPECT_EQ(request.target, "/a?b=c");
        EXPECT_EQ(request.host, "here:9010");
        EXPECT_EQ(request.authorization, "Bearer t");
        EXPECT_TRUE(request.keep_alive);
        EXPECT_FALSE(request.has_body);
        EXPECT_FALSE(reader.in_request());
    }
}

TEST(RequestReader, ReadsPipelinedRequestsOneByOne) {
    RequestReader reader;
    reader.feed("GET /1 HTTP/1.0\r\n\r\nHEAD /2 HTTP/1.1\r\n\r\nGET /3 HT");
    const Outcome first = reader.next();
    EXPECT_EQ(std::get<Request>(first).target, "/1");
    EXPECT_FALSE(std::get<Request>(first).keep_alive);
    EXPECT_EQ(std::get<Request>(first).version, 10u);
    EXPECT_EQ(std::get<Request>(reader.next()).method, "HEAD");
    EXPECT_TRUE(std::holds_alternative<NeedMore>(reader.next()));
    reader.feed("TP/1.1\r\nConnection: close\r\n\r\n");
    const Outcome third = reader.next();
    EXPECT_EQ(std::get<Request>(third).target, "/3");
    EXPECT_FALSE(std::get<Request>(third).keep_alive);
}

TEST(RequestReader, BodiesAreSeenButNotRead) {
    EXPECT_TRUE(std::get<Request>(read("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")).has_body);
    EXPECT_TRUE(std::get<Request>(read("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")).has_body);
    EXPECT_FALSE(std::get<Request>(read("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")).has_body);
    EXPECT_EQ(status_of("POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"), 413u);
    EXPECT_EQ(status_of("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"), 400u);
    EXPECT_EQ(status_of("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n"), 400u);
}

TEST(RequestReader, WhatIsNotHttpIsRefused) {
    for (const char* bytes :
         {"\x16\x03\x01\x02\x01", "GET\r\n\r\n", "\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n",
          "GET / HTTP/1.1\r\nA\x01: b\r\n\r\n", "G@T / HTTP/1.1\r\n\r\n", "GET /\x01 HTTP/1.1\r\n\r\n"}) {
        EXPECT_EQ(status_of(bytes), 400u) << bytes;
    }
    EXPECT_EQ(status_of("GET / HTTP/2.0\r\n\r\n"), 505u);
    EXPECT_EQ(status_of("GET / FTP/1.1\r\n\r\n"), 505u);
}

TEST(RequestReader, NoHeaderGrowsBeyondTheLimit) {
    RequestReader endless_line;
    endless_line.feed("GET /" + std::string(header_bytes_max - 5, 'x'));
    const Outcome line = endless_line.next();
    EXPECT_EQ(std::get<Malformed>(line).status, 431u);

    RequestReader fields;
    fields.feed("GET / HTTP/1.1\r\n");
    Outcome outcome = fields.next();
    for (int i = 0; i < 100'000 && std::holds_alternative<NeedMore>(outcome); ++i) {
        fields.feed(std::string("X-Field: 1234567890\r\n").substr(0, fields.room()));
        outcome = fields.next();
    }
    EXPECT_EQ(std::get<Malformed>(outcome).status, 431u);
}

} // namespace
} // namespace stead::web

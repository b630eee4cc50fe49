// SPDX-License-Identifier: Apache-2.0
#include "exchange.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include <array>
#include <charconv>

namespace stead::checkers {

namespace http = boost::beast::http;

Expectation::Expectation(std::string_view status, const std::string& body) : status_text_(status) {
    const auto number = [&](std::string_view text) {
        unsigned value = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (error != std::errc{} || end != text.data() + text.size() || value < 100 || value > 599) {
            throw std::invalid_argument("to/@status: '" + status_text_ +
                                        "' is malformed; allowed: numbers of 100 to 599 and ranges, as in "
                                        "200-399,401");
        }
        return value;
    };
    for (std::string_view rest = status;;) {
        const std::string_view one = rest.substr(0, rest.find(','));
        const std::size_t dash = one.find('-');
        const unsigned low = number(one.substr(0, dash));
        ranges_.emplace_back(low, dash == std::string_view::npos ? low : number(one.substr(dash + 1)));
        if (ranges_.back().second < low) {
            throw std::invalid_argument("to/@status: '" + std::string{one} + "' is empty: its end comes first");
        }
        if (one.size() == rest.size()) {
            break;
        }
        rest.remove_prefix(one.size() + 1);
    }
    if (!body.empty()) {
        if (const int error = ::regcomp(&body_, body.c_str(), REG_EXTENDED | REG_NOSUB); error != 0) {
            std::array<char, 256> why{};
            ::regerror(error, &body_, why.data(), why.size());
            throw std::invalid_argument("to/@body: '" + body + "' is no extended regular expression: " + why.data());
        }
        has_body_ = true;
    }
}

Expectation::~Expectation() {
    if (has_body_) {
        ::regfree(&body_);
    }
}

bool Expectation::allows(unsigned status) const noexcept {
    return std::ranges::any_of(ranges_, [&](const auto& r) { return r.first <= status && status <= r.second; });
}

bool Expectation::matches(const std::string& body) const noexcept {
    return !has_body_ || ::regexec(&body_, body.c_str(), 0, nullptr, 0) == 0;
}

struct Exchange::Parser {
    http::response_parser<http::string_body> response;
    explicit Parser(bool head) {
        response.header_limit(header_bytes_max);
        response.body_limit(boost::none); // we stop at body_bytes_max, whatever is announced
        response.skip(head);
    }
};

Exchange::Exchange(const Expectation& expectation, bool head)
    : expectation_(expectation), head_(head), parser_(std::make_unique<Parser>(head)) {}
Exchange::~Exchange() = default;

std::optional<checker::Outcome> Exchange::received(std::string_view bytes) {
    unparsed_ += bytes;
    return parse();
}

std::optional<checker::Outcome> Exchange::parse() {
    while (!unparsed_.empty()) {
        boost::system::error_code error;
        const std::size_t used = parser_->response.put(boost::asio::buffer(unparsed_), error);
        unparsed_.erase(0, used);
        if (error && error != http::error::need_more) {
            return checker::bad("no HTTP answer: " + error.message());
        }
        if (parser_->response.is_header_done()) {
            const unsigned status = parser_->response.get().result_int();
            if (status < 200 && status != 101) { // interim: the real one follows
                if (++interim_ > interim_max) {
                    return checker::bad("more than " + std::to_string(interim_max) + " interim answers");
                }
                parser_ = std::make_unique<Parser>(head_);
                continue;
            }
            if (auto verdict = judge(parser_->response.is_done())) {
                return verdict;
            }
        }
        if (used == 0) {
            return std::nullopt;
        }
    }
    return std::nullopt;
}

std::optional<checker::Outcome> Exchange::judge(bool whole) {
    const unsigned status = parser_->response.get().result_int();
    if (!expectation_.allows(status)) {
        return checker::bad("status " + std::to_string(status) + ", wanted " + expectation_.status_text());
    }
    if (!expectation_.wants_body() || whole || parser_->response.get().body().size() >= body_bytes_max) {
        return judge_body();
    }
    return std::nullopt;
}

checker::Outcome Exchange::judge_body() const {
    std::string body = parser_->response.get().body().substr(0, body_bytes_max);
    std::erase(body, '\0'); // a C string to regexec
    return expectation_.matches(body) ? checker::good()
                                      : checker::bad("status " + std::to_string(parser_->response.get().result_int()) +
                                                     ", but the body does not match");
}

std::string Exchange::validator() const { return parser_->response.get()[http::field::etag]; }

checker::Outcome Exchange::ended(const std::string& reason) {
    boost::system::error_code error;
    if (parser_->response.is_header_done()) {
        parser_->response.put_eof(error); // a body without a length ends with the connection
        if (!error) {
            return judge_body();
        }
    }
    return checker::bad(reason);
}

} // namespace stead::checkers

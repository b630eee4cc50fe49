// SPDX-License-Identifier: Apache-2.0
#include "witness.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <stdexcept>

namespace stead::splitbrain {
namespace {

constexpr auto ask_again = std::chrono::milliseconds{250}; // one packet may be lost
constexpr std::size_t witnesses_max = 16;
constexpr const char* allowed =
    "allowed: an IP address, tcp:ADDRESS:PORT, tcp:[ADDRESS]:PORT, node:NAME; several with blanks between; with "
    "exec=\"cas\": NAME, a node of cluster.xml";
constexpr std::string_view silent = "no answer";
constexpr std::string_view node_prefix = "node:";

[[noreturn]] void refuse(std::string_view word, const std::string& why) {
    throw std::invalid_argument("splitbrain/@arg: '" + std::string{word} + "': " + why + "; " + allowed);
}

checkers::Connection::Options parse_tcp(std::string_view word) {
    const std::string_view place = word.substr(word.find(':') + 1);
    const auto colon = place.rfind(':');
    checkers::Connection::Options options;
    if (colon == std::string_view::npos) {
        refuse(word, "no port");
    }
    std::string_view host = place.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    }
    const std::string_view port = place.substr(colon + 1);
    const auto parsed = std::from_chars(port.data(), port.data() + port.size(), options.port);
    if (parsed.ec != std::errc{} || parsed.ptr != port.data() + port.size() || options.port == 0) {
        refuse(word, "the port is not 1 to 65535");
    }
    options.host = host;
    if (checkers::literal(options.host, options.port).empty()) {
        refuse(word, "'" + options.host + "' is not an IP address, and a name may not resolve when it is needed");
    }
    return options;
}

Witness parse(std::string_view word) {
    Witness witness;
    witness.text = word;
    if (word.starts_with("tcp:")) {
        witness.tcp = parse_tcp(word);
        return witness;
    }
    const auto found = checkers::literal(witness.text, 0);
    if (found.empty()) {
        refuse(word, "not an IP address, and a name may not resolve when it is needed");
    }
    witness.endpoint = found.front();
    return witness;
}

std::string parse_node(std::string_view word) {
    const std::string_view name = word.starts_with(node_prefix) ? word.substr(node_prefix.size()) : word;
    const bool good = !name.empty() && name.size() <= 63 && std::ranges::all_of(name, [](unsigned char c) {
        return std::isalnum(c) != 0 || c == '_' || c == '.' || c == '-';
    });
    if (!good) {
        refuse(word, "not the name of a node");
    }
    return std::string{name};
}

} // namespace

Witnesses Witnesses::parse(std::string_view exec, std::string_view arg) {
    Witnesses all;
    while (!arg.empty()) {
        const auto end = std::min(arg.find_first_of(" \t\n,"), arg.size());
        const std::string_view word = arg.substr(0, end);
        if (exec == "cas" || word.starts_with(node_prefix)) {
            if (!word.empty()) {
                all.nodes.push_back(parse_node(word));
            }
            if (!word.empty() && std::ranges::count(all.nodes, all.nodes.back()) > 1) {
                refuse(word, "named twice: a node has one vote");
            }
        } else if (!word.empty()) {
            all.outside.push_back(stead::splitbrain::parse(word));
        }
        arg.remove_prefix(std::min(end + 1, arg.size()));
    }
    const std::size_t count = all.outside.size() + all.nodes.size();
    if (count == 0 || count > witnesses_max) {
        throw std::invalid_argument("splitbrain/@arg: " + std::to_string(count) + " witnesses; 1 to 16 are needed; " +
                                    allowed);
    }
    return all;
}

Inquiry::Inquiry(checker::Loop& loop, const std::vector<Witness>& witnesses, std::chrono::nanoseconds timeout,
                 Done done)
    : loop_(loop), done_(std::move(done)) {
    for (const Witness& witness : witnesses) {
        asked_.push_back({&witness, nullptr, nullptr, std::string{silent}});
    }
    deadline_ = loop_.after(timeout, [this] { end(nullptr); });
    again_ = loop_.after(std::chrono::nanoseconds{0}, [this] { ask(); });
}

Inquiry::~Inquiry() { release(); }

void Inquiry::release() noexcept {
    loop_.cancel(again_);
    loop_.cancel(deadline_);
    for (Asked& one : asked_) {
        if (one.echo) {
            loop_.unwatch(one.echo->descriptor());
        }
        if (one.connection) {
            one.connection->close();
        }
    }
    asked_.clear();
}

void Inquiry::ask() {
    for (std::size_t i = 0; i < asked_.size(); ++i) {
        try {
            asked_[i].witness->tcp ? ask_tcp(i) : ask_echo(i);
        } catch (const std::exception& e) {
            asked_[i].reason = e.what();
        }
    }
    if (!asked_.empty()) { // else an answer that came at once has ended it
        again_ = loop_.after(ask_again, [this] { ask(); });
    }
}

void Inquiry::ask_echo(std::size_t index) {
    Asked& one = asked_[index];
    if (!one.echo) {
        one.echo = std::make_unique<checkers::Echo>(one.witness->endpoint.address, one.witness->endpoint.size);
        loop_.watch(one.echo->descriptor(), EPOLLIN, [this, index](std::uint32_t) { hear(index); });
    }
    if (const auto failed = one.echo->send()) {
        one.reason = *failed;
    }
}

void Inquiry::hear(std::size_t index) {
    Asked& one = asked_[index];
    std::string why;
    for (;;) {
        const auto heard = one.echo->receive(why);
        if (heard == checkers::Echo::Heard::reply) {
            end(one.witness);
            return;
        }
        if (heard == checkers::Echo::Heard::nothing) {
            return;
        }
        one.reason = why;
    }
}

void Inquiry::ask_tcp(std::size_t index) {
    Asked& one = asked_[index];
    if (one.connection) {
        return; // still trying
    }
    one.connection = std::make_shared<checkers::Connection>(
        loop_, *one.witness->tcp,
        checkers::Connection::Callbacks{.on_open = [this, index] { end(asked_[index].witness); },
                                        .on_data = [](std::string_view) {},
                                        .on_end =
                                            [this, index](const std::string& reason) {
                                                asked_[index].reason = reason;
                                                asked_[index].connection.reset();
                                            }});
    const auto connection = one.connection; // an end at once lets go of it
    connection->open();
}

/// Destroys nothing that runs: the owner does, when it likes.
void Inquiry::end(const Witness* answered) {
    std::string words = answered != nullptr ? answered->text + " answers" : "";
    for (const Asked& one : asked_) {
        if (one.witness != answered) {
            const bool early = answered != nullptr && one.reason == silent; // it had no time to
            words += (words.empty() ? "" : "; ") + one.witness->text + ": " + one.reason + (early ? " yet" : "");
        }
    }
    const Done done = std::move(done_);
    release();
    done(answered != nullptr ? STEAD_WITNESS_GRANTED : STEAD_WITNESS_UNANSWERED, words);
}

} // namespace stead::splitbrain

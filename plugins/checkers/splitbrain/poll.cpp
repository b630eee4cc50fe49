// SPDX-License-Identifier: Apache-2.0
#include "poll.hpp"

#include <utility>

namespace stead::splitbrain {
namespace {

constexpr auto slack = std::chrono::seconds{1}; // the host answers in time; this is for one that does not

const char* word_of(stead_witness_verdict verdict) {
    return verdict == STEAD_WITNESS_GRANTED ? "granted" : verdict == STEAD_WITNESS_REFUSED ? "refused" : "no answer";
}

} // namespace

Poll::Poll(plugin::Host host, checker::Loop& loop, const std::vector<std::string>& nodes, const Petition& petition,
           std::chrono::nanoseconds timeout, Done done)
    : loop_(loop), done_(std::move(done)), ballot_(nodes.size()), nodes_(nodes) {
    for (const std::string& node : nodes) {
        const std::uint64_t token = host.ask_witness(node, petition.key, petition.counter, petition.holder, timeout);
        if (token != 0) {
            open_.emplace(token, node);
        } else {
            take(node, STEAD_WITNESS_UNANSWERED, "no such node in cluster.xml");
        }
    }
    deadline_ = loop_.after(timeout + slack, [this] {
        for (const auto& [token, node] : std::exchange(open_, {})) {
            take(node, STEAD_WITNESS_UNANSWERED, word_of(STEAD_WITNESS_UNANSWERED));
        }
    });
}

Poll::~Poll() {
    loop_.cancel(deadline_);
    loop_.cancel(end_);
}

void Poll::on_witness(std::uint64_t token, stead_witness_verdict verdict) {
    if (const auto asked = open_.extract(token)) {
        take(asked.mapped(), verdict, word_of(verdict));
    }
}

void Poll::take(const std::string& node, stead_witness_verdict verdict, const char* word) {
    said_.emplace(node, word);
    ballot_.vote(verdict);
    if (ballot_.result() && end_ == checker::Loop::TimerId{}) {
        end_ = loop_.after(std::chrono::nanoseconds{0}, [this] { end(); }); // perhaps inside the constructor
    }
}

/// What each witness said, those too whose word is not needed any more.
std::string Poll::words() const {
    std::string text = nodes_.size() < 2 ? ""
                                         : std::to_string(ballot_.granted()) + " of " + std::to_string(nodes_.size()) +
                                               " granted, " + std::to_string(ballot_.needed()) + " must: ";
    for (const std::string& node : nodes_) {
        const auto said = said_.find(node);
        text += (&node == &nodes_.front() ? "" : "; ") + node + ": " +
                (said == said_.end() ? "no answer yet" : said->second);
    }
    return text;
}

void Poll::end() {
    loop_.cancel(deadline_);
    open_.clear();
    const Done done = std::move(done_);
    done(*ballot_.result(), words());
}

} // namespace stead::splitbrain

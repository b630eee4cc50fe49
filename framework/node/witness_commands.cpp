// SPDX-License-Identifier: Apache-2.0
// Claims: those of our modules, asked of other nodes, and those of other nodes, decided here.
#include <stead/node/daemon.hpp>

#include <stead/base/ids.hpp>

#include <boost/asio/post.hpp>

#include <charconv>
#include <thread>

namespace stead::node {
namespace asio = boost::asio;
namespace json = boost::json;
namespace {

template <class Number>
bool parse(const std::string& text, Number& number) {
    const auto [last, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
    return failed == std::errc{} && last == text.data() + text.size();
}

/// The answer of a claim, for the host that asked.
json::object verdict_of(const Answer& answer) {
    const json::object* data = answer.data.if_object();
    const json::value* granted = data != nullptr ? data->if_contains("granted") : nullptr;
    if (answer.exit != control::exit_code::ok || granted == nullptr || !granted->is_bool()) {
        return {{"verdict", "unanswered"}, {"why", answer.error.empty() ? "it gave no verdict" : answer.error}};
    }
    json::object verdict{{"verdict", granted->get_bool() ? "granted" : "refused"}, {"why", answer.text}};
    for (const char* word : {"counter", "holder", "nodes"}) { // an older witness does not tell
        if (const json::value* value = data->if_contains(word)) {
            verdict[word] = *value;
        }
    }
    return verdict;
}

Answer answer_of(const Result<json::object>& body) {
    if (!body) {
        return Answer::failed(body.error());
    }
    const auto text = [&](std::string_view name) {
        const json::value* value = body->if_contains(name);
        return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string{};
    };
    Answer answer = Answer::done(text("text"));
    const json::value* exit = body->if_contains("exit");
    answer.exit =
        exit != nullptr && exit->is_int64() ? static_cast<int>(exit->get_int64()) : control::exit_code::internal;
    answer.error = text("error");
    if (const json::value* data = body->if_contains("data")) {
        answer.data = *data;
    }
    return answer;
}

std::string name_of(const Claim& claim, const std::vector<std::string>& nodes) {
    const auto name = [&](std::uint64_t node) {
        return node < nodes.size() ? nodes[node] : "node number " + std::to_string(node);
    };
    std::string text = claim.nodes == 0 ? name(claim.holder) : "";
    for (const NodeId node : NodeSet{claim.nodes}) {
        text += (text.empty() ? "" : ", ") + name(index(node));
    }
    return text;
}

} // namespace

/// "_claim KEY COUNTER HOLDER [NODES]" for a module that need not be on this node.
void Daemon::take_claim(const CallPtr& call) {
    const Request& request = call->request;
    Claim asked;
    const std::vector<std::string>& words = request.arguments;
    if (words.size() < 3 || words.size() > 4 || !parse(words[1], asked.counter) || !parse(words[2], asked.holder) ||
        (words.size() == 4 && !parse(words[3], asked.nodes))) {
        return call->finish(Answer::failed(control::exit_code::usage, "a claim is KEY COUNTER HOLDER [NODES]"));
    }
    const std::vector<std::string> nodes = cluster_ ? cluster_->cluster.nodes : std::vector<std::string>{};
    const auto decide = [this, asked, nodes, module = request.module, key = request.arguments[0]] {
        const Result<WitnessStore::Verdict> verdict = witness_.claim(module, key, asked);
        if (!verdict) {
            log::error("witness", verdict.error().text());
            return Answer::failed(verdict.error());
        }
        const std::string held = verdict->held.counter == 0
                                     ? "nothing yet"
                                     : std::to_string(verdict->held.counter) + " of " + name_of(verdict->held, nodes);
        if (asked.counter != 0) { // else it only asked
            const std::string line = "claim " + std::to_string(asked.counter) + " of " + name_of(asked, nodes) +
                                     " to '" + key + "' of module '" + module + "'";
            log::event("witness", line + (verdict->granted ? " granted" : " refused: it holds " + held));
        }
        Answer answer = Answer::done(verdict->granted ? "it holds " + held + " from now on" : "it holds " + held);
        answer.data = json::object{{"granted", verdict->granted},
                                   {"counter", std::to_string(verdict->held.counter)},
                                   {"holder", std::to_string(verdict->held.holder)},
                                   {"nodes", std::to_string(verdict->held.nodes)}};
        return answer;
    };
    asio::post(claims_, [this, call, decide]() mutable {
        const auto answer = std::make_shared<Answer>(decide());
        asio::post(io_, [call = std::move(call), answer] { call->finish(std::move(*answer)); });
    });
}

void Daemon::ask_witness(const std::string& module, const WitnessQuestion& question) {
    const auto finish = [this, module, id = question.id](const Answer& answer) {
        json::object request = verdict_of(answer);
        request["verb"] = "witness";
        request["question"] = id;
        runner(module)->request(std::move(request), [](const Result<json::object>&) {});
    };
    const std::optional<NodeId> node = cluster_ ? cluster_->cluster.find(question.node) : std::nullopt;
    if (!node) {
        return finish(Answer::failed(control::exit_code::not_found, "no node '" + question.node + "' in cluster.xml"));
    }
    Request request;
    request.verb = "_claim";
    request.module = module;
    const Claim& claim = question.claim;
    request.arguments = {question.key, std::to_string(claim.counter), std::to_string(claim.holder)};
    if (claim.nodes != 0 || claim.counter == 0) {
        request.arguments.push_back(std::to_string(claim.nodes));
    }
    if (*node == cluster_->self) {
        return take_claim(std::make_shared<Call>(
            std::move(request), [](const std::string&) {}, finish));
    }
    // A thread each: a witness that hangs must not keep workers from others.
    std::thread([this, finish, node = *node, body = request.to_json(), limit = question.timeout, cluster = *cluster_] {
        const auto answer =
            std::make_shared<Answer>(answer_of(ask_node(cluster, node, body, std::chrono::ceil<milliseconds>(limit))));
        asio::post(io_, [finish, answer] { finish(*answer); });
    }).detach();
}

} // namespace stead::node

// SPDX-License-Identifier: Apache-2.0
#include "cluster.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

/// Conversations with a cluster in virtual time. A line is a command; the lines with '>' below it are what must have
/// happened since the command before, in any order. STEAD_TRANSCRIPT_UPDATE=1 writes what did happen into the files:
/// read the difference, and keep only a change that you understand and want.
namespace stead::sim {
namespace {

NodeSet parse_nodes(const std::string& text) { // 0,2
    NodeSet set;
    std::istringstream in(text);
    for (std::string part; std::getline(in, part, ',');) {
        set.insert(NodeId{static_cast<std::uint8_t>(std::stoi(part))});
    }
    return set;
}

class Conversation {
public:
    /// Performs one line; returns false when it is no command.
    bool perform(const std::string& line) {
        std::istringstream in(line);
        std::string verb, a, b;
        in >> verb >> a >> b;
        if (verb == "nodes") {
            Setup setup;
            setup.nodes = static_cast<std::uint8_t>(std::stoi(a));
            setup.record = true;
            setup.partition = b == "majority"  ? Options::Partition::majority
                              : b == "witness" ? Options::Partition::witness
                                               : Options::Partition::serve;
            cluster_ = std::make_unique<Cluster>(setup);
            return true;
        }
        return cluster_ != nullptr && command(verb, a, b);
    }

    std::vector<std::string> take_events() {
        std::vector<std::string> events = std::exchange(cluster_->events, {});
        for (std::string& event : events) { // that it is excluded is the fact; how the reason is worded is not
            const std::size_t reason = event.find("excluded, ");
            event.resize(reason == std::string::npos ? event.size() : reason + std::string("excluded").size());
        }
        if (cluster_->failed()) {
            events.push_back("FAILED " + cluster_->failure());
        }
        std::sort(events.begin(), events.end());
        return events;
    }
    [[nodiscard]] bool begun() const { return cluster_ != nullptr; }

private:
    bool command(const std::string& verb, const std::string& a, const std::string& b) {
        if (verb == "run") {
            cluster_->run_for(milliseconds{std::stoi(a)});
        } else if (verb == "heal") {
            cluster_->heal();
        } else if (verb == "cut") { // from to, one way
            cluster_->cut(parse_nodes(a), parse_nodes(b));
        } else if (verb == "part") { // both ways
            cluster_->cut(parse_nodes(a), parse_nodes(b));
            cluster_->cut(parse_nodes(b), parse_nodes(a));
        } else if (verb == "witness-cut") { // from whom
            cluster_->cut_witness(parse_nodes(a));
        } else if (verb == "serving") {
            return says_serving(a);
        } else {
            const auto node = static_cast<std::uint8_t>(std::stoi(a));
            return on_node(verb, node, b.empty() ? 0 : std::stoi(b));
        }
        return true;
    }

    bool on_node(const std::string& verb, std::uint8_t node, int value) {
        if (verb == "start") {
            cluster_->start(node, 1, static_cast<std::uint64_t>(value));
        } else if (verb == "crash") {
            cluster_->crash(node, true);
        } else if (verb == "kill") { // the process only: its last lease runs on
            cluster_->crash(node, false);
        } else if (verb == "died") {
            cluster_->seen_dead(node);
        } else if (verb == "pause") {
            cluster_->pause(node, milliseconds{value});
        } else if (verb == "leave") {
            cluster_->leave(node);
        } else if (verb == "weight") {
            cluster_->set_weight(node, static_cast<std::uint16_t>(value));
        } else if (verb == "config") {
            cluster_->set_config(node, static_cast<std::uint64_t>(value));
        } else {
            return false;
        }
        return true;
    }

    bool says_serving(const std::string& expected) {
        NodeSet serving;
        for (std::uint8_t node = 0; node < 8 && node < cluster_->nodes(); ++node) {
            if (cluster_->accepting(node)) {
                serving.insert(NodeId{node});
            }
        }
        EXPECT_EQ(names(serving), "{" + (expected == "none" ? "" : expected) + "}");
        return true;
    }

    std::unique_ptr<Cluster> cluster_;
};

std::string play(const std::filesystem::path& file) {
    std::ifstream in(file);
    Conversation conversation;
    std::string written;
    bool owed = false; // a command has been performed whose events are not yet written
    const auto settle = [&] {
        if (owed && conversation.begun()) {
            for (const std::string& event : conversation.take_events()) {
                written += "> " + event + "\n";
            }
        }
        owed = false;
    };
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with(">")) {
            continue;
        }
        settle();
        written += line + "\n";
        if (!line.empty() && !line.starts_with("#")) {
            EXPECT_TRUE(conversation.perform(line)) << file << ": unknown command: " << line;
            owed = true;
        }
    }
    settle();
    return written;
}

TEST(Transcript, EveryConversationGoesAsWritten) {
    int files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(STEAD_TRANSCRIPTS)) {
        if (entry.path().extension() != ".txt" || entry.path().filename() == "CMakeLists.txt") {
            continue;
        }
        ++files;
        const std::string happened = play(entry.path());
        std::ifstream in(entry.path());
        std::ostringstream expected;
        expected << in.rdbuf();
        if (std::getenv("STEAD_TRANSCRIPT_UPDATE") != nullptr) {
            std::ofstream(entry.path()) << happened;
        } else {
            EXPECT_EQ(happened, expected.str()) << entry.path();
        }
    }
    EXPECT_GE(files, 8);
}

} // namespace
} // namespace stead::sim

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/node/call.hpp>
#include <stead/node/cluster.hpp>

#include <boost/json/object.hpp>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace stead::node {

/// What one other node said, or why it said nothing.
struct PeerProbe {
    std::string node;
    std::vector<std::string> addresses;
    std::optional<Error> error;
    std::string neighbours; ///< `ip neigh` for its addresses, when it did not answer
    boost::json::object facts;
    std::int64_t clock_off_ms{};
    bool large_passes{true};
};

/// Everything that `stead cluster check` compares.
struct CheckFacts {
    ActiveCluster cluster;
    boost::json::object own;
    std::vector<PeerProbe> peers;                       ///< index = NodeId; own entry empty
    std::map<std::string, boost::json::object> modules; ///< verbose state of the running modules
    std::string nft, iptables, links, bpf_net;          ///< output of system tools; "" = not there
    std::string kernel;                                 ///< "6.1.0 x86_64"
    std::string bpf_problem, clsact_problem;            ///< "" = works
    std::map<std::string, std::string> duplicates;      ///< own address -> "MAC on INTERFACE" of another that answers
    std::int64_t unauthentic_now{};                     ///< during this check, as are the failed TLS handshakes
    bool is_root{true};
};

/// Pure: names what is wrong and what to do, or says that nothing is. Exit code 0 or 1.
[[nodiscard]] Answer judge(const CheckFacts& facts);

} // namespace stead::node

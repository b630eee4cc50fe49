// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "round.hpp"

#include <connection.hpp>
#include <echo.hpp>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace stead::splitbrain {

/// Something outside the cluster that answers when this node is not cut off. Numeric addresses only: names may not be
/// resolvable at the one moment at which they are needed.
struct Witness {
    std::string text;                                 ///< as written
    checkers::Endpoint endpoint;                      ///< of an echo request
    std::optional<checkers::Connection::Options> tcp; ///< instead: a connection
};

struct Witnesses {
    std::vector<Witness> outside;   ///< one answer proves that this node is not cut off
    std::vector<std::string> nodes; ///< of cluster.xml; a majority must grant a claim. Where there are any, they decide

    /// exec="ping": "192.0.2.1 fd00::1 tcp:192.0.2.1:443 tcp:[fd00::1]:443 node:NAME"; "cas": "NAME node:NAME".
    /// Throws std::invalid_argument.
    [[nodiscard]] static Witnesses parse(std::string_view exec, std::string_view arg);
};

/// Asks all witnesses of the outside at once, again and again, until one answers or the time is up.
class Inquiry final : public Round {
public:
    Inquiry(checker::Loop& loop, const std::vector<Witness>& witnesses, std::chrono::nanoseconds timeout, Done done);
    Inquiry(const Inquiry&) = delete;
    Inquiry& operator=(const Inquiry&) = delete;
    ~Inquiry() override;

private:
    struct Asked {
        const Witness* witness{};
        std::unique_ptr<checkers::Echo> echo;
        std::shared_ptr<checkers::Connection> connection;
        std::string reason; ///< why it has not answered
    };
    void ask();
    void ask_echo(std::size_t index);
    void ask_tcp(std::size_t index);
    void hear(std::size_t index);
    void end(const Witness* answered);
    void release() noexcept;

    checker::Loop& loop_;
    Done done_;
    std::vector<Asked> asked_;
    checker::Loop::TimerId again_{}, deadline_{};
};

} // namespace stead::splitbrain

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "connection.hpp"
#include "exchange.hpp"

#include <stead/checker.hpp>

#include <memory>
#include <optional>
#include <string>

namespace stead::checkers {

/// A check that is one HTTP request and an expectation of its answer. The constructor of the derived class fills in
/// `connection`, `expectation`, and calls set_request().
class HttpCheckBase : public checker::PolledCheck {
public:
    HttpCheckBase() = default;
    ~HttpCheckBase() override { abandon(); }

protected:
    Connection::Options connection;
    std::unique_ptr<const Expectation> expectation;

    /// `host`: the header, as it shall be sent. Throws std::invalid_argument when the target or it cannot be sent.
    void set_request(std::string_view method, std::string_view host, std::string_view target);
    /// The answer is good, the verdict still the one before; `validator` is its ETag, empty when it has none.
    virtual void answered(const std::string& validator);
    [[nodiscard]] std::string about() const override { return place_; }

private:
    void begin() override;
    void abandon() override;
    void done(std::optional<checker::Outcome> outcome);

    bool head_{};
    std::string request_, place_;
    std::unique_ptr<Exchange> exchange_;
    std::shared_ptr<Connection> open_;
};

/// "192.0.2.1", "[2001:db8::1]"; with a port that is not 0: "192.0.2.1:8080".
[[nodiscard]] std::string authority(const std::string& host, std::uint16_t port);

} // namespace stead::checkers

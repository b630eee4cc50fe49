// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/base/result.hpp>
#include <stead/control/command.hpp>

#include <boost/json/value.hpp>

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace stead::node {

/// What a command ends with. `text` is for people, `data` for --json.
struct Answer {
    int exit{control::exit_code::ok};
    std::string text;
    std::string error;
    boost::json::value data;
    std::vector<Fd> fds;

    [[nodiscard]] static Answer done(std::string text) {
        return Answer{control::exit_code::ok, std::move(text), {}, {}, {}};
    }
    [[nodiscard]] static Answer failed(int exit, std::string error) {
        return Answer{exit, {}, std::move(error), {}, {}};
    }
    [[nodiscard]] static Answer failed(const Error& error) {
        return failed(control::exit_code::of(error.code), error.text());
    }
    /// Instead of one that no frame can hold.
    [[nodiscard]] static Answer too_long();
    /// The lines of a log: text for people or data, for both would be twice as long.
    [[nodiscard]] static Answer of_lines(const std::vector<std::string>& lines, bool json);
    /// What a plugin wrote for --json.
    [[nodiscard]] static Answer of_json(const std::string& text);
    [[nodiscard]] boost::json::object to_json() const;
    /// The data say "changed": false.
    [[nodiscard]] bool changed_nothing() const noexcept;
};

/// A file without a name, for Answer::fds. Errors: io.
[[nodiscard]] Result<Fd> file_of(std::string_view content);

/// One command as it came, from the local socket or from a peer's steadd.
struct Request {
    std::string verb, module, nodes, by;
    std::map<std::string, std::string, std::less<>> options;
    std::vector<std::string> arguments;
    std::vector<Fd> fds;
    std::string caller; ///< "root (pid 12)", "peer 10.0.0.2:4711, root (pid 12)": for logs. Read from peers only
    bool from_peer{};
    bool from_web{}; ///< reads only: none of the module's own programs run for it
    std::string hook{}; ///< the module one of whose scripts asks, or what it started; it must not wait for its own end

    [[nodiscard]] bool has(std::string_view option) const { return options.contains(option); }
    [[nodiscard]] std::string option(std::string_view name, std::string_view otherwise = {}) const;
    [[nodiscard]] boost::json::object to_json() const;
};
/// Errors: malformed, naming the field.
[[nodiscard]] Result<Request> parse_request(const boost::json::value& body);

/// A request on its way through steadd. Main thread only; finish() takes effect once.
class Call {
public:
    using OnProgress = std::function<void(const std::string&)>;
    using OnFinish = std::function<void(Answer)>;
    Call(Request from, OnProgress progress, OnFinish finish)
        : request(std::move(from)), on_progress_(std::move(progress)), on_finish_(std::move(finish)) {}
    void progress(const std::string& text) const {
        if (on_finish_) {
            on_progress_(text);
        }
    }
    void finish(Answer answer) {
        if (const OnFinish finish = std::exchange(on_finish_, nullptr)) {
            finish(std::move(answer));
        }
    }
    [[nodiscard]] bool finished() const noexcept { return !on_finish_; }

    Request request;

private:
    OnProgress on_progress_;
    OnFinish on_finish_;
};
using CallPtr = std::shared_ptr<Call>;

} // namespace stead::node

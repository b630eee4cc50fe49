// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/channel.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include <functional>
#include <memory>
#include <string>

namespace stead::mirror {

/// A running stead-fs. One thread, that of the io_context; handlers come there. It dies with the thread that started
/// it.
class Child {
public:
    struct Handlers {
        std::function<void(const boost::json::object&)> message;
        /// Once, when the process is gone with all that it had open: "with exit code 2", "by signal 9".
        std::function<void(int exit_code, const std::string& how)> ended;
    };
    /// Errors: the program that cannot be run.
    [[nodiscard]] static Result<std::unique_ptr<Child>> start(boost::asio::io_context& io, const std::string& program,
                                                              const std::string& module, int lease_fd,
                                                              Handlers handlers);
    ~Child(); ///< kills what still runs

    void send(const boost::json::object& message) noexcept;
    void kill() noexcept;

private:
    Child(boost::asio::io_context& io, pid_t pid, Fd pidfd, Fd socket, Handlers handlers);
    void read();
    void watch();
    void drain();

    pid_t pid_;
    Channel channel_;
    boost::asio::posix::stream_descriptor readable_, exited_;
    Handlers handlers_;
    bool gone_{};
};

} // namespace stead::mirror

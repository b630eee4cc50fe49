// SPDX-License-Identifier: Apache-2.0
#include <stead/base/log.hpp>
#include <stead/control/module_log.hpp>
#include <stead/control/paths.hpp>
#include <stead/node/daemon.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>

#include <signal.h>
#include <sys/stat.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>

#include <cstdio>
#include <cstring>
#include <iostream>

namespace {

using namespace stead;

constexpr const char* usage_text =
    "usage: steadd [--foreground]\n\n"
    "The daemon of a Stead node: starts and watches modules, answers the program stead.\n\n"
    "  --foreground  stay in the foreground and log to stderr too (the only mode; systemd does the rest)\n"
    "  --version     print the version\n"
    "  -h, --help    this text\n\n"
    "It reads /etc/stead/cluster.key and /var/lib/stead/cluster/cluster.xml (at the first start "
    "/etc/stead/cluster.xml)\n"
    "and serves /run/stead/steadd.sock. It runs without systemd as well. Ending it leaves running modules in service;\n"
    "the next steadd takes them over. 'stead shutdown' stops them.\n";

/// Our log, the journal or syslog, and stderr when a person is watching.
void set_log(const control::Paths& paths) {
    auto node_log = std::make_shared<control::ModuleLog>(paths.node_log(), "steadd");
    ::openlog("steadd", LOG_PID, LOG_DAEMON);
    log::set_sink([node_log](const log::Record& record) {
        node_log->write(record.level, record.source, record.text);
        if (record.level == log::Level::debug) {
            return;
        }
        const std::string line = control::log_line("steadd", record.level, record.source, record.text);
        std::fputs(line.c_str(), stderr);
        const int priority = record.level == log::Level::error     ? LOG_ERR
                             : record.level == log::Level::warning ? LOG_WARNING
                                                                   : LOG_INFO;
        ::syslog(priority, "%.*s: %.*s", static_cast<int>(record.source.size()), record.source.data(),
                 static_cast<int>(record.text.size()), record.text.data());
    });
}

int serve(const control::Paths& paths) {
    boost::asio::io_context io(1);
    boost::asio::signal_set signals(io, SIGTERM, SIGINT);
    signals.async_wait([&io](const boost::system::error_code& error, int signal) {
        if (!error) {
            log::event("steadd", std::string("ends (") + ::strsignal(signal) + "); running modules go on");
            io.stop();
        }
    });
    node::Daemon daemon(io, paths);
    if (const Result<void> started = daemon.start(); !started) {
        log::error("steadd", started.error().text());
        std::cerr << "steadd: " << started.error().text() << "\n";
        return control::exit_code::of(started.error().code);
    }
    log::event("steadd", "Stead " + node::version() + " serves " + paths.daemon_socket().string());
    ::sd_notify(0, "READY=1");
    io.run();
    ::sd_notify(0, "STOPPING=1");
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (word == "-h" || word == "--help") {
            std::cout << usage_text;
            return 0;
        }
        if (word == "--version") {
            std::cout << "steadd " << node::version() << "\n";
            return 0;
        }
        if (word != "--foreground") {
            std::cerr << "steadd: unknown option '" << word << "'; allowed: --foreground, --version, --help\n";
            return control::exit_code::usage;
        }
    }
    ::signal(SIGPIPE, SIG_IGN);
    ::umask(022);
    const control::Paths& paths = control::paths();
    std::error_code error;
    std::filesystem::create_directories(paths.var, error);
    std::filesystem::create_directories(paths.run, error);
    if (error) {
        std::cerr << "steadd: " << paths.run.string() << ": " << error.message() << "; run it as root\n";
        return control::exit_code::denied;
    }
    set_log(paths);
    const int code = serve(paths);
    log::set_sink(nullptr);
    std::fflush(nullptr);
    std::_Exit(code); // threads that talk with other nodes may still wait for them; nothing is lost by not waiting
}

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "lines.hpp"
#include "process.hpp"

#include <stead/script/script.hpp>

#include <list>
#include <mutex>
#include <thread>

namespace stead::script {

/// Goes on reading the pipes that daemons of a successful hook still write to: without a reader they would die of
/// SIGPIPE at their next line. At most 32 pipes; of more, the oldest is closed.
/// Threading: add and stop from any thread; `output` is called on the reader's own thread.
class Lingerer {
public:
    Lingerer(HookRunner::Output output, std::size_t line_bytes_max);
    Lingerer(const Lingerer&) = delete;
    Lingerer& operator=(const Lingerer&) = delete;
    ~Lingerer() { stop(); }
    void add(ProcessPipes pipes);
    /// Ends the reading. Afterwards no output is called.
    void stop();

private:
    struct Stream {
        Fd fd;
        LineSplitter lines;
    };
    void add_one(Fd fd, bool is_error);
    void run();
    /// Waits and reads once; false: told to stop.
    bool read_once();

    const HookRunner::Output output_;
    const std::size_t line_bytes_max_;
    Cancel wake_;
    Fd changed_;
    std::mutex mutex_;
    std::list<Stream> added_;   ///< guarded by mutex_; the thread takes them over
    std::list<Stream> streams_; ///< the thread's own
    std::thread thread_;        ///< guarded by mutex_
};

} // namespace stead::script

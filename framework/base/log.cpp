// SPDX-License-Identifier: Apache-2.0
#include <stead/base/log.hpp>

#include <cstdio>
#include <mutex>

namespace stead::log {
namespace {

const char* name(Level level) {
    switch (level) {
    case Level::debug: return "DEBUG";
    case Level::event: return "EVENT";
    case Level::warning: return "WARNING";
    case Level::error: return "ERROR";
    }
    return "?";
}

void to_stderr(const Record& record) {
    std::fprintf(stderr, "%s | %.*s | %.*s\n", name(record.level), static_cast<int>(record.source.size()),
                 record.source.data(), static_cast<int>(record.text.size()), record.text.data());
}

std::mutex mutex;
Sink current = to_stderr; // guarded by mutex

} // namespace

void set_sink(Sink sink) {
    const std::lock_guard lock(mutex);
    current = sink ? std::move(sink) : Sink(to_stderr);
}

void write(Level level, std::string_view source, std::string_view text) {
    const std::lock_guard lock(mutex);
    current(Record{level, source, text});
}

} // namespace stead::log

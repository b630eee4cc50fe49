// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace stead::log {

/// `event` is what an administrator reads without -A: decisions, state changes, actions. `debug` needs -A.
enum class Level : std::uint8_t { debug, event, warning, error };

/// One record. Views live for the duration of the call only.
struct Record {
    Level level;
    std::string_view source; ///< "bus", "farm", "checkers.tcp", …
    std::string_view text;   ///< one line, no newline
};

using Sink = std::function<void(const Record&)>;

/// Replaces the sink of this process (default: stderr, "LEVEL | source | text"). Call before threads start.
void set_sink(Sink sink);

/// Thread-safe. Blocks only as long as the sink does; the bus thread must not use it directly (bus/ queues there).
void write(Level level, std::string_view source, std::string_view text);

inline void debug(std::string_view source, std::string_view text) { write(Level::debug, source, text); }
inline void event(std::string_view source, std::string_view text) { write(Level::event, source, text); }
inline void warning(std::string_view source, std::string_view text) { write(Level::warning, source, text); }
inline void error(std::string_view source, std::string_view text) { write(Level::error, source, text); }

} // namespace stead::log

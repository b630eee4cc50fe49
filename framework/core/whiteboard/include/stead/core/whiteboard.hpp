// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/ids.hpp>
#include <stead/base/limits.hpp>
#include <stead/base/result.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Every resource of every member, owned by the member that wrote it. Pure; the bus carries deltas and digests.
namespace stead::whiteboard {

/// One write of an owner. A removal is a write too (a tombstone), so that it can be told like any other.
struct Entry {
    std::string name;
    std::string value;
    std::uint64_t version{}; ///< counts the owner's writes in this session, from 1
    bool removed{};
    friend bool operator==(const Entry&, const Entry&) = default;
};

/// All writes of one owner's session with from < version <= to that no later write has replaced, by ascending version.
struct Delta {
    NodeId owner{};
    SessionId session;
    std::uint64_t from{};
    std::uint64_t to{};
    std::uint64_t top{}; ///< the owner's last version when it made this
    bool complete{};     ///< part of a full copy: when `top` is reached, what was not told is gone
    std::vector<Entry> entries;
};

/// "Tell me your writes after `from`."
struct Request {
    NodeId owner{};
    SessionId session;
    std::uint64_t from{};
};

/// What changed for readers.
struct Change {
    NodeId owner{};
    Entry entry; ///< removed: the resource is gone
};

class Board {
public:
    static constexpr std::size_t tombstones_max = 512; ///< older removals are told by a full copy

    Board(NodeId self, const SessionId& session);

    /// Writes an own resource; an empty optional removes it. Writing the same value again changes nothing and returns
    /// nothing. Errors: out_of_range with the limit.
    [[nodiscard]] Result<std::optional<Change>> write(std::string_view name, std::optional<std::string_view> value);

    /// Own writes after `from`, cut into deltas of at most about `bytes_max` encoded bytes each.
    [[nodiscard]] std::vector<Delta> deltas_since(std::uint64_t from, std::size_t bytes_max) const;
    [[nodiscard]] std::uint64_t version() const noexcept { return own_.applied; }
    /// Of all own resources; carried in each heartbeat.
    [[nodiscard]] std::uint64_t digest() const noexcept { return digest_of(own_); }

    /// Applies a peer's delta. A delta with a gap before it changes nothing; the next digest asks again.
    [[nodiscard]] std::vector<Change> apply(const Delta& delta);
    /// Compares a peer's digest with what is known of it; a request when they differ.
    [[nodiscard]] std::optional<Request> check(NodeId owner, const SessionId& session, std::uint64_t digest) const;
    /// The owner left the view or has a new session: its resources are gone.
    [[nodiscard]] std::vector<Change> drop(NodeId owner);

    /// Own and others' resources, by owner and name. `removed` ones are left out.
    [[nodiscard]] std::vector<Change> all() const;

private:
    struct Stored {
        std::string value;
        std::uint64_t version{};
        bool removed{};
        bool told{true}; ///< seen in the full copy under way
    };
    struct Owner {
        SessionId session;
        std::uint64_t applied{}; ///< every write up to here is known
        bool copying{};          ///< a full copy is under way
        std::map<std::string, Stored, std::less<>> entries;
    };

    [[nodiscard]] static std::uint64_t digest_of(const Owner& owner) noexcept;
    void prune_tombstones();

    NodeId self_;
    Owner own_;
    std::size_t live_{};
    std::uint64_t floor_{}; ///< deltas from below this version are told as full copies
    std::map<NodeId, Owner> others_;
};

} // namespace stead::whiteboard

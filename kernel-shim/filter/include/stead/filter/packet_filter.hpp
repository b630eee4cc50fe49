// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/ids.hpp>
#include <stead/base/result.hpp>
#include <stead/base/time.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

/// The farm's filter in the kernel. It knows packets, buckets and members; nothing of views, modules' states or files.
namespace stead::shim {

using Mac = std::array<std::uint8_t, 6>;
/// IPv6, or IPv4 mapped as ::ffff:a.b.c.d, network order.
using Ip = std::array<std::uint8_t, 16>;

enum class Backend : std::uint8_t { automatic, ebpf, nfqueue };
enum class Delivery : std::uint8_t { directed, invisible };
enum class Key : std::uint8_t { address, port, ip_id }; ///< filter = on_addr, on_port, on_ipid
enum class Track : std::uint8_t { none, socket, flow };

inline constexpr std::uint32_t buckets = 65536;
inline constexpr std::uint8_t no_owner = 0xff;

struct Vip {
    Ip address{};
    std::uint32_t ifindex{};
    Delivery delivery{};
    Mac vmac{};            ///< invisible only
    bool arp_per_client{}; ///< `<rule proto="arp">`: one receiver per client
};

struct Rule {
    std::optional<std::size_t> vip; ///< index into FilterOptions::vips; none = all
    std::uint8_t protocol{};        ///< IPPROTO_TCP or IPPROTO_UDP
    std::uint16_t port{};           ///< 0 = any
    Key key{};
    Track track{Track::socket};
    std::uint8_t group{}; ///< index of the balancing group, 0..15
};

struct FilterOptions {
    std::uint8_t module_id{}; ///< 1..64; tc priority 0xC000 + id, NFQUEUE number = id
    NodeId self{};
    Backend backend{Backend::automatic};
    std::array<std::uint64_t, 2> seed{}; ///< of the bucket hash
    std::vector<Vip> vips;
    std::vector<Rule> rules;
    std::uint8_t groups{1};
    nanoseconds duplicate_window{}; ///< 2T: how long copies are looked for round a move
};

/// One bucket of a table. `next` differs from `owner` during a planned move. `holders` = members that may still have
/// connections of this bucket from before; the bucket is settled (and cheap) when next == owner and holders is empty.
struct Bucket {
    std::uint8_t owner{no_owner};
    std::uint8_t next{no_owner};
    NodeSet holders;
    friend bool operator==(const Bucket&, const Bucket&) = default;
};

/// The acknowledged steps of a planned move; nodes of one view differ by at most one. For a bucket with owner O, next
/// N:
///   settled           O takes new flows
///   accept_forwarded  as before; N also takes frames that a member forwarded
///   forward           directed: the receiver sends new flows to N; invisible: O forwards them to N instead of taking
///   them
///   take              N takes frames that reach it by themselves as well, and drops copies for duplicate_window
///   release           O stops forwarding; N still drops copies. The next table has owner = N
/// In every step a frame of a connection that has a socket here is taken here (track socket), and a holder's
/// connections stay its own.
enum class Step : std::uint8_t { settled, accept_forwarded, forward, take, release };

/// What one group does from now on. Applied atomically: a packet sees the old or the new, never a mixture.
struct GroupTable {
    std::uint8_t group{};
    Step step{Step::settled};
    NodeSet live;                  ///< members whose word still counts: a dead holder lets the RST out
    std::span<const Bucket> table; ///< `buckets` entries
};

struct Member {
    NodeId node{};
    std::uint32_t ifindex{}; ///< ours, on which the member is reached
    Mac mac{};               ///< the member's real MAC there
    std::vector<Ip>
        addresses; ///< the member's own addresses there: a frame from its MAC but of another source IP was forwarded
};

struct GroupStats {
    std::uint64_t accepted{}, rejected{}, forwarded{}, in_transition{}, lease_closed{}, duplicates{}, no_rule{},
        fragments_dropped{};
};

/// A bucket in which this node still holds connections, by socket or tracked flow.
struct Held {
    std::uint16_t bucket{};
    std::uint32_t connections{};
};

/// What audit() found.
struct Audit {
    std::vector<std::string> repaired; ///< was gone or replaced, and is back: one line each, since the last call
    std::string missing;               ///< is not as it should be; empty = all well
    bool open{};                       ///< `missing` means that this node takes what is others'
};

/// Threading: one thread at a time, except write_lease (any thread, one store).
/// Errors: Result; on error nothing is half-applied. Destroying the object leaves the filter attached and closed when
/// `detach` was not called: a node that dies must not take everything.
class PacketFilter {
public:
    /// Loads, attaches by netlink (replacing what an earlier process of this module left), closed: lease 0, no table.
    /// `automatic` takes eBPF and falls back to NFQUEUE; backend_note() says which and why.
    [[nodiscard]] static Result<std::unique_ptr<PacketFilter>> open(const FilterOptions& options);
    virtual ~PacketFilter() = default;

    [[nodiscard]] virtual Result<void> set_table(const GroupTable& table) = 0;
    [[nodiscard]] virtual Result<void> set_members(std::span<const Member> members) = 0;
    /// Whether this node answers ARP and neighbour solicitation for a VIP (directed: the elected receiver; invisible:
    /// every member may). With arp_per_client: which clients' buckets it answers follows group 0's table.
    [[nodiscard]] virtual Result<void> set_receiver(std::size_t vip, bool receiver) = 0;
    /// Established connections outlive the gate: accepts only those (by socket) and no new ones while draining.
    [[nodiscard]] virtual Result<void> set_draining(bool draining) = 0;

    /// The data plane acts until then (CLOCK_BOOTTIME ns). Any thread; one aligned store.
    virtual void write_lease(std::uint64_t until_boottime_ns) noexcept = 0;
    /// One page; its first 8 bytes are the lease. -1 if the backend has none.
    [[nodiscard]] virtual int lease_fd() const noexcept = 0;

    [[nodiscard]] virtual Result<GroupStats> stats(std::uint8_t group) const = 0;
    /// Buckets in which this node holds established connections to a VIP (rules with track socket or flow).
    [[nodiscard]] virtual Result<std::vector<Held>> held(std::uint8_t group) const = 0;
    /// "ebpf: tc on eth0, XDP not used (slot taken by 'foo')"; one line for `state -v`.
    [[nodiscard]] virtual std::string backend_note() const = 0;
    /// Is everything still attached as we left it? What somebody took away or replaced is put back in place (eBPF: at
    /// once, by netlink events; NFQUEUE: with this call). Cheap: once a second.
    [[nodiscard]] virtual Audit audit() = 0;
    /// Takes the filter away. Call when the VIPs are gone from the interface.
    [[nodiscard]] virtual Result<void> detach() = 0;
};

/// Removes what a dead process of this module left attached to these interfaces.
[[nodiscard]] Result<void> remove_leftovers(std::uint8_t module_id, std::span<const std::uint32_t> ifindexes);

/// The bucket of a key, as the kernel computes it. For tests, tools and announcements.
[[nodiscard]] std::uint16_t bucket_of(const std::array<std::uint64_t, 2>& seed, Key key, const Ip& client,
                                      std::uint16_t client_port, std::uint16_t ip_id) noexcept;

} // namespace stead::shim

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/net/net.hpp>

#include <cstdint>
#include <memory>
#include <optional>

namespace stead::farm {

/// A frame to the virtual MAC now and then: who hears the others' knows that the switches still flood it.
class Canary {
public:
    /// EtherType 0x88B5 (local experimental) on one interface. Errors: io.
    [[nodiscard]] static Result<std::unique_ptr<Canary>> open(std::uint32_t ifindex, const net::Mac& own,
                                                              const net::Mac& vmac, std::uint8_t module_id);
    void send() noexcept;
    /// Whether another node's canary of this module arrived since the last call. Never blocks.
    [[nodiscard]] bool heard() noexcept;

private:
    Canary(Fd socket, std::uint32_t ifindex, const net::Mac& own, const net::Mac& vmac, std::uint8_t module_id)
        : socket_(std::move(socket)), ifindex_(ifindex), own_(own), vmac_(vmac), module_id_(module_id) {}
    Fd socket_;
    std::uint32_t ifindex_;
    net::Mac own_, vmac_;
    std::uint8_t module_id_;
};

/// Sends a canary every 5 s and judges by what comes from the others. Strand only.
class FloodingWatch {
public:
    explicit FloodingWatch(std::unique_ptr<Canary> canary) : canary_(std::move(canary)) {}
    /// Call once a second. `alone`: nobody else is there to be heard. The new judgement when it changed.
    [[nodiscard]] std::optional<bool> look(std::uint64_t now, bool open, bool alone);

private:
    std::unique_ptr<Canary> canary_;
    std::uint64_t heard_at_{}, sent_at_{}, alone_until_{};
    std::optional<bool> works_;
};

} // namespace stead::farm

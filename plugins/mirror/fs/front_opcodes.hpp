// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

struct fuse_lowlevel_ops;

/// What becomes of every request that a kernel can send. A test walks the table.
namespace stead::mirror::front {

enum class Treatment : std::uint8_t {
    here,       ///< served from the local tree; changes nothing that is replicated
    replicated, ///< checked, then submitted
    refused,    ///< answered with `error`
    library,    ///< libfuse's own business
};

struct Opcode {
    std::uint32_t number; ///< enum fuse_opcode of <linux/fuse.h>
    const char* name;
    Treatment treatment;
    int error;             ///< of a refused one
    std::ptrdiff_t member; ///< its handler's place in fuse_lowlevel_ops; -1 = it has none
    const char* reason;    ///< of a refused one: why, and what the kernel does then
};

[[nodiscard]] std::span<const Opcode> opcodes() noexcept;
/// The handlers, with which the table agrees.
[[nodiscard]] const fuse_lowlevel_ops& handlers() noexcept;

} // namespace stead::mirror::front

// SPDX-License-Identifier: Apache-2.0
// The undo log of a resync after whatever a disk did to it: what it offers to roll back is what was saved, and all of
// it but the batch that was being written; else it says that it is damaged. It can be written to either way.
#include "damage.hpp"

#include "checksum.hpp"
#include "undo_log.hpp"

#include <stead/base/assert.hpp>
#include <stead/mirror/codec.hpp>

#include <cstring>

namespace {

using namespace stead::mirror;
namespace fuzz = stead::fuzz;
constexpr std::size_t header_bytes = 56;

UndoLog::Saved zone(std::uint64_t index, std::size_t bytes) {
    Content content;
    content.what = copy::Zone{bytes, std::string(bytes, 'z')};
    return {{TargetKind::zone, {1, 2}, index}, std::move(content)};
}

struct Written {
    std::string bytes;
    std::vector<UndoLog::Entry> entries;
    std::vector<std::size_t> batch_of; ///< by entry

    Written() {
        const auto path = fuzz::folder() / "written";
        UndoLog log;
        STEAD_ASSERT(log.start(path) == 0);
        const std::vector<std::vector<UndoLog::Saved>> batches{
            {zone(0, 10), {{TargetKind::directory, {3, 4}, 0}, std::nullopt}, zone(1, 300)},
            {zone(2, 100)},
            {zone(3, 1), zone(4, 50)},
            {zone(5, 20)}};
        for (std::size_t i = 0; i < batches.size(); ++i) {
            STEAD_ASSERT(log.append(batches[i]) == 0);
            batch_of.insert(batch_of.end(), batches[i].size(), i);
        }
        entries = log.entries();
        std::ifstream in(path, std::ios::binary);
        bytes.assign(std::istreambuf_iterator<char>(in), {});
    }
    /// Entries that must be offered: those before the batch of the last one that is as it was.
    [[nodiscard]] std::size_t due(const std::string& damaged) const {
        std::size_t batch = 0;
        for (std::size_t i = 0; i < entries.size(); ++i) {
            const std::size_t from = entries[i].offset - header_bytes, length = header_bytes + entries[i].length;
            if (from + length <= damaged.size() && bytes.compare(from, length, damaged, from, length) == 0) {
                batch = batch_of[i];
            }
        }
        return static_cast<std::size_t>(
            std::count_if(batch_of.begin(), batch_of.end(), [&](std::size_t one) { return one < batch; }));
    }
};

bool same(const UndoLog::Entry& a, const UndoLog::Entry& b) {
    return a.target == b.target && a.there == b.there && a.offset == b.offset && a.length == b.length;
}

/// A record that says it is sound, wherever it is.
void seal(std::string& bytes, std::size_t at) {
    if (bytes.size() - at < header_bytes) {
        return;
    }
    const std::uint32_t magic = 0x6f646e75;
    std::uint32_t length = 0;
    std::memcpy(&length, bytes.data() + at + 48, sizeof length);
    length %= 200;
    length = static_cast<std::uint32_t>(std::min<std::size_t>(length, bytes.size() - at - header_bytes));
    std::memcpy(bytes.data() + at + 48, &length, sizeof length);
    std::memcpy(bytes.data() + at, &magic, sizeof magic);
    const std::uint32_t sum = checksum(std::string_view(bytes).substr(at + 8, header_bytes - 8 + length));
    std::memcpy(bytes.data() + at + 4, &sum, sizeof sum);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Written written;
    std::string bytes = written.bytes;
    bool sealed = false, moved = false;
    for (fuzz::Damage damage(data, size); damage.more();) {
        const std::size_t before = bytes.size();
        std::size_t at = 0;
        if (damage.apply(bytes, 8, at)) {
            seal(bytes, at);
            sealed = true;
        }
        moved = moved || bytes.size() > before;
    }
    const auto path = fuzz::folder() / "damaged";
    fuzz::write(path, bytes);
    UndoLog log;
    STEAD_ASSERT(log.load(path) == 0);
    if (!sealed) {
        STEAD_ASSERT(log.entries().size() <= written.entries.size());
        STEAD_ASSERT(std::equal(log.entries().begin(), log.entries().end(), written.entries.begin(), same));
        STEAD_ASSERT(log.damaged() || log.entries().size() >= written.due(bytes));
    }
    for (const UndoLog::Entry& entry : log.entries()) {
        Content content;
        const bool readable = log.read(entry, content) == 0;
        STEAD_ASSERT(sealed || moved || readable || !entry.there);
    }
    const bool was_damaged = log.damaged();
    STEAD_ASSERT(log.append({zone(9, 7)}) == 0);
    UndoLog again;
    STEAD_ASSERT(again.load(path) == 0);
    STEAD_ASSERT(sealed || again.damaged() == was_damaged);
    STEAD_ASSERT(was_damaged || sealed || again.has({TargetKind::zone, {1, 2}, 9}));
    return 0;
}

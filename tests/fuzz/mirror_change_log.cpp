// SPDX-License-Identifier: Apache-2.0
// The change log's two files after whatever a disk did to them. What is read from a readable log is what was written,
// in order, and all of it but what the last append wrote; a log that is not readable makes a node that accounts for
// nothing, so that everything is compared: never one that calls itself clean.
#include "damage.hpp"

#include "change_log.hpp"
#include "checksum.hpp"

#include <stead/base/assert.hpp>
#include <stead/mirror/core.hpp>

#include <array>
#include <cstring>

namespace {

using namespace stead::mirror;
namespace fuzz = stead::fuzz;
constexpr std::size_t sector = ChangeLog::sector_bytes;
constexpr std::uint64_t older_id = 6, id = 7;

std::vector<LogEntry> entries(std::uint64_t from, std::size_t count) {
    std::vector<LogEntry> made;
    for (std::size_t i = 0; i < count; ++i) {
        made.push_back({{static_cast<TargetKind>(i % 3), {from, i}, i % 3 == 2 ? i : 0}, static_cast<Mark>(i % 3)});
    }
    return made;
}

/// A log that was replaced by another one, which grew.
struct Written {
    std::array<std::string, 2> files;
    std::size_t named{};                                      ///< the file of the log that counts
    std::vector<LogEntry> all;                                ///< of it, in order
    std::vector<std::pair<std::size_t, std::size_t>> batches; ///< first sector, entries before it

    Written() {
        const auto path = fuzz::folder() / "written";
        ChangeLog log(path);
        STEAD_ASSERT(log.reset(older_id, entries(1, 50)));
        log.named(older_id);
        add(log, 0);
        log.named(id);
        for (const std::size_t count : {std::size_t{5}, std::size_t{40}, std::size_t{1}, std::size_t{18}}) {
            add(log, count);
        }
        const std::array<std::filesystem::path, 2> paths{path, path.string() + ".1"};
        for (std::size_t i = 0; i < paths.size(); ++i) {
            std::ifstream in(paths[i], std::ios::binary);
            files[i].assign(std::istreambuf_iterator<char>(in), {});
            files[i].resize(12 * sector); // the rest is zeros
        }
        std::uint64_t in_first = 0;
        std::memcpy(&in_first, files[0].data() + 16, sizeof in_first);
        named = in_first == id ? 0 : 1;
    }

private:
    std::size_t sectors_{};
    void add(ChangeLog& log, std::size_t count) {
        const bool first = batches.empty();
        const std::vector<LogEntry> more = entries(100 + all.size(), first ? 30 : count);
        STEAD_ASSERT(first ? log.reset(id, more) : log.append(more));
        batches.emplace_back(sectors_, all.size());
        sectors_ += (more.size() + ChangeLog::entries_per_sector - 1) / ChangeLog::entries_per_sector;
        all.insert(all.end(), more.begin(), more.end());
    }
};

void seal(std::string& bytes, std::size_t at) {
    if (bytes.size() - at < sector) {
        return;
    }
    const std::uint32_t magic = 0x474c4d53, sum = checksum(std::string_view(bytes).substr(at + 8, sector - 8));
    std::memcpy(bytes.data() + at, &magic, sizeof magic);
    std::memcpy(bytes.data() + at + 4, &sum, sizeof sum);
}

/// The least that a readable log must still give: everything before the last batch of which a sector is as it was.
std::size_t entries_due(const Written& written, const std::string& bytes) {
    const std::string& original = written.files[written.named];
    std::size_t due = 0;
    for (std::size_t at = 0; at + sector <= std::min(bytes.size(), original.size()); at += sector) {
        if (original.compare(at, sector, bytes, at, sector) == 0 && original[at] != '\0') {
            for (const auto& [first, before] : written.batches) {
                due = first <= at / sector ? before : due;
            }
        }
    }
    return due;
}

Record record_naming(std::uint64_t log) {
    Record record;
    record.mirror = {1, 2};
    record.current = {3, 4};
    record.base = {5, 6};
    record.role = Role::alone;
    record.in_sync = true;
    record.log = log;
    return record;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Written written;
    std::array<std::string, 2> files = written.files;
    bool sealed = false;
    for (fuzz::Damage damage(data, size); damage.more();) {
        std::size_t at = 0;
        std::string& file = files[damage.file(2)];
        if (damage.apply(file, sector, at)) {
            seal(file, at);
            sealed = true;
        }
    }
    const auto path = fuzz::folder() / "damaged";
    fuzz::write(path, files[0]);
    fuzz::write(path.string() + ".1", files[1]);
    const bool cut = files[written.named].size() < written.files[written.named].size();
    for (const std::size_t i :
         {std::size_t{0}, std::size_t{1}}) { // all but what was cut off is as long as a log is made
        if (files[i].size() >= written.files[i].size()) {
            std::filesystem::resize_file(path.string() + (i == 0 ? "" : ".1"), std::size_t{1} << 20);
        }
    }
    ChangeLog log(path);
    const LoadedLog loaded = log.load(id);
    STEAD_ASSERT(loaded.id == id);
    STEAD_ASSERT(!(cut && loaded.readable) || sealed);
    if (!sealed && loaded.readable) {
        STEAD_ASSERT(files[written.named].compare(0, sector, written.files[written.named], 0, sector) == 0);
        STEAD_ASSERT(loaded.entries.size() <= written.all.size());
        STEAD_ASSERT(std::equal(loaded.entries.begin(), loaded.entries.end(), written.all.begin()));
        STEAD_ASSERT(loaded.entries.size() >= entries_due(written, files[written.named]));
    }
    Options options;
    options.zones_per_extent = 1;
    const Core::Standing standing = Core::after_restart(options, record_naming(id), loaded);
    STEAD_ASSERT(standing.facts.dirty_known == loaded.readable);
    for (const LogEntry& entry : loaded.readable ? loaded.entries : std::vector<LogEntry>{}) {
        STEAD_ASSERT((entry.mark == Mark::unsynced ? standing.unsynced : standing.marks).contains(entry.target));
    }
    if (loaded.readable && size % 16 == 1) { // it goes on
        const LogEntry more{{TargetKind::inode, {9, 9}, 0}, Mark::dirty};
        STEAD_ASSERT(log.append({more}));
        const LoadedLog again = ChangeLog(path).load(id);
        const std::size_t before = loaded.entries.size();
        STEAD_ASSERT(sealed || (again.readable && again.entries.size() > before && again.entries[before] == more));
    }
    return 0;
}

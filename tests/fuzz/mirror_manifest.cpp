// SPDX-License-Identifier: Apache-2.0
// What a stopped mirror left on the disk besides its record and logs: the manifest of a clean stop, and the paths of
// what was lost in a split. As it is, and with a checksum that fits.
#include "damage.hpp"

#include "lost_paths.hpp"
#include "manifest.hpp"

#include <stead/base/assert.hpp>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstring>

namespace {

using namespace stead::mirror;
namespace fuzz = stead::fuzz;
constexpr std::size_t head_bytes = 24, entry_bytes = 56;

void load(const std::string& bytes, bool may_be_sound) {
    const auto path = fuzz::folder() / "manifest";
    fuzz::write(path, bytes);
    Manifest manifest;
    const Manifest::State state = manifest.load(path);
    STEAD_ASSERT(state != Manifest::State::missing);
    STEAD_ASSERT(may_be_sound || state == Manifest::State::damaged || bytes.size() == head_bytes);
    if (state == Manifest::State::sound) {
        STEAD_ASSERT(manifest.gone().size() <= (bytes.size() - head_bytes) / entry_bytes);
        for (const Fid& fid : manifest.gone()) {
            static_cast<void>(manifest.size_of(fid));
            static_cast<void>(manifest.owns(fid, {}));
        }
    }
}

std::string sealed(std::string_view entries) {
    entries = entries.substr(0, entries.size() / entry_bytes * entry_bytes);
    std::string bytes(head_bytes, '\0');
    const std::uint64_t sum = XXH3_64bits(entries.data(), entries.size()), count = entries.size() / entry_bytes;
    std::memcpy(bytes.data(), "STMANIF1", 8);
    std::memcpy(bytes.data() + 8, &sum, sizeof sum);
    std::memcpy(bytes.data() + 16, &count, sizeof count);
    return bytes.append(entries);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes{reinterpret_cast<const char*>(data), size};
    load(std::string{bytes}, false);
    load(sealed(bytes), true);
    if (const auto paths = decode_lost_paths("paths", bytes)) {
        for (const LostPath& path : *paths) {
            const std::filesystem::path was{path.was};
            STEAD_ASSERT(was.is_absolute() && was.lexically_normal() == was); // it becomes a path below an export
        }
        const auto again = decode_lost_paths("paths", encode_lost_paths(*paths));
        STEAD_ASSERT(again && again->size() == paths->size());
        for (std::size_t i = 0; i < paths->size(); ++i) {
            STEAD_ASSERT((*again)[i].was == (*paths)[i].was && (*again)[i].fid == (*paths)[i].fid &&
                         (*again)[i].whole == (*paths)[i].whole && (*again)[i].now == (*paths)[i].now);
        }
    }
    return 0;
}

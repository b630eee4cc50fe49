// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

/// What a disk may do to a file: bytes change, blocks vanish or repeat, the end is missing. Four bytes of the input are
/// one such event.
namespace stead::fuzz {

class Damage {
public:
    Damage(const std::uint8_t* data, std::size_t size) : data_(data), left_(size / 4) {}

    [[nodiscard]] bool more() const noexcept { return left_ > 0; }
    /// The file that the next event is about, of `count`.
    [[nodiscard]] std::size_t file(std::size_t count) const noexcept { return (data_[0] >> 4) % count; }

    /// True: the block at `at` is to be sealed with a checksum that fits (what the caller knows how to do).
    bool apply(std::string& bytes, std::size_t block, std::size_t& at) {
        const unsigned what = data_[0] & 7;
        const std::size_t place = static_cast<std::size_t>(data_[1]) << 8 | data_[2];
        const std::uint8_t value = data_[3];
        data_ += 4;
        --left_;
        at = 0;
        if (bytes.empty()) {
            return false;
        }
        const std::size_t byte = place % bytes.size();
        const std::size_t begin = byte / block * block;
        const std::size_t length = std::min(block, bytes.size() - begin);
        at = begin;
        switch (what) {
        case 0: bytes.resize(byte); break;
        case 1: bytes.replace(begin, length, length, '\0'); break;
        case 2: bytes.replace(begin, length, std::string(bytes, value * block % bytes.size(), length)); break;
        case 3: bytes.append(value, static_cast<char>(place)); break;
        case 4: return true;
        default: bytes[byte] = static_cast<char>(bytes[byte] ^ value); break;
        }
        return false;
    }

private:
    const std::uint8_t* data_;
    std::size_t left_;
};

/// A folder of this process, removed at its end.
inline const std::filesystem::path& folder() {
    static const struct Folder {
        std::filesystem::path path;
        Folder() {
            std::string pattern = (std::filesystem::temp_directory_path() / "stead-fuzz-XXXXXX").string();
            if (::mkdtemp(pattern.data()) == nullptr) {
                std::abort();
            }
            path = pattern;
        }
        ~Folder() {
            std::error_code ignored;
            std::filesystem::remove_all(path, ignored);
        }
    } made;
    return made.path;
}

inline void write(const std::filesystem::path& file, const std::string& bytes) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
}

} // namespace stead::fuzz

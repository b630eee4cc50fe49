// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace stead::archive::test {

namespace fs = std::filesystem;

/// Writes zips that no honest tool would: any name, type and flag, contents stored as they are.
class ZipMaker {
public:
    ZipMaker& file(const std::string& name, const std::string& content, std::uint32_t mode = S_IFREG | 0644,
                   std::uint16_t flags = 0) {
        const auto offset = static_cast<std::uint32_t>(body_.size());
        std::string common = n16(flags) + n16(0) + n16(0) + n16(0x21) + n32(crc(content)) + n32(content.size()) +
                             n32(content.size()) + n16(name.size()) + n16(0);
        body_ += "PK\3\4" + n16(20) + common + name + content;
        const auto made_by = mode == 0 ? std::string("\x14\0", 2) : std::string("\x14\3", 2);
        central_ += "PK\1\2" + made_by + n16(20) + common + n16(0) + n16(0) + n16(0) + n32(std::uint64_t{mode} << 16) +
                    n32(offset) + name;
        ++count_;
        return *this;
    }
    ZipMaker& link(const std::string& name, const std::string& target) { return file(name, target, S_IFLNK | 0777); }
    ZipMaker& module(const std::string& prefix = "") { return file(prefix + "conf/userconfig.xml", "<safe/>"); }
    [[nodiscard]] std::string bytes() const {
        return body_ + central_ + "PK\5\6" + n16(0) + n16(0) + n16(count_) + n16(count_) + n32(central_.size()) +
               n32(body_.size()) + n16(0);
    }

private:
    static std::string number(std::uint64_t value, int size) {
        std::string out;
        for (int i = 0; i < size; ++i) {
            out += static_cast<char>(value >> (8 * i) & 0xFF);
        }
        return out;
    }
    static std::string n16(std::uint64_t v) { return number(v, 2); }
    static std::string n32(std::uint64_t v) { return number(v & 0xFFFFFFFF, 4); }
    static std::uint32_t crc(const std::string& text) {
        std::uint32_t value = ~0u;
        for (const unsigned char c : text) {
            value ^= c;
            for (int i = 0; i < 8; ++i) {
                value = (value >> 1) ^ (0xEDB88320u & (0u - (value & 1)));
            }
        }
        return ~value;
    }
    std::string body_, central_;
    std::uint32_t count_{};
};

class ArchiveTest : public ::testing::Test {
protected:
    ArchiveTest() {
        std::string name = fs::temp_directory_path() / "stead-archive-XXXXXX";
        root_ = ::mkdtemp(name.data());
        fs::create_directory(root_ / "modules");
    }
    ~ArchiveTest() override { fs::remove_all(root_); }

    fs::path write(const std::string& name, const std::string& content) const {
        const auto path = root_ / name;
        fs::create_directories(path.parent_path());
        std::ofstream{path, std::ios::binary} << content;
        return path;
    }
    static std::string read(const fs::path& path) {
        std::ifstream in{path, std::ios::binary};
        return {std::istreambuf_iterator<char>{in}, {}};
    }
    static unsigned mode(const fs::path& path) {
        struct stat status{};
        EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
        return status.st_mode & 07777u;
    }
    std::vector<std::string> left_behind() const {
        std::vector<std::string> names;
        for (const auto& entry : fs::directory_iterator{root_ / "modules"}) {
            names.push_back(entry.path().filename());
        }
        return names;
    }
    fs::path root_;
};

} // namespace stead::archive::test

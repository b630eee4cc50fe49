// SPDX-License-Identifier: Apache-2.0
// A package from anywhere: installed as one folder, or nothing is left; never a byte outside.
#include <stead/archive/archive.hpp>

#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace fs = std::filesystem;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string name = "/dev/shm/stead-fuzz-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) {
        std::abort();
    }
    const fs::path root{name};
    fs::create_directory(root / "modules");
    {
        std::ofstream out{root / "x.safe", std::ios::binary};
        out.write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
    }
    const auto made = stead::archive::install(root / "x.safe", root / "modules" / "am");
    const auto count = std::distance(fs::directory_iterator{root / "modules"}, fs::directory_iterator{});
    if (count != (made ? 1 : 0) || std::distance(fs::directory_iterator{root}, fs::directory_iterator{}) != 2 ||
        (made && !fs::is_regular_file(fs::symlink_status(root / "modules/am/conf/userconfig.xml")))) {
        std::abort();
    }
    for (const auto& entry :
         made ? fs::recursive_directory_iterator{root / "modules/am"} : fs::recursive_directory_iterator{}) {
        if (entry.is_symlink() &&
            !fs::weakly_canonical(entry.path()).string().starts_with(fs::canonical(root / "modules/am").string())) {
            std::abort();
        }
    }
    fs::remove_all(root);
    return 0;
}

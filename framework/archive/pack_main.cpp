// SPDX-License-Identifier: Apache-2.0
// stead-pack FOLDER FILE.safe: packages the shipped modules at build time.
#include <stead/archive/archive.hpp>

#include <cstdio>

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fputs("usage: stead-pack FOLDER FILE.safe\n", stderr);
        return 2;
    }
    const auto made = stead::archive::package(argv[1], argv[2]);
    if (!made) {
        std::fprintf(stderr, "stead-pack: %s\n", made.error().text().c_str());
        return 1;
    }
    return 0;
}

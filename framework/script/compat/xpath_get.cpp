// SPDX-License-Identifier: Apache-2.0
// xpathGet FILE XPATH: prints each value found on its own line. Exit 0 found, 1 nothing found, 2 bad file or path.
#include "xpath.hpp"

#include <tinyxml2.h>

#include <cstdio>

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: xpathGet FILE XPATH\n");
        return 2;
    }
    tinyxml2::XMLDocument document;
    if (document.LoadFile(argv[1]) != tinyxml2::XML_SUCCESS) {
        std::fprintf(stderr, "xpathGet: %s: %s\n", argv[1], document.ErrorStr());
        return 2;
    }
    const auto found = stead::script::xpath(document, argv[2]);
    if (!found) {
        std::fprintf(stderr, "xpathGet: %s\n", found.error().text().c_str());
        return 2;
    }
    for (const std::string& text : *found) {
        std::printf("%s\n", text.c_str());
    }
    return found->empty() ? 1 : 0;
}

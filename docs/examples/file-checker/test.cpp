// SPDX-License-Identifier: Apache-2.0
// A unit test of the checker, without Stead: c++ -std=c++20 -I <prefix>/include test.cpp -pthread && ./a.out
#undef NDEBUG
#include "file_checker.cpp"

#include <cassert>
#include <cstring>

namespace {

stead_str text(const char* value) { return {value, std::strlen(value)}; }

stead::checker::Outcome probe(const char* path) {
    // As the host delivers them: durations in nanoseconds, defaults filled in.
    const stead_xml_attr attributes[] = {{text("path"), text(path)}};
    const stead_xml element{text("file"), 1, 1, attributes, 0, 0, nullptr, text("")};
    return FileCheck{stead::plugin::Config{&element}}.probe();
}

} // namespace

int main() {
    assert(probe("/etc/passwd").good);
    const stead::checker::Outcome missing = probe("/no/such/file");
    assert(!missing.good && missing.reason == "/no/such/file is not there");
}

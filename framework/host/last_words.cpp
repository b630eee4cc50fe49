// SPDX-License-Identifier: Apache-2.0
#include "last_words.hpp"

#include "registry.hpp"

#include <array>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>
#include <unistd.h>

namespace stead::host {
namespace {

struct Range {
    std::uintptr_t begin{}, end{};
    std::string file;
};

/// Written once; read by the handler, which may not allocate, lock or look anything up.
std::vector<Range>& ranges() {
    static std::vector<Range> all;
    return all;
}

void say(std::span<const char* const> words) noexcept {
    for (const char* word : words) {
        if (::write(STDERR_FILENO, word, std::strlen(word)) < 0) {
            return;
        }
    }
}

const char* plugin_on_stack() noexcept {
    std::array<void*, 64> frames{};
    const int count = ::backtrace(frames.data(), static_cast<int>(frames.size()));
    for (int i = 0; i < count; ++i) {
        const auto at = reinterpret_cast<std::uintptr_t>(frames[static_cast<std::size_t>(i)]);
        for (const Range& range : ranges()) {
            if (at >= range.begin && at < range.end) {
                return range.file.c_str();
            }
        }
    }
    return nullptr;
}

void on_crash(int signal) {
    const char* what = ::sigdescr_np(signal);
    const char* plugin = plugin_on_stack();
    const std::array words{what != nullptr ? what : "crash", plugin != nullptr ? " in the plugin " : " in no plugin",
                           plugin != nullptr ? plugin : "", "\n"};
    say(words);
    ::raise(signal); // the default is in force again
}

int collect(dl_phdr_info* info, std::size_t, void* context) {
    const auto& registry = *static_cast<const Registry*>(context);
    for (const Plugin& plugin : registry.plugins()) {
        if (plugin.file.native() != info->dlpi_name) {
            continue;
        }
        for (int i = 0; i < info->dlpi_phnum; ++i) {
            const auto& part = info->dlpi_phdr[i];
            if (part.p_type == PT_LOAD && (part.p_flags & PF_X) != 0) {
                const std::uintptr_t begin = info->dlpi_addr + part.p_vaddr;
                ranges().push_back({begin, begin + part.p_memsz, plugin.file.filename().string()});
            }
        }
    }
    return 0;
}

} // namespace

void tell_crashes(const Registry& registry) {
    ::dl_iterate_phdr(collect, const_cast<Registry*>(&registry));
    std::array<void*, 1> frame{};
    ::backtrace(frame.data(), 1); // loads what the handler may not load
    for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) {
        struct sigaction now {};
        struct sigaction ours {};
        ours.sa_handler = on_crash;
        ours.sa_flags = SA_RESETHAND | SA_NODEFER;
        if (::sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_DFL) {
            ::sigaction(signal, &ours, nullptr);
        }
    }
}

} // namespace stead::host

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/process/spec.hpp>

#include <dirent.h>
#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace stead::process {

/// The processes that a spec stands for. `pids`: the lowest ones, as many as there are to be watched.
struct Found {
    std::uint32_t count{};
    std::vector<pid_t> pids;
};

/// How many processes of a spec must be watched to notice that too few are left, and some more.
[[nodiscard]] std::size_t watched_of(const Spec& spec) noexcept;

/// Finds processes by command name and command line in one pass over /proc, whatever the number of specs: each command
/// name is compared with all of them once, and the answer is kept. Kernel threads and zombies do not count;
/// a process whose main thread has ended while others run is no zombie, although the kernel's letter says so.
///
/// Threading: one thread at a time.
class Scanner {
public:
    /// `specs` outlive the scanner.
    explicit Scanner(std::span<const Spec> specs, const std::filesystem::path& proc = "/proc");

    /// Fills found[i] for each spec with wanted[i]; the others are left alone. Errors: io, naming the folder.
    [[nodiscard]] Result<void> scan(const std::vector<bool>& wanted, std::vector<Found>& found);

private:
    struct TextHash {
        using is_transparent = void;
        std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
    };
    using Candidates = std::vector<std::uint32_t>;
    struct Close {
        void operator()(DIR* folder) const noexcept { ::closedir(folder); }
    };
    void look(const char* pid_text, const std::vector<bool>& wanted, std::vector<Found>& found);
    [[nodiscard]] const Candidates& candidates(std::string_view command);
    [[nodiscard]] std::size_t read_arguments(const char* pid_text, bool main_thread_ended);
    [[nodiscard]] std::size_t read(const char* pid_text, const char* file, std::span<char> buffer) const;

    std::span<const Spec> specs_;
    std::filesystem::path folder_;
    std::unique_ptr<DIR, Close> proc_;
    std::unordered_map<std::string, Candidates, TextHash, std::equal_to<>> by_command_;
    std::vector<char> arguments_;
};

} // namespace stead::process

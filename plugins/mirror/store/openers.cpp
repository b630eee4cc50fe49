// SPDX-License-Identifier: Apache-2.0
#include "openers.hpp"

#include <charconv>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace stead::mirror {

namespace {

namespace fs = std::filesystem;

std::string target_of(const fs::path& link) {
    std::error_code failed;
    const fs::path target = fs::read_symlink(link, failed);
    return failed ? std::string() : target.string();
}

class Search {
public:
    Search(const std::string& folder, std::string shown) : prefix_(folder + "/"), shown_(std::move(shown)) {
        struct stat found {};
        device_ = ::stat(folder.c_str(), &found) == 0 ? found.st_dev : 0;
    }

    [[nodiscard]] std::optional<Opener> of(const fs::path& process) const {
        if (const std::string file = written(process); !file.empty()) {
            return told(process, true, "has " + shown_ + file.substr(prefix_.size() - 1) + " open for writing");
        }
        const fs::path standing = process / "cwd";
        if (below(target_of(standing) + "/") && same_device(standing)) {
            return told(process, false, "has its working directory in " + shown_);
        }
        return std::nullopt;
    }

private:
    [[nodiscard]] bool below(const std::string& path) const { return path.starts_with(prefix_); }

    /// A path may also be of a mount that covers the folder, or of one that is dead.
    [[nodiscard]] bool same_device(const fs::path& link) const {
        struct stat found {};
        return ::stat(link.c_str(), &found) == 0 && found.st_dev == device_;
    }

    [[nodiscard]] std::string written(const fs::path& process) const {
        std::error_code failed;
        for (fs::directory_iterator fd(process / "fd", failed), end; !failed && fd != end; fd.increment(failed)) {
            const std::string file = target_of(fd->path());
            if (below(file) && for_writing(process / "fdinfo" / fd->path().filename()) && same_device(fd->path())) {
                return file;
            }
        }
        return mapped(process);
    }

    /// The second line of fdinfo: "flags:" and the flags of open(2), octal.
    [[nodiscard]] static bool for_writing(const fs::path& info) {
        std::ifstream in(info);
        for (std::string word; in >> word;) {
            if (word == "flags:") {
                unsigned flags = 0;
                in >> std::oct >> flags;
                return (flags & O_ACCMODE) != O_RDONLY && (flags & O_PATH) == 0;
            }
        }
        return false;
    }

    /// A line of maps: addresses, "rw-s", offset, device, inode, path. A descriptor that was closed leaves this.
    [[nodiscard]] std::string mapped(const fs::path& process) const {
        std::ifstream in(process / "maps");
        for (std::string line; std::getline(in, line);) {
            const auto blank = line.find(' ');
            const auto path = line.find('/');
            if (blank != std::string::npos && path != std::string::npos && below(line.substr(path)) &&
                line.compare(blank + 2, 1, "w") == 0 && line.compare(blank + 4, 1, "s") == 0 &&
                same_device(process / "map_files" / line.substr(0, blank))) {
                return line.substr(path);
            }
        }
        return {};
    }

    [[nodiscard]] static Opener told(const fs::path& process, bool writes, const std::string& what) {
        std::ifstream in(process / "comm");
        std::string name;
        std::getline(in, name);
        return {writes, "process " + process.filename().string() + " (" + name + ") " + what};
    }

    std::string prefix_, shown_;
    dev_t device_{};
};

} // namespace

std::optional<Opener> opener_below(const std::string& folder, const std::string& shown) {
    const Search search(folder, shown);
    const std::string own = std::to_string(::getpid());
    std::optional<Opener> standing;
    std::error_code failed;
    for (fs::directory_iterator one("/proc", failed), end; !failed && one != end; one.increment(failed)) {
        const std::string name = one->path().filename().string();
        if (name.find_first_not_of("0123456789") != std::string::npos || name == own) {
            continue;
        }
        if (const auto found = search.of(one->path()); found && found->writes) {
            return found;
        } else if (found && !standing) {
            standing = found;
        }
    }
    return standing;
}

} // namespace stead::mirror

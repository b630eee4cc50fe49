// SPDX-License-Identifier: Apache-2.0
#include "staging.hpp"
#include "tree.hpp"
#include "zip_kinds.hpp"

#include <stead/base/files.hpp>

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>

namespace stead::archive {

namespace {

namespace fs = std::filesystem;
using Reader = std::unique_ptr<::archive, decltype(&::archive_read_free)>;

/// Receives the files of a package, in its order; paths are those of the Tree.
class Sink {
public:
    virtual ~Sink() = default;
    virtual Result<void> begin(const Entry& entry) = 0;
    virtual Result<void> data(std::string_view bytes) = 0;
    virtual Result<void> end() = 0;
};

class Package {
public:
    static Result<Package> open(const fs::path& file) {
        Package package{file};
        package.fd_.reset(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
        struct stat status {};
        if (!package.fd_ || ::fstat(package.fd_.get(), &status) != 0) {
            auto error = os_error(file.string(), "cannot be opened", errno);
            error.code = errno == ENOENT ? Errc::not_found : Errc::io;
            return error;
        }
        if (!S_ISREG(status.st_mode)) {
            return Error{Errc::malformed, file.string(), "is not a file; a .safe package (zip) is expected"};
        }
        package.bytes_ = static_cast<std::uint64_t>(status.st_size);
        if (package.bytes_ > package_bytes_max) {
            return Error{Errc::out_of_range, file.string(),
                         "is larger than " + std::to_string(package_bytes_max >> 20) + " MiB"};
        }
        std::array<char, 4> magic{};
        const auto got = ::pread(package.fd_.get(), magic.data(), magic.size(), 0);
        const std::string_view start{magic.data(), got > 0 ? static_cast<std::size_t>(got) : 0};
        if (start == std::string_view{"PK\5\6", 4}) {
            return Error{Errc::malformed, file.string(), "the zip file is empty: conf/userconfig.xml is missing"};
        }
        if (start != std::string_view{"PK\3\4", 4}) {
            return Error{Errc::malformed, file.string(), "is not a zip file; a .safe package is a zip file"};
        }
        return package;
    }

    /// One pass over all entries, every rule checked; `sink` (may be null) gets the contents.
    Result<Tree> read(Sink* sink) {
        const Utf8Locale utf8;
        Tree tree{file_.string()};
        if (const auto bad = find_bad_entry(fd_.get(), bytes_)) {
            return tree.error(Errc::refused, bad->name, bad->why);
        }
        Reader reader{::archive_read_new(), &::archive_read_free};
        // Only the reader that needs the directory at the end: what is cut off is refused, not guessed.
        if (!reader || ::archive_read_support_format_zip_seekable(reader.get()) != ARCHIVE_OK ||
            ::lseek(fd_.get(), 0, SEEK_SET) != 0 ||
            ::archive_read_open_fd(reader.get(), fd_.get(), 64u << 10) != ARCHIVE_OK) {
            return broken(reader.get());
        }
        for (;;) {
            archive_entry* raw = nullptr;
            const int status = ::archive_read_next_header(reader.get(), &raw);
            if (status == ARCHIVE_EOF) {
                return tree;
            }
            if (status != ARCHIVE_OK && status != ARCHIVE_WARN) {
                return broken(reader.get());
            }
            if (auto taken = take(reader.get(), raw, tree, sink); !taken) {
                return taken.error();
            }
        }
    }

private:
    explicit Package(fs::path file) : file_(std::move(file)) {}

    static Error special(const Tree& tree, std::string_view path) {
        return tree.error(Errc::refused, path, "is a device, pipe or socket; allowed: files, folders, symbolic links");
    }

    Error broken(::archive* reader) const {
        const char* text = reader == nullptr ? nullptr : ::archive_error_string(reader);
        return Error{Errc::malformed, file_.string(),
                     "the zip file is truncated or damaged (" + std::string{text == nullptr ? "no details" : text} +
                         ")"};
    }

    Result<Entry> describe(archive_entry* raw, const Tree& tree) const {
        const char* name = ::archive_entry_pathname_utf8(raw);
        name = name == nullptr ? ::archive_entry_pathname(raw) : name;
        if (name == nullptr || *name == '\0') {
            return tree.error(Errc::malformed, "", "an entry has no readable name");
        }
        auto path = tree.clean(name);
        if (!path) {
            return path.error();
        }
        Entry entry;
        entry.path = *path;
        const auto type = ::archive_entry_filetype(raw);
        if (::archive_entry_is_encrypted(raw) != 0) {
            return tree.error(Errc::refused, entry.path, "is encrypted; packages are not");
        }
        if (::archive_entry_hardlink(raw) != nullptr) {
            return tree.error(Errc::refused, entry.path, "is a hard link; allowed: files, folders, symbolic links");
        }
        if (type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK) {
            return special(tree, entry.path);
        }
        entry.kind = type == AE_IFREG ? 'f' : type == AE_IFDIR ? 'd' : 'l';
        entry.mode = safe_mode(entry.kind, ::archive_entry_perm(raw));
        if (entry.kind == 'l') {
            const char* target = ::archive_entry_symlink_utf8(raw);
            target = target == nullptr ? ::archive_entry_symlink(raw) : target;
            entry.target = target == nullptr ? "" : target;
            entry.mode = 0777;
        }
        if (::archive_entry_size_is_set(raw) != 0 && entry.kind == 'f' &&
            static_cast<std::uint64_t>(::archive_entry_size(raw)) > file_bytes_max) {
            return tree.error(Errc::out_of_range, entry.path,
                              "is larger than " + std::to_string(file_bytes_max >> 20) + " MiB");
        }
        return entry;
    }

    Result<void> take(::archive* reader, archive_entry* raw, Tree& tree, Sink* sink) const {
        auto entry = describe(raw, tree);
        if (!entry) {
            return entry.error();
        }
        if (auto added = tree.add(*entry); !added) {
            return added;
        }
        if (entry->path.empty()) {
            return {};
        }
        if (sink != nullptr) {
            if (auto begun = sink->begin(*entry); !begun) {
                return begun;
            }
        }
        if (entry->kind == 'f') {
            if (auto copied = copy(reader, entry->path, tree, sink); !copied) {
                return copied;
            }
        }
        return sink == nullptr ? Result<void>{} : sink->end();
    }

    /// Reads (and so checks lengths and checksums) even when nobody wants the bytes.
    Result<void> copy(::archive* reader, const std::string& path, Tree& tree, Sink* sink) const {
        std::array<char, 64u << 10> buffer; // NOLINT: filled by read
        for (;;) {
            const auto got = ::archive_read_data(reader, buffer.data(), buffer.size());
            if (got == 0) {
                return {};
            }
            if (got < 0) {
                auto error = broken(reader);
                error.where += ", entry '" + path + "'";
                return error;
            }
            if (auto good = tree.grow(path, static_cast<std::uint64_t>(got), bytes_); !good) {
                return good;
            }
            if (sink != nullptr) {
                if (auto written = sink->data({buffer.data(), static_cast<std::size_t>(got)}); !written) {
                    return written;
                }
            }
        }
    }

    fs::path file_;
    Fd fd_;
    std::uint64_t bytes_{};
};

/// Writes below a fresh folder that only we can enter. The Tree's rules made sure that every parent is a real folder.
class DiskSink final : public Sink {
public:
    DiskSink(fs::path root, std::string top) : root_(std::move(root)), top_(std::move(top)) {}

    Result<void> begin(const Entry& entry) override {
        entry_ = entry;
        first_.clear();
        if (!entry.path.starts_with(top_)) {
            entry_.kind = 'd'; // the top folder itself
            entry_.path.clear();
            return {};
        }
        entry_.path.erase(0, top_.size());
        const auto path = root_ / entry_.path;
        std::error_code error;
        fs::create_directories(entry.kind == 'd' ? path : path.parent_path(), error);
        if (error) {
            return os_error(path.string(), "cannot be made", error.value());
        }
        if (entry.kind == 'd') {
            folders_.emplace_back(path, entry.mode);
        } else if (entry.kind == 'f') {
            fd_.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
            if (!fd_) {
                return os_error(path.string(), "cannot be written", errno);
            }
        } else {
            links_.emplace_back(path, entry.target);
        }
        return {};
    }

    Result<void> data(std::string_view bytes) override {
        if (first_.size() < 2) {
            first_ += bytes.substr(0, 2 - first_.size());
        }
        while (!bytes.empty()) {
            const auto done = ::write(fd_.get(), bytes.data(), bytes.size());
            if (done < 0 && errno != EINTR) {
                return os_error(entry_.path, "cannot be written", errno);
            }
            bytes.remove_prefix(done < 0 ? 0 : static_cast<std::size_t>(done));
        }
        return {};
    }

    Result<void> end() override {
        if (!fd_) {
            return {};
        }
        const auto mode = is_script(entry_.path, first_) ? 0755 : entry_.mode;
        if (::fchmod(fd_.get(), mode) != 0 || ::fsync(fd_.get()) != 0) {
            return os_error(entry_.path, "cannot be written", errno);
        }
        fd_.reset();
        return {};
    }

    /// Links last, so that nothing was written through one; then permissions of folders, the deepest first.
    Result<void> finish() {
        for (const auto& [path, target] : links_) {
            if (::symlink(target.c_str(), path.c_str()) != 0) {
                return os_error(path.string(), "the link cannot be made", errno);
            }
        }
        for (auto at = folders_.rbegin(); at != folders_.rend(); ++at) {
            if (::chmod(at->first.c_str(), at->second) != 0) {
                return os_error(at->first.string(), "permissions cannot be set", errno);
            }
        }
        return sync_tree(root_);
    }

private:
    fs::path root_;
    std::string top_;
    Entry entry_;
    std::string first_;
    Fd fd_;
    std::vector<std::pair<fs::path, std::uint32_t>> folders_;
    std::vector<std::pair<fs::path, std::string>> links_;
};

Summary summarise(const Tree& tree, const std::string& top) {
    Summary summary;
    summary.name = top.empty() ? "" : top.substr(0, top.size() - 1);
    summary.bytes = tree.bytes();
    for (auto [path, entry] : tree.entries()) {
        if (path.starts_with(top)) {
            entry.path.erase(0, top.size());
            summary.entries.push_back(std::move(entry));
        }
    }
    return summary;
}

Result<std::pair<Tree, std::string>> examine(Package& package) {
    auto tree = package.read(nullptr);
    if (!tree) {
        return tree.error();
    }
    auto top = tree->top();
    if (!top) {
        return top.error();
    }
    if (auto links = tree->check_links(*top); !links) {
        return links.error();
    }
    return std::pair{std::move(*tree), *top};
}

bool same(const Tree& a, const Tree& b) {
    return std::equal(a.entries().begin(), a.entries().end(), b.entries().begin(), b.entries().end(),
                      [](const auto& x, const auto& y) {
                          return x.first == y.first && x.second.kind == y.second.kind &&
                                 x.second.target == y.second.target;
                      });
}

} // namespace

Result<Summary> install(const fs::path& safe_file, const fs::path& destination, Replace replace) {
    auto package = Package::open(safe_file);
    if (!package) {
        return package.error();
    }
    std::error_code ignored;
    if (replace == Replace::no && fs::exists(fs::symlink_status(destination, ignored))) {
        return Error{Errc::conflict, destination.string(), "is already there; uninstall it, or replace it (-r)"};
    }
    auto seen = examine(*package);
    if (!seen) {
        return seen.error();
    }
    const auto& [tree, top] = *seen;
    auto staging = Staging::beside(destination);
    if (!staging) {
        return staging.error();
    }
    DiskSink sink{staging->path(), top};
    auto written = package->read(&sink);
    if (!written) {
        return written.error();
    }
    if (!same(tree, *written)) {
        return Error{Errc::conflict, safe_file.string(), "changed while it was read; try again"};
    }
    if (auto finished = sink.finish(); !finished) {
        return finished.error();
    }
    if (auto placed = staging->place(destination, replace == Replace::yes); !placed) {
        return placed.error();
    }
    return summarise(tree, top);
}

Result<Summary> list(const fs::path& safe_file) {
    auto package = Package::open(safe_file);
    if (!package) {
        return package.error();
    }
    auto seen = examine(*package);
    if (!seen) {
        return seen.error();
    }
    return summarise(seen->first, seen->second);
}

} // namespace stead::archive

// SPDX-License-Identifier: Apache-2.0
#include "tree.hpp"

#include <stead/base/files.hpp>

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <system_error>

namespace stead::archive {

namespace {

namespace fs = std::filesystem;
using Writer = std::unique_ptr<::archive, decltype(&::archive_write_free)>;
using ZipEntry = std::unique_ptr<archive_entry, decltype(&::archive_entry_free)>;

Result<Entry> describe(const fs::path& path, const Tree& tree, const std::string& name) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
        return os_error(path.string(), "cannot be read", errno);
    }
    auto clean = tree.clean(name);
    if (!clean) {
        return clean.error();
    }
    Entry entry{*clean, 0, 0777, 0, ""};
    if (S_ISREG(status.st_mode)) {
        entry.kind = 'f';
    } else if (S_ISDIR(status.st_mode)) {
        entry.kind = 'd';
    } else if (S_ISLNK(status.st_mode)) {
        entry.kind = 'l';
        std::error_code error;
        entry.target = fs::read_symlink(path, error).string();
        return entry;
    } else {
        return tree.error(Errc::refused, name, "is a device, pipe or socket; allowed: files, folders, symbolic links");
    }
    entry.mode = safe_mode(entry.kind, status.st_mode & 07777u);
    return entry;
}

Result<Tree> gather(const fs::path& folder) {
    Tree tree{folder.string()};
    std::error_code error;
    fs::recursive_directory_iterator at{folder, error};
    for (const fs::recursive_directory_iterator end; !error && at != end; at.increment(error)) {
        auto entry = describe(at->path(), tree, at->path().lexically_relative(folder).generic_string());
        if (!entry) {
            return entry.error();
        }
        if (auto added = tree.add(*entry); !added) {
            return added.error();
        }
    }
    if (error) {
        auto problem = os_error(folder.string(), "cannot be read", error.value());
        problem.code = error.value() == ENOENT ? Errc::not_found : Errc::io;
        return problem;
    }
    if (auto links = tree.check_links(""); !links) {
        return links.error();
    }
    return tree;
}

class ZipFile {
public:
    explicit ZipFile(fs::path file) : file_(std::move(file)) {}
    ~ZipFile() {
        writer_.reset();
        if (!temporary_.empty()) {
            ::unlink(temporary_.c_str());
        }
    }
    ZipFile(const ZipFile&) = delete;
    ZipFile& operator=(const ZipFile&) = delete;

    Result<void> open() {
        std::string name = (parent() / ("." + file_.filename().string() + ".XXXXXX")).string();
        fd_.reset(::mkstemp(name.data()));
        if (!fd_) {
            return os_error(parent().string(), "no file can be made here", errno);
        }
        temporary_ = name;
        if (!writer_ || ::archive_write_set_format_zip(writer_.get()) != ARCHIVE_OK ||
            ::archive_write_set_options(writer_.get(), "zip:compression=deflate") != ARCHIVE_OK ||
            ::archive_write_open_fd(writer_.get(), fd_.get()) != ARCHIVE_OK) {
            return failed();
        }
        return {};
    }

    /// No times and no owners: equal trees give equal bytes.
    Result<void> add(const Entry& entry, const std::string& name, std::string_view content) {
        const ZipEntry zip{::archive_entry_new(), &::archive_entry_free};
        ::archive_entry_set_pathname(zip.get(), name.c_str());
        ::archive_entry_set_filetype(zip.get(), entry.kind == 'f' ? AE_IFREG : entry.kind == 'd' ? AE_IFDIR : AE_IFLNK);
        ::archive_entry_set_perm(zip.get(), entry.mode);
        ::archive_entry_set_size(zip.get(), static_cast<la_int64_t>(content.size()));
        if (entry.kind == 'l') {
            ::archive_entry_set_symlink(zip.get(), entry.target.c_str());
        }
        if (::archive_write_header(writer_.get(), zip.get()) < ARCHIVE_WARN) {
            return failed();
        }
        if (!content.empty() && ::archive_write_data(writer_.get(), content.data(), content.size()) !=
                                    static_cast<la_ssize_t>(content.size())) {
            return failed();
        }
        return {};
    }

    Result<void> close() {
        if (::archive_write_close(writer_.get()) != ARCHIVE_OK) {
            return failed();
        }
        if (::fchmod(fd_.get(), 0644) != 0 || ::fsync(fd_.get()) != 0 ||
            ::rename(temporary_.c_str(), file_.c_str()) != 0) {
            return os_error(file_.string(), "cannot be written", errno);
        }
        temporary_.clear();
        return sync_folder(parent());
    }

private:
    [[nodiscard]] fs::path parent() const { return file_.has_parent_path() ? file_.parent_path() : fs::path{"."}; }
    Error failed() {
        const char* text = writer_ ? ::archive_error_string(writer_.get()) : nullptr;
        return Error{Errc::io, file_.string(),
                     "cannot be written: " + std::string{text == nullptr ? "no memory" : text}};
    }

    fs::path file_;
    std::string temporary_;
    Fd fd_;
    Writer writer_{::archive_write_new(), &::archive_write_free};
};

} // namespace

namespace {

Result<Summary> write_zip(const Tree& tree, const fs::path& folder, const fs::path& file, const std::string& name) {
    const Utf8Locale utf8;
    ZipFile zip{file};
    if (auto opened = zip.open(); !opened) {
        return opened.error();
    }
    Summary summary;
    summary.name = name;
    for (const auto& [path, found] : tree.entries()) {
        Entry entry = found;
        std::string content;
        if (entry.kind == 'f') {
            auto bytes = read_file(folder / path, file_bytes_max);
            if (!bytes) {
                return bytes.error();
            }
            content = std::move(*bytes);
            entry.bytes = content.size();
            summary.bytes += entry.bytes;
        }
        if (summary.bytes > total_bytes_max) {
            return tree.error(Errc::out_of_range, path,
                               "the files together are larger than " + std::to_string(total_bytes_max >> 20) + " MiB");
        }
        if (auto added = zip.add(entry, name.empty() ? path : name + "/" + path, content); !added) {
            return added.error();
        }
        summary.entries.push_back(std::move(entry));
    }
    if (auto closed = zip.close(); !closed) {
        return closed.error();
    }
    return summary;
}

} // namespace

Result<Summary> package(const fs::path& folder, const fs::path& safe_file, const std::string& name) {
    const auto tree = gather(folder);
    if (!tree) {
        return tree.error();
    }
    const auto config = tree->entries().find("conf/userconfig.xml");
    if (config == tree->entries().end() || config->second.kind != 'f') {
        return tree->error(Errc::malformed, "", "is not a module: conf/userconfig.xml is missing");
    }
    return write_zip(*tree, folder, safe_file, name);
}

Result<Summary> pack_folder(const fs::path& folder, const fs::path& zip_file, const std::string& name) {
    const auto tree = gather(folder);
    return tree ? write_zip(*tree, folder, zip_file, name) : Result<Summary>(tree.error());
}

} // namespace stead::archive

// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/lease.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace stead::mirror {
namespace {
constexpr std::size_t page_bytes = 4096;
}

Result<LeasePage> LeasePage::create() {
    Fd fd{::memfd_create("stead-lease", MFD_CLOEXEC)};
    if (!fd || ::ftruncate(fd.get(), page_bytes) != 0) {
        return os_error("lease", "memfd", errno);
    }
    return map(std::move(fd));
}

Result<LeasePage> LeasePage::map(Fd fd) {
    void* page = ::mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (page == MAP_FAILED) {
        return os_error("lease", "mmap", errno);
    }
    return LeasePage{std::move(fd), page};
}

LeasePage::LeasePage(LeasePage&& other) noexcept
    : fd_(std::move(other.fd_)), words_(std::exchange(other.words_, nullptr)), promised_ns_(other.promised_ns_) {}

LeasePage::~LeasePage() {
    if (words_ != nullptr) {
        ::munmap(words_, page_bytes);
    }
}

void LeasePage::write(std::uint64_t until_ns, std::uint64_t now_ns) noexcept {
    if (promised_ns_ < now_ns) {
        __atomic_fetch_add(&words_[1], 1, __ATOMIC_RELEASE);
    }
    promised_ns_ = until_ns != 0 ? until_ns : promised_ns_;
    __atomic_store_n(&words_[0], until_ns, __ATOMIC_RELEASE);
}

LeasePage::Value LeasePage::read() const noexcept {
    Value value;
    value.until_ns = __atomic_load_n(&words_[0], __ATOMIC_ACQUIRE);
    value.lapses = __atomic_load_n(&words_[1], __ATOMIC_ACQUIRE);
    return value;
}

} // namespace stead::mirror

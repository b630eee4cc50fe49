// SPDX-License-Identifier: Apache-2.0
#include "applier.hpp"

#include <array>
#include <utility>

namespace stead::mirror {
namespace {

std::string kind_of(const Operation& operation) {
    if (operation.kind == OpKind::sync) {
        return "sync";
    }
    constexpr std::array names{"none",  "write",    "attributes", "make",    "link",  "remove", "rename",
                               "xattr", "no_xattr", "allocate",   "listing", "inode", "zone"};
    return names.at(operation.payload->what.index());
}

} // namespace

void Applier::submit(Operation operation, std::function<void(int)> answer) {
    std::unique_lock lock(mutex_);
    ++counts_[kind_of(operation)];
    if (mode_ == Mode::at_once) {
        lock.unlock();
        answer(perform(operation));
        return;
    }
    queue_.emplace_back(std::move(operation), std::move(answer));
    changed_.notify_all();
}

int Applier::perform(const Operation& operation) {
    if (const int error = failure_; error != 0) {
        return error;
    }
    return operation.kind == OpKind::sync ? tree_.sync(operation.targets.front().fid) : tree_.apply(operation, 0);
}

void Applier::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [&] { return stopping_ || (!queue_.empty() && (mode_ == Mode::later || open_)); });
        if (stopping_) {
            return;
        }
        auto [operation, answer] = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        answer(perform(operation));
        answer = nullptr;
        lock.lock();
    }
}

void Applier::let_go() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
}

std::size_t Applier::waiting() const {
    const std::lock_guard lock(mutex_);
    return queue_.size();
}

void Applier::wait_for(std::size_t operations) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return queue_.size() >= operations; });
}

void Applier::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        changed_.notify_all();
    }
    if (thread_.joinable()) {
        thread_.join();
    }
    queue_.clear();
}

std::size_t Applier::count(const std::string& kind) const {
    const std::lock_guard lock(mutex_);
    const auto found = counts_.find(kind);
    return found == counts_.end() ? 0 : found->second;
}

} // namespace stead::mirror

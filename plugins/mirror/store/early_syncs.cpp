// SPDX-License-Identifier: Apache-2.0
#include <stead/mirror/early_syncs.hpp>

#include <algorithm>
#include <utility>

namespace stead::mirror {

void EarlySyncs::changed(const Fid& inode) {
    const std::lock_guard lock(mutex_);
    if (const auto found = habits_.find(inode); found != habits_.end()) {
        ++found->second.version;
    }
}

bool EarlySyncs::expected(const Fid& inode) {
    const std::lock_guard lock(mutex_);
    const auto found = habits_.find(inode);
    if (found == habits_.end()) {
        return false;
    }
    Habit& habit = found->second;
    ++habit.writes;
    if (habit.running || habit.in_a_row < habit.wanted || habit.writes != habit.usual) {
        return false;
    }
    habit.running = true;
    habit.good = false;
    habit.covers = habit.version;
    return true;
}

void EarlySyncs::run(const Fid& inode, const std::function<int()>& sync) {
    const int error = sync();
    std::vector<Waiting> waiting;
    {
        const std::lock_guard lock(mutex_);
        Habit& habit = habits_.at(inode); // is kept while one is running
        waiting.swap(habit.waiting);
        habit.running = false;
        habit.good = error == 0 && waiting.empty();
        if (error != 0) {
            waiting.empty() ? untold(inode) : told(inode);
        }
    }
    for (const Waiting& one : waiting) {
        one.then(one.covered || error != 0 ? error : sync());
    }
}

bool EarlySyncs::join(const Fid& inode, std::function<void(int)> then) {
    {
        const std::lock_guard lock(mutex_);
        Habit& habit = habit_of(inode);
        learn(habit);
        const bool covered = habit.covers == habit.version;
        if (habit.running) {
            habit.waiting.push_back({std::move(then), covered});
            return true;
        }
        if (!std::exchange(habit.good, false) || !covered) {
            return false;
        }
    }
    then(0);
    return true;
}

void EarlySyncs::untold(const Fid& inode) {
    untold_.insert(inode);
    untold_to_all_.insert(inode);
}

void EarlySyncs::told(const Fid& inode) {
    untold_.erase(inode);
    untold_to_all_.erase(inode);
}

void EarlySyncs::failing(const Fid& inode) {
    const std::lock_guard lock(mutex_);
    if (const auto found = habits_.find(inode); found != habits_.end() && found->second.running) {
        untold(inode);
    }
}

void EarlySyncs::failed(const Fid& inode) {
    const std::lock_guard lock(mutex_);
    untold_.insert(inode);
}

bool EarlySyncs::take_failure(const Fid& inode) {
    const std::lock_guard lock(mutex_);
    const bool any = untold_.contains(inode);
    if (any) {
        told(inode);
    }
    return any;
}

bool EarlySyncs::take_failures() {
    const std::lock_guard lock(mutex_);
    return !std::exchange(untold_to_all_, {}).empty();
}

void EarlySyncs::nobody_asks() {
    const std::lock_guard lock(mutex_);
    untold_.clear();
}

void EarlySyncs::removed(const Fid& inode) {
    const std::lock_guard lock(mutex_);
    told(inode);
    if (const auto found = habits_.find(inode); found != habits_.end() && !found->second.running) {
        habits_.erase(found);
    }
}

void EarlySyncs::learn(Habit& habit) {
    const unsigned writes = std::exchange(habit.writes, 0);
    const bool for_nothing = (habit.running || habit.good) && habit.covers != habit.version;
    if (for_nothing) {
        habit.wanted = std::min(2 * habit.wanted, wanted_most);
    }
    habit.in_a_row = writes == habit.usual && !for_nothing ? habit.in_a_row + 1 : 0;
    habit.usual = writes;
}

EarlySyncs::Habit& EarlySyncs::habit_of(const Fid& inode) {
    if (habits_.size() >= inodes_max && !habits_.contains(inode)) {
        std::erase_if(habits_, [](const auto& one) { return !one.second.running; });
    }
    return habits_[inode];
}

} // namespace stead::mirror

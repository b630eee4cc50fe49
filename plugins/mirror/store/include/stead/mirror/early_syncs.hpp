// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/types.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <vector>

namespace stead::mirror {

/// A database writes and syncs, again and again. Where one sync after another came behind the same few writes of a
/// file, the next one begins right behind them: the disk works while the answer to the write and the wish for the sync
/// are still on their way. Whoever wishes gets its outcome, unless the file was changed in between. Thread-safe; does
/// no input or output itself, and calls nothing under its lock. Errors are errnos, 0 is none.
class EarlySyncs {
public:
    /// A change of the inode begins or ends, whatever it is: a sync begun before does not cover it.
    void changed(const Fid& inode);
    /// A write ended well (after changed()). True: run() is due, soon and on a thread that may wait.
    [[nodiscard]] bool expected(const Fid& inode);
    /// `sync` gives an errno. Who has joined meanwhile is called on this thread.
    void run(const Fid& inode, const std::function<int()>& sync);
    /// A sync is wished for. True: `then` has got the outcome of an early one, or will on the thread of its run(), that
    /// syncs once more for whom the early one does not cover. False: there is none.
    [[nodiscard]] bool join(const Fid& inode, std::function<void(int)> then);
    /// A sync of the inode failed and is about to count as ended: who waits for that hears it, if it was an early one.
    void failing(const Fid& inode);
    /// Nobody had asked for the sync of the inode that failed, and who syncs all of them hears of it.
    void failed(const Fid& inode);
    /// A failure that was not told yet. Whoever syncs all of them is told, and still so is whoever syncs the inode: the
    /// one is the mirror, the other the application.
    [[nodiscard]] bool take_failure(const Fid& inode);
    [[nodiscard]] bool take_failures();
    /// The application that wrote is gone, and the next one has written nothing.
    void nobody_asks();
    void removed(const Fid& inode);

private:
    static constexpr std::size_t inodes_max = 256; ///< of more, those at rest are forgotten
    static constexpr unsigned wanted_least = 2, wanted_most = 64;
    struct Waiting {
        std::function<void(int)> then;
        bool covered{};
    };
    struct Habit {
        std::uint64_t version{};       ///< beginnings and ends of changes
        unsigned writes{};             ///< that ended since the last sync
        unsigned usual{};              ///< before each of the last syncs
        unsigned in_a_row{};           ///< how many syncs that holds for
        unsigned wanted{wanted_least}; ///< of them, until the next one is expected: the more, the more were for nothing
        bool running{};
        bool good{};            ///< ended well, and nobody has asked since
        std::uint64_t covers{}; ///< the version
        std::vector<Waiting> waiting;
    };
    void untold(const Fid& inode);
    void told(const Fid& inode);
    static void learn(Habit& habit);
    Habit& habit_of(const Fid& inode);

    std::mutex mutex_;
    std::map<Fid, Habit> habits_; ///< of what was synced at least once
    std::set<Fid> untold_;        ///< failures that whoever syncs the inode has not heard
    std::set<Fid> untold_to_all_; ///< whoever syncs all of them
};

} // namespace stead::mirror

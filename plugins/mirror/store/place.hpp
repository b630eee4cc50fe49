// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/base/result.hpp>
#include <stead/mirror/tree.hpp>

#include <functional>
#include <string>

namespace stead::mirror {

/// Where the data of one root are. Two directories have the names `place` and `<hidden>/data`: the data, and an empty
/// one that is marked (sys::mount_xattr) as what a mount covers. Running = the data are hidden. One atomic exchange
/// leads from one state to the other, and the marks travel with the directories: after a crash at any point the marks
/// tell the state.
class Place {
public:
    using Note = std::function<void(bool alarm, const std::string&)>;

    Place() = default;
    /// Makes the folder aside, locks it and says where the data are. Changes nothing about the data. Errors name the
    /// directory and the remedy.
    [[nodiscard]] static Result<Place> find(const Root& root, Note note);
    /// The data were at their place: the last close() had succeeded, or they are new.
    [[nodiscard]] bool was_stopped() const noexcept { return stopped_; }
    /// Moves the data aside, if they are not, and opens them.
    [[nodiscard]] Result<void> take();
    /// Moves the data back. Errors: something is mounted over `place`.
    [[nodiscard]] Result<void> give_back();

    [[nodiscard]] int data() const noexcept { return data_.get(); }
    [[nodiscard]] int park() const noexcept { return park_.get(); }
    [[nodiscard]] int hidden() const noexcept { return hidden_.get(); }
    [[nodiscard]] const std::string& hidden_path() const noexcept { return hidden_path_; }
    /// Can anything still be written there? 0 or an errno.
    [[nodiscard]] int try_disk() const noexcept;
    /// Where the data are after take().
    [[nodiscard]] std::string data_path() const { return hidden_path_ + "/data"; }

private:
    [[nodiscard]] Result<void> open_hidden();
    [[nodiscard]] Result<void> check_place(bool may_be_missing, bool& missing) const;
    [[nodiscard]] Result<void> make_mount_point();
    [[nodiscard]] Result<void> decide();
    [[nodiscard]] Result<void> exchange();
    [[nodiscard]] Result<void> probe() const;
    [[nodiscard]] Error failed(const std::string& what, int error) const;
    void look_at_mount_point(int folder, const std::string& name, const std::string& path) const;

    std::string path_, name_, hidden_path_, hidden_name_;
    Note note_;
    Fd parent_, hidden_, data_, park_;
    bool stopped_{};
};

} // namespace stead::mirror

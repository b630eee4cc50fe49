// SPDX-License-Identifier: Apache-2.0
// <check><file ident="flag" path="/srv/app/ready" interval="5s"/></check>: resource file.flag is up while the file
// exists.
#include <stead/plugin.hpp>

#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

namespace {

namespace plugin = stead::plugin;

class FileChecker final : public plugin::Checker {
public:
    FileChecker(plugin::Host host, plugin::Config config) : host_(host) {
        if (const auto check = config.child("check")) {
            for (const plugin::Config& file : check->children("file")) {
                watched_.push_back({"file." + std::string{file.string("ident")}, std::string{file.string("path")},
                                    file.duration("interval")});
            }
        }
    }
    void start() override {
        for (std::size_t i = 0; i < watched_.size(); ++i) {
            on_timer(i);
        }
    }
    void stop() override {
        for (std::size_t i = 0; i < watched_.size(); ++i) {
            host_.cancel_timer(i);
        }
    }
    void on_timer(std::uint64_t id) override {
        const Watched& file = watched_.at(id);
        std::error_code failed;
        host_.publish(file.resource, std::filesystem::exists(file.path, failed) ? "up" : "down");
        host_.set_timer_in(id, file.interval);
    }

private:
    struct Watched {
        std::string resource, path;
        std::chrono::nanoseconds interval;
    };
    plugin::Host host_;
    std::vector<Watched> watched_;
};

constexpr stead_attr_schema attributes[] = {
    {"ident", STEAD_TYPE_NAME, STEAD_ATTR_REQUIRED, nullptr, nullptr, nullptr, 0, 0, "names the resource file.<ident>"},
    {"path", STEAD_TYPE_PATH, STEAD_ATTR_REQUIRED, nullptr, nullptr, nullptr, 0, 0, "the file that must exist"},
    {"interval", STEAD_TYPE_DURATION, 0, "10s", nullptr, "s", 100'000'000, 3'600'000'000'000, "time between looks"},
};
constexpr stead_elem_schema schema[] = {
    {"check/file", nullptr, STEAD_ELEM_REPEATABLE, std::size(attributes), attributes, "up while a file exists"},
};

} // namespace

STEAD_EXPORT_CHECKER(FileChecker, "checkers.file", "1.0.0", schema)

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/files.hpp>
#include <stead/script/script.hpp>
#include <stead/script/supervisor.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <mutex>

namespace stead::script::test {

namespace fs = std::filesystem;
using End = HookResult::End;

class FakeHost : public HookHost {
public:
    void log(int level, std::string_view line) override {
        const std::lock_guard lock(mutex);
        lines.push_back(std::to_string(level) + " " + std::string(line));
    }
    std::optional<std::string> resource(std::string_view name) override {
        const std::lock_guard lock(mutex);
        const auto it = resources.find(std::string(name));
        return it == resources.end() ? std::nullopt : std::optional(it->second);
    }
    Result<void> set_resource(std::string_view name, std::string_view value) override {
        const std::lock_guard lock(mutex);
        if (name == "forbidden") {
            return Error{Errc::refused, "forbidden", "is not ours"};
        }
        resources[std::string(name)] = value;
        return {};
    }
    std::string view_json() override {
        return R"({"epoch":7,"self":"node1","members":[{"name":"node1","weight":1,"state":"UP"},)"
               R"({"name":"node2","weight":2,"state":"UP"}]})";
    }
    std::string state_name() override { return "WAIT"; }
    std::mutex mutex;
    std::vector<std::string> lines;
    std::map<std::string, std::string> resources{{"tcp.web80", "up"}};
};

/// A module folder that lives for one test, and a runner on it.
class HookTest : public testing::Test {
protected:
    HookTest() {
        char name[] = "/tmp/stead-script-XXXXXX";
        root = ::mkdtemp(name);
        folders.module = "web";
        folders.node = "node1";
        folders.mode = "farm";
        folders.module_id = 3;
        folders.bin = root / "bin";
        folders.conf = root / "conf";
        folders.var = root / "modules/web";
        folders.prefix = STEAD_STAGE;
        folders.lua_library = STEAD_SOURCE "/lua";
        folders.vars = {{"SERVICES", "nginx"}};
        folders.macros = {{"PORT", "80"}};
        for (const auto& folder : {folders.bin, folders.conf, folders.var}) {
            fs::create_directories(folder);
        }
    }
    ~HookTest() override {
        runner_.reset(); // their threads write there
        supervisor_.reset();
        fs::remove_all(root);
    }

    /// What ran, and what it waited for, when something was not as it should be.
    void TearDown() override {
        if (HasFailure()) {
            (void)!std::system("ps -eo pid,ppid,stat,etimes,wchan:24,args");
        }
    }

    void put(const std::string& name, const std::string& text, bool executable) {
        ASSERT_TRUE(write_file_atomically(folders.bin / name, text, executable ? 0755 : 0644));
    }
    HookRunner& runner() {
        if (!runner_) {
            supervise();
            runner_ = HookRunner::create(folders, host, to_output(), supervisor_);
        }
        return *runner_;
    }
    /// As the module host does; what dies is in `deaths`.
    void supervise() {
        Supervisor::Events events;
        events.publish = [this](const std::string& name, std::optional<std::string> value) {
            const std::lock_guard lock(host.mutex);
            value ? void(host.resources[name] = *value) : void(host.resources.erase(name));
        };
        events.died = [this](const std::string&, const std::string& action, const std::string& reason) {
            const std::lock_guard lock(host.mutex);
            deaths.push_back(action + ": " + reason);
        };
        events.log = [this](int level, std::string_view line) { host.log(level, line); };
        events.output = to_output();
        supervisor_ = Supervisor::create(std::move(events), root / "supervised");
    }
    HookRunner::Output to_output() {
        return [this](std::string_view line, bool is_error) {
            const std::lock_guard lock(host.mutex);
            output.push_back((is_error ? "E:" : "O:") + std::string(line));
        };
    }
    /// Waits (10 s) until `condition` holds; it is called with host.mutex held.
    template <class Condition>
    bool soon(Condition condition) {
        for (const Instant until = BootClock::now() + seconds{10}; BootClock::now() < until; ::usleep(2000)) {
            const std::lock_guard lock(host.mutex);
            if (condition()) {
                return true;
            }
        }
        return false;
    }
    std::future<HookResult> begin(const std::string& name, std::vector<std::string> arguments = {}) {
        auto promise = std::make_shared<std::promise<HookResult>>();
        runner().start(name, std::move(arguments), limits, [promise](const HookResult& r) { promise->set_value(r); });
        return promise->get_future();
    }
    HookResult run(const std::string& name, std::vector<std::string> arguments = {}) {
        return begin(name, std::move(arguments)).get();
    }
    HookResult lua(const std::string& text, std::vector<std::string> arguments = {}) {
        put("hook.lua", text, false);
        return run("hook", std::move(arguments));
    }
    HookResult shell(const std::string& text, std::vector<std::string> arguments = {}) {
        put("shook", "#!/bin/sh\n" + text, true);
        return run("shook", std::move(arguments));
    }
    /// Processes whose command line holds `word`. While a process becomes another program it has none.
    static int processes_with(const std::string& word) {
        int count = 0;
        for (const auto& entry : fs::directory_iterator("/proc")) {
            const auto text = read_file(entry.path() / "cmdline", 1u << 20);
            const auto stat = read_file(entry.path() / "stat", 4096);
            if (text && stat && text->find(word) != std::string::npos && stat->find(") Z") == std::string::npos) {
                ++count;
            }
        }
        return count;
    }
    static int open_descriptors() {
        return static_cast<int>(std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
    }

    fs::path root;
    ModuleFolders folders;
    FakeHost host;
#ifdef __SANITIZE_THREAD__
    Limits limits{.timeout = seconds{120}};
#else
    Limits limits{.timeout = seconds{20}};
#endif
    std::vector<std::string> output, deaths;
    std::shared_ptr<Supervisor> supervisor_;
    std::unique_ptr<HookRunner> runner_; // last: its threads use the others
};

} // namespace stead::script::test

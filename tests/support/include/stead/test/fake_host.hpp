// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/plugin.hpp>

#include <dlfcn.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <ctime>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

/// What unit tests of plugins use in place of stead-host.
namespace stead::test {

/// A configuration tree in the shape that the host hands over: defaults filled in, durations in nanoseconds.
struct Element {
    std::string name;
    std::vector<std::pair<std::string, std::string>> attributes;
    std::vector<Element> children;
};

class Xml {
public:
    explicit Xml(const Element& root) { convert(root, root_); }
    Xml(const Xml&) = delete;
    Xml& operator=(const Xml&) = delete;
    [[nodiscard]] const stead_xml* get() const { return &root_; }

private:
    stead_str keep(const std::string& text) { return plugin::to_c(texts_.emplace_back(text)); }
    void convert(const Element& from, stead_xml& to) {
        auto& attributes = attributes_.emplace_back();
        for (const auto& [name, value] : from.attributes) {
            attributes.push_back({keep(name), keep(value)});
        }
        auto& children = children_.emplace_back(from.children.size());
        for (std::size_t i = 0; i < from.children.size(); ++i) {
            convert(from.children[i], children[i]);
        }
        to = {keep(from.name),
              7,
              static_cast<std::uint32_t>(attributes.size()),
              attributes.data(),
              static_cast<std::uint32_t>(children.size()),
              0,
              children.data(),
              {}};
    }
    std::list<std::string> texts_;
    std::list<std::vector<stead_xml_attr>> attributes_;
    std::list<std::vector<stead_xml>> children_;
    stead_xml root_{};
};

/// The host's services, recorded. Callable from any thread, as a plugin may; a test may replace functions of `c`, whose
/// context is this object. Timers are kept, not run.
class FakeHost {
public:
    stead_host_v1 c{};

    FakeHost() {
        c.struct_size = sizeof c;
        c.abi_minor = STEAD_ABI_MINOR;
        c.context = this;
        c.module = plugin::to_c("web");
        c.node = plugin::to_c("node1");
        c.mode = plugin::to_c("farm");
        c.module_id = 5;
        c.seed_high = 1;
        c.seed_low = 2;
        c.log = [](void* h, std::uint32_t, stead_str line) { of(h).add_log(text(line)); };
        c.now = [](void*) {
            timespec t{};
            ::clock_gettime(CLOCK_BOOTTIME, &t);
            return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
        };
        c.set_timer = [](void* h, std::uint64_t id, std::uint64_t at) {
            of(h).change([&] { of(h).timers_[id] = at; });
        };
        c.publish = [](void* h, stead_str name, stead_str value) {
            of(h).set(text(name), value);
            return 0;
        };
        c.read = [](void*, std::uint32_t, stead_str, char*, std::uint64_t) { return std::int64_t{-1}; };
        c.watch = [](void*, stead_str) {};
        c.send = [](void*, std::uint64_t, stead_str, std::uint32_t, stead_str) { return 0; };
        c.set_weight = [](void*, std::uint32_t) {};
        c.set_config = [](void*, std::uint64_t) {};
        c.transition_done = [](void*, std::uint64_t, std::int32_t, stead_str) {};
        c.request = [](void* h, stead_str action, stead_str why) {
            of(h).add_log("request " + text(action) + ": " + text(why));
        };
        c.add_address = [](void*, const stead_address*, char*, std::uint32_t) { return 0; };
        c.remove_address = [](void*, const stead_address*) {};
        c.announce = [](void*, const stead_address*, const std::uint8_t*, char*, std::uint32_t) { return 0; };
        c.probe = [](void*, const stead_address*, std::uint64_t, std::uint8_t*) { return 0; };
        c.find_interface = [](void*, const stead_address*, char*, std::uint32_t*, std::uint8_t*) { return -1; };
        c.watch_link = [](void*, std::uint32_t) {};
        c.run_hook = [](void*, stead_str, const stead_str*, std::uint32_t, std::uint64_t) { return std::uint64_t{0}; };
        c.start_hook = [](void*, stead_str, const stead_str*, std::uint32_t, std::uint64_t) {
            return std::uint64_t{1};
        };
        c.start_check = [](void*, stead_str, const stead_str*, std::uint32_t, std::uint64_t) {
            return std::uint64_t{1};
        };
        c.cancel_hook = [](void*, std::uint64_t) {};
        c.add_rule = [](void* h, stead_str rule, char*, std::uint32_t) {
            of(h).change([&] { of(h).rules_.push_back(text(rule)); });
            return 0;
        };
        set_functions_of_1_2();
        c.hook_reason = [](void* h, char* out, std::uint64_t cap) {
            const std::string why = of(h).copy(of(h).hook_reason_);
            const std::size_t size = std::min<std::size_t>(why.size(), cap);
            std::copy_n(why.data(), size, out);
            return static_cast<std::int64_t>(size);
        };
        c.explain = [](void* h, stead_str name, stead_str why) {
            of(h).change([&] { of(h).reasons_[text(name)] = text(why); });
        };
    }
    FakeHost(const FakeHost&) = delete;
    FakeHost& operator=(const FakeHost&) = delete;

    [[nodiscard]] static FakeHost& of(void* context) { return *static_cast<FakeHost*>(context); }
    [[nodiscard]] static std::string text(stead_str s) { return std::string{plugin::to_view(s)}; }

    void add_log(std::string line) {
        change([&] { log_.push_back(std::move(line)); });
    }
    [[nodiscard]] std::vector<std::string> log() { return copy(log_); }
    [[nodiscard]] std::vector<std::string> rules() { return copy(rules_); }
    /// Each set_role(): "SECOND expected: resync".
    [[nodiscard]] std::vector<std::string> roles() { return copy(roles_); }
    /// Each ask_witness(), oldest first; the token is the place in the list, from 1.
    struct Question {
        std::string node, key;
        std::uint64_t counter{};
        std::uint32_t holder{};
        std::uint64_t timeout_ns{};
    };
    [[nodiscard]] std::vector<Question> questions() { return copy(questions_); }
    /// Each command_done(): "7 done: text" or "7 refused: text".
    [[nodiscard]] std::vector<std::string> answers() { return copy(answers_); }
    /// What command_token() answers; a test sets it before it calls on_command.
    std::atomic<std::uint64_t> token{0};
    [[nodiscard]] std::map<std::string, std::string> published() { return copy(published_); }
    [[nodiscard]] std::map<std::uint64_t, std::uint64_t> timers() { return copy(timers_); }
    void timer_ran(std::uint64_t id) {
        change([&] { timers_[id] = 0; });
    }
    void clear() {
        change([&] {
            log_.clear();
            rules_.clear();
            history_.clear();
        });
    }

    /// What hook_reason() answers from now on.
    void set_hook_reason(std::string why) {
        change([&] { hook_reason_ = std::move(why); });
    }
    /// What explain() said last of a resource.
    [[nodiscard]] std::string reason(const std::string& name) { return copy(reasons_)[name]; }

    /// The value; "" when there is none.
    [[nodiscard]] std::string resource(const std::string& name) {
        const auto all = published();
        const auto found = all.find(name);
        return found == all.end() ? "" : found->second;
    }
    /// Every value that was published under the name, in order; "-" for a removal.
    [[nodiscard]] std::vector<std::string> history(const std::string& name) {
        const std::lock_guard lock(mutex_);
        const auto found = history_.find(name);
        return found == history_.end() ? std::vector<std::string>{} : found->second;
    }
    /// Waits until the resource has the value; false when it does not in time.
    bool wait(const std::string& name, const std::string& value,
              std::chrono::milliseconds timeout = std::chrono::seconds{20}) {
        return wait_for(
            [&] {
                const auto found = published_.find(name);
                return found != published_.end() && found->second == value;
            },
            timeout);
    }
    /// explain() comes after publish().
    bool wait_reason(const std::string& name, const std::string& part,
                     std::chrono::milliseconds timeout = std::chrono::seconds{20}) {
        return wait_for([&] { return reasons_[name].find(part) != std::string::npos; }, timeout);
    }
    bool wait_log(const std::string& part, std::chrono::milliseconds timeout = std::chrono::seconds{20}) {
        return wait_for(
            [&] {
                for (const std::string& line : log_) {
                    if (line.find(part) != std::string::npos) {
                        return true;
                    }
                }
                return false;
            },
            timeout);
    }

private:
    template <class Change>
    void change(Change apply) {
        const std::lock_guard lock(mutex_);
        apply();
        changed_.notify_all();
    }
    template <class T>
    [[nodiscard]] T copy(const T& from) {
        const std::lock_guard lock(mutex_);
        return from;
    }
    bool wait_for(const std::function<bool()>& condition, std::chrono::milliseconds timeout) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, timeout, condition);
    }
    void set_functions_of_1_2() {
        c.set_role = [](void* h, std::uint32_t state, stead_str reason, std::uint32_t expected) {
            static constexpr const char* names[] = {"STOP", "WAIT", "ALONE", "PRIM", "SECOND", "UP"};
            of(h).change([&] {
                of(h).roles_.push_back(std::string{state < 6 ? names[state] : "?"} +
                                       (expected != 0 ? " expected" : "") +
                                       (reason.size != 0 ? ": " + text(reason) : ""));
            });
        };
        c.node_address = [](void*, stead_str, std::uint32_t node, char* out, std::uint32_t cap) {
            plugin::copy_text("127.0.0." + std::to_string(node + 1), out, cap);
            return 0;
        };
        c.stream_keys = [](void*, stead_str, std::uint8_t out[2][32]) {
            std::memset(out[0], 1, 32);
            return std::uint32_t{1};
        };
        c.ask_witness = [](void* h, stead_str node, stead_str key, std::uint64_t counter, std::uint32_t holder,
                           std::uint64_t timeout_ns) {
            std::uint64_t given = 0;
            of(h).change([&] {
                of(h).questions_.push_back({text(node), text(key), counter, holder, timeout_ns});
                given = of(h).questions_.size();
            });
            return given;
        };
        c.command_token = [](void* h) { return of(h).token.load(); };
        c.command_done = [](void* h, std::uint64_t done, std::int32_t ok, stead_str what) {
            of(h).change([&] {
                of(h).answers_.push_back(std::to_string(done) + (ok != 0 ? " done: " : " refused: ") + text(what));
            });
        };
    }
    void set(const std::string& name, stead_str value) {
        change([&] {
            if (value.data == nullptr) {
                published_.erase(name);
                history_[name].emplace_back("-");
            } else {
                published_[name] = text(value);
                history_[name].push_back(text(value));
            }
        });
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> log_, rules_, roles_, answers_;
    std::vector<Question> questions_;
    std::map<std::string, std::string> published_;
    std::map<std::string, std::vector<std::string>> history_;
    std::map<std::uint64_t, std::uint64_t> timers_;
    std::map<std::string, std::string> reasons_;
    std::string hook_reason_;
};

/// The descriptor of a built plugin, which stays loaded.
[[nodiscard]] inline const stead_plugin_descriptor& load_plugin(const char* file) {
    void* library = ::dlopen(file, RTLD_NOW | RTLD_LOCAL);
    void* symbol = library != nullptr ? ::dlsym(library, STEAD_PLUGIN_SYMBOL) : nullptr;
    if (symbol == nullptr) {
        throw std::runtime_error(::dlerror());
    }
    return *static_cast<const stead_plugin_descriptor*>(symbol);
}

/// "1500ms" in nanoseconds, as text; digits alone are left as they are.
[[nodiscard]] inline std::string in_nanoseconds(const std::string& text) {
    static const std::map<std::string, std::int64_t> units{
        {"", 1}, {"us", 1'000}, {"ms", 1'000'000}, {"s", 1'000'000'000}, {"h", 3'600'000'000'000}};
    std::size_t digits = 0;
    const std::int64_t number = std::stoll(text, &digits);
    return std::to_string(number * units.at(text.substr(digits)));
}

/// What the host makes of the configuration: the defaults of the plugin's schema filled in, durations in nanoseconds.
[[nodiscard]] inline Element filled(const stead_plugin_descriptor& plugin, Element element,
                                    const std::string& path = {}) {
    for (std::uint32_t i = 0; i < plugin.schema_count; ++i) {
        const stead_elem_schema& schema = plugin.schema[i];
        for (std::uint32_t j = 0; path == schema.path && j < schema.attr_count; ++j) {
            const stead_attr_schema& attribute = schema.attrs[j];
            auto at = element.attributes.begin();
            while (at != element.attributes.end() && at->first != attribute.name) {
                ++at;
            }
            if (at == element.attributes.end()) {
                if (attribute.default_value == nullptr) {
                    continue;
                }
                at = element.attributes.emplace(at, attribute.name, attribute.default_value);
            }
            if (attribute.type == STEAD_TYPE_DURATION) {
                at->second = in_nanoseconds(at->second);
            }
        }
    }
    for (Element& child : element.children) {
        child = filled(plugin, child, path.empty() ? child.name : path + "/" + child.name);
    }
    return element;
}

/// One instance of a plugin under a FakeHost, from create and start to stop and destroy.
class Running {
public:
    /// Throws the plugin's text when it refuses.
    Running(const stead_plugin_descriptor& plugin, FakeHost& host, const Element& service) : plugin_(plugin) {
        char err[512]{};
        const Xml xml(filled(plugin, service));
        self_ = plugin_.create(&host.c, xml.get(), err, sizeof err);
        if (self_ == nullptr) {
            throw std::runtime_error(err);
        }
        plugin_.start(self_);
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running() {
        plugin_.stop(self_);
        plugin_.destroy(self_);
    }
    void arm(std::uint32_t when) { plugin_.on_armed(self_, when); }
    /// Empty, or why it was refused.
    [[nodiscard]] std::string update(const Element& service) {
        char err[512]{};
        const Xml xml(filled(plugin_, service));
        return plugin_.on_update(self_, xml.get(), err, sizeof err) == 0 ? "" : err;
    }
    [[nodiscard]] std::string describe() {
        char out[8192]{};
        plugin_.on_command(self_, plugin::to_c("describe"), nullptr, 0, out, sizeof out);
        return out;
    }
    [[nodiscard]] void* self() const noexcept { return self_; }

private:
    const stead_plugin_descriptor& plugin_;
    void* self_{};
};

/// What the plugin's check() finds: "7: text" per error, "7: warning: text" per warning.
[[nodiscard]] inline std::vector<std::string> findings(const stead_plugin_descriptor& plugin, const Element& service) {
    std::vector<std::string> all;
    const Xml xml(filled(plugin, service));
    plugin.check(xml.get(), &all, [](void* to, std::uint32_t line, std::uint32_t warning, stead_str what) {
        static_cast<std::vector<std::string>*>(to)->push_back(
            std::to_string(line) + (warning != 0 ? ": warning: " : ": ") + FakeHost::text(what));
    });
    return all;
}

} // namespace stead::test

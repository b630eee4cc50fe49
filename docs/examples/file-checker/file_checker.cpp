// SPDX-License-Identifier: Apache-2.0
// <check><file ident="flag" when="prim" path="/srv/app/ready" interval="5s"/></check>
// Resource file.flag is up while the file exists; rule f_flag restarts the application when it is down.
#include <stead/checker.hpp>

#include <filesystem>

namespace {

namespace attribute = stead::checker::attribute;

class FileCheck final : public stead::checker::BlockingCheck {
public:
    static constexpr const char* path = "check/file"; // an object for each <file> in <check>
    static constexpr const char* label = "f_";        // its generated rule: f_<ident>

    explicit FileCheck(stead::plugin::Config element) : file_(element.string("path")) {}

    stead::checker::Outcome probe() override {
        return std::filesystem::exists(file_) ? stead::checker::good()
                                              : stead::checker::bad(file_.string() + " is not there");
    }

private:
    const std::filesystem::path file_;
};

constexpr stead_attr_schema attributes[] = {
    attribute::ident("names the resource file.<ident>"),
    attribute::when("prim"),
    attribute::action(),
    attribute::interval("10s"),
    attribute::timeout("5s"),
    attribute::rise(),
    attribute::fall(),
    {"path", STEAD_TYPE_PATH, STEAD_ATTR_REQUIRED | STEAD_ATTR_DYNAMIC, nullptr, nullptr, nullptr, 0, 0,
     "the file that must exist"},
};
constexpr stead_elem_schema schema[] = {
    stead::checker::element("check/file", attributes, "up while a file exists"),
};

} // namespace

STEAD_EXPORT_CHECKS(FileCheck, "checkers.file", "1.0.0", schema)

// SPDX-License-Identifier: Apache-2.0
#include "xpath.hpp"

#include <tinyxml2.h>

#include <charconv>
#include <functional>

namespace stead::script {

namespace {

using tinyxml2::XMLElement;
using tinyxml2::XMLNode;
using Nodes = std::vector<const XMLNode*>;

std::string content(const XMLNode& node) {
    std::string text = node.ToText() != nullptr ? node.Value() : "";
    for (const XMLNode* child = node.FirstChild(); child != nullptr; child = child->NextSibling()) {
        if (child->ToComment() == nullptr) {
            text += content(*child);
        }
    }
    return text;
}

class Reader {
public:
    explicit Reader(std::string_view path) : all_(path), rest_(path) {}
    [[nodiscard]] bool at_end() const { return rest_.empty(); }
    bool take(std::string_view word) {
        if (!rest_.starts_with(word)) {
            return false;
        }
        rest_.remove_prefix(word.size());
        return true;
    }
    std::string name() {
        std::size_t n = 0;
        while (n < rest_.size() && std::string_view("/[]@='\"() ").find(rest_[n]) == std::string_view::npos) {
            ++n;
        }
        std::string word(rest_.substr(0, n));
        rest_.remove_prefix(n);
        return word;
    }
    /// 'x' or "x"
    Result<std::string> quoted() {
        const char quote = rest_.empty() ? '\0' : rest_[0];
        const std::size_t end = quote == '\'' || quote == '"' ? rest_.find(quote, 1) : std::string_view::npos;
        if (end == std::string_view::npos) {
            return error("expected a text in quotes");
        }
        std::string word(rest_.substr(1, end - 1));
        rest_.remove_prefix(end + 1);
        return word;
    }
    [[nodiscard]] Error error(const std::string& what) const {
        return {Errc::malformed, std::string(all_), what + " at '" + std::string(rest_) + "'"};
    }

private:
    std::string_view all_, rest_;
};

using Predicate = std::function<bool(const XMLElement&)>;

/// After '[': @name, @name='x', name='x' (not the position, which the caller reads).
Result<Predicate> read_predicate(Reader& reader) {
    const bool attribute = reader.take("@");
    const std::string name = reader.name();
    if (name.empty()) {
        return reader.error("expected a name");
    }
    if (!reader.take("=")) {
        return Predicate([=](const XMLElement& e) {
            return attribute ? e.Attribute(name.c_str()) != nullptr : e.FirstChildElement(name.c_str()) != nullptr;
        });
    }
    auto value = reader.quoted();
    if (!value) {
        return value.error();
    }
    return Predicate([attribute, name, value = *value](const XMLElement& e) {
        if (attribute) {
            const char* is = e.Attribute(name.c_str());
            return is != nullptr && value == is;
        }
        const XMLElement* child = e.FirstChildElement(name.c_str());
        for (; child != nullptr && content(*child) != value; child = child->NextSiblingElement(name.c_str())) {
        }
        return child != nullptr;
    });
}

/// Narrows the children found under one node by the predicates that were read.
struct Step {
    std::string name;
    std::vector<std::pair<Predicate, std::size_t>> predicates; ///< a predicate, or a position from 1

    [[nodiscard]] Nodes children_of(const XMLNode& node) const {
        Nodes found;
        for (const XMLElement* e = node.FirstChildElement(); e != nullptr; e = e->NextSiblingElement()) {
            if (name == "*" || name == e->Name()) {
                found.push_back(e);
            }
        }
        for (const auto& [predicate, position] : predicates) {
            Nodes kept;
            for (std::size_t i = 0; i < found.size(); ++i) {
                if (predicate ? predicate(*found[i]->ToElement()) : i + 1 == position) {
                    kept.push_back(found[i]);
                }
            }
            found = kept;
        }
        return found;
    }
};

Result<Step> read_step(Reader& reader) {
    Step step{reader.name(), {}};
    if (step.name.empty()) {
        return reader.error("expected an element's name");
    }
    while (reader.take("[")) {
        Reader ahead = reader;
        const std::string word = ahead.name();
        std::size_t position = 0;
        const auto [end, bad] = std::from_chars(word.data(), word.data() + word.size(), position);
        if (!word.empty() && bad == std::errc() && end == word.data() + word.size()) {
            reader = ahead;
            step.predicates.emplace_back(nullptr, position);
        } else if (auto predicate = read_predicate(reader)) {
            step.predicates.emplace_back(*predicate, 0);
        } else {
            return predicate.error();
        }
        if (!reader.take("]")) {
            return reader.error("expected ']'");
        }
    }
    return step;
}

void add_descendants(const XMLNode& node, Nodes& found) {
    found.push_back(&node);
    for (const XMLElement* e = node.FirstChildElement(); e != nullptr; e = e->NextSiblingElement()) {
        add_descendants(*e, found);
    }
}

std::vector<std::string> attributes(const Nodes& nodes, const std::string& name) {
    std::vector<std::string> values;
    for (const XMLNode* node : nodes) {
        const XMLElement* e = node->ToElement();
        for (const auto* a = e != nullptr ? e->FirstAttribute() : nullptr; a != nullptr; a = a->Next()) {
            if (name == "*" || name == a->Name()) {
                values.emplace_back(a->Value());
            }
        }
    }
    return values;
}

std::vector<std::string> texts(const Nodes& nodes) {
    std::vector<std::string> values;
    for (const XMLNode* node : nodes) {
        values.push_back(content(*node));
    }
    return values;
}

std::vector<std::string> own_texts(const Nodes& nodes) {
    std::vector<std::string> values;
    for (const XMLNode* node : nodes) {
        for (const XMLNode* child = node->FirstChild(); child != nullptr; child = child->NextSibling()) {
            if (child->ToText() != nullptr) {
                values.emplace_back(child->Value());
            }
        }
    }
    return values;
}

Result<std::vector<std::string>> walk(const tinyxml2::XMLDocument& document, Reader reader) {
    Nodes nodes{&document};
    if (reader.at_end()) {
        return reader.error("expected a path");
    }
    for (bool first = true; !reader.at_end(); first = false) {
        const bool deep = reader.take("//");
        if (!deep && !reader.take("/") && !first) {
            return reader.error("expected '/'");
        }
        if (deep) {
            Nodes all;
            for (const XMLNode* node : nodes) {
                add_descendants(*node, all);
            }
            nodes = all;
        }
        if (reader.take("@")) {
            const std::string name = reader.name();
            return reader.at_end() && !name.empty() ? Result<std::vector<std::string>>(attributes(nodes, name))
                                                    : reader.error("expected the end after the attribute");
        }
        if (reader.take("text()")) {
            return reader.at_end() ? Result<std::vector<std::string>>(own_texts(nodes))
                                   : reader.error("expected the end after text()");
        }
        auto step = read_step(reader);
        if (!step) {
            return step.error();
        }
        if (step->name == ".") {
            continue;
        }
        Nodes found;
        for (const XMLNode* node : nodes) {
            const Nodes children = step->children_of(*node);
            found.insert(found.end(), children.begin(), children.end());
        }
        nodes = found;
    }
    return texts(nodes);
}

} // namespace

Result<std::vector<std::string>> xpath(const tinyxml2::XMLDocument& document, std::string_view path) {
    for (const std::string_view function : {"count(", "string("}) {
        if (!path.starts_with(function) || !path.ends_with(')')) {
            continue;
        }
        path.remove_prefix(function.size());
        path.remove_suffix(1);
        auto found = walk(document, Reader(path));
        if (found && function == "count(") {
            return std::vector<std::string>{std::to_string(found->size())};
        }
        if (found) {
            found->resize(1);
        }
        return found;
    }
    return walk(document, Reader(path));
}

} // namespace stead::script

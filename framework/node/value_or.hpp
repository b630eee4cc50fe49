// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/base/result.hpp>

#include <utility>

namespace stead::node {

/// For what may be missing without harm.
template <class T>
[[nodiscard]] T value_or(Result<T> result, T otherwise) {
    return result ? std::move(*result) : std::move(otherwise);
}

} // namespace stead::node

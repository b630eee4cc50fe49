// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stead/mirror/types.hpp>

#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

namespace stead::mirror {

[[nodiscard]] constexpr std::uint64_t mixed(std::uint64_t z) noexcept {
    z = (z ^ (z >> 32)) * 0xd6e8feb86659fd93u;
    return z ^ (z >> 32);
}
[[nodiscard]] constexpr std::uint64_t hash_of(std::uint64_t key) noexcept { return mixed(key); }
[[nodiscard]] constexpr std::uint64_t hash_of(const Fid& fid) noexcept {
    return mixed(fid.low * 0x9e3779b97f4a7c15u + fid.high);
}
[[nodiscard]] constexpr std::uint64_t hash_of(const Target& target) noexcept {
    return mixed(hash_of(target.fid) + target.index * 4 + static_cast<std::uint64_t>(target.kind));
}

/// Hash table with the entries in one block and a hash of our own: what it iterates over, and in which order, depends
/// on nothing but what was done to it, so that the core stays deterministic. Pointers hold until the next insertion or
/// removal. Key and Value are default-constructible; a removed entry's value is reset.
template <class Key, class Value>
class FlatMap {
public:
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    void clear() { *this = FlatMap{}; }

    [[nodiscard]] Value* find(const Key& key) noexcept {
        const std::size_t at = place(key);
        return at != nowhere && slots_[at].used ? &slots_[at].value : nullptr;
    }
    [[nodiscard]] const Value* find(const Key& key) const noexcept { return const_cast<FlatMap*>(this)->find(key); }

    /// Makes one if there is none.
    Value& operator[](const Key& key) {
        if ((size_ + 1) * 8 > slots_.size() * 5) {
            grow();
        }
        Slot& slot = slots_[place(key)];
        if (!slot.used) {
            slot.used = true;
            slot.key = key;
            ++size_;
        }
        return slot.value;
    }

    void erase(const Key& key) {
        std::size_t hole = place(key);
        if (hole == nowhere || !slots_[hole].used) {
            return;
        }
        const std::size_t mask = slots_.size() - 1;
        for (std::size_t at = (hole + 1) & mask; slots_[at].used; at = (at + 1) & mask) {
            const std::size_t home = hash_of(slots_[at].key) & mask;
            if (((at - home) & mask) >= ((at - hole) & mask)) { // may move back without passing its home
                slots_[hole] = std::move(slots_[at]);
                hole = at;
            }
        }
        slots_[hole] = Slot{};
        --size_;
    }

    template <class Function>
    void for_each(Function function) const {
        for (const Slot& slot : slots_) {
            if (slot.used) {
                function(slot.key, slot.value);
            }
        }
    }

    /// Removes what `wanted(key, value)` denies, in one pass.
    template <class Predicate>
    void keep_if(Predicate wanted) {
        FlatMap rest;
        for (Slot& slot : slots_) {
            if (slot.used && wanted(slot.key, slot.value)) {
                rest[slot.key] = std::move(slot.value);
            }
        }
        *this = std::move(rest);
    }

private:
    struct Slot {
        Key key{};
        Value value{};
        bool used{};
    };
    static constexpr std::size_t nowhere = ~std::size_t{0};

    /// Where the key is, or would be.
    [[nodiscard]] std::size_t place(const Key& key) const noexcept {
        if (slots_.empty()) {
            return nowhere;
        }
        const std::size_t mask = slots_.size() - 1;
        std::size_t at = hash_of(key) & mask;
        while (slots_[at].used && !(slots_[at].key == key)) {
            at = (at + 1) & mask;
        }
        return at;
    }

    void grow() {
        std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(slots_.empty() ? 16 : slots_.size() * 2));
        for (Slot& slot : old) {
            if (slot.used) {
                slots_[place(slot.key)] = std::move(slot);
            }
        }
    }

    std::vector<Slot> slots_; ///< a power of two
    std::size_t size_{};
};

} // namespace stead::mirror

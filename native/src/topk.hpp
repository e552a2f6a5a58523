// The k smallest keys of a stream, in O(1) amortised a key.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace bowerbird {

// Moves the keys below the pivot to the front and gives their number. No branch depends on the keys: on random ones a
// mispredicted branch costs more than all of a turn.
template <class Key>
std::size_t partition_below(Key* keys, std::size_t count, Key pivot) {
    std::size_t below = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const Key key = keys[i];
        keys[i] = keys[below];
        keys[below] = key;
        below += key < pivot ? 1 : 0;
    }
    return below;
}

template <class Key>
Key median_of_three(const Key* keys, std::size_t count) {
    const Key a = keys[0], b = keys[count / 2], c = keys[count - 1];
    return std::max(std::min(a, b), std::min(std::max(a, b), c));
}

constexpr std::size_t few_keys = 16;  // fewer are left to the standard library

// std::nth_element of the k smallest, for keys that are numbers.
template <class Key>
void select_smallest(Key* keys, std::size_t count, std::size_t k) {
    for (int turns = 64; turns > 0 && count > few_keys; --turns) {
        const std::size_t below = partition_below(keys, count, median_of_three(keys, count));
        if (below == 0) break;  // the pivot is the least: many keys are equal
        if (k <= below) {
            count = below;
        } else {
            keys += below;
            count -= below;
            k -= below;
        }
        if (k == 0 || k == count) return;
    }
    std::nth_element(keys, keys + (k - 1), keys + count);
}

// std::sort for keys that are numbers.
template <class Key>
void sort_ascending(Key* keys, std::size_t count, int turns = 64) {
    while (count > few_keys && turns-- > 0) {
        const std::size_t below = partition_below(keys, count, median_of_three(keys, count));
        if (below == 0) break;
        sort_ascending(keys, below, turns);
        keys += below;
        count -= below;
    }
    std::sort(keys, keys + count);
}

// Keys are appended to a buffer; when it is full, selection cuts it to the k smallest and the worst of them becomes
// the bar that later keys must beat. Keys are unique or interchangeable, so the result does not depend on the order.
template <class Key>
class BoundedTopK {
public:
    explicit BoundedTopK(std::size_t k) : k_(k), capacity_(k + std::max<std::size_t>(k, min_slack)) {
        keys_.resize(std::min(capacity_, max_reserve));
    }

    // Add a key; true if the bar moved.
    bool push(const Key& key) {
        *room(1) = key;
        return add(1);
    }

    // Where up to `count` keys may be written, which are then added.
    Key* room(std::size_t count) {
        if (keys_.size() - size_ < count) keys_.resize(std::max(2 * keys_.size(), size_ + count));
        return keys_.data() + size_;
    }

    // Add the first `count` keys in the room; true if the bar moved.
    bool add(std::size_t count) {
        size_ += count;
        if (size_ < capacity_) return false;
        cut();
        return true;
    }

    // The worst of the k best at the last cut; valid once a key moved it.
    const Key& bar() const { return bar_; }

    // At most k keys, ascending.
    std::vector<Key> take() {
        if (size_ > k_) cut();
        keys_.resize(size_);
        sort_ascending(keys_.data(), keys_.size());
        return std::move(keys_);
    }

private:
    static constexpr std::size_t min_slack = 256;
    static constexpr std::size_t max_reserve = 1 << 16;

    void cut() {
        select_smallest(keys_.data(), size_, k_);
        size_ = k_;
        bar_ = *std::max_element(keys_.data(), keys_.data() + k_);
    }

    std::size_t k_;
    std::size_t capacity_;
    std::size_t size_ = 0;  // keys at the front of keys_; room behind them
    std::vector<Key> keys_;
    Key bar_{};
};

}  // namespace bowerbird

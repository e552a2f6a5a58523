// The k smallest keys of a stream, in O(1) amortised a key.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace bowerbird {

// Keys are appended to a buffer; when it is full, selection cuts it to the k smallest and the worst of them becomes
// the bar that later keys must beat. Keys are unique or interchangeable, so the result does not depend on the order.
template <class Key>
class BoundedTopK {
public:
    explicit BoundedTopK(std::size_t k) : k_(k), capacity_(k + std::max<std::size_t>(k, min_slack)) {
        keys_.reserve(std::min(capacity_, max_reserve));
    }

    // Add a key; true if the bar moved.
    bool push(const Key& key) {
        keys_.push_back(key);
        if (keys_.size() < capacity_) return false;
        cut();
        return true;
    }

    // The worst of the k best at the last cut; valid once push returned true.
    const Key& bar() const { return keys_[k_ - 1]; }

    // At most k keys, ascending.
    std::vector<Key> take() {
        if (keys_.size() > k_) cut();
        std::sort(keys_.begin(), keys_.end());
        return std::move(keys_);
    }

private:
    static constexpr std::size_t min_slack = 1024;
    static constexpr std::size_t max_reserve = 1 << 16;

    void cut() {
        std::nth_element(keys_.begin(), keys_.begin() + static_cast<std::ptrdiff_t>(k_ - 1), keys_.end());
        keys_.resize(k_);
    }

    std::size_t k_;
    std::size_t capacity_;
    std::vector<Key> keys_;
};

}  // namespace bowerbird

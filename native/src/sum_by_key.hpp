// Sums by key: keys and sums in the order in which the keys came, found through a table of their positions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bowerbird {

// Multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4): the upper bits are the good ones.
constexpr std::uint64_t hash_of(std::uint64_t key) { return key * 0x9E3779B97F4A7C15; }

template <class Sum>
class SumByKey {
public:
    // `spent_bits`: so many upper bits of the hash are passed over, for they chose the keys that come. (The visits of a
    // part were chosen by the hash of the item alone; the keys of one item of a query share these bits.)
    explicit SumByKey(int spent_bits) : spent_bits_(spent_bits) { reset(0); }

    // Forget all keys, and have room for so many.
    void reset(std::size_t expected) {
        while (slots() < slots_a_key * (expected + 1)) --shift_;
        positions_.assign(slots(), none);
        keys_.resize(slots() / slots_a_key);
        sums_.resize(slots() / slots_a_key);
        size_ = 0;
    }

    // The sum of the key after adding to it. Whether a key is new is a coin toss that no branch predictor foresees, so
    // there is no branch: a key is written behind the last one, and counts only if it is new.
    Sum add(std::uint64_t key, Sum summand) {
        if (size_ == keys_.size()) grow();
        std::uint32_t& position = find(key);
        const bool is_new = position == none;
        position = is_new ? static_cast<std::uint32_t>(size_) : position;
        keys_[size_] = key;
        sums_[size_] = 0;
        size_ += is_new;
        return sums_[position] += summand;
    }

    std::size_t size() const { return size_; }
    std::uint64_t key(std::size_t position) const { return keys_[position]; }
    Sum sum(std::size_t position) const { return sums_[position]; }

private:
    static constexpr std::size_t slots_a_key = 4;  // so few keys meet in a slot that the loop of `find` is foreseen
    static constexpr std::uint32_t none = 0xFFFFFFFF;

    std::size_t slots() const { return std::size_t{1} << (64 - shift_); }

    std::uint32_t& find(std::uint64_t key) {
        std::size_t at = hash_of(key) << spent_bits_ >> shift_;
        while (positions_[at] != none && keys_[positions_[at]] != key) at = (at + 1) & (positions_.size() - 1);
        return positions_[at];
    }

    void grow() {
        --shift_;
        positions_.assign(slots(), none);
        keys_.resize(slots() / slots_a_key);
        sums_.resize(slots() / slots_a_key);
        for (std::size_t i = 0; i < size_; ++i) find(keys_[i]) = static_cast<std::uint32_t>(i);
    }

    const int spent_bits_;
    int shift_ = 60;
    std::size_t size_ = 0;
    std::vector<std::uint32_t> positions_;  // by slot
    std::vector<std::uint64_t> keys_;       // by position
    std::vector<Sum> sums_;
};

}  // namespace bowerbird

// The order of work: a block of codes small enough for the first-level cache is compared with every query of a tile
// before the next block is read, so a batch reads the codes once a tile; distances stay in the cache, and only those
// below the query's current bar reach its top-k.
#include "bowerbird/scan.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "parallel.hpp"
#include "scan_loops.hpp"
#include "topk.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t block_bytes = 32 * 1024;
constexpr std::size_t max_block_codes = 1024;
constexpr std::size_t tile_queries = 16;
constexpr std::size_t min_range_codes = 32 * 1024;  // smaller shares cost more in threads than they save
constexpr std::size_t sparse_factor = 16;           // fewer than 1 / 16 of a block let in: compare those one by one
constexpr int index_bits = 48;

using Key = std::uint64_t;  // distance in the high 16 bits, index below: one comparison orders by both

Key key_of(std::uint16_t distance, std::size_t index) { return Key{distance} << index_bits | index; }

struct Range {
    std::size_t begin, end;
};

// The filter bits of one block as whole words, zero beyond its end.
struct BlockMask {
    std::array<std::uint64_t, max_block_codes / 64> words{};
    std::size_t allowed = 0;

    BlockMask(const std::uint8_t* mask, Range block) {
        const std::size_t count = block.end - block.begin;
        std::memcpy(words.data(), mask + block.begin / 8, (count + 7) / 8);
        if (count % 64 != 0) words[count / 64] &= (std::uint64_t{1} << count % 64) - 1;
        for (const std::uint64_t word : words) allowed += static_cast<std::size_t>(std::popcount(word));
    }
};

class QueryState {
public:
    QueryState(const std::uint8_t* query, std::size_t k) : query_(query), best_(k) {}

    const std::uint8_t* query() const { return query_; }
    std::uint16_t limit() const { return limit_; }

    void push(std::uint16_t distance, std::size_t index) {
        if (distance < limit_ && best_.push(key_of(distance, index))) {
            limit_ = static_cast<std::uint16_t>(best_.bar() >> index_bits);
        }
    }

    std::vector<Key> take() { return best_.take(); }

private:
    const std::uint8_t* query_;
    BoundedTopK<Key> best_;
    std::uint16_t limit_ = 0xFFFF;  // codes come by ascending index, so one at the bar's distance loses the tie
};

class RangeScan {
public:
    RangeScan(const ScanRequest& request, Range range)
        : request_(request), range_(range), words_(request.code_bytes / 8), loops_(scan_loops()) {}

    void run(std::vector<QueryState>& queries) {
        const std::size_t fitting = block_bytes / request_.code_bytes / 64 * 64;
        const std::size_t step = std::clamp<std::size_t>(fitting, 64, max_block_codes);
        for (std::size_t begin = range_.begin; begin < range_.end; begin += step) {
            const Range block{begin, std::min(begin + step, range_.end)};
            if (request_.mask == nullptr) {
                scan_block(block, nullptr, queries);
            } else {
                scan_masked(block, queries);
            }
        }
    }

private:
    void scan_masked(Range block, std::vector<QueryState>& queries) {
        const BlockMask mask(request_.mask, block);
        if (mask.allowed * sparse_factor >= block.end - block.begin) {
            scan_block(block, mask.words.data(), queries);
        } else if (mask.allowed > 0) {
            scan_sparse(block, mask, queries);
        }
    }

    void scan_block(Range block, const std::uint64_t* mask, std::vector<QueryState>& queries) {
        const std::size_t count = block.end - block.begin;
        for (QueryState& state : queries) {
            loops_.hamming(code(block.begin), count, words_, state.query(), distances_.data());
            const std::size_t hits =
                loops_.below(distances_.data(), count, state.limit(), mask, positions_.data());
            for (std::size_t i = 0; i < hits; ++i) {
                state.push(distances_[positions_[i]], block.begin + positions_[i]);
            }
        }
    }

    void scan_sparse(Range block, const BlockMask& mask, std::vector<QueryState>& queries) {
        for (std::size_t w = 0; w < mask.words.size(); ++w) {
            for (std::uint64_t word = mask.words[w]; word != 0; word &= word - 1) {
                const std::size_t index = block.begin + w * 64 + static_cast<std::size_t>(std::countr_zero(word));
                for (QueryState& state : queries) {
                    std::uint16_t distance = 0;
                    loops_.hamming(code(index), 1, words_, state.query(), &distance);
                    state.push(distance, index);
                }
            }
        }
    }

    const std::uint8_t* code(std::size_t index) const { return request_.codes + index * request_.code_bytes; }

    const ScanRequest& request_;
    const Range range_;
    const std::size_t words_;
    const ScanLoops& loops_;
    std::array<std::uint16_t, max_block_codes> distances_;
    std::array<std::uint16_t, max_block_codes> positions_;
};

// How the work is cut: by query tiles, and by ranges of codes where tiles are fewer than threads.
struct Plan {
    std::size_t tiles;
    std::size_t ranges;
    std::size_t range_codes;  // a multiple of 64, so that ranges start at whole mask bytes

    explicit Plan(const ScanRequest& request) {
        tiles = (request.num_queries + tile_queries - 1) / tile_queries;
        const std::size_t wanted = tiles == 0 ? 1 : (request.num_threads + tiles - 1) / tiles;
        const std::size_t sensible = request.num_codes / min_range_codes;
        ranges = std::max<std::size_t>(1, std::min(wanted, sensible));
        range_codes = ((request.num_codes + ranges - 1) / ranges + 63) / 64 * 64;
    }
};

void write_row(const std::vector<Key>& keys, std::size_t k, std::int32_t* distances, std::int64_t* indices) {
    for (std::size_t i = 0; i < keys.size(); ++i) {
        distances[i] = static_cast<std::int32_t>(keys[i] >> index_bits);
        indices[i] = static_cast<std::int64_t>(keys[i] & ((Key{1} << index_bits) - 1));
    }
    std::fill(distances + keys.size(), distances + k, -1);
    std::fill(indices + keys.size(), indices + k, -1);
}

std::vector<Key> merged(std::vector<std::vector<Key>>& parts, std::size_t k) {
    std::vector<Key> keys = std::move(parts.front());
    for (std::size_t i = 1; i < parts.size(); ++i) {
        const auto middle = static_cast<std::ptrdiff_t>(keys.size());
        keys.insert(keys.end(), parts[i].begin(), parts[i].end());
        std::inplace_merge(keys.begin(), keys.begin() + middle, keys.end());
    }
    keys.resize(std::min(keys.size(), k));
    return keys;
}

}  // namespace

void scan(const ScanRequest& request, std::int32_t* distances, std::int64_t* indices) {
    const Plan plan(request);
    const std::size_t kept = std::max<std::size_t>(1, std::min(request.k, request.num_codes));
    std::vector<std::vector<std::vector<Key>>> parts(request.num_queries, std::vector<std::vector<Key>>(plan.ranges));

    parallel_for(plan.tiles * plan.ranges, request.num_threads, [&](std::size_t task) {
        const std::size_t first = task / plan.ranges * tile_queries;
        const std::size_t last = std::min(first + tile_queries, request.num_queries);
        const std::size_t begin = std::min(task % plan.ranges * plan.range_codes, request.num_codes);
        const Range range{begin, std::min(begin + plan.range_codes, request.num_codes)};
        std::vector<QueryState> queries;
        queries.reserve(last - first);
        for (std::size_t q = first; q < last; ++q) queries.emplace_back(request.queries + q * request.code_bytes, kept);
        RangeScan(request, range).run(queries);
        for (std::size_t q = first; q < last; ++q) parts[q][task % plan.ranges] = queries[q - first].take();
    });
    for (std::size_t q = 0; q < request.num_queries; ++q) {
        write_row(merged(parts[q], kept), request.k, distances + q * request.k, indices + q * request.k);
    }
}

}  // namespace bowerbird

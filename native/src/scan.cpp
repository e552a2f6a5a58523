// The order of work: a block of codes small enough for the first-level cache is arranged for the registers once, and
// each query is compared with all of it before the next block is read, so that a batch reads the codes from memory
// once. Only codes nearer than a query's k-th best so far leave the registers. A query alone takes the codes as
// they lie: it reads each of them once, and memory is slower than counting.
//
// Lists are scanned by ascending position too, each once for all the queries that look at it.
#include "bowerbird/scan.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "parallel.hpp"
#include "scan_loops.hpp"

namespace bowerbird {
namespace {

constexpr std::size_t block_bytes = 16 * 1024;  // half of a small first-level cache: the next block comes meanwhile
constexpr std::size_t max_block_codes = 1024;
constexpr std::size_t words_a_block = 2 * std::max(block_bytes, group_codes * max_code_bytes) / 8;
constexpr std::size_t batch_queries = 64;           // share the codes of a task
constexpr std::size_t min_range_codes = 32 * 1024;  // smaller shares cost more in threads than they save
constexpr std::size_t line_bytes = 64;
constexpr int position_bits = 48;

using Key = std::uint64_t;  // distance in the high 16 bits, position below: one comparison orders by both

Key key_of(std::uint16_t distance, std::size_t position) { return Key{distance} << position_bits | position; }
std::uint16_t distance_of(Key key) { return static_cast<std::uint16_t>(key >> position_bits); }
std::size_t position_of(Key key) { return key & ((Key{1} << position_bits) - 1); }

struct Range {
    std::size_t begin, end;

    std::size_t count() const { return end - begin; }
};

// The k nearest of codes that come by ascending position. Distances are few, so counting them keeps the limit exact
// after every code: a code at the limit or beyond it has lost, since of equal distances the first k stay.
class Nearest {
public:
    Nearest(std::size_t k, std::size_t bits)
        : k_(k), capacity_(k + std::max<std::size_t>(k, min_slack)), limit_(bits + 1), counts_(bits + 1) {
        keys_.reserve(std::min(capacity_, max_reserve));
    }

    std::uint16_t limit() const { return static_cast<std::uint16_t>(limit_); }

    void push(std::uint16_t distance, std::size_t position) {
        if (distance >= limit_) return;
        keys_.push_back(key_of(distance, position));
        ++counts_[distance];
        for (++below_limit_; below_limit_ >= k_;) below_limit_ -= counts_[--limit_];
        if (keys_.size() == capacity_) drop_losers();
    }

    // At most k keys, ascending.
    std::vector<Key> take() {
        drop_losers();
        std::sort(keys_.begin(), keys_.end());
        return std::move(keys_);
    }

private:
    static constexpr std::size_t min_slack = 256;
    static constexpr std::size_t max_reserve = 1 << 12;

    void drop_losers() {
        std::size_t room_at_limit = k_ - below_limit_;
        std::erase_if(keys_, [&](Key key) {
            if (distance_of(key) != limit_ || room_at_limit == 0) return distance_of(key) >= limit_;
            --room_at_limit;
            return false;
        });
    }

    std::size_t k_;
    std::size_t capacity_;
    std::size_t limit_;  // the k-th best distance; beyond all distances while there are fewer than k codes
    std::size_t below_limit_ = 0;
    std::vector<std::size_t> counts_;  // of each distance
    std::vector<Key> keys_;
};

struct QueryState {
    const std::uint8_t* query;
    Nearest nearest;
};

// Positions, from the begin of a block, of the codes that the mask lets in.
std::size_t let_in(const std::uint8_t* mask, Range block, std::uint16_t* positions) {
    std::size_t count = 0;
    for (std::size_t at = block.begin; at < block.end; at += 64 - at % 8) {
        const std::size_t bits = std::min(64 - at % 8, block.end - at);
        std::uint64_t word = 0;
        std::memcpy(&word, mask + at / 8, (at % 8 + bits + 7) / 8);
        word >>= at % 8;
        if (bits < 64) word &= (std::uint64_t{1} << bits) - 1;
        for (; word != 0; word &= word - 1) {
            const auto bit = static_cast<std::size_t>(std::countr_zero(word));
            positions[count++] = static_cast<std::uint16_t>(at - block.begin + bit);
        }
    }
    return count;
}

// Compares ranges of codes with queries.
class RangeScan {
public:
    explicit RangeScan(const ScanRequest& request)
        : request_(request),
          words_(request.code_bytes / 8),
          block_codes_(std::clamp(block_bytes / request.code_bytes / group_codes * group_codes, group_codes,
                                  max_block_codes)),
          loops_(scan_loops()) {}

    // The ranges of a query come by ascending position.
    void run(Range range, const std::vector<QueryState*>& queries) {
        const bool alone = queries.size() == 1 && request_.mask == nullptr;
        for (std::size_t begin = range.begin; begin < range.end; begin += block_codes_) {
            const Range block{begin, std::min(begin + block_codes_, range.end)};
            if (alone) {
                scan_as_it_lies(block, queries[0]);
            } else {
                scan_arranged(block, range, queries);
            }
        }
    }

private:
    void scan_as_it_lies(Range block, QueryState* state) {
        loops_.hamming(code(block.begin), block.count(), words_, state->query, distances_.data());
        const std::size_t found =
            loops_.below(distances_.data(), block.count(), state->nearest.limit(), positions_.data());
        for (std::size_t i = 0; i < found; ++i) {
            state->nearest.push(distances_[positions_[i]], block.begin + positions_[i]);
        }
    }

    void scan_arranged(Range block, Range range, const std::vector<QueryState*>& queries) {
        const bool masked = request_.mask != nullptr;
        const std::size_t count = masked ? let_in(request_.mask, block, positions_.data()) : block.count();
        if (count == 0) return;
        loops_.arrange(code(block.begin), masked ? positions_.data() : nullptr, count, words_, block_.data());
        // While this block is compared, the next one comes from memory, a share a query.
        const std::uint8_t* ahead = code(block.end);
        const std::uint8_t* ahead_end = masked ? ahead : code(std::min(block.end + block_codes_, range.end));
        const std::ptrdiff_t share = block_bytes / static_cast<std::ptrdiff_t>(queries.size()) + line_bytes;
        for (QueryState* state : queries) {
            const std::uint8_t* share_end = ahead + std::min(share, ahead_end - ahead);
            for (; ahead < share_end; ahead += line_bytes) __builtin_prefetch(ahead);
            const std::size_t found = loops_.nearer(block_.data(), count, words_, state->query,
                                                    state->nearest.limit(), hits_.data());
            for (std::size_t i = 0; i < found; ++i) {
                const std::size_t position = hits_[i] >> 16;
                state->nearest.push(static_cast<std::uint16_t>(hits_[i]),
                                    block.begin + (masked ? positions_[position] : position));
            }
        }
    }

    const std::uint8_t* code(std::size_t position) const { return request_.codes + position * request_.code_bytes; }

    const ScanRequest& request_;
    const std::size_t words_;
    const std::size_t block_codes_;
    const ScanLoops& loops_;
    std::array<std::uint16_t, max_block_codes> distances_;
    std::array<std::uint16_t, max_block_codes> positions_;
    std::array<Hit, max_block_codes + 8> hits_;
    alignas(line_bytes) std::array<std::uint64_t, words_a_block> block_;
};

// A range of codes and the queries, by their number in the batch, that look at it.
struct Visit {
    Range range;
    std::vector<std::size_t> queries;
};

// The lists that the queries [first, last) look at, by ascending position.
std::vector<Visit> visits_of_lists(const ScanRequest& request, std::size_t first, std::size_t last) {
    std::vector<std::pair<std::int64_t, std::size_t>> wanted;  // list, query
    for (std::size_t q = first; q < last; ++q) {
        for (std::size_t p = 0; p < request.num_probes; ++p) {
            const std::int64_t list = request.probes[q * request.num_probes + p];
            if (list >= 0) wanted.emplace_back(list, q - first);
        }
    }
    std::sort(wanted.begin(), wanted.end());
    wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
    std::vector<Visit> visits;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        if (i == 0 || wanted[i].first != wanted[i - 1].first) {
            const std::int64_t* offset = request.list_offsets + wanted[i].first;
            visits.push_back({{static_cast<std::size_t>(offset[0]), static_cast<std::size_t>(offset[1])}, {}});
        }
        visits.back().queries.push_back(wanted[i].second);
    }
    return visits;
}

std::vector<Visit> visits_of(const ScanRequest& request, std::size_t first, std::size_t last) {
    if (request.list_offsets != nullptr) return visits_of_lists(request, first, last);
    std::vector<std::size_t> all(last - first);
    for (std::size_t q = 0; q < all.size(); ++q) all[q] = q;
    return {{{0, request.num_codes}, std::move(all)}};
}

// The part of the visits that makes up the codes [begin, end) of all they look at, laid end to end.
std::vector<Visit> cut(const std::vector<Visit>& visits, Range part) {
    std::vector<Visit> inside;
    std::size_t before = 0;
    for (const Visit& visit : visits) {
        const std::size_t count = visit.range.count();
        const std::size_t from = std::clamp(part.begin, before, before + count) - before;
        const std::size_t to = std::clamp(part.end, before, before + count) - before;
        if (from < to) inside.push_back({{visit.range.begin + from, visit.range.begin + to}, visit.queries});
        before += count;
    }
    return inside;
}

// How the work is cut: by batches of queries, and by ranges of codes where batches are fewer than threads.
struct Plan {
    std::size_t batches;
    std::size_t shares;

    explicit Plan(const ScanRequest& request) {
        batches = (request.num_queries + batch_queries - 1) / batch_queries;
        const std::size_t wanted = batches == 0 ? 1 : (request.num_threads + batches - 1) / batches;
        shares = std::max<std::size_t>(1, std::min(wanted, request.num_codes / min_range_codes));
    }
};

using Parts = std::vector<std::vector<std::vector<Key>>>;  // by query, by share

// Scan one share of the codes for one batch of queries.
void scan_share(const ScanRequest& request, std::size_t batch, std::size_t share, std::size_t shares, Parts& parts) {
    const std::size_t first = batch * batch_queries;
    const std::size_t last = std::min(first + batch_queries, request.num_queries);
    const std::size_t kept = std::clamp<std::size_t>(request.k, 1, std::max<std::size_t>(1, request.num_codes));
    std::vector<QueryState> states;
    states.reserve(last - first);
    for (std::size_t q = first; q < last; ++q) {
        states.push_back({request.queries + q * request.code_bytes, Nearest(kept, request.code_bytes * 8)});
    }
    const std::vector<Visit> visits = visits_of(request, first, last);
    std::size_t total = 0;
    for (const Visit& visit : visits) total += visit.range.count();
    RangeScan range_scan(request);
    std::vector<QueryState*> looking;
    for (const Visit& visit : cut(visits, {total * share / shares, total * (share + 1) / shares})) {
        looking.clear();
        for (const std::size_t q : visit.queries) looking.push_back(&states[q]);
        range_scan.run(visit.range, looking);
    }
    for (std::size_t q = first; q < last; ++q) parts[q][share] = states[q - first].nearest.take();
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

void write_row(const std::vector<Key>& keys, const ScanRequest& request, std::int32_t* distances,
               std::int64_t* indices) {
    for (std::size_t i = 0; i < keys.size(); ++i) {
        const std::size_t position = position_of(keys[i]);
        distances[i] = distance_of(keys[i]);
        indices[i] = request.ids == nullptr ? static_cast<std::int64_t>(position) : request.ids[position];
    }
    std::fill(distances + keys.size(), distances + request.k, -1);
    std::fill(indices + keys.size(), indices + request.k, -1);
}

void check_lists(const ScanRequest& request) {
    const std::int64_t* offsets = request.list_offsets;
    const auto num_codes = static_cast<std::int64_t>(request.num_codes);
    if (offsets[0] != 0 || offsets[request.num_lists] != num_codes ||
        !std::is_sorted(offsets, offsets + request.num_lists + 1)) {
        throw std::invalid_argument("list_offsets: expected numbers that ascend from 0 to the number of codes, " +
                                    std::to_string(num_codes));
    }
    for (std::size_t i = 0; i < request.num_queries * request.num_probes; ++i) {
        const std::int64_t list = request.probes[i];
        if (-1 <= list && list < static_cast<std::int64_t>(request.num_lists)) continue;
        throw std::invalid_argument("probes: expected -1 or a list below " + std::to_string(request.num_lists) +
                                    ", got " + std::to_string(list));
    }
}

}  // namespace

void scan(const ScanRequest& request, std::int32_t* distances, std::int64_t* indices) {
    if (request.list_offsets != nullptr) check_lists(request);
    const Plan plan(request);
    Parts parts(request.num_queries, std::vector<std::vector<Key>>(plan.shares));
    parallel_for(plan.batches * plan.shares, request.num_threads, [&](std::size_t task) {
        scan_share(request, task / plan.shares, task % plan.shares, plan.shares, parts);
    });
    for (std::size_t q = 0; q < request.num_queries; ++q) {
        write_row(merged(parts[q], request.k), request, distances + q * request.k, indices + q * request.k);
    }
}

}  // namespace bowerbird

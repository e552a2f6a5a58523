// What one thread of this machine can do at best: stream memory, and gather rows from it. Compiled where it runs, with
// -march=native, for it measures this machine and is never shipped. Vector types are the compiler's own, so that the
// same text becomes AVX-512, AVX2 or NEON.
//
// Every function returns a fold of all it read, so that no load can be left out.

#include <cstddef>
#include <cstdint>

namespace {

// Loads need the alignment of a char only: a NumPy buffer starts 16 bytes into a page.
typedef std::uint64_t Line __attribute__((vector_size(64), aligned(1), may_alias));
typedef std::uint64_t Quarter __attribute__((vector_size(16), aligned(1), may_alias));
constexpr std::size_t LINE = 64;
constexpr int UNROLL = 4;  // lines a stream reads in one turn

Line load(const char* at) { return *reinterpret_cast<const Line*>(at); }

std::uint64_t fold(Line line) {
    std::uint64_t sum = 0;
    for (int lane = 0; lane < 8; ++lane) sum ^= line[lane];
    return sum;
}

// `Streams` places read in turns, each its part of the buffer; `ahead` bytes are prefetched in each.
template <int Streams>
std::uint64_t read_streams(const char* data, std::size_t size, std::size_t ahead) {
    const std::size_t part = size / Streams / (UNROLL * LINE) * (UNROLL * LINE);
    Line sums[UNROLL] = {};
    for (std::size_t at = 0; at < part; at += UNROLL * LINE) {
#pragma GCC unroll 16
        for (int stream = 0; stream < Streams; ++stream) {
            const char* here = data + stream * part + at;
#pragma GCC unroll 4
            for (int line = 0; line < UNROLL; ++line) {
                if (ahead != 0) __builtin_prefetch(here + ahead + line * LINE);
                sums[line] ^= load(here + line * LINE);
            }
        }
    }
    std::uint64_t rest = 0;
    for (std::size_t at = part * Streams; at < size; ++at) rest ^= static_cast<unsigned char>(data[at]);
    return fold(sums[0] ^ sums[1] ^ sums[2] ^ sums[3]) ^ rest;
}

// Prefetches every line that [row, row + bytes) touches: into the L1 cache (LOCALITY 3), or into L2 only (2), which can
// wait for three times as many lines at once as L1 on recent Intel cores.
template <int LOCALITY>
void prefetch_row(const char* row, std::size_t bytes) {
    const auto first = reinterpret_cast<std::uintptr_t>(row) / LINE * LINE;
    for (auto line = first; line < reinterpret_cast<std::uintptr_t>(row) + bytes; line += LINE) {
        __builtin_prefetch(reinterpret_cast<const void*>(line), 0, LOCALITY);
    }
}

template <int LOCALITY, bool SCALED>
std::uint64_t gather(const char* rows, std::size_t row_bytes, const std::uint32_t* scales, const std::int64_t* ids,
                     std::size_t count, std::size_t ahead) {
    const auto row_at = [&](std::size_t i) { return rows + static_cast<std::size_t>(ids[i]) * row_bytes; };
    const auto prefetch = [&](std::size_t i) {
        prefetch_row<LOCALITY>(row_at(i), row_bytes);
        if constexpr (SCALED) __builtin_prefetch(scales + ids[i], 0, LOCALITY);
    };
    for (std::size_t i = 0; i < ahead && i < count; ++i) prefetch(i);
    Line even{}, odd{};
    Quarter rest{};
    std::uint64_t scale = 0;
    for (std::size_t i = 0; i < count; ++i) {
        if (ahead != 0 && i + ahead < count) prefetch(i + ahead);
        if constexpr (SCALED) scale += scales[ids[i]];
        const char* row = row_at(i);
        std::size_t at = 0;
        for (; at + 2 * LINE <= row_bytes; at += 2 * LINE) {
            even += load(row + at);
            odd += load(row + at + LINE);
        }
        for (; at < row_bytes; at += sizeof(Quarter)) rest += *reinterpret_cast<const Quarter*>(row + at);
    }
    return fold(even ^ odd) ^ rest[0] ^ rest[1] ^ scale;
}

}  // namespace

extern "C" {

// 0 where `streams` is none of 1, 2, 4, 8, 16.
std::uint64_t sequential_read(const char* data, std::size_t size, int streams, std::size_t ahead) {
    switch (streams) {
        case 1: return read_streams<1>(data, size, ahead);
        case 2: return read_streams<2>(data, size, ahead);
        case 4: return read_streams<4>(data, size, ahead);
        case 8: return read_streams<8>(data, size, ahead);
        case 16: return read_streams<16>(data, size, ahead);
        default: return 0;
    }
}

// Reads the rows `ids[0 .. count)` of `row_bytes` (a multiple of 16) each, prefetching `ahead` rows before their turn,
// into the L1 cache or only into L2; and the scale of each row, unless `scales` is null.
std::uint64_t gather_read(const char* rows, std::size_t row_bytes, const std::uint32_t* scales,
                          const std::int64_t* ids, std::size_t count, std::size_t ahead, int cache) {
    const auto read = scales == nullptr ? (cache == 1 ? gather<3, false> : gather<2, false>)
                                        : (cache == 1 ? gather<3, true> : gather<2, true>);
    return read(rows, row_bytes, scales, ids, count, ahead);
}
}

// The tile with VPOPCNTQ: eight codes a vector.

#include <immintrin.h>

#include "popcount_tiles.hpp"

namespace {

struct Avx512 {
    using Vector = __m512i;
    static constexpr std::size_t LANES = 8;
    static Vector zero() { return _mm512_setzero_si512(); }
    static Vector load(const std::uint64_t* at) { return _mm512_loadu_si512(at); }
    static Vector broadcast(const std::uint64_t* at) { return _mm512_set1_epi64(static_cast<long long>(*at)); }
    static Vector count(Vector code, Vector query) { return _mm512_popcnt_epi64(_mm512_xor_si512(code, query)); }
    static Vector add(Vector sum, Vector counts) { return _mm512_add_epi64(sum, counts); }
    static Vector finish(Vector sum) { return sum; }
    static Vector fold(Vector folded, Vector distance) { return _mm512_or_si512(folded, distance); }
};

}  // namespace

extern "C" std::size_t popcount_lanes() { return Avx512::LANES; }

extern "C" std::uint64_t popcount_tiles(const std::uint64_t* block, std::size_t groups, const std::uint64_t* queries,
                                        std::size_t words, std::size_t rounds, int tile, int unroll) {
    return popcount_variant<Avx512>(block, groups, queries, words, rounds, tile, unroll);
}

// The tile with VPSHUFB: a table of sixteen counts looked up for each half byte (Mula), four codes a vector. Bytes hold
// the sums, so a code has at most 31 words of 64 bits.

#include <immintrin.h>

#include "popcount_tiles.hpp"

namespace {

struct Avx2 {
    using Vector = __m256i;
    static constexpr std::size_t LANES = 4;
    static Vector zero() { return _mm256_setzero_si256(); }
    static Vector load(const std::uint64_t* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }
    static Vector broadcast(const std::uint64_t* at) { return _mm256_set1_epi64x(static_cast<long long>(*at)); }
    static Vector count(Vector code, Vector query) {
        const Vector counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                               0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
        const Vector half = _mm256_set1_epi8(15);
        const Vector bits = _mm256_xor_si256(code, query);
        const Vector low = _mm256_shuffle_epi8(counts, _mm256_and_si256(bits, half));
        const Vector high = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16(bits, 4), half));
        return _mm256_add_epi8(low, high);
    }
    static Vector add(Vector sum, Vector counts) { return _mm256_add_epi8(sum, counts); }
    static Vector finish(Vector sum) { return _mm256_sad_epu8(sum, _mm256_setzero_si256()); }
    static Vector fold(Vector folded, Vector distance) { return _mm256_or_si256(folded, distance); }
};

}  // namespace

extern "C" std::size_t popcount_lanes() { return Avx2::LANES; }

extern "C" std::uint64_t popcount_tiles(const std::uint64_t* block, std::size_t groups, const std::uint64_t* queries,
                                        std::size_t words, std::size_t rounds, int tile, int unroll) {
    return popcount_variant<Avx2>(block, groups, queries, words, rounds, tile, unroll);
}

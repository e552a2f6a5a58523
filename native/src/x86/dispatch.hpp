// Levels of x86-64: a table of inner loops exists once a level, and the one of the level in use is called.
//
// A file that is compiled for AVX2 or AVX-512 includes <op>_loops.hpp and <immintrin.h>, defines its table, and uses no
// inline function or template of the standard library: the linker keeps one copy of those, and it must be the portable
// one.
#pragma once

#include "bowerbird/simd.hpp"

// Declare the tables portable::name, avx2::name and avx512::name, defined in <op>_<level>.cpp, and the function name()
// that returns the one of the level in use.
#define BOWERBIRD_LOOPS(Table, name)                     \
    namespace portable {                                 \
    extern const Table name;                             \
    }                                                    \
    namespace avx2 {                                     \
    extern const Table name;                             \
    }                                                    \
    namespace avx512 {                                   \
    extern const Table name;                             \
    }                                                    \
    inline const Table& name() {                         \
        switch (current_level()) {                       \
            case SimdLevel::avx512: return avx512::name; \
            case SimdLevel::avx2: return avx2::name;     \
            case SimdLevel::portable: break;             \
        }                                                \
        return portable::name;                           \
    }

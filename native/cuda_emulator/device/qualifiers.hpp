// The words CUDA adds to C++, as a host compiler can take them.
#pragma once

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__ const
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))
// Empty and not an attribute: the standard library writes __attribute__((__noinline__)).
#define __noinline__

// Blocks run one after another on one thread of the system, so one copy of each shared variable is enough. It is
// thread-local because that puts all of them, and nothing else of a kernel, into one stretch of memory, which the
// emulator fills with garbage before each block. AddressSanitizer guards ordinary variables only, so there it is one.
#include "sanitizer.hpp"

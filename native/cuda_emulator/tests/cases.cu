// Kernels that use each thing the emulator offers, right ones and wrong ones. A program: `cases NAME` reads its input
// from standard input, runs one kernel, and writes the output; a fault goes to standard error, with status 1. The right
// ones give the same output on a real device, compiled by nvcc.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline.h>

#include <cstdio>
#include <exception>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>

#include "launch.cuh"

namespace {

using bowerbird::check;
using bowerbird::dynamic_shared;
using bowerbird::launch;

constexpr unsigned all = 0xFFFFFFFFU;

// ---- right: one warp ----

__global__ void shuffles(const int* in, int* out) {
    const int lane = static_cast<int>(threadIdx.x), value = in[lane];
    out[lane] = __shfl_sync(all, value, (lane * 7 + 3) % 64 - 16);  // taken modulo the width, also when negative
    out[32 + lane] = __shfl_sync(all, value, 5, 8);
    out[64 + lane] = __shfl_up_sync(all, value, 3, 16);
    out[96 + lane] = __shfl_down_sync(all, value, 5);
    out[128 + lane] = __shfl_xor_sync(all, value, 9, 8);
    const long long wide = __shfl_xor_sync(all, static_cast<long long>(value) << 32 | lane, 31);
    out[160 + lane] = static_cast<int>(wide >> 32);
    out[192 + lane] = static_cast<int>(__shfl_down_sync(all, static_cast<float>(lane), 1));
}

__global__ void votes(const int* in, int* out) {
    const int lane = static_cast<int>(threadIdx.x), value = in[lane];
    out[lane] = static_cast<int>(__ballot_sync(all, value & 1));
    out[32 + lane] = __any_sync(all, value == -1) * 2 + __all_sync(all, value >= 0);
    out[64 + lane] = static_cast<int>(__match_any_sync(all, value & 3));
    out[96 + lane] = static_cast<int>(__reduce_add_sync(all, static_cast<unsigned>(value)));
    out[128 + lane] = __reduce_min_sync(all, value - 100) + __reduce_max_sync(all, value);
    out[160 + lane] = static_cast<int>(__reduce_or_sync(all, 1U << (value & 15)) ^ __reduce_and_sync(all, value | 1U));
    int same = 0;
    out[192 + lane] = static_cast<int>(__match_all_sync(all, value & ~7, &same)) + same;
}

// Halves of the warp go different ways and meet again; lanes leave early.
__global__ void divergent(const int* in, int* out) {
    const int lane = static_cast<int>(threadIdx.x);
    const bool low = lane < 16;
    int sum = in[lane];
    if (low) {
        for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(0x0000FFFFU, sum, step);
    } else {
        for (int step = 8; step > 0; step /= 2) sum = max(sum, __shfl_xor_sync(0xFFFF0000U, sum, step));
    }
    __syncwarp();
    out[lane] = sum;
    if (lane % 3 == 0) return;
    out[lane] += __popc(__ballot_sync(all, 1)) * 1000;  // without the lanes that left
}

// ---- right: one block ----

__global__ void barriers(const int* in, int* out) {
    __shared__ int values[128];
    const int i = static_cast<int>(threadIdx.x), n = static_cast<int>(blockDim.x);
    values[i] = in[i];
    for (int step = 1; step < n; step *= 2) {  // an inclusive sum
        __syncthreads();
        const int left = i >= step ? values[i - step] : 0;
        __syncthreads();
        values[i] += left;
    }
    out[i] = values[i];
    out[n + i] = __syncthreads_count(in[i] > 3) * 4 + __syncthreads_or(in[i] > 99) * 2 + __syncthreads_and(in[i] > 0);
}

// Rows arrive two tiles ahead of their use.
__global__ void pipeline(const int4* in, int4* out) {
    int4* ring = dynamic_shared<int4>();
    const int i = static_cast<int>(threadIdx.x), n = static_cast<int>(blockDim.x);
    constexpr int stages = 3, tiles = 6;
    for (int tile = 0; tile < stages - 1; ++tile) {
        __pipeline_memcpy_async(&ring[tile * n + i], &in[tile * n + i], sizeof(int4));
        __pipeline_commit();
    }
    for (int tile = 0; tile < tiles; ++tile) {
        const int ahead = tile + stages - 1;
        if (ahead < tiles) __pipeline_memcpy_async(&ring[ahead % stages * n + i], &in[ahead * n + i], sizeof(int4));
        __pipeline_commit();
        __pipeline_wait_prior(stages - 1);
        __syncthreads();
        out[tile * n + i] = ring[tile % stages * n + n - 1 - i];
        __syncthreads();
    }
}

// ---- right: a grid ----

__device__ unsigned blocks_done;

__global__ void atomics(const int* in, int* out) {
    __shared__ bool is_last;
    const unsigned i = (blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x;
    const int value = in[i];
    atomicAdd(&out[0], value);
    atomicMax(&out[1], value);
    atomicMin(&out[2], value);
    atomicOr(reinterpret_cast<unsigned*>(&out[3]), 1U << (value & 31));
    atomicAnd(&out[4], ~(1 << (value & 7)));
    atomicInc(reinterpret_cast<unsigned*>(&out[5]), 6);
    for (int old = out[6]; (old ^ value) > old;) {  // the largest of xors, by compare and swap
        const int seen = atomicCAS(&out[6], old, old ^ value);
        if (seen == old) break;
        old = seen;
    }
    __threadfence();
    if (threadIdx.x == 0) is_last = atomicAdd(&blocks_done, 1U) == gridDim.x * gridDim.y - 1;
    __syncthreads();
    if (is_last && threadIdx.x == 0) {
        out[6] = 0;
        out[7] = atomicExch(&out[0], -1);
        blocks_done = 0;
    }
}

// ---- right: numbers ----

__global__ void bits(const int* in, int* out) {
    const int a = in[2 * threadIdx.x], b = in[2 * threadIdx.x + 1];
    const auto ua = static_cast<unsigned>(a), ub = static_cast<unsigned>(b);
    int* to = out + 10 * threadIdx.x;
    *to++ = __popc(ua) * 100 + __clz(a);
    *to++ = __ffs(a) * 100 + __ffsll(static_cast<long long>(a) << 20);
    *to++ = static_cast<int>(__brev(ua));
    *to++ = static_cast<int>(__byte_perm(ua, ub, 0x5E10));
    *to++ = __dp4a(a, b, 7);
    *to++ = static_cast<int>(__dp4a(ua, ub, 7U));
    *to++ = static_cast<int>(__umulhi(ua, ub));
    const unsigned long long wide_a = static_cast<unsigned long long>(ua) << 31;
    *to++ = static_cast<int>(__umul64hi(wide_a, static_cast<unsigned long long>(ub) << 30));
    *to++ = static_cast<int>(__funnelshift_l(ua, ub, 11));
    *to++ = __float2int_rn(static_cast<float>(a) * 1.5F) + min(a, 5) - max(ua, 5U) + __float_as_int(1.0F);
}

__global__ void halves_to_floats(const unsigned short* in, float* out) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    out[2 * i] = __half2float(__ushort_as_half(in[i]));
    out[2 * i + 1] = __bfloat162float(__ushort_as_bfloat16(in[i]));
}

__global__ void floats_to_halves(const float* in, unsigned short* out) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    out[2 * i] = __half_as_ushort(__float2half_rn(in[i]));
    out[2 * i + 1] = __bfloat16_as_ushort(__float2bfloat16_rn(in[i]));
}

__global__ void half_arithmetic(const half2* in, half2* out) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    const half2 a = in[3 * i], b = in[3 * i + 1], c = in[3 * i + 2];
    out[4 * i] = __hadd2(a, b);
    out[4 * i + 1] = __hmul2(a, b);
    out[4 * i + 2] = __hfma2(a, b, c);
    out[4 * i + 3] = __floats2half2_rn(__half22float2(a).x - __low2float(b), __half22float2(a).y - __high2float(b));
}

// ---- wrong ----

__global__ void divergent_barrier(const int* in, int* out) {
    if (in[threadIdx.x] < 5) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[threadIdx.x] = 1;
}

__global__ void half_a_shuffle(const int* in, int* out) {
    if (threadIdx.x < 31) {
        out[threadIdx.x] = __shfl_sync(all, in[threadIdx.x], 0);
    } else {
        __syncthreads();
    }
}

__global__ void mask_without_caller(const int* in, int* out) {
    out[threadIdx.x] = __shfl_sync(0x0000FFFFU, in[threadIdx.x], 0);
}

__global__ void absent_source(const int* in, int* out) {
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0x0000FFFFU, in[threadIdx.x], 20);
}

__global__ void missing_barrier(const int* in, int* out) {
    __shared__ int values[64];
    values[threadIdx.x] = in[threadIdx.x];
    out[threadIdx.x] = values[63 - threadIdx.x];
}

template <int size>  // a template, because compilers place the static variables of templates differently
__global__ void unset_shared(int* out) {
    __shared__ int values[size];
    out[threadIdx.x] = values[threadIdx.x];
    values[threadIdx.x] = 1;
    out[size + threadIdx.x] = dynamic_shared<int>()[threadIdx.x];
}

__global__ void missing_wait(const int4* in, int4* out) {
    __shared__ int4 values[16];
    __pipeline_memcpy_async(&values[threadIdx.x], &in[threadIdx.x], sizeof(int4));
    __pipeline_commit();
    out[threadIdx.x] = values[threadIdx.x];
}

__global__ void spin(int* out) {
    if (threadIdx.x == 0) {
        while (atomicAdd(&out[0], 0) != 77) {}
    }
}

__global__ void trap_at_three(int*) {
    if (threadIdx.x == 3) __trap();
}

__global__ void misaligned_load(const char* in, int* out) {
    out[0] = __ldg(reinterpret_cast<const int*>(in + 2));
}

__global__ void dynamic_overflow(int* out) {
    dynamic_shared<int>()[32 + threadIdx.x] = 1;
    out[threadIdx.x] = 1;
}

template <int size>
__global__ void static_overflow(const int* in, int* out) {
    __shared__ int values[size];
    values[in[threadIdx.x]] = 1;
    out[threadIdx.x] = values[0];
}

__global__ void local_overflow(const int* in, int* out) {
    int values[8];
    values[in[threadIdx.x]] = 1;
    out[threadIdx.x] = values[threadIdx.x % 8];
}

__global__ void global_overflow(const int* in, int* out) { out[threadIdx.x] = in[threadIdx.x + 64]; }

__global__ void false_assumption(const int* in, int* out) {
    __builtin_assume(in[threadIdx.x] < 40);
    out[threadIdx.x] = in[threadIdx.x] / 40;
}

__global__ void nothing(int*) {}

// ---- the program ----

template <class T>
T* device_array(std::size_t size) {
    T* memory = nullptr;
    check(cudaMallocManaged(&memory, size * sizeof(T)), "cudaMallocManaged");
    return memory;
}

struct Case {
    std::string input;
    std::size_t output_bytes;
    void* in;
    void* out;

    template <class T>
    const T* input_as() const { return static_cast<const T*>(in); }
    template <class T>
    T* output_as() const { return static_cast<T*>(out); }
    unsigned count(std::size_t bytes) const { return static_cast<unsigned>(input.size() / bytes); }
};

struct Entry {
    std::size_t output_bytes;  // for each byte of input, or in all where there is no input
    void (*run)(const Case&);
};

#define LAUNCH(grid, block, shared, kernel, In, Out) \
    [](const Case& c) { launch(kernel, grid, block, shared, nullptr, c.input_as<In>(), c.output_as<Out>()); }
#define LAUNCH_OUT(grid, block, shared, kernel) \
    [](const Case& c) { launch(kernel, grid, block, shared, nullptr, c.output_as<int>()); }

thread_local int kept_by_host = 41;  // launches must leave it alone

const std::map<std::string_view, Entry> cases = {
    {"shuffles", {7, LAUNCH(1, 32, 0, shuffles, int, int)}},
    {"votes", {7, LAUNCH(1, 32, 0, votes, int, int)}},
    {"divergent", {1, LAUNCH(1, 32, 0, divergent, int, int)}},
    {"barriers", {2, LAUNCH(1, c.count(4), 0, barriers, int, int)}},
    {"pipeline", {1, LAUNCH(1, 64, 3 * 64 * sizeof(int4), pipeline, int4, int4)}},
    {"atomics", {1, LAUNCH(dim3(5, 3), 96, 0, atomics, int, int)}},
    {"bits", {5, LAUNCH(1, c.count(8), 0, bits, int, int)}},
    {"halves_to_floats", {4, LAUNCH(c.count(512), 256, 0, halves_to_floats, unsigned short, float)}},
    {"floats_to_halves", {1, LAUNCH(c.count(1024), 256, 0, floats_to_halves, float, unsigned short)}},
    {"half_arithmetic", {2, LAUNCH(c.count(12 * 64), 64, 0, half_arithmetic, half2, half2)}},
    {"divergent_barrier", {1, LAUNCH(1, 64, 0, divergent_barrier, int, int)}},
    {"half_a_shuffle", {1, LAUNCH(1, 64, 0, half_a_shuffle, int, int)}},
    {"mask_without_caller", {1, LAUNCH(1, 32, 0, mask_without_caller, int, int)}},
    {"absent_source", {1, LAUNCH(1, 32, 0, absent_source, int, int)}},
    {"missing_barrier", {1, LAUNCH(1, 64, 0, missing_barrier, int, int)}},
    {"unset_shared", {256, LAUNCH_OUT(2, 32, 32 * sizeof(int), unset_shared<32>)}},
    {"missing_wait", {1, LAUNCH(1, 16, 0, missing_wait, int4, int4)}},
    {"spin", {4, LAUNCH_OUT(1, 32, 0, spin)}},
    {"trap", {4, LAUNCH_OUT(1, 32, 0, trap_at_three)}},
    {"misaligned_load", {1, LAUNCH(1, 1, 0, misaligned_load, char, int)}},
    {"false_assumption", {1, LAUNCH(1, 64, 0, false_assumption, int, int)}},
    {"dynamic_overflow", {128, LAUNCH_OUT(1, 32, 32 * sizeof(int), dynamic_overflow)}},
    {"static_overflow", {1, LAUNCH(1, 32, 0, static_overflow<32>, int, int)}},
    {"local_overflow", {1, LAUNCH(1, 32, 0, local_overflow, int, int)}},
    {"global_overflow", {1, LAUNCH(1, 32, 0, global_overflow, int, int)}},
    {"block_of_1025", {4, LAUNCH_OUT(1, 1025, 0, nothing)}},
    {"block_of_none", {4, LAUNCH_OUT(1, dim3(32, 0), 0, nothing)}},
    {"grid_of_65536_rows", {4, LAUNCH_OUT(dim3(1, 65536), 32, 0, nothing)}},
    {"shared_49_KiB", {4, LAUNCH_OUT(1, 32, 49 << 10, nothing)}},
    {"shared_163_KiB_allowed", {4, [](const Case& c) {
         bowerbird::allow_dynamic_shared(nothing, 163 << 10);
         launch(nothing, 1, 32, 163 << 10, nullptr, c.output_as<int>());
         *c.output_as<int>() = kept_by_host;
     }}},
    {"shared_164_KiB_allowed", {4, [](const Case&) { bowerbird::allow_dynamic_shared(nothing, 164 << 10); }}},
};

void run(const Entry& entry) {
    Case c{{std::istreambuf_iterator<char>(std::cin), {}}, 0, nullptr, nullptr};
    c.output_bytes = entry.output_bytes * (c.input.empty() ? 1 : c.input.size());
    c.in = device_array<char>(c.input.size() + c.input.empty());
    c.out = device_array<char>(c.output_bytes);
    check(cudaMemcpy(c.in, c.input.data(), c.input.size(), cudaMemcpyDefault), "cudaMemcpy");
    check(cudaMemset(c.out, 0, c.output_bytes), "cudaMemset");
    entry.run(c);
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    std::cout.write(static_cast<const char*>(c.out), static_cast<std::streamsize>(c.output_bytes));
    check(cudaFree(c.in), "cudaFree");
    check(cudaFree(c.out), "cudaFree");
}

}  // namespace

int main(int count, char** arguments) {
    try {
        run(cases.at(count == 2 ? arguments[1] : ""));
        return 0;
    } catch (const std::exception& fault) {
        std::cerr << fault.what() << '\n';
        return 1;
    }
}

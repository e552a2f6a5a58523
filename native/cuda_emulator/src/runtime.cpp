// The emulated device: its limits, and launches.
#include "cuda_runtime_api.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "block.hpp"
#include "launch_kernel.hpp"
#include "order.hpp"
#include "shared_memory.hpp"

namespace {

// Those of compute capability 8.0 (CUDA C++ Programming Guide, table of technical specifications).
constexpr int multiprocessors = 4;
constexpr std::size_t max_shared = 48 << 10, max_shared_opt_in = 163 << 10, multiprocessor_shared = 164 << 10;
constexpr std::size_t reserved_shared = 1 << 10;
constexpr unsigned max_block_x = 1024, max_block_z = 64, max_grid_x = 0x7FFFFFFF, max_grid_yz = 65535;
constexpr int max_resident_threads = 2048, max_resident_blocks = 32;

std::mutex device_mutex;  // one launch at a time
cudaError_t last_error = cudaSuccess;
std::map<const void*, std::size_t> opted_in;

cudaError_t note(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

std::size_t shared_limit(const void* kernel) {
    const auto found = opted_in.find(kernel);
    return found == opted_in.end() ? max_shared : found->second;
}

bool fits(dim3 grid, dim3 block) {
    const bool grid_fits = grid.x - 1 < max_grid_x && grid.y - 1 < max_grid_yz && grid.z - 1 < max_grid_yz;
    const bool block_fits = block.x - 1 < max_block_x && block.y - 1 < max_block_x && block.z - 1 < max_block_z;
    return grid_fits && block_fits && std::size_t{block.x} * block.y * block.z <= cuda_emulator::Block::max_threads;
}

cudaError_t check_device(int device) { return note(device == 0 ? cudaSuccess : cudaErrorInvalidDevice); }

}  // namespace

namespace cuda_emulator {
namespace {

void* dynamic_shared_begin = nullptr;

void run_grid(const cudaLaunchConfig_t& config, const std::function<void()>& call_kernel) {
    Order order = Order::from_environment();
    DynamicShared dynamic_shared(config.dynamicSmemBytes);
    StaticShared static_shared;
    dynamic_shared_begin = dynamic_shared.begin();
    blockDim = config.blockDim;
    gridDim = config.gridDim;
    const std::size_t x = gridDim.x, y = gridDim.y, blocks = x * y * gridDim.z;
    Walk walk = order.walk(blocks);
    for (std::size_t i = 0; i < blocks; ++i) {
        const std::size_t number = walk.next();
        blockIdx = {static_cast<unsigned>(number % x), static_cast<unsigned>(number / x % y),
                    static_cast<unsigned>(number / x / y)};
        static_shared.fill_garbage();
        dynamic_shared.fill_garbage();
        block().run(blockDim, call_kernel, order);
        if (!dynamic_shared.guard_is_intact()) {
            throw std::runtime_error(block_name() + ": a thread wrote behind the dynamic shared memory");
        }
    }
}

}  // namespace

void* dynamic_shared_memory() { return dynamic_shared_begin; }

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, const std::function<void()>& call_kernel) {
    const std::lock_guard lock(device_mutex);
    if (kernel == nullptr) return note(cudaErrorInvalidValue);
    if (!fits(config.gridDim, config.blockDim)) return note(cudaErrorInvalidConfiguration);
    if (config.dynamicSmemBytes > shared_limit(kernel)) return note(cudaErrorInvalidValue);
    run_grid(config, call_kernel);
    return cudaSuccess;
}

}  // namespace cuda_emulator

// ---- devices ----

cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return check_device(device); }

cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    if (check_device(device) != cudaSuccess) return cudaErrorInvalidDevice;
    *properties = {.name = "CUDA emulator",
                   .totalGlobalMem = std::size_t{8} << 30,
                   .sharedMemPerBlock = max_shared,
                   .sharedMemPerBlockOptin = max_shared_opt_in,
                   .sharedMemPerMultiprocessor = multiprocessor_shared,
                   .major = 8,
                   .minor = 0,
                   .multiProcessorCount = multiprocessors,
                   .warpSize = warpSize,
                   .maxThreadsPerBlock = static_cast<int>(cuda_emulator::Block::max_threads),
                   .maxThreadsPerMultiProcessor = max_resident_threads,
                   .maxBlocksPerMultiProcessor = max_resident_blocks,
                   .regsPerBlock = 65536,
                   .l2CacheSize = 40 << 20,
                   .maxThreadsDim = {max_block_x, max_block_x, max_block_z},
                   .maxGridSize = {max_grid_x, max_grid_yz, max_grid_yz}};
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    cudaDeviceProp device_is;
    if (cudaGetDeviceProperties(&device_is, device) != cudaSuccess) return cudaErrorInvalidDevice;
    const std::map<cudaDeviceAttr, std::size_t> values = {
        {cudaDevAttrMaxThreadsPerBlock, device_is.maxThreadsPerBlock},
        {cudaDevAttrMaxSharedMemoryPerBlock, device_is.sharedMemPerBlock},
        {cudaDevAttrWarpSize, device_is.warpSize},
        {cudaDevAttrMultiProcessorCount, device_is.multiProcessorCount},
        {cudaDevAttrL2CacheSize, device_is.l2CacheSize},
        {cudaDevAttrMaxThreadsPerMultiProcessor, device_is.maxThreadsPerMultiProcessor},
        {cudaDevAttrComputeCapabilityMajor, device_is.major},
        {cudaDevAttrComputeCapabilityMinor, device_is.minor},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, device_is.sharedMemPerMultiprocessor},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, device_is.sharedMemPerBlockOptin},
    };
    const auto found = values.find(attribute);
    if (found == values.end()) return note(cudaErrorInvalidValue);
    *value = static_cast<int>(found->second);
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
    const std::lock_guard lock(device_mutex);
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
    const bool is_valid = attribute == cudaFuncAttributeMaxDynamicSharedMemorySize && value >= 0 &&
                          static_cast<std::size_t>(value) <= max_shared_opt_in;
    if (!is_valid) return note(cudaErrorInvalidValue);
    opted_in[kernel] = std::max(max_shared, static_cast<std::size_t>(value));
    return cudaSuccess;
}

// Registers are not counted.
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int block_size,
                                                          std::size_t dynamic_shared_bytes) {
    const std::lock_guard lock(device_mutex);
    if (block_size < 1) return note(cudaErrorInvalidValue);
    const int by_threads = max_resident_threads / ((block_size + warpSize - 1) / warpSize * warpSize);
    const int by_memory = static_cast<int>(multiprocessor_shared / (dynamic_shared_bytes + reserved_shared));
    const bool fits_at_all = dynamic_shared_bytes <= shared_limit(kernel) &&
                             block_size <= static_cast<int>(max_block_x);
    *blocks = fits_at_all ? std::min({by_threads, by_memory, max_resident_blocks}) : 0;
    return cudaSuccess;
}

// ---- errors ----

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaPeekAtLastError() { return last_error; }

const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "no error";
        case cudaErrorInvalidValue: return "invalid argument";
        case cudaErrorMemoryAllocation: return "out of memory";
        case cudaErrorInvalidConfiguration: return "invalid configuration argument";
        case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
        case cudaErrorNoDevice: return "no CUDA-capable device is detected";
        case cudaErrorInvalidDevice: return "invalid device ordinal";
        case cudaErrorNotReady: return "device not ready";
        case cudaErrorLaunchFailure: return "unspecified launch failure";
        case cudaErrorNotSupported: return "operation not supported";
    }
    return "unrecognized error code";
}


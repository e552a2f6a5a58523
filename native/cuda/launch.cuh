// How Bowerbird starts kernels: ordinary calls instead of <<<...>>>, so that a C++ compiler can read them too (see
// native/cuda_emulator), and every launch is checked.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>

#include <dynamic_shared.cuh>  // from here for nvcc, from the emulator for the host

namespace bowerbird {

inline void check(cudaError_t status, const char* call) {
    if (status == cudaSuccess) return;
    cudaGetLastError();  // clear it, so that the next call starts clean
    throw std::runtime_error(std::string("CUDA: ") + call + " failed: " + cudaGetErrorString(status));
}

// Makes a device the current one of this thread, as launches on its streams need it, until the end of the scope.
class OnDevice {
public:
    explicit OnDevice(int device) {
        check(cudaGetDevice(&before_), "cudaGetDevice");
        if (device != before_) check(cudaSetDevice(device), "cudaSetDevice");
        changed_ = device != before_;
    }
    ~OnDevice() {
        if (changed_) cudaSetDevice(before_);
    }
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

private:
    int before_ = 0;
    bool changed_ = false;
};

// The blocks of a launch, and the line of the source that asks for them, which names the launch in an error.
struct Grid {
    dim3 size;
    std::source_location where;

    Grid(dim3 size_, const std::source_location& where_ = std::source_location::current())
        : size(size_), where(where_) {}
    Grid(unsigned x, const std::source_location& where_ = std::source_location::current()) : size(x), where(where_) {}
};

constexpr std::size_t max_grid_blocks = 0x7FFFFFFF;  // on the first axis

// Throws std::invalid_argument if these are more than a grid takes.
inline unsigned blocks_of(std::size_t count) {
    if (count <= max_grid_blocks) return static_cast<unsigned>(count);
    throw std::invalid_argument("too much for one call on a CUDA device: it takes " + std::to_string(count) +
                                " blocks, expected " + std::to_string(max_grid_blocks) + " at most");
}

// Queues kernel(arguments...) on the stream and returns at once.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const Grid& grid, dim3 block, std::size_t dynamic_shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
    cudaLaunchConfig_t config{};
    config.gridDim = grid.size;
    config.blockDim = block;
    config.dynamicSmemBytes = dynamic_shared_bytes;
    config.stream = stream;
    const cudaError_t status = cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
    if (status == cudaSuccess) return;
    const std::string path = grid.where.file_name();
    const std::string place = path.substr(path.rfind('/') + 1) + ":" + std::to_string(grid.where.line());
    check(status, ("the launch at " + place).c_str());
}

// Lets a kernel ask for more than 48 KiB of dynamic shared memory.
template <class... Parameters>
void allow_dynamic_shared(void (*kernel)(Parameters...), std::size_t bytes) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
          "cudaFuncSetAttribute");
}

}  // namespace bowerbird

// CUDA devices this process can see, and where a kernel runs on one. Compiled from cuda/device.cu, or from
// cuda/no_cuda.cpp without CUDA.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace bowerbird {

// True if this build has CUDA code.
bool built_with_cuda();

// Names of the devices, in CUDA's order; empty without a device, a driver, or CUDA code.
// Throws std::runtime_error when the driver reports another fault.
std::vector<std::string> device_names();

// Where the CUDA version of a kernel runs. It only puts work on the stream: it never waits for it, allocates nothing,
// and reads no device memory from the host, so that it can be captured in a graph.
struct DeviceContext {
    int device;     // index of the CUDA device
    void* stream;   // cudaStream_t
    void* scratch;  // device memory, aligned to 256 bytes, of the size that <op>_scratch_bytes said
};

}  // namespace bowerbird

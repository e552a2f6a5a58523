// Memory, streams and events of the emulated device. Everything is done when it is asked for.
#include <cstdlib>
#include <cstring>

#include "cuda_runtime_api.h"
#include "device/threads.hpp"

// ---- memory ----

cudaError_t cudaMalloc(void** memory, std::size_t size) {
    *memory = size == 0 ? nullptr : std::malloc(size);
    if (*memory == nullptr && size != 0) return cudaErrorMemoryAllocation;
    cuda_emulator::fill_garbage(*memory, size);
    return cudaSuccess;
}

cudaError_t cudaMallocAsync(void** memory, std::size_t size, cudaStream_t) { return cudaMalloc(memory, size); }

cudaError_t cudaFree(void* memory) {
    std::free(memory);
    return cudaSuccess;
}

cudaError_t cudaFreeAsync(void* memory, cudaStream_t) { return cudaFree(memory); }

cudaError_t cudaMemset(void* memory, int byte, std::size_t size) {
    std::memset(memory, byte, size);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int byte, std::size_t size, cudaStream_t) {
    return cudaMemset(memory, byte, size);
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t size, cudaMemcpyKind) {
    std::memmove(to, from, size);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind kind, cudaStream_t) {
    return cudaMemcpy(to, from, size, kind);
}

// ---- streams and events: names without anything behind them ----

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    *stream = nullptr;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }

cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = nullptr;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }

cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }

cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }

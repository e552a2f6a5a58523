// Launches and function attributes, as templates over the kernel's type.
#pragma once

#include <functional>
#include <tuple>
#include <type_traits>

#include "cuda_runtime_api.h"

namespace cuda_emulator {

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, const std::function<void()>& call_kernel);

}  // namespace cuda_emulator

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
    static_assert((std::is_trivially_copyable_v<std::remove_cv_t<Parameters>> && ...),
                  "kernel arguments are copied to the device byte by byte");
    static_assert((sizeof(std::remove_cv_t<Parameters>) + ... + 0) <= 4096, "kernel arguments may take 4 KiB");
    const std::tuple<std::remove_cv_t<Parameters>...> copies(static_cast<Parameters>(arguments)...);
    return cuda_emulator::launch(*config, reinterpret_cast<const void*>(kernel),
                                 [&] { std::apply(kernel, copies); });
}

template <class T>
cudaError_t cudaFuncSetAttribute(T* kernel, cudaFuncAttribute attribute, int value) {
    return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}

template <class T>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, T* kernel, int block_size, std::size_t dynamic) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, reinterpret_cast<const void*>(kernel), block_size,
                                                         dynamic);
}

template <class T>
cudaError_t cudaMalloc(T** memory, std::size_t size) {
    return cudaMalloc(reinterpret_cast<void**>(memory), size);
}

template <class T>
cudaError_t cudaMallocAsync(T** memory, std::size_t size, cudaStream_t stream) {
    return cudaMallocAsync(reinterpret_cast<void**>(memory), size, stream);
}

template <class T>
cudaError_t cudaMallocManaged(T** memory, std::size_t size) {
    return cudaMalloc(reinterpret_cast<void**>(memory), size);
}

template <class T>
cudaError_t cudaMemcpyToSymbolAsync(T& symbol, const void* from, std::size_t size, std::size_t offset,
                                    cudaMemcpyKind kind, cudaStream_t stream = nullptr) {
    if (offset > sizeof(T) || size > sizeof(T) - offset) return cudaErrorInvalidValue;
    return cudaMemcpyAsync(reinterpret_cast<char*>(&symbol) + offset, from, size, kind, stream);
}

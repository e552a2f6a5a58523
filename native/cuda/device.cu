#include "bowerbird/device.hpp"

#include "launch.cuh"

namespace bowerbird {
namespace {

// A machine without a device or driver is no fault: the build is made to run there too.
int count_devices() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver) {
        cudaGetLastError();  // clear it, so that the next call starts clean
        return 0;
    }
    check(status, "cudaGetDeviceCount");
    return count;
}

}  // namespace

bool built_with_cuda() { return true; }

std::vector<std::string> device_names() {
    std::vector<std::string> names;
    const int count = count_devices();
    for (int device = 0; device < count; ++device) {
        cudaDeviceProp properties{};
        check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
        names.emplace_back(properties.name);
    }
    return names;
}

}  // namespace bowerbird

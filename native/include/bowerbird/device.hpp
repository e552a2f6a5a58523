// CUDA devices this process can see. Compiled from cuda/device.cu, or from cuda/no_cuda.cpp without CUDA.
#pragma once

#include <string>
#include <vector>

namespace bowerbird {

// True if this build has CUDA code.
bool built_with_cuda();

// Names of the devices, in CUDA's order; empty without a device, a driver, or CUDA code.
// Throws std::runtime_error when the driver reports another fault.
std::vector<std::string> device_names();

}  // namespace bowerbird

// The build without CUDA: the same symbols as device.cu, which say that there is no device.
#include "bowerbird/device.hpp"

namespace bowerbird {

bool built_with_cuda() { return false; }

std::vector<std::string> device_names() { return {}; }

}  // namespace bowerbird

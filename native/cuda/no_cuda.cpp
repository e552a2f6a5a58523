// The build without CUDA: the same symbols as the .cu files, which say that there is no device.
#include <stdexcept>

#include "bowerbird/device.hpp"
#include "bowerbird/rerank.hpp"

namespace bowerbird {
namespace {

[[noreturn]] void refuse() {
    throw std::runtime_error("this build has no CUDA code; build it with -DBOWERBIRD_CUDA=ON");
}

}  // namespace

bool built_with_cuda() { return false; }

std::vector<std::string> device_names() { return {}; }

namespace cuda {

std::size_t rerank_scratch_bytes(const RerankRequest&) { refuse(); }
void rerank(const RerankRequest&, const DeviceContext&, float*, std::int64_t*) { refuse(); }

}  // namespace cuda

}  // namespace bowerbird

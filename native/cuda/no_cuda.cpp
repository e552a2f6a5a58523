// The build without CUDA: the same symbols as the .cu files, which say that there is no device.
#include <stdexcept>

#include "bowerbird/detection_postprocess.hpp"
#include "bowerbird/device.hpp"
#include "bowerbird/nms.hpp"
#include "bowerbird/preprocess.hpp"
#include "bowerbird/rerank.hpp"
#include "bowerbird/roi_align.hpp"
#include "bowerbird/scan.hpp"
#include "bowerbird/walk.hpp"

namespace bowerbird {
namespace {

[[noreturn]] void refuse() {
    throw std::runtime_error("this build has no CUDA code; build it with -DBOWERBIRD_CUDA=ON");
}

}  // namespace

bool built_with_cuda() { return false; }

std::vector<std::string> device_names() { return {}; }

namespace cuda {

std::size_t preprocess_scratch_bytes(const PreprocessRequest&) { refuse(); }
void preprocess(const PreprocessRequest&, const DeviceContext&, float*) { refuse(); }

std::size_t roi_align_scratch_bytes(const RoiAlignRequest&) { refuse(); }
void roi_align(const RoiAlignRequest&, const DeviceContext&, float*) { refuse(); }

std::size_t rerank_scratch_bytes(const RerankRequest&) { refuse(); }
void rerank(const RerankRequest&, const DeviceContext&, float*, std::int64_t*) { refuse(); }

std::size_t nms_scratch_bytes(const NmsRequest&) { refuse(); }
void nms(const NmsRequest&, const DeviceContext&, std::int64_t*, std::int32_t*) { refuse(); }

std::size_t soft_nms_scratch_bytes(const SoftNmsRequest&) { refuse(); }
void soft_nms(const SoftNmsRequest&, const DeviceContext&, std::int64_t*, float*, std::int32_t*) { refuse(); }

std::size_t detection_postprocess_scratch_bytes(const DetectionRequest&) { refuse(); }
void detection_postprocess(const DetectionRequest&, const DeviceContext&, const Detections&) { refuse(); }

std::size_t scan_scratch_bytes(const ScanRequest&) { refuse(); }
void scan(const ScanRequest&, const DeviceContext&, std::int32_t*, std::int64_t*) { refuse(); }

std::size_t walk_scratch_bytes(const WalkRequest&) { refuse(); }
void walk(const WalkRequest&, const DeviceContext&, float*, std::int64_t*, std::int64_t*) { refuse(); }

}  // namespace cuda
}  // namespace bowerbird

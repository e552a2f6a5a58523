// bowerbird.native._core: private; bowerbird.native is the public face and documents every function.
#include <pybind11/stl.h>

#include "arguments.hpp"
#include "bowerbird/device.hpp"
#include "bowerbird/simd.hpp"

namespace {

std::vector<std::string> simd_levels() {
    std::vector<std::string> names;
    for (const bowerbird::SimdLevel level : bowerbird::available_levels()) names.emplace_back(name_of(level));
    return names;
}

}  // namespace

PYBIND11_MODULE(_core, module) {
    bowerbird::bindings::bind_scan(module);
    bowerbird::bindings::bind_rerank(module);
    bowerbird::bindings::bind_nms(module);
    bowerbird::bindings::bind_detection_postprocess(module);
    bowerbird::bindings::bind_preprocess(module);
    bowerbird::bindings::bind_roi_align(module);
    bowerbird::bindings::bind_walk(module);
    module.def("simd_level", [] { return std::string(name_of(bowerbird::current_level())); });
    module.def("simd_levels", &simd_levels);
    module.def("use_simd_level", &bowerbird::use_level);
    module.def("built_with_cuda", &bowerbird::built_with_cuda);
    module.def("cuda_device_names", &bowerbird::device_names);
}

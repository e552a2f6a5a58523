// Checks at the border: an argument that a kernel cannot take becomes an exception that names it.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

namespace bowerbird::bindings {

namespace py = pybind11;

inline std::string describe(const py::array& array) {
    return py::str(array.dtype()).cast<std::string>() + " of shape " +
           py::str(array.attr("shape")).cast<std::string>();
}

// TypeError unless the elements are of this type, in the machine's byte order.
inline void require_dtype(const py::array& array, const py::dtype& dtype, const char* name) {
    if (dtype.equal(array.dtype())) return;
    throw py::type_error(std::string(name) + ": expected dtype " + py::str(dtype).cast<std::string>() + ", got " +
                         describe(array));
}

// ValueError unless the array has this rank.
inline void require_rank(const py::array& array, py::ssize_t rank, const char* name) {
    if (array.ndim() == rank) return;
    throw py::value_error(std::string(name) + ": expected rank " + std::to_string(rank) + ", got " + describe(array));
}

// ValueError unless the elements lie without gaps, last axis fastest, at aligned addresses.
inline void require_contiguous(const py::array& array, const char* name) {
    const bool contiguous = (array.flags() & py::array::c_style) != 0;
    const bool aligned = (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
    if (contiguous && aligned) return;
    throw py::value_error(std::string(name) + ": expected a C-contiguous, aligned array, got " + describe(array) +
                          " with strides " + py::str(array.attr("strides")).cast<std::string>() +
                          "; pass numpy.ascontiguousarray(" + name + ")");
}

// ValueError unless the axis has this length.
inline void require_length(const py::array& array, py::ssize_t axis, py::ssize_t length, const char* name) {
    if (array.shape(axis) == length) return;
    throw py::value_error(std::string(name) + ": expected length " + std::to_string(length) + " on axis " +
                          std::to_string(axis) + ", got " + describe(array));
}

// The elements of a contiguous array of this type and rank.
template <class Value>
const Value* elements(const py::array& array, py::ssize_t rank, const char* name) {
    require_dtype(array, py::dtype::of<Value>(), name);
    require_rank(array, rank, name);
    require_contiguous(array, name);
    return static_cast<const Value*>(array.data());
}

// ValueError if a value is NaN or infinite.
inline void require_finite(const float* values, std::size_t count, const char* name) {
    for (std::size_t i = 0; i < count; ++i) {
        if (std::isfinite(values[i])) continue;
        throw py::value_error(std::string(name) + ": expected finite values, got " + std::to_string(values[i]) +
                              " at flat position " + std::to_string(i));
    }
}

// ValueError unless lowest <= value <= highest.
inline std::size_t require_between(std::int64_t value, std::int64_t lowest, std::int64_t highest, const char* name) {
    if (lowest <= value && value <= highest) return static_cast<std::size_t>(value);
    throw py::value_error(std::string(name) + ": expected " + std::to_string(lowest) + " to " +
                          std::to_string(highest) + ", got " + std::to_string(value));
}

inline std::size_t length(const py::array& array, py::ssize_t axis) {
    return static_cast<std::size_t>(array.shape(axis));
}

constexpr std::int64_t max_k = 0x7FFFFFFF;
constexpr std::int64_t max_threads = 256;

void bind_scan(py::module_& module);
void bind_rerank(py::module_& module);
void bind_nms(py::module_& module);
void bind_preprocess(py::module_& module);

}  // namespace bowerbird::bindings

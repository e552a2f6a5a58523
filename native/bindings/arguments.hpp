// Checks at the border: an argument that a kernel cannot take becomes an exception that names it.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "tensor.hpp"

namespace bowerbird::bindings {

// TypeError unless the elements are of this type, in the machine's byte order.
inline void require_element(const Tensor& tensor, Element element, const char* name) {
    if (tensor.element == element) return;
    throw py::type_error(std::string(name) + ": expected dtype " + name_of(element) + ", got " + describe(tensor));
}

// ValueError unless the array has this rank.
inline void require_rank(const Tensor& tensor, std::size_t rank, const char* name) {
    if (tensor.rank == rank) return;
    throw py::value_error(std::string(name) + ": expected rank " + std::to_string(rank) + ", got " + describe(tensor));
}

// ValueError unless the elements lie without gaps, last axis fastest, at aligned addresses.
inline void require_contiguous(const Tensor& tensor, const char* name) {
    if (tensor.contiguous()) return;
    throw py::value_error(std::string(name) + ": expected a C-contiguous, aligned array, got " + describe(tensor) +
                          "; pass a contiguous copy, as numpy.ascontiguousarray or tensor.contiguous() make it");
}

// ValueError unless the axis has this length.
inline void require_length(const Tensor& tensor, std::size_t axis, std::size_t length, const char* name) {
    if (tensor.length(axis) == length) return;
    throw py::value_error(std::string(name) + ": expected length " + std::to_string(length) + " on axis " +
                          std::to_string(axis) + ", got " + describe(tensor));
}

// ValueError unless the array may be written to.
inline void require_writable(const Tensor& tensor, const char* name) {
    if (tensor.writable) return;
    throw py::value_error(std::string(name) + ": expected a writable array, got a read-only one");
}

template <class Value>
constexpr Element element_of_type = Element::other;
template <>
inline constexpr Element element_of_type<std::uint8_t> = Element::uint8;
template <>
inline constexpr Element element_of_type<std::int8_t> = Element::int8;
template <>
inline constexpr Element element_of_type<std::int32_t> = Element::int32;
template <>
inline constexpr Element element_of_type<std::int64_t> = Element::int64;
template <>
inline constexpr Element element_of_type<float> = Element::float32;

// The elements of a contiguous array of this type and rank.
template <class Value>
Value* elements(const Tensor& tensor, std::size_t rank, const char* name) {
    require_element(tensor, element_of_type<Value>, name);
    require_rank(tensor, rank, name);
    require_contiguous(tensor, name);
    return static_cast<Value*>(tensor.data);
}

// Whether no value is NaN or infinite; without a branch a value, so that the compiler can take several at once.
inline bool all_finite(const float* values, std::size_t count) {
    std::uint32_t bad = 0;
    for (std::size_t i = 0; i < count; ++i) {
        bad |= static_cast<std::uint32_t>((std::bit_cast<std::int32_t>(values[i]) & 0x7FFFFFFF) > 0x7F7FFFFF);
    }
    return bad == 0;
}

// ValueError if a value on the host is NaN or infinite. The host does not read what lies on a device: there every
// kernel says what becomes of such values.
inline void require_finite(const Tensor& tensor, const char* name) {
    if (!tensor.on_host()) return;
    const auto* values = static_cast<const float*>(tensor.data);
    if (all_finite(values, tensor.size())) return;
    std::size_t i = 0;
    while (std::isfinite(values[i])) ++i;
    throw py::value_error(std::string(name) + ": expected finite values, got " + std::to_string(values[i]) +
                          " at flat position " + std::to_string(i));
}

// ValueError unless lowest <= value <= highest.
inline std::size_t require_between(std::int64_t value, std::int64_t lowest, std::int64_t highest, const char* name) {
    if (lowest <= value && value <= highest) return static_cast<std::size_t>(value);
    throw py::value_error(std::string(name) + ": expected " + std::to_string(lowest) + " to " +
                          std::to_string(highest) + ", got " + std::to_string(value));
}

// ValueError unless 0 <= value <= 1.
inline float require_fraction(double value, const char* name) {
    if (value >= 0.0 && value <= 1.0) return static_cast<float>(value);
    throw py::value_error(std::string(name) + ": expected 0 to 1, got " + std::to_string(value));
}

// ValueError unless the value is above 0 and finite, as a float32 too.
inline float require_positive(double value, const char* name) {
    const auto rounded = static_cast<float>(value);
    if (rounded > 0.0F && std::isfinite(rounded)) return rounded;
    throw py::value_error(std::string(name) + ": expected a finite number above 0, got " + std::to_string(value));
}

constexpr std::int64_t max_k = 0x7FFFFFFF;
constexpr std::int64_t max_threads = 256;

void bind_scan(py::module_& module);
void bind_rerank(py::module_& module);
void bind_nms(py::module_& module);
void bind_detection_postprocess(py::module_& module);
void bind_preprocess(py::module_& module);
void bind_roi_align(py::module_& module);
void bind_walk(py::module_& module);

}  // namespace bowerbird::bindings

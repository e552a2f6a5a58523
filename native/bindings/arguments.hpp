// Checks at the border: an argument that a kernel cannot take becomes an exception that names it.
#pragma once

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

// ValueError if a value on the host is NaN or infinite. The host does not read what lies on a device: there every
// kernel says what becomes of such values.
inline void require_finite(const Tensor& tensor, const char* name) {
    if (!tensor.on_host()) return;
    const auto* values = static_cast<const float*>(tensor.data);
    for (std::size_t i = 0; i < tensor.size(); ++i) {
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

constexpr std::int64_t max_k = 0x7FFFFFFF;
constexpr std::int64_t max_threads = 256;

void bind_scan(py::module_& module);
void bind_rerank(py::module_& module);
void bind_nms(py::module_& module);
void bind_preprocess(py::module_& module);

}  // namespace bowerbird::bindings

// What callers hand over, as typed views of the same memory: NumPy arrays, anything with __dlpack__, any buffer.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bowerbird/device.hpp"

namespace bowerbird::bindings {

namespace py = pybind11;

enum class Element { boolean, uint8, int8, int32, int64, float16, bfloat16, float32, other };

std::string name_of(Element element);

constexpr int host = -1;
constexpr std::size_t max_rank = 8;

// A view; `owner` keeps the memory alive.
struct Tensor {
    void* data = nullptr;
    Element element = Element::other;
    std::size_t rank = 0;
    std::array<std::int64_t, max_rank> shape{};
    std::array<std::int64_t, max_rank> strides{};  // bytes
    bool writable = false;
    int device = host;  // or the index of a CUDA device
    std::string dtype;  // as the caller writes it, where element is `other`
    py::object owner;

    std::size_t length(std::size_t axis) const { return static_cast<std::size_t>(shape[axis]); }
    std::size_t size() const;
    std::size_t element_bytes() const;
    bool contiguous() const;  // last axis fastest, no gaps, aligned to the element
    bool on_host() const { return device == host; }
};

// "float32 of shape (3, 4)"
std::string describe(const Tensor& tensor);

// Stream and scratch memory of one call. The memory goes back to the caller's library when this goes: after the kernels
// are on the stream, so that whoever gets it next is behind them.
struct DeviceWork {
    DeviceContext context;
    Tensor scratch;
};

// Where a call computes and which library makes its results. None from Python: NumPy on the host; otherwise an object
// of bowerbird.native.places with `device`, `stream` and `empty(shape, dtype)`.
class Place {
public:
    explicit Place(py::object place);

    bool on_host() const { return device_ == host; }
    int device() const { return device_; }

    // The argument as a view. TypeError if it is no array; ValueError if it lies elsewhere than this place.
    Tensor tensor(const py::object& value, const char* name) const;

    // A new array of the caller's library and a view of it.
    Tensor empty(const std::vector<std::int64_t>& shape, Element element) const;

    // For the kernels of a CUDA device: the caller's stream, and scratch memory from the caller's library.
    DeviceWork work(std::size_t scratch_bytes) const;

private:
    py::object place_;  // None: NumPy on the host
    int device_ = host;
    std::int64_t stream_ = 0;
};

}  // namespace bowerbird::bindings

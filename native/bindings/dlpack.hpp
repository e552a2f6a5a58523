// The binary interface of DLPack 1.x, as its specification lays it out. Only what a consumer reads is declared.
#pragma once

#include <cstdint>

namespace bowerbird::bindings::dlpack {

enum DeviceType : std::int32_t { cpu = 1, cuda = 2, cuda_host = 3 };  // cuda_host: pinned memory, read like any other

enum TypeCode : std::uint8_t { signed_integer = 0, unsigned_integer = 1, floating = 2, bfloat = 4, boolean = 6 };

struct Device {
    std::int32_t type;
    std::int32_t index;
};

struct DataType {
    std::uint8_t code;
    std::uint8_t bits;
    std::uint16_t lanes;
};

struct Tensor {
    void* data;
    Device device;
    std::int32_t rank;
    DataType type;
    std::int64_t* shape;
    std::int64_t* strides;  // in elements; null: C order
    std::uint64_t byte_offset;
};

struct Managed {  // capsule "dltensor"
    Tensor tensor;
    void* context;
    void (*deleter)(Managed*);
};

struct ManagedVersioned {  // capsule "dltensor_versioned"
    std::uint32_t major, minor;
    void* context;
    void (*deleter)(ManagedVersioned*);
    std::uint64_t flags;
    Tensor tensor;
};

constexpr std::uint64_t read_only = 1;  // flag

}  // namespace bowerbird::bindings::dlpack

#include "tensor.hpp"

#include <pybind11/stl.h>

#include <utility>

#include "dlpack.hpp"

namespace bowerbird::bindings {
namespace {

struct ElementType {
    Element element;
    const char* name;
    std::size_t bytes;
    std::uint8_t dlpack_code;
    char numpy_kind;
};

constexpr std::array<ElementType, 8> element_types{{
    {Element::boolean, "bool", 1, dlpack::boolean, 'b'},
    {Element::uint8, "uint8", 1, dlpack::unsigned_integer, 'u'},
    {Element::int8, "int8", 1, dlpack::signed_integer, 'i'},
    {Element::int32, "int32", 4, dlpack::signed_integer, 'i'},
    {Element::int64, "int64", 8, dlpack::signed_integer, 'i'},
    {Element::float16, "float16", 2, dlpack::floating, 'f'},
    {Element::bfloat16, "bfloat16", 2, dlpack::bfloat, ' '},
    {Element::float32, "float32", 4, dlpack::floating, 'f'},
}};

Element element_named(const std::string& name) {
    for (const ElementType& type : element_types) {
        if (name == type.name) return type.element;
    }
    return Element::other;
}

Element element_of(const dlpack::DataType& dtype) {
    for (const ElementType& type : element_types) {
        if (dtype.lanes == 1 && dtype.code == type.dlpack_code && dtype.bits == 8 * type.bytes) return type.element;
    }
    return Element::other;
}

std::string text(const py::handle& value) { return py::str(value).cast<std::string>(); }

std::string type_name(const py::handle& value) { return text(py::type::handle_of(value).attr("__name__")); }

void require_rank_in_reach(std::int64_t rank, const char* name) {
    if (rank <= static_cast<std::int64_t>(max_rank)) return;
    throw py::value_error(std::string(name) + ": expected rank " + std::to_string(max_rank) + " at most, got " +
                          std::to_string(rank));
}

// The element of a NumPy dtype in the machine's byte order. Not by its text, which takes microseconds to make.
Element element_of(const py::dtype& dtype) {
    const char order = dtype.byteorder();
    if (order != '=' && order != '|') return Element::other;
    for (const ElementType& type : element_types) {
        if (dtype.kind() == type.numpy_kind && dtype.itemsize() == static_cast<py::ssize_t>(type.bytes)) {
            return type.element;
        }
    }
    return Element::other;
}

Tensor from_numpy(const py::array& array, const char* name) {
    require_rank_in_reach(array.ndim(), name);
    Tensor view;
    view.data = const_cast<void*>(array.data());
    view.element = element_of(array.dtype());
    if (view.element == Element::other) {
        view.dtype = text(array.dtype());  // ">f4" where the byte order is not the machine's
        view.element = element_named(view.dtype);  // the bfloat16 of ml_dtypes is known by name alone
    }
    view.rank = static_cast<std::size_t>(array.ndim());
    for (std::size_t axis = 0; axis < view.rank; ++axis) {
        view.shape[axis] = array.shape(static_cast<py::ssize_t>(axis));
        view.strides[axis] = array.strides(static_cast<py::ssize_t>(axis));
    }
    view.writable = array.writeable();
    view.owner = array;
    return view;
}

// The producer's tensor; the capsule's own destructor gives the memory back, since it is not marked as used.
struct Capsule {
    const dlpack::Tensor* tensor;
    bool writable;
};

Capsule opened(const py::object& capsule, const char* name) {
    if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned") != 0) {
        const auto* managed =
            static_cast<dlpack::ManagedVersioned*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
        if (managed->major == 1) return {&managed->tensor, (managed->flags & dlpack::read_only) == 0};
        throw py::type_error(std::string(name) + ": expected DLPack 1.x, got " + std::to_string(managed->major) + "." +
                             std::to_string(managed->minor));
    }
    if (PyCapsule_IsValid(capsule.ptr(), "dltensor") != 0) {
        const auto* managed = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
        return {&managed->tensor, true};
    }
    throw py::type_error(std::string(name) + ": __dlpack__ gave no capsule of a tensor");
}

// __dlpack__ of the value. A producer from before version 1 takes no max_version.
py::object exported(const py::object& value, const py::object& stream, const char* name) {
    const py::object export_function = value.attr("__dlpack__");
    try {
        try {
            return export_function(py::arg("stream") = stream, py::arg("max_version") = py::make_tuple(1, 1));
        } catch (py::error_already_set& error) {
            if (!error.matches(PyExc_TypeError)) throw;
            return export_function(py::arg("stream") = stream);
        }
    } catch (py::error_already_set& error) {
        if (!error.matches(PyExc_Exception) || error.matches(PyExc_MemoryError)) throw;
        throw py::type_error(std::string(name) + ": its memory cannot be shared: " + text(error.value()));
    }
}

// DLPack's number for the kind of memory where the value says that it lies.
int device_type_of(const py::object& value, const char* name) {
    try {
        return value.attr("__dlpack_device__")().cast<std::pair<int, int>>().first;
    } catch (py::error_already_set& error) {
        if (!error.matches(PyExc_Exception)) throw;
        throw py::type_error(std::string(name) + ": it does not say where it lies: " + text(error.value()));
    } catch (const py::cast_error&) {
        throw py::type_error(std::string(name) + ": expected two integers from __dlpack_device__");
    }
}

Tensor from_dlpack(const py::object& value, const py::object& stream, const char* name) {
    const py::object capsule = exported(value, stream, name);
    const Capsule open = opened(capsule, name);
    const dlpack::Tensor& source = *open.tensor;
    require_rank_in_reach(source.rank, name);
    Tensor view;
    view.data = static_cast<std::byte*>(source.data) + source.byte_offset;
    view.element = element_of(source.type);
    if (view.element == Element::other) view.dtype = text(py::getattr(value, "dtype", py::none()));
    view.rank = static_cast<std::size_t>(source.rank);
    std::int64_t stride = source.type.bits / 8 * source.type.lanes;
    for (std::size_t axis = view.rank; axis-- > 0;) {
        view.shape[axis] = source.shape[axis];
        view.strides[axis] = source.strides == nullptr ? stride : source.strides[axis] * (source.type.bits / 8);
        if (source.strides == nullptr) stride *= source.shape[axis];  // else it may be beyond 64 bits
    }
    view.writable = open.writable;
    if (source.device.type == dlpack::cuda) {
        view.device = source.device.index;
    } else if (source.device.type != dlpack::cpu && source.device.type != dlpack::cuda_host) {
        throw py::type_error(std::string(name) + ": expected memory of the CPU or of a CUDA device, got DLPack " +
                             "device type " + std::to_string(source.device.type));
    }
    view.owner = capsule;
    return view;
}

Tensor from_buffer(const py::object& value, const char* name) {
    PyObject* buffer = PyMemoryView_FromObject(value.ptr());
    if (buffer == nullptr) {
        PyErr_Clear();
        throw py::type_error(std::string(name) + ": expected an array or a buffer, got " + type_name(value));
    }
    const py::object view = py::reinterpret_steal<py::object>(buffer);
    try {
        return from_numpy(py::module_::import("numpy").attr("asarray")(view).cast<py::array>(), name);
    } catch (py::error_already_set& error) {
        if (!error.matches(PyExc_ValueError)) throw;
        throw py::type_error(std::string(name) + ": NumPy cannot read this buffer: " + text(error.value()));
    }
}

std::string device_name(int device) { return device == host ? "the CPU" : "CUDA device " + std::to_string(device); }

}  // namespace

std::string name_of(Element element) {
    for (const ElementType& type : element_types) {
        if (type.element == element) return type.name;
    }
    return "other";
}

std::size_t Tensor::size() const {
    std::size_t count = 1;
    for (std::size_t axis = 0; axis < rank; ++axis) count *= length(axis);
    return count;
}

std::size_t Tensor::element_bytes() const {
    for (const ElementType& type : element_types) {
        if (type.element == element) return type.bytes;
    }
    return 1;
}

bool Tensor::contiguous() const {
    // Not by size(): of elements that share their memory there may be so many that it wraps around to 0.
    for (std::size_t axis = 0; axis < rank; ++axis) {
        if (shape[axis] == 0) return true;
    }
    if (reinterpret_cast<std::uintptr_t>(data) % element_bytes() != 0) return false;
    auto stride = static_cast<std::int64_t>(element_bytes());
    for (std::size_t axis = rank; axis-- > 0;) {
        if (shape[axis] != 1 && strides[axis] != stride) return false;
        stride *= shape[axis];
    }
    return true;
}

std::string describe(const Tensor& tensor) {
    std::string shape;
    for (std::size_t axis = 0; axis < tensor.rank; ++axis) {
        shape += (axis == 0 ? "" : ", ") + std::to_string(tensor.shape[axis]);
    }
    const std::string dtype = tensor.element == Element::other ? tensor.dtype : name_of(tensor.element);
    return dtype + " of shape (" + shape + (tensor.rank == 1 ? ",)" : ")");
}

Place::Place(py::object place) : place_(std::move(place)) {
    if (place_.is_none()) return;
    device_ = place_.attr("device").cast<int>();
    stream_ = place_.attr("stream").cast<std::int64_t>();
}

Tensor Place::tensor(const py::object& value, const char* name) const {
    if (py::isinstance<py::array>(value) && on_host()) {
        return from_numpy(py::reinterpret_borrow<py::array>(value), name);
    }
    if (!py::hasattr(value, "__dlpack__")) {
        Tensor view = from_buffer(value, name);
        if (on_host()) return view;
        throw py::value_error(std::string(name) + ": expected memory of " + device_name(device_) +
                              ", where the first argument lies, got the CPU's");
    }
    // Handle 0, the default stream, has the number 1 in the protocol. Only a CUDA tensor takes a stream.
    const bool takes_stream = device_type_of(value, name) == dlpack::cuda;
    const py::object stream = takes_stream ? py::object(py::int_(stream_ == 0 ? 1 : stream_)) : py::none();
    Tensor view = from_dlpack(value, stream, name);
    if (view.device == device_) return view;
    throw py::value_error(std::string(name) + ": expected memory of " + device_name(device_) +
                          ", where the first argument lies, got that of " + device_name(view.device));
}

Tensor Place::empty(const std::vector<std::int64_t>& shape, Element element) const {
    if (!place_.is_none()) {
        const py::object array = place_.attr("empty")(py::tuple(py::cast(shape)), name_of(element));
        Tensor view = tensor(array, "result");
        view.owner = array;
        return view;
    }
    const std::vector<py::ssize_t> lengths(shape.begin(), shape.end());
    return from_numpy(py::array(py::dtype(name_of(element)), lengths), "result");
}

DeviceWork Place::work(std::size_t scratch_bytes) const {
    Tensor scratch = empty({static_cast<std::int64_t>(scratch_bytes)}, Element::uint8);
    const DeviceContext context{device_, reinterpret_cast<void*>(stream_), scratch.data};
    return {context, std::move(scratch)};
}

}  // namespace bowerbird::bindings

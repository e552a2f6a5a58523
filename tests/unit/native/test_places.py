"""Results come from the library of the first argument, on the memory where it lies."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from bowerbird import native
from bowerbird.native import places

CODES = np.random.default_rng(3).integers(0, 256, (50, 16), dtype=np.uint8)


class Shelf:
    """An array of a library of its own, around a NumPy array."""

    def __init__(self, array: np.ndarray, device: tuple[int, int] = (1, 0)) -> None:
        self.array, self.device = array, device

    def __dlpack__(self, **wanted: Any) -> Any:
        return self.array.__dlpack__(**wanted)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


class OldShelf(Shelf):
    """A producer from before DLPack 1."""

    def __dlpack__(self, *, stream: Any = None) -> Any:  # type: ignore[override]
        return self.array.__dlpack__(stream=stream)


class ShelfPlace:
    device, stream = places.HOST, 0

    def empty(self, shape: tuple[int, ...], dtype: str) -> Shelf:
        return Shelf(np.empty(shape, dtype))


def test_numpy_gives_numpy() -> None:
    """Arrays and buffers give NumPy arrays."""
    for codes in (CODES, Shelf(CODES), OldShelf(CODES)):
        distances, indices = native.scan(codes, CODES[:2], 3)
        assert type(distances) is type(indices) is np.ndarray
        assert indices[:, 0].tolist() == [0, 1]


def test_a_known_library_makes_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first argument's library makes them; the others may come from anywhere on the same memory."""
    monkeypatch.setitem(places.LIBRARIES, __name__.partition(".")[0], lambda array: ShelfPlace())
    distances, indices = native.scan(Shelf(CODES), CODES[:2], 3)
    assert type(distances) is type(indices) is Shelf
    np.testing.assert_array_equal(indices.array, native.scan(CODES, CODES[:2], 3)[1])


def test_a_device_of_an_unknown_library_is_refused() -> None:
    """Without its library there is no stream and no memory for results."""
    with pytest.raises(TypeError, match=r"expected a CUDA array of torch or cupy, got .*Shelf"):
        native.scan(Shelf(CODES, device=(2, 0)), CODES[:2], 3)


@pytest.mark.parametrize(
    "fault", [None, ("x", 0), (1, 0, 0), KeyError("lost"), RuntimeError("lost"), AttributeError("lost")]
)
def test_an_array_that_does_not_say_where_it_lies_is_named(fault: Any) -> None:
    """Whatever its __dlpack_device__ gives or raises, as the first argument or a later one."""

    class Lost(Shelf):
        def __dlpack_device__(self) -> tuple[int, int]:
            if isinstance(fault, Exception):
                raise fault
            return fault  # type: ignore[no-any-return]  # that is the fault

    message = "lost" if isinstance(fault, Exception) else "expected two integers from __dlpack_device__"
    with pytest.raises(TypeError, match=f"codes: .*{message}"):
        native.scan(Lost(CODES), CODES[:2], 3)
    with pytest.raises(TypeError, match=f"queries: .*{message}"):
        native.scan(CODES, Lost(CODES), 3)


def test_an_array_without_a_device_is_named() -> None:
    """Half of the protocol is none."""

    class Half:
        def __dlpack__(self, **wanted: Any) -> Any:
            return CODES.__dlpack__(**wanted)

    with pytest.raises(TypeError, match=r"queries: it does not say where it lies: .*__dlpack_device__"):
        native.scan(CODES, Half(), 3)


def test_running_out_of_memory_is_no_wrong_type() -> None:
    """A producer that must copy, and cannot, is heard."""

    class Big(Shelf):
        def __dlpack__(self, **wanted: Any) -> Any:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        native.scan(CODES, Big(CODES), 3)


def test_elements_that_share_their_memory_are_refused_in_any_number() -> None:
    """2^64 elements are not 0 of them."""

    class Repeated(Shelf):
        """NumPy's capsule with another shape and other strides: DLTensor.shape and .strides, at bytes 24 and 32."""

        def __dlpack__(self, **wanted: Any) -> Any:
            capsule = self.array.__dlpack__()
            pointer = ctypes.pythonapi.PyCapsule_GetPointer
            pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
            self.shape, self.strides = (ctypes.c_int64 * 2)(2**60, 16), (ctypes.c_int64 * 2)(0, 1)
            tensor = pointer(capsule, b"dltensor")
            ctypes.c_void_p.from_address(tensor + 24).value = ctypes.addressof(self.shape)
            ctypes.c_void_p.from_address(tensor + 32).value = ctypes.addressof(self.strides)
            return capsule

    with pytest.raises(ValueError, match="codes: expected a C-contiguous"):
        native.scan(Repeated(CODES), CODES[:2], 3)


def test_a_device_that_kernels_do_not_know_is_refused() -> None:
    """Neither CPU nor CUDA."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'bowerbird[train]'")
    with pytest.raises(TypeError, match="expected a torch tensor on the CPU or a CUDA device, got one on meta"):
        native.scan(torch.empty(50, 16, dtype=torch.uint8, device="meta"), CODES[:2], 3)


def test_torch_gives_torch() -> None:
    """Tensors on the CPU are read and made without a copy."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'bowerbird[train]'")
    distances, indices = native.scan(torch.from_numpy(CODES), torch.from_numpy(CODES[:2].copy()), 3)
    assert (distances.dtype, indices.dtype) == (torch.int32, torch.int64)
    np.testing.assert_array_equal(indices.numpy(), native.scan(CODES, CODES[:2], 3)[1])


def test_results_whose_length_depends_on_values_are_of_the_library_too() -> None:
    """They are cut to their length in the library's own way."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'bowerbird[train]'")
    boxes, scores = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [5, 5, 6, 6]]), torch.tensor([0.5, 0.75, 0.25])
    assert native.nms(boxes, scores, max_iou=0.5).tolist() == [1, 2]
    indices, decayed = native.soft_nms(boxes, scores, min_score=0.2)
    assert (indices.tolist(), decayed.tolist()) == ([1, 2], [0.75, 0.25])
    found, found_scores, classes, counts = native.detection_postprocess(
        scores.reshape(1, 3, 1), boxes.reshape(1, 3, 4), min_score=0.3, max_iou=0.5, max_detections=2
    )
    assert {type(part) for part in (found, found_scores, classes, counts)} == {torch.Tensor}
    assert (found_scores.tolist(), classes.tolist(), counts.tolist()) == ([[0.75, 0.0]], [[0, -1]], [1])


def test_booleans_of_any_library_are_read() -> None:
    """A mask of bools is taken where it lies, like one of bytes."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'bowerbird[train]'")
    scores, boxes = torch.tensor([[[0.5, 0.75, 0.25]]]), torch.tensor([[[0.0, 0, 2, 2]]])
    bools = np.array([True, False, True])
    for wanted in (bools, torch.from_numpy(bools), Shelf(bools), torch.from_numpy(bools.astype(np.uint8))):
        found = native.detection_postprocess(scores, boxes, min_score=0.3, max_iou=0.5, wanted=wanted)
        assert (found[2][0, :2].tolist(), found[3].tolist()) == ([0, -1], [1])


def test_a_tensor_that_requires_a_gradient_is_refused() -> None:
    """No gradient flows through a kernel: the caller must say that none is wanted."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'bowerbird[train]'")
    with pytest.raises(TypeError, match=r"scores: its memory cannot be shared: .*gradient"):
        native.nms(np.zeros((2, 4), np.float32), torch.zeros(2, requires_grad=True), max_iou=0.5)

"""Writing of ONNX graphs with half-precision weights that run in single precision.

Weights are stored as float16 and cast to float32 in the graph; the runtime folds the casts when it loads the file,
so that the file is half as large and the arithmetic is float32 on every device.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
IR_VERSION = 9


class GraphWriter:
    """An ONNX graph under construction; every method that adds a node returns the name of its output."""

    def __init__(self, name: str, *, half: bool = True) -> None:
        """
        Args:
            half: store weights as float16; False: as float32.
        """
        self._name = name
        self._half = half
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._names: dict[str, int] = {}

    def add(self, op: str, inputs: list[str], *, output: str = "", **attributes: Any) -> str:
        """Name of the output of a new node with one output."""
        return self.add_many(op, inputs, [output or self._fresh(op.lower())], **attributes)[0]

    def add_many(self, op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> list[str]:
        """Names of the outputs of a new node; an empty output name is replaced by a fresh one."""
        outputs = [output or self._fresh(op.lower()) for output in outputs]
        self._nodes.append(helper.make_node(op, inputs, outputs, name=self._fresh(f"{op}_node"), **attributes))
        return outputs

    def constant(self, values: npt.ArrayLike, name: str = "", dtype: npt.DTypeLike | None = None) -> str:
        """Name of a constant stored as it is (indices, sizes, small float32 vectors)."""
        name = name or self._fresh("const")
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(np.asarray(values, dtype)), name)
        return name

    def weight(self, values: npt.NDArray[Any], name: str = "") -> str:
        """Name of a float32 tensor that is stored as float16 unless the graph keeps full precision.

        Raises:
            ValueError: a value overflows float16.
        """
        if not self._half:
            return self.constant(values, name, np.float32)
        if np.abs(values).max(initial=0.0) > np.finfo(np.float16).max:
            raise ValueError(f"weight {name or '(unnamed)'} does not fit float16: largest {np.abs(values).max()}")
        return self.add("Cast", [self.constant(values, name, np.float16)], to=TensorProto.FLOAT)

    def model(self, inputs: dict[str, list[str | int]], outputs: dict[str, list[str | int]]) -> onnx.ModelProto:
        """The checked model; shapes may hold names, which are dynamic dimensions."""
        used = {name for node in self._nodes for name in node.input}
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            [tensor for name, tensor in self._constants.items() if name in used],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="bowerbird"
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _fresh(self, stem: str) -> str:
        self._names[stem] = self._names.get(stem, 0) + 1
        return f"{stem}_{self._names[stem]}"


def read_constant(model: onnx.ModelProto, name: str) -> npt.NDArray[Any]:
    """The stored values of a constant.

    Raises:
        KeyError: the model has no such constant.
    """
    return np.array(numpy_helper.to_array(_find_constant(model, name)))


def replace_constant(model: onnx.ModelProto, name: str, values: npt.NDArray[Any]) -> None:
    """Put other values of the same shape into a constant, in the data type in which it is stored.

    Raises:
        KeyError: the model has no such constant.
        ValueError: the shape differs.
    """
    tensor = _find_constant(model, name)
    old = numpy_helper.to_array(tensor)
    if old.shape != values.shape:
        raise ValueError(f"constant {name} has shape {old.shape}, got {values.shape}")
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values.astype(old.dtype)), name))


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write the model so that a reader never sees half a file; the same model gives the same bytes."""
    part = path.with_suffix(".part")
    part.write_bytes(model.SerializeToString(deterministic=True))
    part.replace(path)


def _find_constant(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return tensor
    raise KeyError(f"no constant named {name}; present: {', '.join(t.name for t in model.graph.initializer)[:200]}")

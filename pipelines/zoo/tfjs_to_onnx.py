"""TensorFlow.js graph models as ONNX graphs, without TensorFlow.

TensorFlow convolves in NHWC and ONNX in NCHW. Instead of a transposition around every convolution, a tensor here
remembers at which ONNX axis each TensorFlow axis lies (`Tensor.order`): transpositions only permute that note, and are
written out where an operation needs another layout. Padding waits in the same way for the convolution that absorbs it.

The first axis of every tensor is the batch, which becomes dynamic. Operations that no converted model uses are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pipelines.zoo.onnx_writer import GraphWriter
from pipelines.zoo.tfjs import Array, GraphModel, Node

NCHW = (0, 2, 3, 1)  # the order of an NHWC tensor that lies in memory as NCHW


@dataclass(frozen=True)
class Tensor:
    """A tensor of the ONNX graph, seen with the axes of the TensorFlow graph.

    Attributes:
        name: in the ONNX graph.
        order: TensorFlow axis i is ONNX axis order[i].
        pads: (before, after) for every ONNX axis, still to be applied; empty for none.
        pad_value: what the padding holds.
    """

    name: str
    order: tuple[int, ...]
    pads: tuple[tuple[int, int], ...] = ()
    pad_value: float = 0.0


class Converter:
    """Writes the nodes of a TensorFlow.js model into an ONNX graph, one after the other."""

    def __init__(self, graph: GraphWriter, model: GraphModel, inputs: Mapping[str, Tensor]) -> None:
        """
        Args:
            inputs: what the placeholders of the model are in the ONNX graph.
        """
        self.graph = graph
        self._tensors: dict[str, Tensor] = dict(inputs)
        self._arrays: dict[str, Array] = dict(model.weights)
        self._biases = _find_biases(model)
        for node in model.nodes:
            if node.op not in {"Const", "Placeholder"}:
                self._convert(node)

    def tensor(self, name: str) -> Tensor:
        """The tensor that a node of the model computes."""
        return self._tensors[name.removesuffix(":0")]

    def array(self, name: str) -> Array:
        """The constant that a node of the model holds."""
        return self._arrays[name.removesuffix(":0")]

    def bias(self, convolution: str) -> Array | None:
        """What is added to each channel of this convolution, if anything."""
        return self._biases.get(convolution)

    def lay_out(self, tensor: Tensor, order: tuple[int, ...]) -> Tensor:
        """The same tensor in another memory layout; its padding has to be applied before."""
        if tensor.order == order:
            return tensor
        permutation = [0] * len(order)
        for old_axis, new_axis in zip(tensor.order, order, strict=True):
            permutation[new_axis] = old_axis
        return replace(
            tensor,
            name=self.graph.add("Transpose", [self.apply_pads(tensor).name], perm=permutation),
            order=order,
            pads=(),
        )

    def apply_pads(self, tensor: Tensor) -> Tensor:
        """The same tensor with its padding written out."""
        if not tensor.pads:
            return tensor
        amounts = [before for before, _ in tensor.pads] + [after for _, after in tensor.pads]
        value = self.graph.constant(tensor.pad_value, dtype=np.float32)
        padded = self.graph.add("Pad", [tensor.name, self.graph.constant(amounts, dtype=np.int64), value])
        return Tensor(padded, tensor.order)

    def _convert(self, node: Node) -> None:
        if node.op in FOLDED and all(name in self._arrays for name in node.inputs):
            self._arrays[node.name] = FOLDED[node.op](*(self.array(name) for name in node.inputs))
        elif node.op in OPERATIONS:
            self._tensors.update(OPERATIONS[node.op](self, node))
        else:
            raise ValueError(f"operation {node.op} (node {node.name}) is not known; known: {', '.join(OPERATIONS)}")


def _find_biases(model: GraphModel) -> dict[str, Array]:
    """Constants that are added to a convolution's channels and to nothing else, by the convolution's name."""
    convolutions = {node.name for node in model.nodes if node.op == "Conv2D"}
    return {
        node.inputs[0]: model.weights[node.inputs[1]]
        for node in model.nodes
        if node.op in {"Add", "AddV2"} and node.inputs[0] in convolutions and node.inputs[1] in model.weights
    }


def _read_padding(node: Node, tensor: Tensor) -> list[int]:
    """ONNX pads (top, left, bottom, right) of a node whose padding is all in its input."""
    if node.attributes["padding"] != "VALID":
        raise ValueError(f"{node.name}: expected padding VALID, got {node.attributes['padding']}")
    if not tensor.pads:
        return [0, 0, 0, 0]
    if tensor.pads[0] != (0, 0) or tensor.pads[1] != (0, 0):
        raise ValueError(f"{node.name}: expected padding of height and width only, got {tensor.pads}")
    (top, bottom), (left, right) = tensor.pads[2:]
    return [top, left, bottom, right]


def _convert_convolution(converter: Converter, node: Node) -> dict[str, Tensor]:
    x = converter.lay_out(converter.tensor(node.inputs[0]), NCHW)
    kernel = converter.array(node.inputs[1]).transpose(3, 2, 0, 1)  # HWIO -> OIHW
    inputs = [x.name, converter.graph.weight(kernel, f"{node.name}/kernel")]
    bias = converter.bias(node.name)
    if bias is not None:
        inputs.append(converter.graph.constant(bias.reshape(-1), f"{node.name}/bias", np.float32))
    if x.pads and x.pad_value != 0.0:
        raise ValueError(f"{node.name}: a convolution pads with 0, got {x.pad_value}")
    y = converter.graph.add(
        "Conv",
        inputs,
        kernel_shape=list(kernel.shape[2:]),
        strides=node.attributes["strides"][1:3],
        dilations=node.attributes["dilations"][1:3],
        pads=_read_padding(node, x),
    )
    return {node.name: Tensor(y, NCHW)}


def _convert_max_pool(converter: Converter, node: Node) -> dict[str, Tensor]:
    x = converter.lay_out(converter.tensor(node.inputs[0]), NCHW)
    if x.pads and x.pad_value != -np.inf:
        x = converter.apply_pads(x)
    y = converter.graph.add(
        "MaxPool",
        [x.name],
        kernel_shape=node.attributes["ksize"][1:3],
        strides=node.attributes["strides"][1:3],
        pads=_read_padding(node, x),
    )
    return {node.name: Tensor(y, NCHW)}


def _convert_add(converter: Converter, node: Node) -> dict[str, Tensor]:
    if converter.bias(node.inputs[0]) is not None:  # written with the convolution
        return {node.name: converter.tensor(node.inputs[0])}
    a = converter.apply_pads(converter.tensor(node.inputs[0]))
    b = converter.lay_out(converter.apply_pads(converter.tensor(node.inputs[1])), a.order)
    return {node.name: Tensor(converter.graph.add("Add", [a.name, b.name]), a.order)}


def _convert_leaky_relu(converter: Converter, node: Node) -> dict[str, Tensor]:
    x = converter.apply_pads(converter.tensor(node.inputs[0]))
    y = converter.graph.add("LeakyRelu", [x.name], alpha=float(node.attributes["alpha"]))
    return {node.name: Tensor(y, x.order)}


def _convert_sigmoid(converter: Converter, node: Node) -> dict[str, Tensor]:
    x = converter.apply_pads(converter.tensor(node.inputs[0]))
    return {node.name: Tensor(converter.graph.add("Sigmoid", [x.name]), x.order)}


def _convert_identity(converter: Converter, node: Node) -> dict[str, Tensor]:
    return {node.name: converter.tensor(node.inputs[0])}


def _convert_transpose(converter: Converter, node: Node) -> dict[str, Tensor]:
    x = converter.tensor(node.inputs[0])
    permutation = converter.array(node.inputs[1])
    return {node.name: replace(x, order=tuple(x.order[axis] for axis in permutation))}


def _convert_pad(converter: Converter, node: Node) -> dict[str, Tensor]:
    x = converter.apply_pads(converter.tensor(node.inputs[0]))
    value = float(converter.array(node.inputs[2])) if node.op == "PadV2" else 0.0
    pads = [(0, 0)] * len(x.order)
    for axis, (before, after) in enumerate(converter.array(node.inputs[1])):
        pads[x.order[axis]] = (int(before), int(after))
    return {node.name: replace(x, pads=tuple(pads), pad_value=value)}


def _convert_concatenation(converter: Converter, node: Node) -> dict[str, Tensor]:
    tensors = [converter.apply_pads(converter.tensor(name)) for name in node.inputs[:-1]]
    axis = int(converter.array(node.inputs[-1]))
    return {node.name: concatenate(converter, tensors, axis)}


def concatenate(converter: Converter, tensors: list[Tensor], axis: int) -> Tensor:
    """The tensors one after the other along a TensorFlow axis."""
    order = tensors[0].order
    names = [converter.lay_out(tensor, order).name for tensor in tensors]
    return Tensor(converter.graph.add("Concat", names, axis=order[axis]), order)


def _convert_split(converter: Converter, node: Node) -> dict[str, Tensor]:
    x = converter.apply_pads(converter.tensor(node.inputs[0]))
    sizes, axis = converter.array(node.inputs[1]), int(converter.array(node.inputs[2]))
    inputs = [x.name, converter.graph.constant(sizes, dtype=np.int64)]
    parts = converter.graph.add_many("Split", inputs, [""] * len(sizes), axis=x.order[axis])
    names = [node.name, *(f"{node.name}:{i}" for i in range(1, len(parts)))]
    return {name: Tensor(part, x.order) for name, part in zip(names, parts, strict=True)}


def _convert_reshape(converter: Converter, node: Node) -> dict[str, Tensor]:
    x = converter.apply_pads(converter.tensor(node.inputs[0]))
    x = converter.lay_out(x, tuple(range(len(x.order))))
    shape = [0, *(int(size) for size in converter.array(node.inputs[1])[1:])]  # 0 keeps the batch
    y = converter.graph.add("Reshape", [x.name, converter.graph.constant(shape, dtype=np.int64)])
    return {node.name: Tensor(y, tuple(range(len(shape))))}


def _convert_resize(converter: Converter, node: Node) -> dict[str, Tensor]:
    if not node.attributes.get("half_pixel_centers") or node.attributes.get("align_corners"):
        raise ValueError(f"{node.name}: expected half-pixel centres without aligned corners")
    x = converter.lay_out(converter.apply_pads(converter.tensor(node.inputs[0])), NCHW)
    sizes = converter.graph.constant(converter.array(node.inputs[1]), dtype=np.int64)
    y = converter.graph.add("Resize", [x.name, "", "", sizes], mode="linear", axes=[2, 3])
    return {node.name: Tensor(y, NCHW)}


def _fold_sparse_to_dense(indices: Array, shape: Array, values: Array, default: Array) -> Array:
    dense = np.full(shape.reshape(-1), default)
    dense[tuple(indices.reshape(-1, dense.ndim).T)] = values
    return dense


# What is computed at conversion when all inputs are constants.
FOLDED: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "AddV2": np.add,
    "Identity": np.asarray,
    "SparseToDense": _fold_sparse_to_dense,
}

OPERATIONS: dict[str, Callable[[Converter, Node], dict[str, Tensor]]] = {
    "Add": _convert_add,
    "AddV2": _convert_add,
    "ConcatV2": _convert_concatenation,
    "Conv2D": _convert_convolution,
    "Identity": _convert_identity,
    "LeakyRelu": _convert_leaky_relu,
    "MaxPool": _convert_max_pool,
    "Pad": _convert_pad,
    "PadV2": _convert_pad,
    "Reshape": _convert_reshape,
    "ResizeBilinear": _convert_resize,
    "Sigmoid": _convert_sigmoid,
    "SplitV": _convert_split,
    "Transpose": _convert_transpose,
}

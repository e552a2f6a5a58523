"""TensorFlow.js graphs become ONNX graphs that compute the same, without transpositions around convolutions."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from pipelines.zoo.onnx_writer import GraphWriter, read_constant, replace_constant
from pipelines.zoo.tfjs import GraphModel, parse
from pipelines.zoo.tfjs_to_onnx import Converter, Tensor

TOLERANCE = 1e-5
RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.standard_normal((3, 3, 2, 4)).astype(np.float32)  # HWIO
BIAS = RANDOM.standard_normal(4).astype(np.float32)
INPUT = RANDOM.standard_normal((2, 2, 6, 5)).astype(np.float32)  # NCHW, two pictures

# name -> (operation, inputs, attributes); constants follow
NODES: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "x": ("Placeholder", [], {}),
    "padded": ("Pad", ["x", "pads"], {}),
    "nhwc": ("Transpose", ["padded", "to_nhwc"], {}),
    "conv": (
        "Conv2D",
        ["nhwc", "kernel"],
        {
            "padding": {"s": base64.b64encode(b"VALID").decode()},
            "strides": {"list": {"i": ["1", "1", "1", "1"]}},
            "dilations": {"list": {"i": ["1", "1", "1", "1"]}},
        },
    ),
    "biased": ("Add", ["conv", "bias"], {}),
    "nchw": ("Transpose", ["biased", "to_nchw"], {}),
    "active": ("LeakyRelu", ["nchw"], {"alpha": {"f": 0.1}}),
    "joined": ("ConcatV2", ["active", "active", "axis"], {}),
    "parts": ("SplitV", ["joined", "sizes", "axis"], {}),
    "smooth": ("Sigmoid", ["parts:1"], {}),
    "flat": ("Reshape", ["smooth", "shape"], {}),
    "out": ("Transpose", ["flat", "swap"], {}),
}
CONSTANTS: dict[str, np.ndarray[Any, Any]] = {
    "pads": np.array([[0, 0], [0, 0], [1, 1], [1, 1]], np.int32),
    "to_nhwc": np.array([0, 2, 3, 1], np.int32),
    "to_nchw": np.array([0, 3, 1, 2], np.int32),
    "kernel": KERNEL,
    "bias": BIAS,
    "axis": np.array(1, np.int32),
    "sizes": np.array([5, 3], np.int32),
    "shape": np.array([1, 3, -1], np.int32),
    "swap": np.array([0, 2, 1], np.int32),
}


def make_model(nodes: dict[str, tuple[str, list[str], dict[str, Any]]], output: str) -> GraphModel:
    topology = [
        {"name": name, "op": op, "input": inputs, "attr": attributes}
        for name, (op, inputs, attributes) in nodes.items()
    ]
    topology += [{"name": name, "op": "Const"} for name in CONSTANTS]
    weights = [{"name": name, "dtype": str(a.dtype), "shape": list(a.shape)} for name, a in CONSTANTS.items()]
    document = {"modelTopology": {"node": topology}, "weightsManifest": [{"paths": ["x"], "weights": weights}]}
    return parse(json.dumps(document).encode(), b"".join(a.tobytes() for a in CONSTANTS.values()), [output])


def convert(nodes: dict[str, tuple[str, list[str], dict[str, Any]]] = NODES, output: str = "out") -> onnx.ModelProto:
    graph = GraphWriter("test", half=False)
    converter = Converter(graph, make_model(nodes, output), {"x": Tensor("x", (0, 1, 2, 3))})
    result = converter.lay_out(converter.tensor(output), (0, 1, 2))
    graph.add("Identity", [result.name], output="y")
    return graph.model({"x": ["batch", 2, 6, 5]}, {"y": ["batch", "points", 3]})


def compute_expected(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The graph above, step by step in NumPy."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # N C H W 3 3
    conv = np.einsum("nchwij,ijco->nohw", windows, KERNEL) + BIAS[:, None, None]
    active = np.where(conv > 0, conv, 0.1 * conv)
    smooth = 1 / (1 + np.exp(-np.concatenate([active, active], axis=1)[:, 5:]))
    return np.asarray(smooth.reshape(len(x), 3, -1).transpose(0, 2, 1))


def test_a_converted_graph_computes_the_same() -> None:
    """Padding, convolution, bias, activation, join, split, reshape and layout survive; the batch is dynamic."""
    session = onnxruntime.InferenceSession(convert().SerializeToString(), providers=["CPUExecutionProvider"])

    for batch in (INPUT, INPUT[:1]):
        np.testing.assert_allclose(session.run(["y"], {"x": batch})[0], compute_expected(batch), atol=TOLERANCE)


def test_transpositions_around_a_convolution_vanish() -> None:
    """Only the transposition that changes the result is left, and padding and bias belong to the convolution."""
    operations = [node.op_type for node in convert().graph.node]

    assert operations.count("Transpose") == 1
    assert not {"Pad", "Add"} & set(operations)


def test_an_unknown_operation_is_refused_by_name() -> None:
    """What cannot be converted is named, never left out."""
    nodes = {"x": NODES["x"], "out": ("Einsum", ["x"], {})}

    with pytest.raises(ValueError, match=r"Einsum \(node out\)"):
        convert(nodes)


def test_weights_must_fill_the_file() -> None:
    """A weight file of another length is refused."""
    document = {
        "modelTopology": {"node": []},
        "weightsManifest": [{"weights": [{"name": "a", "dtype": "float32", "shape": [2]}]}],
    }

    with pytest.raises(ValueError, match="take 8 bytes, the file has 12"):
        parse(json.dumps(document).encode(), bytes(12), [])


def test_narrow_weights_are_widened() -> None:
    """8-bit weights are scaled, half-precision ones become float32."""
    quantization = {"dtype": "uint8", "scale": 0.5, "min": -1.0}
    weights = [
        {"name": "a", "dtype": "float32", "shape": [2], "quantization": quantization},
        {"name": "b", "dtype": "float32", "shape": [], "quantization": {"dtype": "float16"}},
    ]
    document = {"modelTopology": {"node": []}, "weightsManifest": [{"weights": weights}]}

    model = parse(json.dumps(document).encode(), bytes([0, 4]) + np.float16(1.5).tobytes(), [])

    assert model.weights["a"].tolist() == [-1.0, 1.0]
    assert model.weights["b"] == np.float32(1.5)


def test_half_weights_run_in_single_precision() -> None:
    """Weights take two bytes in the file, and the result is that of float32 arithmetic on the rounded weights."""
    graph = GraphWriter("half")
    weight = np.array([[1 / 3]], np.float32)
    graph.add("MatMul", ["x", graph.weight(weight, "w")], output="y")
    model = graph.model({"x": ["n", 1]}, {"y": ["n", 1]})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    assert read_constant(model, "w").dtype == np.float16
    assert session.run(["y"], {"x": np.array([[3]], np.float32)})[0] == np.float32(np.float16(1 / 3)) * 3


def test_a_constant_is_replaced_in_its_type_and_shape() -> None:
    """Another shape is refused; the stored type stays."""
    graph = GraphWriter("constant")
    graph.add("MatMul", ["x", graph.weight(np.zeros((2, 2), np.float32), "w")], output="y")
    model = graph.model({"x": ["n", 2]}, {"y": ["n", 2]})

    replace_constant(model, "w", np.eye(2, dtype=np.float32))

    assert read_constant(model, "w").tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="shape"):
        replace_constant(model, "w", np.zeros(3, np.float32))
    with pytest.raises(KeyError, match="no constant named v"):
        read_constant(model, "v")


def test_a_weight_too_large_for_half_is_refused() -> None:
    """Rounding to infinity is not silent."""
    with pytest.raises(ValueError, match="does not fit float16"):
        GraphWriter("large").weight(np.array([1e6], np.float32), "w")

"""Reading of TensorFlow.js graph models: a JSON file with the graph and a list of weights, and a file with their bytes.

Format: `modelTopology.node` is a TensorFlow GraphDef as JSON (bytes in base64, integers as strings);
`weightsManifest` lists the tensors in the order of the bytes, optionally stored in a narrower type.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_TYPES = {"float32": np.float32, "int32": np.int32, "bool": np.bool_, "float16": np.float16, "uint8": np.uint8}


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        inputs: names of data inputs as `node` or `node:output`; control inputs are left out.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class GraphModel:
    """A graph in execution order, with its constants by node name."""

    nodes: tuple[Node, ...]
    weights: Mapping[str, Array]


def parse(topology: bytes, data: bytes, outputs: list[str]) -> GraphModel:
    """The part of a graph model that these output nodes need.

    Args:
        topology: the JSON file.
        data: the weight files, concatenated.
    Raises:
        ValueError: the weights do not fill the data exactly, or an output does not exist.
    """
    document = json.loads(topology)
    nodes = {node.name: node for node in map(_parse_node, document["modelTopology"]["node"])}
    missing = sorted(set(outputs) - set(nodes))
    if missing:
        raise ValueError(f"the graph has no node {', '.join(missing)}")
    specifications = [weight for group in document["weightsManifest"] for weight in group["weights"]]
    return GraphModel(tuple(_sort(nodes, outputs)), _parse_weights(specifications, data))


def _parse_node(raw: Mapping[str, Any]) -> Node:
    inputs = tuple(name for name in raw.get("input", []) if not name.startswith("^"))
    attributes = {key: _parse_attribute(value) for key, value in raw.get("attr", {}).items()}
    return Node(raw["name"], raw["op"], inputs, attributes)


def _parse_attribute(value: Mapping[str, Any]) -> Any:
    kind, content = next(iter(value.items()))
    if kind == "s":
        return base64.b64decode(content).decode()
    if kind == "i":
        return int(content)
    if kind == "list":
        return [int(entry) for entry in content.get("i", [])]
    return content


def _parse_weights(specifications: list[Mapping[str, Any]], data: bytes) -> dict[str, Array]:
    weights: dict[str, Array] = {}
    offset = 0
    for specification in specifications:
        stored = _TYPES[specification.get("quantization", specification)["dtype"]]
        count = int(np.prod(specification["shape"], dtype=np.int64))
        values: Array = np.frombuffer(data, stored, count, offset)
        offset += values.nbytes
        weights[specification["name"]] = _widen(values, specification).reshape(specification["shape"])
    if offset != len(data):
        raise ValueError(f"the weights take {offset} bytes, the file has {len(data)}")
    return weights


def _widen(values: Array, specification: Mapping[str, Any]) -> Array:
    """The values in the type of the graph; 8-bit ones are scaled."""
    quantization = specification.get("quantization")
    if quantization and quantization["dtype"] == "uint8":
        values = values.astype(np.float32) * quantization["scale"] + quantization["min"]
    return values.astype(_TYPES[specification["dtype"]])


def _sort(nodes: Mapping[str, Node], outputs: list[str]) -> list[Node]:
    """The nodes that the outputs need, each after its inputs."""
    done: dict[str, Node] = {}
    stack = [(name, False) for name in reversed(outputs)]
    while stack:
        name, inputs_are_done = stack.pop()
        if name in done:
            continue
        if inputs_are_done:
            done[name] = nodes[name]
            continue
        stack.append((name, True))
        stack += [(source.split(":")[0], False) for source in nodes[name].inputs]
    return list(done.values())

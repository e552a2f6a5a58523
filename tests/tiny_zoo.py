"""A zoo with one embedder so small that tests can compute by hand what it answers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.zoo.onnx_writer import GraphWriter, save

SIDE, DIMENSION = 4, 64
LABELS = {
    "category": ["food", "animal", "tool"],
    "annotations": [f"tag {number}" for number in range(40)],
    "drawn skin tone": ["light", "medium", "dark"],
}
TEMPERATURE = {"category": 0.5, "annotations": 2.0, "drawn skin tone": 1.0}
BIAS = {"annotations": -0.5}
MIN_SCORE = {"annotations": 0.3}

CARD = """
kind = "embedder"
sha256 = "{sha256}"
licence = "Apache-2.0"
attribution = "made by a test"
network = "mean colour, projected"
[source]
package = "none"
version = "1"
[input]
width = {side}
height = {side}
channel_order = "rgb"
mean = [127.0, 127.0, 127.0]
std = [64.0, 64.0, 64.0]
[embedder]
dimension = {dimension}
code_bits = {dimension}
"""
HEADS = """
[[training_data]]
source = "random numbers"
licence = "CC0-1.0"
[labels]
sha256 = "{labels_sha256}"
[heads.category]
kind = "classes"
output = "head_category"
temperature = 0.5
[heads.annotations]
kind = "multilabel"
output = "head_annotations"
temperature = 2.0
bias = -0.5
min_score = 0.3
[heads."drawn skin tone"]
kind = "classes"
output = "head_tone"
"""
OUTPUTS = {"category": "head_category", "annotations": "head_annotations", "drawn skin tone": "head_tone"}


@dataclass(frozen=True)
class TinyModel:
    """What `write_tiny_embedder` wrote, and its weights.

    Attributes:
        projection: (3, 64) float32, of the mean of each channel.
        heads: (64, labels) float32 by head.
    """

    folder: Path
    projection: npt.NDArray[np.float32]
    heads: dict[str, npt.NDArray[np.float32]]

    def compute(self, batch: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """Embedding, code projection and the raw output of each head, in NumPy."""
        features = batch.mean(axis=(2, 3)) @ self.projection
        embedding = features / np.linalg.norm(features, axis=1, keepdims=True)
        return {
            "embedding": embedding,
            "code_projection": features,
            **{name: embedding @ weight for name, weight in self.heads.items()},
        }


def write_tiny_embedder(folder: Path, name: str = "tiny", *, with_heads: bool = True, seed: int = 0) -> TinyModel:
    """A zoo in `folder` with the model, its card and its labels."""
    generator = np.random.default_rng(seed)
    projection = generator.standard_normal((3, DIMENSION)).astype(np.float32)
    heads = {
        head: generator.standard_normal((DIMENSION, len(labels))).astype(np.float32) * 4
        for head, labels in (LABELS if with_heads else {}).items()
    }
    graph = GraphWriter(name, half=False)
    mean = graph.add("ReduceMean", ["pictures", graph.constant([2, 3], dtype=np.int64)], keepdims=0)
    features = graph.add("MatMul", [mean, graph.weight(projection)], output="code_projection")
    length = graph.add("ReduceL2", [features, graph.constant([1], dtype=np.int64)], keepdims=1)
    embedding = graph.add("Div", [features, length], output="embedding")
    outputs: dict[str, list[str | int]] = {"embedding": ["n", DIMENSION], "code_projection": ["n", DIMENSION]}
    for head, weight in heads.items():
        outputs[OUTPUTS[head]] = ["n", weight.shape[1]]
        graph.add("MatMul", [embedding, graph.weight(weight)], output=OUTPUTS[head])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    save(graph.model({"pictures": ["n", 3, "h", "w"]}, outputs), path)
    card = CARD.format(sha256=hashlib.sha256(path.read_bytes()).hexdigest(), side=SIDE, dimension=DIMENSION)
    if with_heads:
        content = json.dumps(LABELS).encode()
        (folder / f"{name}.labels.json").write_bytes(content)
        card += HEADS.format(labels_sha256=hashlib.sha256(content).hexdigest())
    (folder / f"{name}.toml").write_text(card)
    return TinyModel(folder, projection, heads)

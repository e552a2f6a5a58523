"""The trained network as one ONNX graph: pictures in; embedding, code projection and the logits of each head out.

Weights are stored as float16 and cast to float32 in the graph; the runtime folds the casts when it loads the file, so
that the file is half as large and the arithmetic is float32 on every device.

Legend: B pictures, H W their size, D dimensions and code bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from bowerbird.errors import ModelFileCorrupt

from .model import MultiTaskEmbedder

INPUT = "pictures"
OPSET = 18
PARITY_BATCHES = (1, 3, 8)
# Sums of float32 in another order; and weights rounded to 11 bits, seen through all layers.
MAX_DIFFERENCE_FLOAT32, MAX_DIFFERENCE = 1e-4, 1e-2
MIN_CODE_AGREEMENT = 0.98

FloatArray = npt.NDArray[np.float32]


class ServedNetwork(nn.Module):
    """The network as it is served."""

    def __init__(self, model: MultiTaskEmbedder) -> None:
        """
        Args:
            model: with served heads only.
        """
        super().__init__()
        self.model = model
        self.tasks = [task.name for task in model.config.tasks]
        self.eval()

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return ["embedding", "code_projection", *(f"head_{task}" for task in self.tasks)]

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """(B, D) of unit length, (B, D) whose signs are the code, and (B, labels) of each head; (B, 3, H, W) in."""
        embeddings = self.model.embed(pictures)
        unit = nn.functional.normalize(embeddings, dim=1)
        return unit, embeddings, *(self.model.logits(task, embeddings) for task in self.tasks)


@dataclass(frozen=True)
class Parity:
    """How far the stored file is from the network in torch.

    Attributes:
        max_difference_float32: of a component of the embedding, before weights are rounded.
        max_difference: the same of the stored file.
        max_logit_difference: of the stored file; 0 without heads.
        code_agreement: share of code bits that are the same.
    """

    max_difference_float32: float
    max_difference: float
    max_logit_difference: float
    code_agreement: float


def export_graph(network: ServedNetwork, name: str) -> onnx.ModelProto:
    """The network with float32 weights and a dynamic batch; nothing in it tells of this machine."""
    height, width = network.model.config.backbone.image_size
    example = torch.zeros(2, 3, height, width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the exporter about torch's own code
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=network.output_names,
            dynamic_shapes={"pictures": {0: torch.export.Dim("batch", min=1, max=4096)}},
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _clean(model, name)
    onnx.checker.check_model(model, full_check=True)
    return model


def store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its matrices as float16; vectors, which are few numbers, stay float32.

    Raises:
        ModelFileCorrupt: a weight does not fit float16.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    casts = []
    for tensor in half.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        values = numpy_helper.to_array(tensor)
        if not np.abs(values).max(initial=0.0) <= np.finfo(np.float16).max:
            raise ModelFileCorrupt(f"weight {tensor.name} does not fit float16: largest {np.abs(values).max():g}")
        name = f"{tensor.name}.half"
        casts.append(helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name))
    nodes = [*casts, *half.graph.node]
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    onnx.checker.check_model(half, full_check=True)
    return half


def measure_parity(
    network: ServedNetwork, exact: onnx.ModelProto, stored: onnx.ModelProto, *, is_bounded: bool = True
) -> Parity:
    """The largest differences over batches of 1, 3 and 8 pictures.

    Args:
        is_bounded: whether `stored` has to be near; 8-bit weights are judged by what they retrieve.
    Raises:
        ModelFileCorrupt: a difference is larger than its bound, or a shape differs; nothing should be written then.
    """
    found = [_compare(network, exact, stored, batch) for batch in PARITY_BATCHES]
    parity = Parity(
        max(each.max_difference_float32 for each in found),
        max(each.max_difference for each in found),
        max(each.max_logit_difference for each in found),
        min(each.code_agreement for each in found),
    )
    if not is_bounded:
        return parity
    for value, bound, what in (
        (parity.max_difference_float32, MAX_DIFFERENCE_FLOAT32, "the conversion changes the embedding"),
        (parity.max_difference, MAX_DIFFERENCE, "rounding the weights to float16 changes the embedding"),
        (1 - parity.code_agreement, 1 - MIN_CODE_AGREEMENT, "rounding the weights to float16 changes code bits"),
    ):
        if not value <= bound:
            raise ModelFileCorrupt(f"{what}: by {value:.3g}, at most {bound:.3g} is allowed; nothing was written")
    return parity


def make_pictures(count: int, size: tuple[int, int], seed: int) -> FloatArray:
    """(count, 3, H, W) float32 between -1 and 1: coarse shapes with some noise, as pictures have them."""
    generator = np.random.default_rng(seed)
    height, width = size
    coarse = generator.uniform(-1, 1, (count, 3, 4, 4))
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    pictures = coarse[:, :, rows][:, :, :, columns] + generator.normal(0, 0.1, (count, 3, height, width))
    return np.clip(pictures, -1, 1).astype(np.float32)


def run_graph(model: onnx.ModelProto, pictures: FloatArray, names: Sequence[str]) -> list[FloatArray]:
    """Outputs of ONNX Runtime on the processor."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: list[FloatArray] = session.run(list(names), {INPUT: pictures})
    return outputs


def _compare(network: ServedNetwork, exact: onnx.ModelProto, stored: onnx.ModelProto, batch: int) -> Parity:
    pictures = make_pictures(batch, network.model.config.backbone.image_size, seed=batch)
    with torch.inference_mode():
        expected = [output.numpy() for output in network(torch.from_numpy(pictures))]
    plain = run_graph(exact, pictures, network.output_names)
    found = run_graph(stored, pictures, network.output_names)
    shapes = [[output.shape for output in outputs] for outputs in (expected, plain, found)]
    if shapes[0] != shapes[1] or shapes[0] != shapes[2]:
        raise ModelFileCorrupt(
            f"outputs have the shapes {shapes[2]}, the network gives {shapes[0]}; nothing was written"
        )
    return Parity(
        _largest(plain[0], expected[0]),
        _largest(found[0], expected[0]),
        max((_largest(ours, theirs) for ours, theirs in zip(found[2:], expected[2:], strict=True)), default=0.0),
        float(((found[1] > 0) == (expected[1] > 0)).mean()),
    )


def _largest(found: FloatArray, expected: FloatArray) -> float:
    return float(np.abs(found.astype(np.float64) - expected).max())


def _clean(model: onnx.ModelProto, name: str) -> None:
    """Take out what the exporter noted for its own use, so that the same weights give the same file anywhere."""
    model.producer_name, model.producer_version = "bowerbird", ""
    model.graph.name, model.graph.doc_string = name, ""
    del model.graph.value_info[:], model.metadata_props[:], model.graph.metadata_props[:]
    parts: list[Any] = [*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output]
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]

"""TensorRT engines built from the zoo's ONNX files.

    python -m bowerbird.models.tensorrt_build vit-mini --precision fp16 --max-batch 64

With `tensorrt-rtx` this needs no GPU. TensorRT computes in the types of the graph, so a graph for float16 or bfloat16
is made first: pictures come in and results go out as float32, and everything between has the smaller type.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from bowerbird.errors import BowerbirdError, ConfigInvalid, ModelFileCorrupt
from bowerbird.models import zoo
from bowerbird.models.cuda_driver import Device
from bowerbird.models.settings import PRECISIONS
from bowerbird.models.tensorrt import PORTABLE, Bindings, EngineKey, find_engines, load_bindings

LOWERED = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
MAX_BATCH, BEST_BATCH = 64, 8
LARGEST_FLOAT16 = 65504.0


def build(
    model: zoo.ZooModel,
    *,
    precision: str = "fp16",
    max_batch: int = MAX_BATCH,
    best_batch: int = BEST_BATCH,
    target: str = "",
    directory: Path | None = None,
) -> Path:
    """The file of the engine, built now unless it is there.

    Args:
        max_batch: pictures of one run, at most.
        best_batch: that the engine is tuned for.
        target: `sm89` and the like; empty: what the runtime can build here: portable, or this machine's device.
        directory: of engines; None: `find_engines`.
    Raises:
        ConfigInvalid: no TensorRT, a number out of range, or a target that cannot be built for here.
        ModelFileCorrupt: TensorRT does not take the model; its own words are in the message.
    """
    if not 1 <= best_batch <= max_batch:
        raise ConfigInvalid(f"expected 1 <= best batch <= largest batch, got {best_batch} and {max_batch}")
    bindings = load_bindings()
    target = target or (PORTABLE if bindings.is_portable else _name_device())
    key = EngineKey(
        model.name,
        model.sha256,
        f"{bindings.name}-{bindings.version}",
        target,
        precision,
        (1, best_batch, max_batch),
        (model.input.height, model.input.width),
    )
    path = find_engines(directory) / key.file_name
    if not path.is_file():
        graph = lower_precision(_expand_resizes(onnx.load(model.path)), precision).SerializeToString()
        plan = build_plan(bindings, graph, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(plan)
        part.replace(path)
    return path


def _expand_resizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with scales of all axes where a Resize names two axes and their sizes, which TensorRT cannot read."""
    graph = model.graph
    shapes = {
        value.name: value.type.tensor_type.shape.dim for value in shape_inference.infer_shapes(model).graph.value_info
    }
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        axes = [list(attribute.ints) for attribute in node.attribute if attribute.name == "axes"]
        if node.op_type != "Resize" or axes != [[2, 3]] or len(node.input) != 4 or node.input[3] not in constants:
            continue
        sizes = numpy_helper.to_array(constants[node.input[3]])
        height, width = (dimension.dim_value for dimension in shapes[node.input[0]][2:])
        scales = np.array([1, 1, sizes[0] / height, sizes[1] / width], np.float32)
        name = f"{node.output[0]}_scales"
        graph.initializer.append(numpy_helper.from_array(scales, name))
        kept = [attribute for attribute in node.attribute if attribute.name != "axes"]
        source = node.input[0]
        del node.input[:], node.attribute[:]
        node.input.extend([source, "", name])
        node.attribute.extend(kept)
    return model


def lower_precision(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """The model with its arithmetic in float16 or bfloat16, float32 at its ends; itself for fp32 and tf32.

    Raises:
        ConfigInvalid: a weight does not fit float16.
    """
    if precision not in LOWERED:
        return model
    to = LOWERED[precision]
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    graph = lowered.graph
    del graph.value_info[:]
    kept = {name for node in graph.node if node.op_type == "Resize" for name in node.input[1:]}  # always float32
    for tensor in graph.initializer:
        if tensor.name not in kept:
            _lower_tensor(tensor, to)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and not set(node.output) & kept:
                _lower_tensor(attribute.t, to)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = to
    _cast_ends(graph, to)
    return lowered


def _lower_tensor(tensor: onnx.TensorProto, to: int) -> None:
    """Convert a float32 tensor in place; others stay."""
    if tensor.data_type != TensorProto.FLOAT:
        return
    values = numpy_helper.to_array(tensor)
    if to == TensorProto.BFLOAT16:
        raw = _round_to_bfloat16(values).tobytes()
    else:
        finite = np.abs(values[np.isfinite(values)])
        if finite.max(initial=0.0) > LARGEST_FLOAT16:
            raise ConfigInvalid(f"{tensor.name or 'a constant'} does not fit float16: {finite.max():g}; use bf16")
        raw = values.astype(np.float16).tobytes()
    tensor.CopyFrom(helper.make_tensor(tensor.name, to, values.shape, raw, raw=True))


def _round_to_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The upper halves of the float32 bits, rounded to even; NaN is not expected."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return np.asarray((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, np.uint16)


def _cast_ends(graph: onnx.GraphProto, to: int) -> None:
    """Casts behind each float32 input and before each float32 output."""
    names = {}
    first = []
    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            names[value.name] = f"{value.name}_lowered"
            first.append(helper.make_node("Cast", [value.name], [names[value.name]], to=to))
    last = []
    for value in graph.output:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            names[value.name] = f"{value.name}_lowered"
            last.append(helper.make_node("Cast", [names[value.name]], [value.name], to=TensorProto.FLOAT))
    for node in graph.node:
        for field in (node.input, node.output):
            for position, name in enumerate(field):
                field[position] = names.get(name, name)
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)


def build_plan(bindings: Bindings, graph: bytes, key: EngineKey) -> bytes:
    """The engine of a serialised ONNX graph whose one input is pictures, in the batches of the key.

    Raises:
        ModelFileCorrupt: TensorRT does not take it; its own words are in the message.
        ConfigInvalid: a target that this TensorRT does not know.
    """
    trt = bindings.module
    logger = _make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        faults = "; ".join(str(parser.get_error(number)) for number in range(parser.num_errors))
        raise ModelFileCorrupt(f"TensorRT cannot read {key.model}: {faults}")
    config = builder.create_builder_config()
    if key.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)
    if bindings.is_portable and key.target != PORTABLE:
        config.num_compute_capabilities = 1
        config.set_compute_capability(_find_capability(trt, key.target), 0)
    profile = builder.create_optimization_profile()
    profile.set_shape(network.get_input(0).name, *((batch, 3, *key.size) for batch in key.batches))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ModelFileCorrupt(f"TensorRT cannot build {key.model} for {key.target}: {'; '.join(logger.faults)}")
    return bytes(plan)


def _make_logger(trt: Any) -> Any:
    """A logger that remembers faults; its class can be made only when TensorRT is there."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.faults: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.faults.append(message)

    return Logger()


def _find_capability(trt: Any, target: str) -> Any:
    known = trt.ComputeCapability.__members__
    if target.upper() not in known:
        choices = ", ".join(name.lower() for name in known if name.startswith("SM"))
        raise ConfigInvalid(f"tensorrt-rtx cannot build for {target!r}; known: {choices}, {PORTABLE}")
    return known[target.upper()]


def _name_device() -> str:
    major, minor = Device().compute_capability
    return f"sm{major}{minor}"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command line."""
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m bowerbird.models.tensorrt_build",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="NAME", help="a model of the zoo")
    parser.add_argument("--zoo", type=Path, metavar="DIR", help="directory of model files")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp16", help="of the arithmetic (fp16)")
    parser.add_argument("--max-batch", type=int, default=MAX_BATCH, metavar="N", help=f"pictures a run ({MAX_BATCH})")
    parser.add_argument("--best-batch", type=int, default=BEST_BATCH, metavar="N", help=f"tuned for ({BEST_BATCH})")
    parser.add_argument("--target", default="", metavar="SM", help="sm89 and the like (what can be built for here)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="directory of engines ($BOWERBIRD_ENGINES)")
    options = parser.parse_args(argv)
    started_at = time.perf_counter()
    try:
        path = build(
            zoo.load(options.model, zoo_dir=options.zoo),
            precision=options.precision,
            max_batch=options.max_batch,
            best_batch=options.best_batch,
            target=options.target,
            directory=options.out,
        )
    except BowerbirdError as error:
        sys.stderr.write(f"cannot build: {error.message}\n")
        return 1
    sys.stdout.write(f"{path} ({path.stat().st_size / 2**20:.1f} MiB, {time.perf_counter() - started_at:.1f} s)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

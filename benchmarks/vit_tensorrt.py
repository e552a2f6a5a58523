"""A Vision Transformer of torch as a TensorRT engine on the tensors of torch; for bench_vit_gpu."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

from bowerbird.errors import ModelFileCorrupt

INPUT, OUTPUT = "pictures", "embedding"


def open_engine(network: Any, pictures: Any, precision: str) -> Callable[[], Any]:
    """A function that computes the network on these pictures and gives (N, D) float32 on the device.

    Args:
        network: float32 weights.
        pictures: (N, 3, H, W), whatever type; the engine takes float32 and casts.
        precision: of the engine.
    Raises:
        ImportError: a package that exports is missing.
        BowerbirdError: no TensorRT, or none for this device.
    """
    import torch

    from bowerbird.models.tensorrt import PORTABLE, EngineKey, load_bindings
    from bowerbird.models.tensorrt_build import build_plan, lower_precision

    bindings = load_bindings()
    graph = lower_precision(export(network, tuple(pictures.shape[2:])), precision).SerializeToString()
    major, minor = torch.cuda.get_device_capability()
    batch, size = len(pictures), tuple(pictures.shape[2:])
    target = PORTABLE if bindings.is_portable else f"sm{major}{minor}"
    key = EngineKey("vit", "0" * 64, bindings.name, target, precision, (batch, batch, batch), size)
    trt = bindings.module
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine(build_plan(bindings, graph, key))
    if engine is None:
        raise ModelFileCorrupt(f"{bindings.name} {bindings.version} does not run on compute capability {major}.{minor}")
    context = engine.create_execution_context()
    given = pictures.float().contiguous()
    result = torch.empty(tuple(engine.get_tensor_shape(OUTPUT))[1:], device="cuda").expand(batch, -1).contiguous()
    context.set_input_shape(INPUT, tuple(given.shape))
    context.set_tensor_address(INPUT, given.data_ptr())
    context.set_tensor_address(OUTPUT, result.data_ptr())

    def run() -> Any:
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise ModelFileCorrupt("TensorRT failed; its log says why")
        return result if given is not None and runtime is not None else None  # both must outlive the context

    return run


def export(network: Any, size: tuple[int, ...]) -> Any:
    """The network as an ONNX model with a dynamic batch. Raises ImportError."""
    import onnx
    import torch

    example = torch.zeros(2, 3, *size)
    program = torch.onnx.export(
        copy.deepcopy(network).float().cpu(),
        (example,),
        dynamo=True,
        opset_version=18,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
        verbose=False,
    )
    buffer = io.BytesIO()
    program.save(buffer)
    return onnx.load_from_string(buffer.getvalue())

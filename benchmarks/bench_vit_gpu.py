"""ViT-B/16 at 224 on a GPU: our network compiled and in TensorRT, timm's compiled, and the matrix rate of the device.

Run: python -m benchmarks.bench_vit_gpu [--quick] [--json]
Inference at batch 256 in bfloat16 and float16, a training step in bfloat16. The matrix rate is that of one large
product in the same type and the same run, the contenders taking turns; `of_rate` is the share of it that a contender
reaches, for training the model FLOPs utilisation. Random pictures; timm's random weights are ours too, and outputs are
compared before any clock starts. Where there is no CUDA device it says so and measures nothing; a contender that is not
installed, or does not run on the device, is a row that says why.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import report, vit_tensorrt
from benchmarks.native_gpu import clock
from bowerbird.errors import BowerbirdError

DEVICE = "cuda"
PRESET, SIDE, BATCH, SEED = "vit-b", 224, 256, 20_260
TRAINING_BATCH = 128
MATRIX = 8192  # side of the product whose rate is the ceiling
ROUNDS, QUICK_ROUNDS = 30, 5
# Rounding of 8 and 11 bits through 12 layers, of vectors of unit length; a wrong network is off by about 1.
TOLERANCE = {"bf16": 0.05, "fp16": 0.01}
TRAINING_FACTOR = 3  # backward costs twice the forward

Step = Callable[[], object]


def main() -> None:
    """Measure, print, write benchmarks/results/vit_gpu.json."""
    arguments = report.make_parser(__doc__).parse_args()
    if (reason := clock.why_not()) is not None:
        print(f"{reason}: nothing measured", file=sys.stderr if arguments.json else sys.stdout)
        return
    measured = rows(quick=arguments.quick)
    report.publish(
        "vit_gpu", measured, as_json=arguments.json, keep=not arguments.quick, device=clock.describe_device()
    )


def rows(*, quick: bool) -> Iterator[report.Row]:
    """Inference in two types, then training."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    for precision in ("bf16", "fp16"):
        yield from infer_rows(precision, rounds, quick=quick)
    yield from train_rows(rounds)


def count_flops(config: Any, side: int) -> int:
    """Floating-point operations of one picture's forward pass, two a multiply-add, in matrix products alone.

    Legend: N tokens, D width, L layers. Patches 2 N 3 p^2 D; a layer 2 N D (4 D + 2 h D) + 4 N^2 D, h the MLP's ratio.
    """
    patches = (side // config.patch_size) ** 2
    tokens = patches + int(config.class_token) + config.registers
    width = config.width
    layer = 2 * tokens * width * width * (4 + 2 * config.mlp_ratio) + 4 * tokens * tokens * width
    return int(2 * patches * 3 * config.patch_size**2 * width + config.depth * layer)


def infer_rows(precision: str, rounds: int, *, quick: bool) -> Iterator[report.Row]:
    """One row a contender at batch 256."""
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    network, config = make_network()
    torch.manual_seed(SEED)
    pictures = torch.randn(BATCH, 3, SIDE, SIDE, device=DEVICE, dtype=dtype)
    contenders: dict[str, Step] = {}
    absent = {}
    with torch.inference_mode():
        try:
            peer = compile_network(make_timm(network).to(dtype), quick=quick)
            contenders["timm, compiled"] = make_forward(peer, pictures)
        except ImportError as error:
            absent["timm, compiled"] = str(error)
        expected = torch.nn.functional.normalize(network(pictures[:8].float()), dim=1)
        try:
            contenders["ours, TensorRT"] = vit_tensorrt.open_engine(network, pictures, precision)
        except (ImportError, BowerbirdError) as error:
            absent["ours, TensorRT"] = str(error).splitlines()[0]
        network = network.to(dtype)
        contenders["ours, compiled"] = make_forward(compile_network(network, quick=quick), pictures)
        contenders["ours, eager"] = make_forward(network, pictures)
        for name, step in contenders.items():
            check(name, step, expected, TOLERANCE[precision])
        yield from measure(f"infer {precision} x {BATCH}", contenders, dtype, BATCH * count_flops(config, SIDE), rounds)
    for name, reason in absent.items():
        yield {"name": f"infer {precision} x {BATCH}", "contender": name, "skipped": reason}


def train_rows(rounds: int) -> Iterator[report.Row]:
    """A step of training in bfloat16: forward, backward and AdamW, the weights in float32."""
    import torch

    network, config = make_network()
    network.train()
    torch.manual_seed(SEED)
    pictures = torch.randn(TRAINING_BATCH, 3, SIDE, SIDE, device=DEVICE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    compiled = compile_network(network, quick=True)  # tuning of backward kernels takes many minutes

    def step() -> object:
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = compiled(pictures).float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    if not bool(torch.isfinite(step())):  # type: ignore[call-overload]
        raise AssertionError("the loss of the first step is not finite")
    work = TRAINING_FACTOR * TRAINING_BATCH * count_flops(config, SIDE)
    yield from measure(f"train bf16 x {TRAINING_BATCH}", {"ours, compiled": step}, torch.bfloat16, work, rounds)


def make_network() -> tuple[Any, Any]:
    """(network, configuration): ours with random weights, float32, on the device, evaluating."""
    import torch

    from bowerbird.models.vit import VisionTransformer, VitConfig

    torch.manual_seed(SEED)
    config = VitConfig.from_dict({"preset": PRESET, "image_size": SIDE})
    return VisionTransformer(config).to(DEVICE).eval(), config


def make_forward(network: Any, pictures: Any) -> Step:
    """The forward pass on these pictures."""
    return lambda: network(pictures)


def compile_network(network: Any, *, quick: bool) -> Any:
    """The network compiled for this batch; unless quick, with the fastest kernels for each product."""
    import torch

    return torch.compile(network, mode="default" if quick else "max-autotune-no-cudagraphs", dynamic=False)


def make_timm(ours: Any) -> Any:
    """timm's ViT-B/16 with random weights, which ours gets too. Raises ImportError."""
    import timm

    from bowerbird.models.checkpoints import load_backbone

    peer = timm.create_model("vit_base_patch16_224", num_classes=0).eval()
    load_backbone(ours, peer.state_dict())
    return peer.to(DEVICE)


def check(name: str, step: Step, expected: Any, tolerance: float) -> None:
    """Nothing, if the contender gives what ours gives in float32."""
    import torch

    found: Any = step()
    difference = (torch.nn.functional.normalize(found[:8].float(), dim=1) - expected).norm(dim=1).max().item()
    if not difference < tolerance:
        raise AssertionError(f"{name}: differs from float32 by {difference:.3f}, expected less than {tolerance}")


def measure(name: str, contenders: dict[str, Step], dtype: Any, work: int, rounds: int) -> Iterator[report.Row]:
    """One row a contender, with the matrix rate measured in turns with them.

    Args:
        work: floating-point operations of a call.
    """
    import torch

    left, right = (torch.randn(MATRIX, MATRIX, device=DEVICE, dtype=dtype) for _ in range(2))
    samples = clock.interleave({**contenders, "matrix": lambda: left @ right}, rounds)
    rate = 2 * MATRIX**3 / statistics.median(samples.pop("matrix"))
    for contender, seconds in samples.items():
        reached = work / statistics.median(seconds)
        yield {
            "name": name,
            "contender": contender,
            "ms": report.spread(seconds),
            "teraflops": round(reached / 1e12, 1),
            "matrix_teraflops": round(rate / 1e12, 1),
            "of_rate": round(reached / rate, 3),
        }


if __name__ == "__main__":
    main()

"""What the benchmark of the Vision Transformer counts and says, where there is no GPU."""

from __future__ import annotations

import sys

import pytest

from benchmarks import bench_vit_gpu, report
from benchmarks.native_gpu import clock

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(("preset", "side"), [("vit-micro", 64), ("vit-ti", 224), ("vit-b", 224)])
def test_operations_are_counted_as_torch_counts_them(preset: str, side: int) -> None:
    """The formula agrees with torch's counter of matrix products and convolutions, attention among them."""
    from torch.utils.flop_counter import FlopCounterMode

    from bowerbird.models.vit import VisionTransformer, VitConfig

    config = VitConfig.from_dict({"preset": preset, "image_size": side})
    with torch.device("meta"):
        network, picture = VisionTransformer(config), torch.zeros(1, 3, side, side)
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        network(picture)

    assert bench_vit_gpu.count_flops(config, side) == counter.get_total_flops()


@pytest.mark.parametrize("switches", [[], ["--json"]])
def test_without_a_device_nothing_is_measured_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], switches: list[str]
) -> None:
    """It says why, and JSON lines stay JSON lines."""
    monkeypatch.setattr(sys, "argv", ["bench_vit_gpu", *switches])
    monkeypatch.setattr(clock, "why_not", lambda: "no CUDA device")
    monkeypatch.setattr(report, "write", lambda *_: pytest.fail("there is nothing to write"))

    bench_vit_gpu.main()

    printed = capsys.readouterr()
    assert (printed.err if switches else printed.out) == "no CUDA device: nothing measured\n"
    assert not (printed.out if switches else printed.err)


def test_a_small_network_goes_through_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the processor, uncompiled: outputs are compared, every contender has its row, and a missing one says why."""
    sizes = {"DEVICE": "cpu", "PRESET": "vit-nano", "SIDE": 32, "BATCH": 8, "TRAINING_BATCH": 4, "MATRIX": 64}
    for name, value in sizes.items():
        monkeypatch.setattr(bench_vit_gpu, name, value)
    monkeypatch.setattr(bench_vit_gpu, "TOLERANCE", {"bf16": 0.1, "fp16": 0.02})
    monkeypatch.setattr(bench_vit_gpu, "compile_network", lambda network, **_: network)
    monkeypatch.setattr(clock, "interleave", report.interleave)
    monkeypatch.setattr(bench_vit_gpu, "make_timm", refuse)
    monkeypatch.setattr(bench_vit_gpu.vit_tensorrt, "open_engine", refuse)

    rows = list(bench_vit_gpu.rows(quick=True))

    assert [(row["name"], row["contender"]) for row in rows] == [
        *((f"infer {kind} x 8", name) for kind in ("bf16", "fp16") for name in (*MEASURED, *ABSENT)),
        ("train bf16 x 4", "ours, compiled"),
    ]
    assert all(row["of_rate"] > 0 for row in rows if "skipped" not in row)
    assert {row["skipped"] for row in rows if row["contender"] in ABSENT} == {"not installed"}


MEASURED, ABSENT = ("ours, compiled", "ours, eager"), ("timm, compiled", "ours, TensorRT")


def refuse(*_: object) -> None:
    raise ImportError("not installed")


def test_a_contender_that_computes_something_else_is_refused() -> None:
    """Nothing is timed that is not the same network."""
    torch.manual_seed(0)
    right = torch.nn.functional.normalize(torch.randn(8, 16), dim=1)
    bench_vit_gpu.check("right", lambda: 3 * right, right, 0.01)
    with pytest.raises(AssertionError, match="wrong: differs from float32"):
        bench_vit_gpu.check("wrong", lambda: right.flip(0), right, 0.01)

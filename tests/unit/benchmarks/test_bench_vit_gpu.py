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

"""TensorRT: engines are built for real where the package is, found by what they were made from, and run on a GPU."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from bowerbird.errors import ConfigInvalid, InferenceFailed, ModelFileCorrupt
from bowerbird.models import ModelsConfig, tensorrt, zoo
from bowerbird.models.cuda_driver import Device
from bowerbird.models.loading import start_engine
from bowerbird.models.settings import PRECISIONS
from bowerbird.models.tensorrt import EngineKey, TensorRtEngine, find_engine, find_engines, load_bindings
from bowerbird.models.tensorrt_build import _expand_resizes, build, lower_precision, main
from tests.tiny_zoo import SIDE, write_tiny_embedder

# float16 keeps 11 bits; a sum of 64 products of numbers around 1 loses a few of them
HALF_TOLERANCE = 5e-3


def find_gpu() -> bool:
    try:
        Device()
    except ConfigInvalid:
        return False
    return True


@pytest.fixture
def model(tmp_path: Path) -> zoo.ZooModel:
    return zoo.load("tiny", zoo_dir=write_tiny_embedder(tmp_path / "zoo").folder)


@pytest.fixture
def installed() -> tensorrt.Bindings:
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT is not installed: pip install 'bowerbird[gpu]'")
    return load_bindings()


# ------------------------------------------------------------------------------------------------------------ building


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_engine_is_built_without_a_gpu(
    installed: tensorrt.Bindings, model: zoo.ZooModel, tmp_path: Path, precision: str
) -> None:
    """TensorRT parses the model and builds it in each precision; the file's name says from what and for what."""
    path = build(model, precision=precision, max_batch=4, best_batch=2, directory=tmp_path)

    assert path.name == (
        f"tiny.{model.sha256[:12]}.{installed.name}-{installed.version}.portable.{precision}.{SIDE}x{SIDE}.b1-2-4.plan"
    )
    assert path.stat().st_size > 1000
    targets = ("sm89", "portable")
    assert find_engine(model, installed, targets, precision, tmp_path) == (path, 4)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "nanodet-g"])
def test_the_shipped_models_can_be_built(installed: tensorrt.Bindings, tmp_path: Path, name: str) -> None:
    """Detector and embedder share one setting of the runtime, so both must build."""
    assert build(zoo.load(name), directory=tmp_path).stat().st_size > 2**20


def test_resizing_is_written_another_way_and_gives_the_same() -> None:
    """Scales of all axes in place of the sizes of two."""
    path = zoo.load("nanodet-g").path
    batch = np.random.default_rng(0).standard_normal((1, 3, 416, 416)).astype(np.float32)
    expected = run_with_onnxruntime(onnx.load(path), batch)
    for left, right in zip(expected, run_with_onnxruntime(_expand_resizes(onnx.load(path)), batch), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-4)  # coordinates out of another division


def test_an_engine_is_built_once(installed: tensorrt.Bindings, model: zoo.ZooModel, tmp_path: Path) -> None:
    """The same again is the file that is there; another batch or target is another; the largest batch is taken."""
    first = build(model, max_batch=4, best_batch=2, directory=tmp_path)
    written = first.stat().st_mtime_ns

    assert build(model, max_batch=4, best_batch=2, directory=tmp_path) == first and first.stat().st_mtime_ns == written
    larger = build(model, max_batch=16, best_batch=2, directory=tmp_path)
    exact = build(model, max_batch=2, best_batch=1, target="sm89", directory=tmp_path)

    assert len({first, larger, exact}) == 3
    assert find_engine(model, installed, ("sm89", "portable"), "fp16", tmp_path) == (exact, 2)
    assert find_engine(model, installed, ("sm86", "portable"), "fp16", tmp_path) == (larger, 16)


def test_an_engine_of_another_model_is_not_taken(
    installed: tensorrt.Bindings, model: zoo.ZooModel, tmp_path: Path
) -> None:
    """Another file, precision or TensorRT is another engine; the refusal says how to build the one that is missing."""
    build(model, directory=tmp_path)
    changed = dataclasses.replace(model, sha256="0" * 64)
    for other, precision in ((changed, "fp16"), (model, "fp32")):
        with pytest.raises(ConfigInvalid, match=f"tensorrt_build tiny --precision {precision}"):
            find_engine(other, installed, ("portable",), precision, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch": 0}, "largest batch"),
        ({"best_batch": 9, "max_batch": 8}, "largest batch"),
        ({"target": "sm12"}, "cannot build for 'sm12'; known: sm"),
    ],
)
def test_what_cannot_be_built_is_refused(
    installed: tensorrt.Bindings, model: zoo.ZooModel, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    """A wrong number or target is named, and no file is left."""
    with pytest.raises(ConfigInvalid, match=message):
        build(model, directory=tmp_path / "engines", **options)
    assert not (tmp_path / "engines").exists()


def test_a_model_that_tensorrt_cannot_read_is_refused(
    installed: tensorrt.Bindings, model: zoo.ZooModel, tmp_path: Path
) -> None:
    """Its own words are in the message."""
    graph = onnx.load(model.path)
    graph.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(graph, model.path)
    with pytest.raises(ModelFileCorrupt, match=r"TensorRT cannot read tiny: .*NoSuchOperator"):
        build(model, precision="fp32", directory=tmp_path)


def test_the_command_builds(
    installed: tensorrt.Bindings, model: zoo.ZooModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The path comes out; what is wrong is said in one line."""
    assert main(["tiny", "--zoo", str(model.path.parent), "--out", str(tmp_path), "--max-batch", "8"]) == 0
    assert Path(capsys.readouterr().out.split(" (")[0]).is_file()
    assert main(["absent", "--zoo", str(model.path.parent)]) == 1
    assert "no model named 'absent'" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------- smaller numbers


def run_with_onnxruntime(model: onnx.ModelProto, batch: Any) -> list[Any]:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {model.graph.input[0].name: batch})


def test_a_lowered_model_gives_nearly_the_same(model: zoo.ZooModel) -> None:
    """Inputs and outputs stay float32, weights are float16, results differ by its rounding and not more."""
    original = onnx.load(model.path)
    batch = np.random.default_rng(0).standard_normal((3, 3, SIDE, SIDE)).astype(np.float32)

    lowered = lower_precision(original, "fp16")

    onnx.checker.check_model(lowered, full_check=True)
    weights = [tensor for tensor in lowered.graph.initializer if tensor.data_type != onnx.TensorProto.INT64]
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.FLOAT16}
    expected, found = run_with_onnxruntime(original, batch), run_with_onnxruntime(lowered, batch)
    np.testing.assert_allclose(found[0], expected[0], atol=HALF_TOLERANCE)
    assert any((a != b).any() for a, b in zip(expected, found, strict=True))
    assert {value.dtype for value in found} == {np.dtype(np.float32)}


def test_bfloat16_rounds_to_even(model: zoo.ZooModel) -> None:
    """Every stored weight is the nearest bfloat16."""
    original, lowered = onnx.load(model.path), lower_precision(onnx.load(model.path), "bf16")
    for before, after in zip(original.graph.initializer, lowered.graph.initializer, strict=True):
        if before.data_type == onnx.TensorProto.FLOAT:
            expected = onnx.numpy_helper.to_array(before)
            found = (np.frombuffer(after.raw_data, np.uint16).astype(np.uint32) << 16).view(np.float32)
            assert after.data_type == onnx.TensorProto.BFLOAT16
            np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=2**-8)


def test_the_shipped_models_can_be_lowered(tmp_path: Path) -> None:
    """Weights that are stored as float16 and cast in the graph, and resizing, go through the checker."""
    for name in ("efficientnet-lite0", "nanodet-g"):
        onnx.checker.check_model(lower_precision(onnx.load(zoo.load(name).path), "fp16"), full_check=True)


def test_a_weight_beyond_float16_is_refused(model: zoo.ZooModel) -> None:
    """It would become infinite; bfloat16 holds it."""
    graph = onnx.load(model.path)
    tensor = next(tensor for tensor in graph.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT)
    values = onnx.numpy_helper.to_array(tensor) * 1e6
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    with pytest.raises(ConfigInvalid, match="does not fit float16"):
        lower_precision(graph, "fp16")
    lower_precision(graph, "bf16")


# ------------------------------------------------------------------------------------------------------------- running


def test_engines_are_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The argument goes before the variable, the variable before the cache."""
    monkeypatch.delenv(tensorrt.ENGINES_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_engines() == find_engines(Path()) == tmp_path / "bowerbird/tensorrt"
    monkeypatch.setenv(tensorrt.ENGINES_VARIABLE, str(tmp_path / "other"))
    assert find_engines() == tmp_path / "other"
    assert find_engines(tmp_path) == tmp_path


def test_tensorrt_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setattr(tensorrt, "_RUNTIMES", {"no_such_tensorrt": "tensorrt"})
    with pytest.raises(ConfigInvalid, match=r"bowerbird\[gpu\]"):
        load_bindings()


@pytest.mark.skipif(find_gpu(), reason="a GPU is here")
def test_without_a_gpu_the_start_is_refused(installed: tensorrt.Bindings, model: zoo.ZooModel, tmp_path: Path) -> None:
    """Asking for TensorRT never falls back to the processor silently."""
    build(model, directory=tmp_path)
    with pytest.raises(ConfigInvalid, match="no CUDA device can be used here"):
        start_engine(model, ModelsConfig(provider="tensorrt", engines_dir=tmp_path), threads=1)


def test_the_serving_module_needs_no_onnx() -> None:
    """A service that runs engines does not load the library that only building them needs."""
    program = (
        "import sys; import bowerbird.models.loading; sys.exit('onnx' in sys.modules or 'tensorrt' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_names_differ_wherever_engines_do() -> None:
    """Two engines that are not interchangeable never have one name."""
    base = EngineKey("a", "1" * 64, "tensorrt-11.4", "sm90", "fp16", (1, 8, 64), (64, 64))
    changes: list[dict[str, Any]] = [
        {"model": "b"},
        {"sha256": "2" * 64},
        {"runtime": "tensorrt-11.5"},
        {"target": "sm89"},
        {"precision": "bf16"},
        {"batches": (1, 8, 32)},
        {"size": (64, 32)},
    ]
    names = {dataclasses.replace(base, **change).file_name for change in changes} | {base.file_name}
    assert len(names) == len(changes) + 1


@pytest.mark.gpu
@pytest.mark.skipif(not find_gpu(), reason="no CUDA device")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_engine_computes_as_onnxruntime_does(
    installed: tensorrt.Bindings, model: zoo.ZooModel, tmp_path: Path, precision: str
) -> None:
    """Every output, of one picture and of more than the largest batch; outputs that are not asked for stay away."""
    build(model, precision=precision, max_batch=4, best_batch=2, directory=tmp_path)
    engine = TensorRtEngine(model, precision=precision, directory=tmp_path)
    reference = start_engine(model, ModelsConfig(), threads=1)
    pictures = np.random.default_rng(1).standard_normal((11, 3, SIDE, SIDE)).astype(np.float32)

    for batch in (pictures[:1], pictures):
        expected, found = reference.run(batch), engine.run(batch)
        assert set(found) == set(expected)
        np.testing.assert_allclose(found["embedding"], expected["embedding"], atol=0.02)
    assert set(engine.run(pictures, ["embedding"])) == {"embedding"}
    with pytest.raises(InferenceFailed, match="no output other"):
        engine.run(pictures, ["other"])
    with pytest.raises(InferenceFailed, match="shape"):
        engine.run(pictures[:, :2])

"""Files of checkpoints: safetensors is read, pickles never."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'bowerbird[train]'")

from safetensors.torch import save_file  # noqa: E402

from bowerbird.errors import ArgumentInvalid, ModelFileCorrupt, ModelNotFound  # noqa: E402
from bowerbird.models.checkpoints import read_tensors  # noqa: E402
from bowerbird.models.vit import VisionTransformer, VitConfig  # noqa: E402

ROOT = Path(__file__).parents[4]


class Bomb:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["model.pt", "model.bin", "model.safetensors"])
@pytest.mark.parametrize("form", ["zip", "legacy", *(f"protocol {number}" for number in (2, 3, 4, 5))])
def test_a_pickle_is_refused_by_its_content(form: str, name: str, tmp_path: Path) -> None:
    """Whatever its name, no code in it runs, and the message says why it was refused."""
    path, trace = tmp_path / name, tmp_path / "ran"
    if form.startswith("protocol"):
        path.write_bytes(pickle.dumps({"weight": Bomb(trace)}, protocol=int(form[-1])))
    else:
        torch.save({"weight": Bomb(trace)}, path, _use_new_zipfile_serialization=form == "zip")

    with pytest.raises(ArgumentInvalid, match=r"is a pickle: .* publish the same weights as \.safetensors"):
        read_tensors(path)

    assert not trace.exists()


def test_tensors_come_back(tmp_path: Path) -> None:
    """Names, types and bits are those that were saved."""
    tensors = {"a": torch.randn(3, 2), "b": torch.randn(4).bfloat16(), "c": torch.arange(3)}
    save_file(tensors, tmp_path / "model.safetensors")

    read = read_tensors(str(tmp_path / "model.safetensors"))

    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in tensors.items())


@pytest.mark.parametrize("kept", [0, 4, 40, -1])
def test_a_torn_file_is_corrupt(kept: int, tmp_path: Path) -> None:
    """A file that ends early, even by one byte, gives no tensors."""
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.randn(30, 20)}, path)
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(ModelFileCorrupt, match="not a whole safetensors file"):
        read_tensors(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The message has the path."""
    with pytest.raises(ModelNotFound, match="nowhere"):
        read_tensors(tmp_path / "nowhere.safetensors")


def test_half_precision_loads(tmp_path: Path) -> None:
    """A checkpoint in float16 fills a network in float32."""
    from bowerbird.models.checkpoints import load_backbone

    config = VitConfig(width=32, depth=1, heads=2, patch_size=8, image_size=(16, 16))
    saved, loaded = VisionTransformer(config), VisionTransformer(config)
    path = tmp_path / "half.safetensors"
    save_file({name: tensor.half() for name, tensor in saved.state_dict().items()}, path)

    load_backbone(loaded, path)

    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())
    assert torch.equal(loaded.positions, saved.positions.half().float())


def test_nothing_here_can_unpickle() -> None:
    """No module that reads networks or trains them calls what unpickles; the zoo's converter of weights alone may."""
    calls = re.compile(
        r"\btorch\s*\.\s*load\b|\bpickle\b\s*\.|\bimport\s+(?:c?[pP]ickle|dill|joblib)\b|\ballow_pickle\s*=\s*True"
    )
    sources = [
        path
        for folder in ("src", "services", "pipelines")
        for path in (ROOT / folder).rglob("*.py")
        if path != ROOT / "pipelines/zoo/convert_efficientnet.py"
    ]
    assert len(sources) > 100
    assert not [str(path) for path in sources if calls.search(path.read_text())]

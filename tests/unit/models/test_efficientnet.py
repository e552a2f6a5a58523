"""The torch form of the open CNN gives what the zoo's file gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'bowerbird[train]'")

import onnxruntime  # noqa: E402

from bowerbird.errors import ModelNotFound  # noqa: E402
from bowerbird.models import zoo  # noqa: E402
from bowerbird.models.efficientnet import EfficientNetLite0, EfficientNetStages, load_zoo_weights  # noqa: E402


@pytest.mark.parametrize("size", [(64, 96), (65, 47)])
def test_features_are_those_of_the_zoo(size: tuple[int, int]) -> None:
    """Both compute in float32 from the same float16 weights: they agree to 1e-5, at even and odd sizes."""
    pictures = np.random.default_rng(0).uniform(-1, 1, (2, 3, *size)).astype(np.float32)
    session = onnxruntime.InferenceSession(zoo.load("efficientnet-lite0").path, providers=["CPUExecutionProvider"])
    expected = session.run(["embedding"], {"pictures": pictures})[0]
    network = EfficientNetLite0()
    load_zoo_weights(network)

    with torch.inference_mode():
        features = network.eval()(torch.from_numpy(pictures))
    ours = (features / features.sum(1, keepdim=True)).sqrt().numpy()

    assert expected.std() > 0.01
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize(("stride", "channels"), [(2, 16), (4, 24), (8, 40), (16, 112), (32, 320)])
def test_the_front_ends_at_its_stride(stride: int, channels: int) -> None:
    """A front has the channels and the size that its stride says, and the weights of the whole."""
    front, whole = EfficientNetStages(stride), EfficientNetLite0()
    load_zoo_weights(front)
    load_zoo_weights(whole)

    maps = front(torch.zeros(1, 3, 64, 32))

    assert maps.shape == (1, channels, 64 // stride, 32 // stride)
    assert front.channels == channels
    for name, weight in front.state_dict().items():
        assert torch.equal(weight, whole.stages.state_dict()[name])


def test_a_zoo_without_the_network_is_refused(tmp_path: Path) -> None:
    """The error names the model."""
    with pytest.raises(ModelNotFound, match="efficientnet-lite0"):
        load_zoo_weights(EfficientNetStages(4), zoo_dir=tmp_path)

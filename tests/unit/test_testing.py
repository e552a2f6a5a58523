"""The fakes that are shipped to users behave like the real things."""

import numpy as np
import pytest

from bowerbird.errors import InferenceFailed
from bowerbird.models.engine import InferenceEngine
from bowerbird.testing import FakeModel


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(1).random((count, 3, 32, 32), np.float32)


def test_the_fake_model_is_an_inference_engine() -> None:
    """It has the interface of a model runtime, so it can stand in for one."""
    engine: InferenceEngine = FakeModel()
    assert engine.run(pictures(2))["features"].shape == (2, 64)
    assert engine.warm_up([1, 2], height=32, width=32) == 0.0
    assert engine.input_shape == (None, 3, 32, 32)


def test_outputs_do_not_depend_on_the_batch() -> None:
    """A picture has the same vector alone and in a batch; other pictures have others."""
    model, batch = FakeModel(), pictures(3)
    together = model.run(batch)["features"]
    np.testing.assert_array_equal(together, np.concatenate([model.run(batch[i : i + 1])["features"] for i in range(3)]))
    assert len(np.unique(together, axis=0)) == 3
    assert model.batch_sizes == [3, 1, 1, 1]


def test_similar_pictures_have_similar_outputs() -> None:
    """A slightly brighter picture is nearer than another picture."""
    first, second = pictures(2)
    vectors = FakeModel().run(np.stack([first, first + 0.01, second]))["features"]
    distances = np.linalg.norm(vectors - vectors[0], axis=1)
    assert distances[1] < distances[2]


def test_a_failure_can_be_ordered() -> None:
    """Tests of what happens when a model fails need no broken file."""
    model = FakeModel()
    model.failure = "out of memory"
    with pytest.raises(InferenceFailed, match="out of memory"):
        model.run(pictures(1))

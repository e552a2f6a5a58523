from pathlib import Path

import numpy as np
import pytest

from bowerbird.corpora.manifest import Source
from bowerbird.errors import PackageUnavailable
from bowerbird.models.text import TextEncoder
from pipelines.text_encoder import open_text_encoder


def refuse(source: Source, _: Path) -> Path:
    raise PackageUnavailable(f"{source.name} is not fetched by a test")


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    """The real encoder, if the packages are in the cache; a test downloads nothing."""
    pytest.importorskip("tokenizers")
    try:
        return open_text_encoder(threads=2, download=refuse)
    except PackageUnavailable as error:
        pytest.skip(f"{error.message}; `python -m pipelines.text_encoder` brings it")


def test_missing_package_is_named(tmp_path: Path) -> None:
    """Without network and cache the fault says which package and why."""
    with pytest.raises(PackageUnavailable, match="cannot be had: text-"):
        open_text_encoder(tmp_path, download=refuse)


def test_vectors_are_near_for_what_means_the_same(encoder: TextEncoder) -> None:
    """The cosines of the published float32 model (0.804 and 0.330, computed with transformers), but for eight bits."""
    puppy, dog, pizza = encoder.encode(["puppy", "dog", "pizza"])
    assert puppy @ dog == pytest.approx(0.804, abs=0.01)
    assert puppy @ pizza == pytest.approx(0.330, abs=0.01)
    assert np.linalg.norm(puppy) == pytest.approx(1.0, abs=1e-5)


def test_vectors_do_not_depend_on_their_batch(encoder: TextEncoder) -> None:
    """The same text has the same vector alone and among longer ones: activations stay in floats."""
    texts = ["a red apple on an old wooden table", "kiwi", "猫", "horse", "x" * 2000]
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode(texts), alone, atol=1e-4)

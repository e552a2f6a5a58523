"""The network, its description, and its heads."""

import json
import math

import pytest

torch = pytest.importorskip("torch")

from bowerbird.errors import ConfigInvalid  # noqa: E402
from bowerbird.models.vit import VitConfig  # noqa: E402
from services.embedder.model import ModelConfig, MultiTaskEmbedder, TaskSpec  # noqa: E402

BACKBONE = VitConfig(width=16, depth=1, heads=2, patch_size=8, image_size=(16, 16))
TASKS = (
    TaskSpec("concept", "metric", ("a", "b", "c"), "concept"),
    TaskSpec("tags", "multilabel", ("x", "y"), "tags", loss="sigmoid"),
    TaskSpec("many", "multilabel", tuple(map(str, range(20))), "tags", loss="khot", sample_rate=0.5),
)
CONFIG = ModelConfig(BACKBONE, 24, TASKS, mean=(1.0, 2.0, 3.0))


@pytest.fixture
def model() -> MultiTaskEmbedder:
    torch.manual_seed(0)
    return MultiTaskEmbedder(CONFIG)


def test_embeddings_follow_the_formula(model: MultiTaskEmbedder) -> None:
    """P LayerNorm(f), the LayerNorm without parameters and the map without bias."""
    pictures = torch.randn(2, 3, 16, 16)
    features = model.backbone(pictures)
    centred = (features - features.mean(1, keepdim=True)) / (
        features.var(1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    torch.testing.assert_close(model(pictures), centred @ model.projection.weight.T)
    assert model(pictures).shape == (2, 24)
    assert torch.equal(model(pictures), model.embed(pictures))
    assert {name for name, _ in model.named_parameters() if name.startswith(("norm", "projection"))} == {
        "projection.weight"
    }


def test_scores_are_angles_over_the_temperature(model: MultiTaskEmbedder) -> None:
    """Any length of the embedding gives the same; a sigmoid head adds its bias, which starts rare."""
    embeddings = torch.randn(4, 24)
    proxies = model.heads["concept"].weight
    cosines = torch.nn.functional.cosine_similarity(embeddings[:, None], proxies[None], dim=2)
    torch.testing.assert_close(model.logits("concept", 7 * embeddings), cosines / 0.05)
    assert model.heads["concept"].bias is None
    assert model.heads["tags"].bias.tolist() == pytest.approx([-math.log(3)] * 2)


def test_proxies_start_within_their_bound(model: MultiTaskEmbedder) -> None:
    """U(-1/sqrt(D), 1/sqrt(D))."""
    assert model.heads["concept"].weight.abs().max() <= 24**-0.5


def test_autocast_leaves_embeddings_in_float32(model: MultiTaskEmbedder) -> None:
    """Losses are computed in it."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(torch.randn(2, 3, 16, 16)).dtype == torch.float32


def test_description_comes_back_from_json() -> None:
    """With other keys beside it."""
    text = json.dumps({**CONFIG.to_dict(), "step": 3})
    assert ModelConfig.from_json(text) == CONFIG
    for broken in ("{", "[]", "{}", '{"backbone": {}}'):
        with pytest.raises(ConfigInvalid, match="expected the configuration of an embedder"):
            ModelConfig.from_json(broken)


def test_what_is_served_is_known(model: MultiTaskEmbedder) -> None:
    """Metric heads are dropped, sampled ones too, whose rows are in no state dict."""
    assert [task.name for task in CONFIG.without_dropped_heads().tasks] == ["tags"]
    assert not any(key.startswith("heads.many") for key in model.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dimension": 12}, "multiple of 8"),
        ({"tasks": ()}, "at least one"),
        ({"tasks": (TASKS[0], TASKS[0])}, "a name of its own"),
    ],
)
def test_impossible_descriptions_are_refused(changes: dict[str, object], message: str) -> None:
    """Codes are packed in bytes; tasks are told apart by name."""
    with pytest.raises(ConfigInvalid, match=message):
        ModelConfig(**{"backbone": BACKBONE, "dimension": 16, "tasks": TASKS, **changes})


def test_a_task_has_a_name_that_outputs_can_have() -> None:
    """It becomes the name of an output of the exported model."""
    with pytest.raises(ConfigInvalid, match="letters, digits and underscores"):
        TaskSpec("skin tone", "classes", ("a",), "tone")

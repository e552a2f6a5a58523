"""Networks of transformers, with random weights, give the same through our network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'bowerbird[train]'")
transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'bowerbird[dev]'")

from bowerbird.models.checkpoints import infer_config, load_backbone, read_tensors  # noqa: E402
from bowerbird.models.vit import VisionTransformer  # noqa: E402

# float32 on both sides. The largest difference seen is 0.0, of values up to 15, because both end in the same kernels of
# torch; the tolerance leaves room for libraries that order a sum otherwise.
TOLERANCE = 5e-6
SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 40,
    "patch_size": 8,
}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vit": ("ViTConfig", "ViTModel", {"intermediate_size": 96}),
    "vit without qkv bias": ("ViTConfig", "ViTModel", {"intermediate_size": 96, "qkv_bias": False}),
    "dinov2": ("Dinov2Config", "Dinov2Model", {"mlp_ratio": 2, "layerscale_value": 0.5}),
    "dinov2 with registers": (
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersModel",
        {"mlp_ratio": 2, "num_register_tokens": 3, "layerscale_value": 0.5},
    ),
    "clip": ("CLIPVisionConfig", "CLIPVisionModel", {"intermediate_size": 96}),
    "clip with projection": ("CLIPVisionConfig", "CLIPVisionModelWithProjection", {"intermediate_size": 96}),
    "classifier": ("ViTConfig", "ViTForImageClassification", {"intermediate_size": 96}),
}


def make(name: str) -> Any:
    """A network of transformers in which every parameter is random, so that none can be forgotten unseen."""
    config, model, options = MODELS[name]
    torch.manual_seed(0)
    network = getattr(transformers, model)(getattr(transformers, config)(**SIZES, **options)).eval()
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            scale = 1.0 if "position" in key or "token" in key or "class_embedding" in key else 0.2
            parameter.normal_(1.0 if "norm" in key and key.endswith("weight") else 0.0, scale)
    return network


def save(network: Any, directory: Path) -> Path:
    network.save_pretrained(directory)
    return directory / "model.safetensors"


def tower(network: Any) -> Any:
    return getattr(network, "vit", getattr(network, "vision_model", network))


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_equal(name: str, tmp_path: Path) -> None:
    """From the saved file alone, but for the heads, our network gives the same tokens, layers and vector."""
    theirs = make(name)
    path = save(theirs, tmp_path)
    ours = VisionTransformer(infer_config(read_tensors(path), heads=4)).eval()
    report = load_backbone(ours, path)
    pictures = torch.randn(2, 3, 40, 40)

    with torch.no_grad():
        expected = tower(theirs)(pictures, output_hidden_states=True)
        tokens = ours.forward_tokens(pictures, layers=[0, 2])
        pooled = ours(pictures)

        last = expected.last_hidden_state
        if "clip" in name:  # CLIP normalises the class token alone, after the last layer
            last = tower(theirs).post_layernorm(last)
    skipped = 1 + ours.config.registers
    for got, wanted in (
        (tokens.class_token, last[:, 0]),
        (tokens.patches, last[:, skipped:]),
        (tokens.intermediate[0], expected.hidden_states[1][:, skipped:]),
        (pooled, last[:, 0]),
    ):
        assert wanted.std() > 0.1
        torch.testing.assert_close(got, wanted, atol=TOLERANCE, rtol=0)
    assert (report.missing, report.resized) == ((), ())
    assert report.layout.startswith("huggingface_")
    assert all(
        part in ("classifier", "pooler", "visual_projection", "embeddings")
        for key in report.unexpected
        for part in [key.split(".")[0]]
    )


@pytest.mark.parametrize("name", ["vit", "dinov2", "dinov2 with registers", "clip"])
@pytest.mark.parametrize("size", [(24, 56), (64, 48)])
def test_positions_are_interpolated_alike(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    """At other sizes, smaller and larger, positions are interpolated as the source does."""
    theirs = make(name)
    tensors = read_tensors(save(theirs, tmp_path))
    ours = VisionTransformer(infer_config(tensors, heads=4)).eval()
    load_backbone(ours, tensors)
    pictures = torch.randn(1, 3, *size)
    options = {} if "dinov2" in name else {"interpolate_pos_encoding": True}

    with torch.inference_mode():
        expected = theirs(pictures, **options).last_hidden_state
        tokens = ours.forward_tokens(pictures, layers=[-1])
    patches = tokens.intermediate[0] if "clip" in name else tokens.patches

    torch.testing.assert_close(patches, expected[:, 1 + ours.config.registers :], atol=TOLERANCE, rtol=0)


def test_names_in_memory_load_too() -> None:
    """Newer releases name attention otherwise in memory than in files; both load to the same."""
    theirs = make("vit")
    ours = VisionTransformer(infer_config(theirs.state_dict(), heads=4)).eval()
    load_backbone(ours, theirs.state_dict())
    pictures = torch.randn(1, 3, 40, 40)

    with torch.inference_mode():
        expected = theirs(pictures).last_hidden_state[:, 0]
        torch.testing.assert_close(ours(pictures), expected, atol=TOLERANCE, rtol=0)

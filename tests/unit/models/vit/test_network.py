"""The Vision Transformer by itself: shapes, options, positions, export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'bowerbird[train]'")

from bowerbird.errors import ConfigInvalid  # noqa: E402
from bowerbird.models.vit import PRESETS, VisionTransformer, VitConfig, resize_positions  # noqa: E402

SMALL = VitConfig(width=32, depth=3, heads=2, patch_size=8, image_size=(32, 48))
VARIANTS = {
    "plain": SMALL,
    "registers": replace(SMALL, registers=3),
    "no class token": replace(SMALL, class_token=False, pool="mean"),
    "registers only": replace(SMALL, class_token=False, registers=2, pool="norm_of_mean"),
    "overlapping": replace(SMALL, patch_stride=4),
    "clip": replace(SMALL, pre_norm=True, activation="quick_gelu", norm_epsilon=1e-5),
    "layer scale": replace(SMALL, layer_scale=1e-2, activation="gelu_tanh", qkv_bias=False),
    "everything": replace(SMALL, registers=2, patch_stride=4, pre_norm=True, activation="quick_gelu", layer_scale=0.1),
    "conv stem": replace(SMALL, stem="conv"),
    "hybrid stem": replace(SMALL, stem="efficientnet-lite0"),
}


def build(config: VitConfig, seed: int = 0) -> VisionTransformer:
    torch.manual_seed(seed)
    return VisionTransformer(config).eval()


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("size", [(32, 48), (48, 24)])
def test_every_variant_encodes_and_learns(config: VitConfig, size: tuple[int, int]) -> None:
    """Any variant takes its native size and others, and every parameter gets a gradient."""
    network = build(config)
    batch = pictures(2, 3, *size)
    rows, columns = config.grid_of(*size)

    pooled, tokens = network(batch), network.forward_tokens(batch)
    pooled.square().sum().backward()

    assert pooled.shape == (2, 32)
    assert tokens.patches.shape == (2, rows * columns, 32)
    assert tokens.grid == (rows, columns)
    assert (tokens.class_token is not None) == config.class_token
    assert tokens.registers.shape == (2, config.registers, 32)
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("pool", ["class", "mean", "norm_of_mean"])
def test_pools(pool: str) -> None:
    """The picture's vector is what the pool says, of the tokens that forward_tokens gives."""
    network = build(VitConfig.from_dict({**SMALL.to_dict(), "registers": 1, "pool": pool}))
    batch = pictures(2, 3, 32, 48)
    tokens = network.forward_tokens(batch, layers=[-1])
    patches = tokens.intermediate[0]

    expected = {
        "class": tokens.class_token,
        "mean": tokens.patches.mean(1),
        "norm_of_mean": network.norm(patches.mean(1)),
    }[pool]
    torch.testing.assert_close(network(batch), expected)
    torch.testing.assert_close(network.norm(patches), tokens.patches)


def test_layers_come_in_the_order_asked() -> None:
    """Negative numbers count from the last block; a block that is not there is refused."""
    network = build(SMALL)
    batch = pictures(1, 3, 32, 48)

    last, first, again = network.forward_tokens(batch, layers=(-1, 0, 2)).intermediate

    assert torch.equal(last, again)
    assert not torch.equal(last, first)
    with pytest.raises(ConfigInvalid, match=r"layers must be in \[-3, 3\), got \[3\]"):
        network.forward_tokens(batch, layers=[3])


def test_a_picture_that_the_patches_do_not_cover_is_refused() -> None:
    """The message says which sizes would do."""
    with pytest.raises(ConfigInvalid, match="30 x 48 pixels cannot be cut into patches of 8"):
        build(SMALL)(pictures(1, 3, 30, 48))


@pytest.mark.parametrize("how", ["bicubic", "bicubic_antialias", "bilinear"])
def test_positions_of_the_same_grid_are_the_same(how: str) -> None:
    """Interpolation to the native grid changes no bit; to another it keeps a ramp's direction."""
    positions = pictures(1, 3, 4, 5)
    assert torch.equal(resize_positions(positions, (3, 4), how), positions)

    ramp = torch.arange(4.0).view(1, 1, 4, 1).expand(1, 3, 4, 1)  # grows along the columns
    larger = resize_positions(ramp, (5, 8), how)[0, :, :, 0]
    assert (larger.diff(dim=1) > 0).all()
    assert torch.allclose(larger, larger[:1].expand(5, 8), atol=1e-6)


def test_drop_path_skips_branches_in_training_only() -> None:
    """In training some pictures skip branches; in evaluation all pass; the expectation is kept."""
    network = build(replace(SMALL, drop_path=0.5))
    batch = pictures(1, 3, 32, 48).expand(64, -1, -1, -1)
    branch = network.blocks[-1].attention
    x = pictures(1, 4, 32).expand(4096, -1, -1)

    network.eval()
    assert torch.equal(network(batch)[0], network(batch)[63])
    expected = branch(x)[0] - x[0]
    network.train()
    assert not torch.equal(network(batch)[0], network(batch)[63])
    kept = branch(x) - x
    skipped = (kept == 0).all(dim=(1, 2))
    assert 0.45 < skipped.float().mean() < 0.55
    torch.testing.assert_close(kept[~skipped][0], 2 * expected)


def test_layer_ids_grow_with_depth() -> None:
    """Every parameter has a depth: before the blocks 0, in them from 1, the last norm above."""
    network = build(replace(SMALL, registers=1, pre_norm=True))
    ids = network.layer_ids()

    assert ids.keys() == {name for name, _ in network.named_parameters()}
    assert {ids[name] for name in ("class_token", "registers", "positions", "pre_norm.weight")} == {0}
    assert ids["stem.projection.weight"] == 0
    assert ids["blocks.0.attention.inner.qkv.weight"] == 1
    assert ids["blocks.2.perceptron.norm.bias"] == 3
    assert ids["norm.weight"] == 4


@pytest.mark.parametrize("name", ["vit-ti", "vit-s", "vit-b", "vit-l"])
def test_presets_have_the_published_size(name: str) -> None:
    """Parameters without a classifier, in millions: 5.5, 21.7, 85.8, 303.3 (DeiT, table 1, and ViT, table 1)."""
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in VisionTransformer(PRESETS[name]).parameters())
    assert round(count / 1e6, 1) == {"vit-ti": 5.5, "vit-s": 21.7, "vit-b": 85.8, "vit-l": 303.3}[name]


def test_the_start_depends_on_the_seed_alone() -> None:
    """Two networks of one seed are equal."""
    first, second, third = (build(SMALL, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["positions"], third["positions"])


@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning")  # torch's own, of its exporter
@pytest.mark.slow
@pytest.mark.parametrize("name", ["everything", "conv stem", "hybrid stem"])
def test_onnx_gives_the_same_for_any_batch_and_size(name: str, tmp_path: Path) -> None:
    """One exported file with dynamic batch and size agrees with torch to 2e-5 in float32."""
    import onnxruntime

    config = VARIANTS[name]
    network, path = build(config), tmp_path / "vit.onnx"
    batch, rows, columns = torch.export.Dim("batch"), torch.export.Dim("rows"), torch.export.Dim("columns")
    torch.onnx.export(
        network,
        (pictures(2, 3, 32, 48),),
        path,
        input_names=["pictures"],
        dynamic_shapes={"pictures": {0: batch, 2: 8 * rows, 3: 8 * columns}},
        dynamo=True,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    for shape in ((1, 32, 48), (3, 32, 48), (8, 64, 24)):
        inputs = pictures(shape[0], 3, *shape[1:], seed=shape[0])
        with torch.inference_mode():
            expected = network(inputs).numpy()
        np.testing.assert_allclose(session.run(None, {"pictures": inputs.numpy()})[0], expected, atol=2e-5)


def test_it_compiles_whole() -> None:
    """torch.compile takes it without a break, at more than one size, and gives the same values and gradients."""
    config = replace(SMALL, registers=1, layer_scale=0.1)
    plain, compiled = build(config), build(config)
    run = torch.compile(compiled, backend="aot_eager", fullgraph=True)

    for size in ((32, 48), (48, 24)):
        batch = pictures(2, 3, *size)
        expected, got = plain(batch), run(batch)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
        expected.square().sum().backward()
        got.square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, atol=1e-3, rtol=1e-4, msg=name)


@pytest.mark.parametrize("stem", ["patch", "conv", "efficientnet-lite0"])
def test_bfloat16_stays_near(stem: str) -> None:
    """Under autocast to bfloat16, whose numbers have 8 bits, the vector keeps its direction to a cosine of 0.999."""
    network = build(VitConfig.from_dict({**SMALL.to_dict(), "stem": stem}))
    batch = pictures(2, 3, 48, 24).contiguous(memory_format=torch.channels_last)

    with torch.inference_mode():
        expected = network(batch)
        with torch.autocast("cpu", torch.bfloat16):
            got = network(batch)

    assert torch.cosine_similarity(got.float(), expected).min() > 0.999
    assert not torch.equal(got.float(), expected)

"""Checkpoints in the layouts of timm, DINOv2, open_clip and our own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'bowerbird[train]'")

from bowerbird.errors import ArgumentInvalid  # noqa: E402
from bowerbird.models.checkpoints import infer_config, load_backbone  # noqa: E402
from bowerbird.models.vit import VisionTransformer, VitConfig, resize_positions  # noqa: E402

from .towers import OpenClipTower, TimmTower  # noqa: E402

# float32, the attention computed in another order: the largest difference seen is 8.4e-7, of values up to 3.
TOLERANCE = 1e-5
SHAPE: dict[str, int] = {"width": 48, "depth": 2, "heads": 4, "patch": 8, "side": 40}


def randomise(network: Any) -> Any:
    """Every parameter random, so that none can be forgotten unseen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0 if parameter.ndim > 1 else 0.5, 0.2, generator=generator)
    return network.eval()


def load(tensors: dict[str, Any], **known: Any) -> tuple[VisionTransformer, Any]:
    network = VisionTransformer(infer_config(tensors, heads=4, **known)).eval()
    return network, load_backbone(network, tensors)


def pictures(side: int = 40) -> Any:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def compare(ours: VisionTransformer, theirs: Any) -> None:
    with torch.inference_mode():
        tokens, expected = ours.forward_tokens(pictures()), theirs(pictures())
    assert expected.std() > 0.1
    torch.testing.assert_close(tokens.class_token, expected[:, 0], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(tokens.patches, expected[:, 1 + tokens.registers.shape[1] :], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("registers", "layout"), [("", "timm"), ("reg_token", "timm"), ("register_tokens", "dinov2")])
@pytest.mark.parametrize("prefix", ["", "visual.trunk.", "module."])
def test_timm_and_dinov2(registers: str, layout: str, prefix: str) -> None:
    """The same tokens, whatever stands before the names and whatever heads come along."""
    theirs = randomise(TimmTower(**SHAPE, registers=registers))
    tensors = {prefix + key: tensor for key, tensor in theirs.state_dict().items()}

    ours, report = load({**tensors, "head.weight": torch.zeros(3, 48)})

    compare(ours, theirs)
    assert report.layout == layout
    assert set(report.unexpected) <= {"head.weight", f"{prefix}mask_token"}
    assert report.missing == ()


def test_dinov2_in_chunks() -> None:
    """Files of DINOv2's training number the blocks inside chunks."""
    theirs = randomise(TimmTower(**SHAPE, registers="register_tokens"))
    tensors = {
        key.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1."): tensor
        for key, tensor in theirs.state_dict().items()
    }
    assert "blocks.1.1.attn.qkv.weight" in tensors

    compare(load(tensors)[0], theirs)


@pytest.mark.parametrize("prefix", ["", "visual."])
def test_open_clip(prefix: str) -> None:
    """The visual tower out of a checkpoint with both towers; the other is reported."""
    theirs = randomise(OpenClipTower(**SHAPE))
    text = {"transformer.resblocks.0.attn.in_proj_weight": torch.zeros(6, 2), "logit_scale": torch.zeros(())}
    tensors = {prefix + key: tensor for key, tensor in theirs.state_dict().items()}

    ours, report = load({**tensors, **(text if prefix else {})}, activation="quick_gelu")

    compare(ours, theirs)
    assert ours.config.pre_norm
    assert report.layout == "open_clip"
    assert set(report.unexpected) == {f"{prefix}proj", *(text if prefix else ())}


def test_timm_without_positions_of_the_class_token() -> None:
    """timm's `no_embed_class`: the positions are of patches alone."""
    tensors = randomise(TimmTower(**SHAPE, registers="reg_token")).state_dict()
    whole, _ = load(tensors)
    moved = {
        **tensors,
        "cls_token": tensors["cls_token"] + tensors["pos_embed"][:, :1],
        "pos_embed": tensors["pos_embed"][:, 1:],
    }
    registers_too = {
        **tensors,
        "reg_token": tensors["reg_token"] - 1,
        "pos_embed": torch.cat([tensors["pos_embed"][:, :1], torch.ones(1, 4, 48), tensors["pos_embed"][:, 1:]], 1),
    }

    for same in (moved, registers_too):
        torch.testing.assert_close(load(same)[0](pictures()), whole(pictures()), atol=1e-5, rtol=0)


def test_timm_that_pools_before_the_norm() -> None:
    """A network of timm with `fc_norm` is one whose mean is normalised."""
    tensors = randomise(TimmTower(**SHAPE)).state_dict()
    late = {key.replace("norm.", "fc_norm.") if key.startswith("norm.") else key: part for key, part in tensors.items()}

    ours, _ = load(late)

    assert ours.config.pool == "norm_of_mean"
    patches = ours.forward_tokens(pictures(), layers=[-1]).intermediate[0]
    torch.testing.assert_close(ours(pictures()), ours.norm(patches.mean(1)))


def test_positions_follow_the_network() -> None:
    """Another size of pictures interpolates the positions once, at loading, and says so."""
    tensors = randomise(TimmTower(**SHAPE)).state_dict()
    config = replace(infer_config(tensors, heads=4), image_size=(64, 48))
    ours = VisionTransformer(config).eval()

    report = load_backbone(ours, tensors)

    assert report.resized == ("positions: 5 x 5 -> 8 x 6",)
    native = tensors["pos_embed"][:, 1:].unflatten(1, (5, 5))
    assert torch.equal(ours.positions, resize_positions(native, (8, 6), "bicubic_antialias"))


def test_a_grid_that_is_no_square_is_the_networks() -> None:
    """24 positions are 4 x 6 if the network has that grid; another network cannot know."""
    tensors = dict(randomise(TimmTower(**SHAPE)).state_dict())
    tensors["pos_embed"] = torch.randn(1, 25, 48)
    tensors["cls_token"] = tensors["cls_token"][:, :1]
    config = replace(infer_config(tensors, heads=4), image_size=(32, 48))
    oblong = VisionTransformer(config)

    assert load_backbone(oblong, tensors).resized == ()
    tensors["pos_embed"] = torch.randn(1, 23, 48)
    with pytest.raises(ArgumentInvalid, match="23 positions, neither a square of patches nor the grid"):
        load_backbone(oblong, tensors)


@pytest.mark.parametrize("stem", ["patch", "conv", "efficientnet-lite0"])
@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_our_own(stem: str, prefix: str) -> None:
    """What a network saves, another of the same configuration loads, at another size too."""
    config = VitConfig.from_dict(
        {"width": 48, "depth": 2, "heads": 4, "patch_size": 8, "image_size": [16, 40], "stem": stem, "qkv_bias": False}
    )
    saved = randomise(VisionTransformer(config))
    tensors = {prefix + key: tensor for key, tensor in saved.state_dict().items()}
    heads = {"heads.concept.weight": torch.zeros(3, 2)} if prefix else {}
    same, larger = VisionTransformer(config).eval(), VisionTransformer(replace(config, image_size=(40, 40)))

    report = load_backbone(same, {**tensors, **heads})

    assert torch.equal(same(pictures()), saved(pictures()))
    assert (report.layout, report.missing, report.unexpected) == ("bowerbird", (), tuple(heads))
    assert load_backbone(larger, tensors).resized == ("positions: 2 x 5 -> 5 x 5",)


def test_new_tokens_may_start_fresh() -> None:
    """Registers that a checkpoint lacks keep their start; a class token that nothing reads may be left."""
    tensors = randomise(TimmTower(**SHAPE)).state_dict()
    config = infer_config(tensors, heads=4)
    more = VisionTransformer(replace(config, registers=2))
    fewer = VisionTransformer(replace(config, class_token=False, pool="mean"))
    before = more.registers.clone()

    assert load_backbone(more, tensors).missing == ("registers",)
    assert torch.equal(more.registers, before)
    assert "class_token" in load_backbone(fewer, tensors).unexpected


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"width": 32}, r"positions is \(1, 5, 5, 48\), expected \(1, 5, 5, 32\)"),
        ({"depth": 3}, r"blocks\.2\.attention\.norm\.weight \(48,\) is missing"),
        ({"depth": 1}, r"blocks\.1\.\S+ \(\d+.*\) has no place"),
        (
            {"patch_size": 4, "image_size": (20, 20)},
            r"stem\.projection\.weight is \(48, 3, 8, 8\), expected \(48, 3, 4, 4\)",
        ),
        ({"layer_scale": None}, r"blocks\.0\.attention\.factor \(48,\) has no place"),
        ({"pre_norm": True}, r"pre_norm\.weight \(48,\) is missing"),
        ({"mlp_ratio": 2.0}, r"perceptron\.inner\.expand\.weight is \(192, 48\), expected \(96, 48\)"),
        ({"stem": "conv"}, r"stem\.projection\.weight is .*stem\.layers\.0\.weight"),
    ],
)
def test_another_architecture_is_refused_whole(change: dict[str, Any], complaint: str) -> None:
    """The message names keys and shapes, and the network keeps every weight."""
    tensors = randomise(TimmTower(**SHAPE)).state_dict()
    network = VisionTransformer(replace(infer_config(tensors, heads=4), **change))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    with pytest.raises(ArgumentInvalid, match=f"another architecture: .*{complaint}"):
        load_backbone(network, tensors)

    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_parts_of_a_block_that_ours_lacks_are_refused() -> None:
    """Normalised queries would be ignored in silence; they are named."""
    tensors = randomise(TimmTower(**SHAPE)).state_dict()
    network = VisionTransformer(infer_config(tensors, heads=4))

    with pytest.raises(ArgumentInvalid, match=r"blocks\.0\.attn\.q_norm\.weight has no place"):
        load_backbone(network, {**tensors, "blocks.0.attn.q_norm.weight": torch.ones(12)})


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        ({}, "it has no tensors"),
        ({"layer1.0.conv1.weight": (8, 3, 3, 3)}, r"it has layer1\.0\.conv1\.weight \(8, 3, 3, 3\)"),
        (
            {
                f"{who}.{key}": (4, 3, 2, 2)
                for who in ("student", "teacher")
                for key in ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight")
            },
            "several backbones, under student., teacher.",
        ),
        (
            {"patch_embed.proj.weight": (4, 3, 2, 2), "blocks.0.attn.qkv.weight": (12, 4), "norm.weight": (4,)},
            "no learned positions",
        ),
    ],
)
def test_what_is_no_vision_transformer_of_ours_is_refused(tensors: dict[str, Any], complaint: str) -> None:
    """The message shows what was found."""
    with pytest.raises(ArgumentInvalid, match=complaint):
        infer_config({key: torch.zeros(shape) for key, shape in tensors.items()})


@pytest.mark.parametrize("size", [(40, 40), (24, 64)])
def test_timm_itself(size: tuple[int, int]) -> None:
    """Where timm is installed, its own network gives the same, at other sizes too."""
    timm = pytest.importorskip("timm", reason="needs timm, which needs torchvision")
    shape = {"img_size": 40, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4, "num_classes": 0}
    theirs = randomise(timm.models.VisionTransformer(**shape, reg_tokens=4, init_values=0.1, dynamic_img_size=True))
    ours, _ = load(theirs.state_dict())
    batch = torch.randn(2, 3, *size)
    torch.testing.assert_close(ours(batch), theirs.forward_features(batch)[:, 0], atol=TOLERANCE, rtol=0)


def test_open_clip_itself() -> None:
    """Where open_clip is installed, its own tower gives the same."""
    transformer = pytest.importorskip("open_clip.transformer", reason="needs open_clip, which needs torchvision")
    theirs = randomise(transformer.VisionTransformer(40, 8, 48, 2, 4, 4.0, output_dim=6))
    ours, _ = load(theirs.state_dict(), activation="gelu")
    torch.testing.assert_close(ours(pictures()) @ theirs.proj, theirs(pictures()), atol=TOLERANCE, rtol=0)

"""Augmentation: each change does what it is called, nothing else, and is a pure function of seed, step and row."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bowerbird import native  # noqa: E402
from bowerbird.errors import ConfigInvalid  # noqa: E402
from bowerbird.training.augment import PRESETS, Augment, AugmentConfig, Evaluate  # noqa: E402
from bowerbird.training.augment.changes import LUMA  # noqa: E402

UNIT = {"mean": (0.0,) * 3, "std": (255.0,) * 3}  # the output is then the picture itself, 0 to 1
COUNT, SIDE = 64, 24
ROUNDING = 1e-5  # of a sum of a few products in float32


def run(pictures, size=SIDE, step=0, seed=0, **config):
    """(b, 3, H, W), of a (b, h, w, 3) array."""
    augment = Augment(size, AugmentConfig(**config), seed=seed, oversample=1, **UNIT)
    return augment([augment.prepare(picture) for picture in pictures], np.arange(len(pictures)), step)


def noise(count=COUNT, side=SIDE):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def flat(colour, count=COUNT):
    return np.broadcast_to(np.array(colour, np.uint8), (count, SIDE, SIDE, 3))


def as_tensor(pictures):
    return torch.from_numpy(pictures.astype(np.float32) / 255).permute(0, 3, 1, 2)


def luma(pictures):
    return torch.einsum("bchw,c->bhw", pictures, torch.tensor(LUMA))


def test_nothing_is_changed_without_a_reason():
    pictures = noise()
    torch.testing.assert_close(run(pictures), as_tensor(pictures), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("size", [16, (16, 24)])
def test_the_output_is_normalised_and_has_the_models_size(size):
    mean, std = (123.0, 117.0, 104.0), (58.0, 57.0, 56.0)
    augment = Augment(size, PRESETS["none"], mean=mean, std=std)
    picture = np.broadcast_to(np.array([30, 60, 90], np.uint8), (50, 70, 3))
    output = augment([augment.prepare(picture)], np.array([0]), 0)
    assert output.shape == (1, 3, 16, 16 if size == 16 else 24)
    expected = [(c - m) / s for c, m, s in zip((30, 60, 90), mean, std, strict=True)]
    torch.testing.assert_close(output[0, :, 8, 8], torch.tensor(expected), rtol=0, atol=1e-4)


def test_the_same_seed_step_and_row_give_the_same_bits_in_any_company():
    augment = Augment(SIDE, AugmentConfig.from_preset("strong", blur=0.5), seed=5, **UNIT)
    pictures, rows = [augment.prepare(picture) for picture in noise()], np.arange(COUNT)
    together = augment(pictures, rows, 3)
    assert torch.equal(together, augment(pictures, rows, 3))
    for n in range(COUNT):
        assert torch.equal(together[n], augment(pictures[n : n + 1], rows[n : n + 1], 3)[0])


def test_another_seed_step_or_row_gives_another_picture():
    augments = [Augment(SIDE, PRESETS["strong"], seed=seed, oversample=1, **UNIT) for seed in (0, 1)]
    picture = noise(1)[0]
    outputs = [augments[seed]([picture], np.array([row]), step)[0] for seed, row, step in
               [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]]  # fmt: skip
    for n, one in enumerate(outputs):
        assert all(not torch.equal(one, other) for other in outputs[n + 1 :])


def test_flip_mirrors_left_to_right_as_often_as_asked():
    pictures = noise()
    torch.testing.assert_close(run(pictures, flip=1.0), as_tensor(pictures).flip(3), rtol=0, atol=ROUNDING)
    plain = (run(pictures, flip=0.25) - as_tensor(pictures)).abs().amax((1, 2, 3)) < ROUNDING
    assert 0.55 < plain.float().mean() < 0.92  # 0.75 +- 3.3 standard deviations


def test_a_crop_below_one_shows_less_and_never_the_outside():
    gradient = np.repeat(np.linspace(0, 200, SIDE).astype(np.uint8)[None, :, None], SIDE, 0).repeat(3, 2)
    output = run([gradient] * COUNT, area=(0.25, 0.25))
    spans = output.amax((1, 2, 3)) - output.amin((1, 2, 3))
    assert output.max() <= 200 / 255 + ROUNDING
    assert spans.max() < 0.5  # half of the gradient's 0.78, and a pixel


@pytest.mark.parametrize(("fill", "colour"), [("white", 1.0), ("edge", 0.0)])
def test_what_lies_outside_is_filled(fill, colour):
    output = run(flat([0, 0, 0]), area=(4.0, 4.0), fill=fill)
    share = (output[:, 0] > 0.5).float().mean()
    assert share == pytest.approx(0.75 * colour, abs=0.02)  # a picture of a quarter of the area


def test_rotation_keeps_shapes_also_where_the_input_is_no_square():
    height, width = 40, 80
    y, x = np.mgrid[:height, :width]
    disc = np.where((y - 19.5) ** 2 + (x - 39.5) ** 2 < 15**2, 0, 255).astype(np.uint8)[..., None].repeat(3, 2)
    output = run([disc] * 16, size=(height, width), rotation=90.0, rotation_probability=1.0)
    torch.testing.assert_close(output.mean((1, 2, 3)), torch.full((16,), float(disc.mean() / 255)), rtol=0, atol=0.01)
    assert ((output - as_tensor(disc[None])).abs().mean((1, 2, 3)) < 0.02).all()  # but for the disc's rim


def test_the_aspect_ratio_stays_within_its_bounds():
    disc = np.full((SIDE, SIDE, 3), 255, np.uint8)
    disc[8:16, 8:16] = 0
    output = run([disc] * COUNT, aspect=2.0)[:, 0] < 0.5
    tall, wide = output.any(2).sum(1) / 8, output.any(1).sum(1) / 8
    assert (tall / wide).max() < 2.4 and (tall / wide).min() > 1 / 2.4  # a pixel of 8 either way
    assert (tall / wide).max() > 1.5 and (tall / wide).min() < 1 / 1.5


@pytest.mark.parametrize("preset", PRESETS)
def test_without_colour_no_colour_appears_that_was_not_there(preset):
    output = run(flat([200, 140, 100]), **{**vars(AugmentConfig.from_preset(preset)), "colour": False})
    red_over_blue = output[:, 0] - (1 - (1 - output[:, 2]) * (55 / 155))  # 0 on the line from white to the colour
    erased = (output == 0).all(1)
    assert red_over_blue[~erased].abs().max() < 1e-4


def test_pictures_named_by_row_keep_their_colours():
    """The rows are those of the table, not places in the batch; the others change as if nothing had been kept."""
    config = AugmentConfig.from_preset("none", hue=0.1, jitter=1.0, greyscale=0.3)
    pictures, rows = list(noise()), np.arange(COUNT)[::-1]
    keep = np.arange(COUNT) < COUNT // 2
    kept = Augment(SIDE, config, **UNIT, oversample=1.0, keep_colour=keep)(pictures, rows, 0)
    changed = Augment(SIDE, config, **UNIT, oversample=1.0)(pictures, rows, 0)
    same = torch.from_numpy(keep[rows].copy())
    torch.testing.assert_close(kept[same], as_tensor(noise())[same], rtol=0, atol=ROUNDING)
    assert torch.equal(kept[~same], changed[~same])
    assert (changed[same] - kept[same]).abs().mean() > 0.05


def test_greyscale_leaves_the_luma():
    pictures = noise()
    output = run(pictures, greyscale=1.0)
    assert (output.amax(1) - output.amin(1)).max() < ROUNDING
    torch.testing.assert_close(output[:, 0], luma(as_tensor(pictures)), rtol=0, atol=1e-4)


def test_hue_keeps_the_luma_and_greys_and_moves_colours():
    red = run(flat([150, 100, 100]), hue=0.2, jitter=1.0)
    torch.testing.assert_close(luma(red), luma(as_tensor(flat([150, 100, 100]))), rtol=0, atol=2e-3)
    assert (red[:, 0] - red[:, 1]).mean((1, 2)).std() > 0.03
    torch.testing.assert_close(run(flat([99, 99, 99]), hue=0.2), as_tensor(flat([99, 99, 99])), rtol=0, atol=1e-4)


def test_invert_turns_the_luma_over_and_keeps_the_hue():
    for colour, inverted in [((255, 255, 255), (0, 0, 0)), ((0, 0, 0), (255, 255, 255)), ((110, 80, 80), None)]:
        output = run(flat(colour), invert=1.0)
        torch.testing.assert_close(luma(output), 1 - luma(as_tensor(flat(colour))), rtol=0, atol=1e-4)
        if inverted:
            torch.testing.assert_close(output, as_tensor(flat(inverted)), rtol=0, atol=ROUNDING)
        else:
            assert (output[:, 0] - output[:, 1]).mean() == pytest.approx(30 / 255, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "low", "high"),
    [
        ({"brightness": 0.2}, 0.4 * 0.8, 0.4 * 1.2),
        ({"contrast": 0.5}, 0.5 - 0.1 * 1.5, 0.5 - 0.1 * 0.5),
        ({"channel_shift": 0.1}, 0.3, 0.5),
    ],
)
def test_brightness_contrast_and_shift_stay_within_their_bounds_and_use_them(change, low, high):
    output = run(flat([102, 102, 102]), **change, jitter=1.0)[:, 0, 5, 5]
    assert low - 1e-4 <= output.min() < low + 0.25 * (high - low)
    assert high - 0.25 * (high - low) < output.max() <= high + 1e-4


def test_jitter_leaves_some_pictures_as_they_are():
    output = run(flat([102, 102, 102]), brightness=0.5, jitter=0.5)[:, 0, 5, 5]
    assert 0.25 < ((output - 0.4).abs() < ROUNDING).float().mean() < 0.75


def test_blur_keeps_the_mean_and_takes_the_detail():
    pictures = noise()
    output = run(pictures, blur=1.0)
    torch.testing.assert_close(output.mean((2, 3)), as_tensor(pictures).mean((2, 3)), rtol=0, atol=0.03)
    assert (output.std((2, 3)) < 0.9 * as_tensor(pictures).std((2, 3))).all()


def test_erasing_leaves_one_rectangle_of_the_mean_colour():
    augment = Augment(SIDE, AugmentConfig(erase=1.0, erase_area=(0.1, 0.3)), mean=(50.0,) * 3, std=(50.0,) * 3)
    output = augment([augment.prepare(picture) for picture in flat([200, 200, 200])], np.arange(COUNT), 0)
    erased = (output == 0).all(1)
    shares = erased.float().mean((1, 2))
    assert shares.min() > 0.06 and shares.max() < 0.37
    assert (erased.any(1).sum(1) * erased.any(2).sum(1) == erased.sum((1, 2))).all()


def test_pictures_are_kept_with_the_detail_that_crops_need():
    augment = Augment(64, PRESETS["strong"], oversample=1.5, **UNIT)
    assert augment.prepare(np.zeros((300, 200, 3), np.uint8)).shape == (96, 96, 3)
    assert augment.min_side == 96


def test_evaluation_is_the_preprocessing_of_serving():
    mean, std = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
    pictures = [noise(1, side)[0] for side in (20, 50)]
    output = Evaluate((16, 24), mean=mean, std=std)(pictures, np.arange(2), 0)
    assert (output.numpy() == native.preprocess(pictures, height=16, width=24, mean=mean, std=std)).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AugmentConfig.from_preset("wild"), "none | light | strong, got 'wild'"),
        (lambda: AugmentConfig.from_preset("light", colour_shift=1), "unknown colour_shift; known: area"),
        (lambda: AugmentConfig.from_preset("light", flip=1.5), "flip: expected a probability, got 1.5"),
        (lambda: AugmentConfig(area=(2.0, 1.0)), "area"),
        (lambda: AugmentConfig(aspect=0.5), "aspect"),
        (lambda: AugmentConfig(hue=-1), "hue"),
        (lambda: AugmentConfig(fill="black"), "`white` or `edge`"),
    ],
)
def test_wrong_settings_are_named(make, words):
    with pytest.raises(ConfigInvalid, match=words.replace("|", r"\|")):
        make()

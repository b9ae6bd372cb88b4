"""Losses and measures of masks: by hand, beside torch, and added up over partners."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.manifest import UNLABELLED, Image, Mask, Number, Schema, answer_shape
from aimass.proto.networks import UNet
from aimass.proto.segmentation import mask_loss, mask_measures

KINDS = ("ground", "thing", "other thing")


def surely(said: np.ndarray, classes: int = 3) -> np.ndarray:
    """Probabilities that say so with 0.8."""
    rest = 0.2 / (classes - 1)
    return np.moveaxis(np.where(np.eye(classes)[said] == 1, 0.8, rest), 3, 1)


def test_measures_of_an_asymmetric_mask_are_those_counted_by_hand() -> None:
    true = np.array([[[0, 1, 1], [0, 2, UNLABELLED], [0, 0, 1]]], np.uint8)
    said = np.array([[[0, 1, 2], [1, 2, 2], [0, 0, 1]]])
    found = mask_measures(surely(said), true, KINDS)
    # 8 labelled pixels of 9: 6 right. thing: TP 2, said 3, true 3. other thing: TP 1, said 2, true 1.
    assert found["accuracy"].total / found["accuracy"].weight == pytest.approx(6 / 8)
    assert found["accuracy"].weight == pytest.approx(8 / 9)
    assert found["loss"].total / found["loss"].weight == pytest.approx(-(6 * np.log(0.8) + 2 * np.log(0.1)) / 8)
    assert found["dice_thing"].total / found["dice_thing"].weight == pytest.approx(2 * 2 / 6)
    assert found["dice_other_thing"].total / found["dice_other_thing"].weight == pytest.approx(2 * 1 / 3)
    assert found["dice"].total / found["dice"].weight == pytest.approx(2 * 3 / 9)


def test_of_two_classes_there_is_one_dice_and_of_neither_there_nor_said_none() -> None:
    nothing = np.zeros((2, 3, 3), np.uint8)
    assert set(mask_measures(surely(nothing, 2), nothing, KINDS[:2])) == {"loss", "accuracy"}
    missed = mask_measures(surely(nothing, 2), nothing + np.uint8(1), KINDS[:2])
    assert missed["dice"].total == 0.0
    assert missed["dice"].weight == pytest.approx(1.0)
    assert mask_measures(surely(nothing, 2), np.full_like(nothing, UNLABELLED), KINDS[:2]) == {}


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_sums_over_partners_are_the_measures_of_all_pixels_together(seed: int, first: int) -> None:
    chance = np.random.default_rng(seed)
    true = chance.choice(np.array([0, 1, 2, UNLABELLED], np.uint8), (5, 4, 3))
    said = surely(chance.integers(0, 3, (5, 4, 3)))
    whole = mask_measures(said, true, KINDS)
    parts = [mask_measures(said[rows], true[rows], KINDS) for rows in (slice(first), slice(first, None))]
    for name, metric in whole.items():
        assert sum(part[name].total for part in parts if name in part) == pytest.approx(metric.total)
        assert sum(part[name].weight for part in parts if name in part) == pytest.approx(metric.weight)
        assert metric.weight <= len(true) + 1e-9


def plain_loss(logits: np.ndarray, mask: np.ndarray) -> float:
    """Of one image, pixel by pixel."""
    classes, height, width = logits.shape
    entropy, pixels = 0.0, 0
    both, either = np.zeros(classes), np.zeros(classes)
    for row in range(height):
        for column in range(width):
            if (kind := mask[row, column]) == UNLABELLED:
                continue
            chances = np.exp(logits[:, row, column]) / np.exp(logits[:, row, column]).sum()
            entropy, pixels = entropy - np.log(chances[kind]), pixels + 1
            both[kind] += chances[kind]
            either += chances
            either[kind] += 1
    dice = [(2 * both[kind] + 1) / (either[kind] + 1) for kind in range(1, classes)]
    return float(entropy / max(pixels, 1) + 1 - np.mean(dice))


def test_the_loss_of_each_image_is_that_of_its_labelled_pixels_one_by_one() -> None:
    torch.manual_seed(1)
    outputs = torch.randn(3, 3, 4, 5, dtype=torch.float64)
    masks = torch.randint(0, 3, (3, 4, 5), dtype=torch.uint8)
    masks[0, :2], masks[2] = UNLABELLED, UNLABELLED
    each = mask_loss(outputs, masks, "none")
    np.testing.assert_allclose(each, [plain_loss(o, m) for o, m in zip(outputs.numpy(), masks.numpy(), strict=True)])
    assert each[2] == 0
    torch.testing.assert_close(mask_loss(outputs, masks, "mean"), each.mean())


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10), (1, 1)])
def test_a_u_net_answers_for_each_pixel_of_an_image_of_any_size(height: int, width: int) -> None:
    model = UNet(channels=3, classes=4, width=8, levels=3)
    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    assert model(images).shape == (2, 4, height, width)


def test_an_image_in_a_u_net_does_not_depend_on_those_beside_it() -> None:
    torch.manual_seed(0)
    model = UNet(channels=1, classes=2, width=8, levels=3)
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(model(images)[2:3], model(images[2:3]))


def test_a_mask_is_the_label_of_one_image_of_its_size() -> None:
    mask = Mask(name="mask", shape=(4, 6), values=("ground", "thing"))
    schema = Schema(name="s/1", columns=(Image(name="image", shape=(4, 6, 3)),), label=mask)
    assert (schema.segments, schema.classes, answer_shape(schema)) == (True, ("ground", "thing"), (2, 4, 6))
    for columns in ((Image(name="image", shape=(6, 4)),), (Number(name="x", minimum=0, maximum=1),)):
        with pytest.raises(ValueError, match="one image"):
            Schema(name="s/1", columns=columns, label=mask)

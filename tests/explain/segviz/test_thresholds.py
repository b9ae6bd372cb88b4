"""The interval of pooled Dice holds the truth about as often as it says, over images of unequal size and difficulty."""

from __future__ import annotations

import numpy as np

from aimass.explain.images import Images, image_model_of_function
from aimass.explain.segviz import MaskOptions, explain_images
from aimass.explain.segviz.overlap import Overlap
from aimass.explain.segviz.thresholds import jackknife


def test_the_interval_of_pooled_dice_holds_the_truth() -> None:
    random, held = np.random.default_rng(0), 0
    for _ in range(1000):
        size, share = random.integers(50, 400, 30), random.beta(8, 2, 30)
        both, alone = random.binomial(size, share), random.poisson(0.2 * size)
        both, alone, missed = (part[:, None] for part in (both, alone, size - both))
        dice = Overlap(both.sum(axis=0), alone.sum(axis=0), missed.sum(axis=0)).dice
        low, high = jackknife(both, alone, missed, dice)
        held += bool(low[0] <= 0.8 <= high[0])  # of 0.8, 0.2 and 0.2 of a size: 2 * 0.8 / (2 * 0.8 + 0.2 + 0.2)
    assert 925 <= held <= 970


def test_a_threshold_between_hundredths_and_many_best_ones_are_told_as_such() -> None:
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[:, :4] = 1
    model = image_model_of_function(lambda pixels: 0.1 + 0.8 * (pixels > 0), ("ground", "disc"), segments=True)
    options = MaskOptions(threshold=0.999, things=False)
    found = explain_images(model, Images(masks, ("ground", "disc"), masks=masks), options).thresholds
    said = found.describe()[0]
    assert said.startswith("At a chance of 0.99, the hundredth next to 0.999, disc has Dice 0")
    assert said.endswith("Best is 0.11 to 0.9, with Dice 1.")

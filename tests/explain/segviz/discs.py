"""Images of discs and a model that is wrong in known ways, for the tests of segmentations."""

from __future__ import annotations

import numpy as np

from aimass.explain.images import FunctionImageModel, Images, image_model_of_function

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
SIDE = 64


def images(count: int, *, seed: int = 0, side: int = SIDE, discs: int = 5) -> Images:
    """Bright discs on a dark ground, each with its number; later images are noisier."""
    random = np.random.default_rng(seed)
    rows, columns = np.indices((side, side))
    pixels, instances = np.zeros((count, side, side), np.uint8), np.zeros((count, side, side), np.int32)
    for image in range(count):
        for number in range(1, discs + 1):
            row, column = random.integers(6, side - 6, 2)
            inside = (rows - row) ** 2 + (columns - column) ** 2 <= random.integers(3, 7) ** 2
            instances[image][inside & (instances[image] == 0)] = number
        bright = np.where(instances[image] > 0, 170, 60) + random.normal(0, 5 + 60 * image / count, (side, side))
        pixels[image] = bright.clip(0, 255)
    masks = (instances > 0).astype(np.uint8)
    return Images(pixels, ("ground", "disc"), None, masks, instances, "discs", True)


def by_brightness(pixels: Pixels) -> object:
    """The chance of a disc rises with brightness."""
    return 1 / (1 + np.exp(-(pixels.astype(np.float64) - 115) / 12))


MODEL: FunctionImageModel = image_model_of_function(
    by_brightness, ("ground", "disc"), segments=True, name="by brightness"
)

"""Bands over space: every labelled pixel lies in one, slices in order, and intervals are over images, not pixels."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest

from aimass.explain.images import SOURCE, UNLABELLED, FunctionImageModel, Images, image_model_of_function
from aimass.explain.prim import SpaceOptions, explain_images
from aimass.explain.prim.space import _block_means
from aimass.explain.prim.space_view import SpaceBands, ratio_interval
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.intervals import wilson

Pixels = npt.NDArray[np.uint8]


def bright(pixels: Pixels) -> npt.NDArray[np.float64]:
    return pixels / 255.0


MODEL: FunctionImageModel = image_model_of_function(bright, ("ground", "cell"), segments=True, name="bright")


def images(count: int = 4, height: int = 8, width: int = 6, seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, height, width)).astype(np.uint8)
    masks = (rng.random(pixels.shape) < pixels / 255).astype(np.uint8)
    return Images(pixels, ("ground", "cell"), masks=masks)


def test_each_band_counts_its_pixels_and_those_of_the_class() -> None:
    pixels = np.array([[[0, 51, 255], [128, 127, 204]]], np.uint8)
    masks = np.array([[[0, 1, 1], [UNLABELLED, 0, 1]]], np.uint8)
    found = explain_images(MODEL, Images(pixels, ("ground", "cell"), masks=masks))
    assert found.by_image(found.counts).tolist() == [[1, 2, 0, 2]]
    assert found.by_image(found.hits).tolist() == [[0, 1, 0, 2]]
    assert found.rates()[0].tolist()[:2] == [0.0, 0.5]
    assert "0.8 and more: 40 % of 5 pixels, of which 100 % are cell." in found.describe()


def test_a_slider_gives_what_other_thresholds_would_have_given() -> None:
    moved = explain_images(MODEL, images()).at([0.31, 0.77])
    asked = explain_images(MODEL, images(), SpaceOptions(thresholds="0.31, 0.77"))
    np.testing.assert_array_equal(moved.by_image(moved.counts), asked.by_image(asked.counts))
    np.testing.assert_array_equal(moved.by_image(moved.hits), asked.by_image(asked.hits))


def test_chunks_and_workers_change_nothing_and_json_neither() -> None:
    many = images(9, 64, 64)
    first = explain_images(MODEL, many)
    assert explain_images(MODEL, many, SpaceOptions(), Work(memory_bytes=1 << 20, workers=2)) == first
    assert SpaceBands.from_json(first.to_json()) == first
    assert sum(int(str(one)) for one in first.to_columns()["pixels"]) == 9 * 64 * 64


def test_the_interval_is_that_of_images_drawn_and_not_of_pixels() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        counts = rng.integers(500, 1500, 12)
        hits = rng.binomial(counts, rng.beta(3, 7, 12))
        _, low, high = ratio_interval(hits, counts)
        covered.append(low <= 0.3 <= high)
    assert 0.91 <= np.mean(covered) <= 0.98
    assert math.isnan(ratio_interval(np.array([3, 0]), np.array([9, 0]))[1])
    assert all(map(math.isnan, ratio_interval(np.zeros(2), np.zeros(2))))
    assert ratio_interval(np.array([5, 9]), np.array([5, 9]))[:2] == (1.0, wilson(1.0, 2)[0])
    assert ratio_interval(np.array([5, 10, 15]), np.array([10, 20, 30])) == (0.5, 0.5, 0.5)


def test_blocks_are_the_mean_of_their_pixels_also_at_the_edges() -> None:
    said = np.random.default_rng(0).random((300, 131))
    blocks = _block_means(said)
    assert blocks.shape == (100, 44)
    assert blocks[99, 43] == round(255 * said[297:300, 129:131].mean())
    assert blocks[0, 0] == round(255 * said[:3, :3].mean())
    small = np.arange(6.0).reshape(2, 3) / 255
    np.testing.assert_array_equal(_block_means(small), np.arange(6).reshape(2, 3))


def test_of_a_volume_slices_are_shown_at_equal_steps_and_of_images_those_with_most() -> None:
    pixels = np.zeros((30, 4, 4), np.uint8)
    pixels[10:21] = 255
    volume = Images(pixels, ("ground", "cell"), volume=True)
    found = explain_images(MODEL, volume)
    assert found.shown.tolist() == [10, 12, 14, 16, 18, 20]
    assert [panel.title for panel in found.picture().panels][1] == "Through the volume"
    assert "Most of the band 0.8 and more lies in slice 11: 100 % of its pixels." in found.describe()
    pixels[3, :2] = 255
    alone = explain_images(MODEL, Images(pixels[:10], ("ground", "cell")))
    assert 3 in alone.shown
    assert alone.describe()[-1].startswith("Most of the band 0.8 and more lies in image 4: 50 %")
    found.to_svg()
    dark = Images(
        np.full((8, 2, 2), 100, np.uint8) * np.arange(8)[:, None, None].astype(np.uint8).clip(0, 1), volume=True
    )
    assert explain_images(MODEL, dark).shown[0] == 1


def test_an_image_is_drawn_in_the_colours_of_its_bands() -> None:
    found = explain_images(
        MODEL, Images(np.array([[[0, 255]]], np.uint8), ("ground", "cell")), SpaceOptions(thresholds="0.5")
    )
    raster = found.picture().panels[-1].layers[0]
    assert raster.pixels.tolist() == [[[0x44, 0x01, 0x54], [0xFD, 0xE7, 0x25]]]  # type: ignore[union-attr]


def test_parts_of_one_photograph_say_so_and_images_without_masks_are_not_judged() -> None:
    one = dataclasses.replace(images(), masks=None, beside={SOURCE: np.array(["photo"] * 4)})
    found = explain_images(MODEL, one)
    assert "parts of photo" in found.caveats[0]
    assert any("no masks" in line for line in found.caveats)
    assert not found.known
    found.to_figure()


def test_what_cannot_be_asked_is_named() -> None:
    with pytest.raises(BadInput, match="nothing of single pixels"):
        explain_images(image_model_of_function(lambda pixels: np.zeros(len(pixels)), ("a", "b")), images())
    with pytest.raises(BadInput, match="nothing to explain"):
        explain_images(MODEL, images(0))
    with pytest.raises(NotFound, match="no such output"):
        explain_images(MODEL, images(), SpaceOptions(output="dog"))
    with pytest.raises(BadInput, match="no number"):
        odd = image_model_of_function(lambda pixels: np.full(pixels.shape, np.nan), ("ground", "cell"), segments=True)
        explain_images(odd, images())

"""Every figure of a mask, by hand on asymmetric 3x3 masks, by scipy on random ones, and where a mask is empty."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from aimass.explain.segviz.boundaries import boundary, boundary_figures, distances
from aimass.explain.segviz.instances import matched, parts_of
from aimass.explain.segviz.overlap import OVERLAP, confusion, overlap_of
from aimass.proto.errors import BadInput

Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
TRUE = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]])
SAID = np.array([[0, 1, 1], [0, 1, 0], [0, 0, 1]])
MASKS = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


def figures(predicted: object, true: object, classes: int = 2) -> dict[str, float]:
    found = overlap_of(confusion(np.asarray(predicted), np.asarray(true), classes)).figures()
    return dict(zip(OVERLAP, found[1].tolist(), strict=True))


def test_overlap_by_hand() -> None:
    assert figures(SAID, TRUE) == pytest.approx(
        {"iou": 1 / 6, "dice": 2 / 7, "precision": 1 / 4, "recall": 1 / 3, "area_error": 1 / 3}
    )
    assert figures(TRUE, SAID) == pytest.approx(
        {"iou": 1 / 6, "dice": 2 / 7, "precision": 1 / 3, "recall": 1 / 4, "area_error": -1 / 4}
    )


def test_overlap_of_three_classes_by_hand() -> None:
    true, said = np.array([[0, 1, 2], [0, 1, 2], [0, 0, 2]]), np.array([[0, 1, 1], [0, 2, 2], [0, 0, 0]])
    counts = confusion(said, true, 3)
    assert counts.tolist() == [[4, 0, 0], [0, 1, 1], [1, 1, 1]]
    assert overlap_of(counts).iou.tolist() == pytest.approx([4 / 5, 1 / 3, 1 / 4])
    assert overlap_of(counts).area_error.tolist() == pytest.approx([1 / 4, 0, -1 / 3])


def test_boundaries_by_hand() -> None:
    assert boundary(np.ones((3, 3), np.bool_)).sum() == 8
    # from (0,1): 0, (0,2): 1, (1,1): 1, (2,2): sqrt(5); back from (0,0): 1, (0,1): 0, (1,0): 1
    there = distances(SAID > 0, TRUE > 0, (1.0, 1.0))
    assert there.tolist() == pytest.approx([0, 1, 1, math.sqrt(5)])
    f1, hausdorff = boundary_figures(SAID > 0, TRUE > 0, tolerance=1.0)
    assert f1 == pytest.approx(2 * 0.75 * 1 / 1.75)
    assert hausdorff == pytest.approx(1 + 0.85 * (math.sqrt(5) - 1))
    stretched = boundary_figures(SAID > 0, TRUE > 0, spacing=(3.0, 1.0), tolerance=1.0)
    # (2,2) is now sqrt(9 + 4) from (1,0)
    assert stretched[1] == pytest.approx(1 + 0.85 * (math.sqrt(13) - 1))


def test_empty_masks_are_defined() -> None:
    none, some = np.zeros((3, 4), int), np.ones((3, 4), int)
    assert figures(none, none) == {"iou": 1, "dice": 1, "precision": 1, "recall": 1, "area_error": 0}
    missed, invented = figures(none, some), figures(some, none)
    assert math.isnan(missed.pop("precision"))
    assert missed == {"iou": 0, "dice": 0, "recall": 0, "area_error": -1}
    assert math.isnan(invented.pop("recall"))
    assert math.isnan(invented.pop("area_error"))
    assert invented == {"iou": 0, "dice": 0, "precision": 0}
    assert boundary_figures(none > 0, none > 0).tolist() == [1, 0]
    assert boundary_figures(none > 0, some > 0).tolist() == boundary_figures(some > 0, none > 0).tolist() == [0, 5]


def test_a_shifted_square_has_the_dice_of_its_overlap() -> None:
    true = np.zeros((40, 50), int)
    true[5:25, 10:30] = 1
    for down, right in ((0, 0), (3, 0), (0, 7), (4, 9), (20, 0)):
        said = np.roll(true, (down, right), (0, 1))
        found = figures(said, true)
        assert found["dice"] == pytest.approx((20 - down) * (20 - right) / 400)
        assert found["area_error"] == 0
        if down == 0 or right == 0:
            assert boundary_figures(said > 0, true > 0)[1] <= max(down, right)
    assert boundary_figures(np.roll(true, 3, 0) > 0, true > 0, tolerance=2.0)[0] < 1
    assert boundary_figures(np.roll(true, 3, 0) > 0, true > 0, tolerance=3.0)[0] == 1


@given(MASKS, st.floats(0.2, 3), st.floats(0.2, 3), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_distances_are_scipys(mask: Flags, tall: float, wide: float, seed: int) -> None:
    other = np.random.default_rng(seed).random(mask.shape) < 0.3
    cross = ndimage.generate_binary_structure(2, 1)
    np.testing.assert_array_equal(boundary(mask), mask & ~ndimage.binary_erosion(mask, cross))
    if other.any():
        wanted = ndimage.distance_transform_edt(~other, sampling=(tall, wide))[mask]
        np.testing.assert_allclose(distances(mask, other, (tall, wide)), wanted, atol=1e-9)


@given(MASKS)
@settings(max_examples=60, deadline=None)
def test_parts_are_scipys(mask: Flags) -> None:
    np.testing.assert_array_equal(parts_of(mask), ndimage.label(mask, np.ones((3, 3)))[0])


def test_a_spiral_is_one_part_and_a_large_random_mask_scipys() -> None:
    mask = np.random.default_rng(0).random((300, 200)) < 0.35
    np.testing.assert_array_equal(parts_of(mask), ndimage.label(mask, np.ones((3, 3)))[0])
    spiral = np.zeros((41, 41), np.bool_)
    row, column, reach = 0, 0, 40
    for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)) * 10:
        for _ in range(reach):
            spiral[row, column] = True
            row, column = row + down, column + right
        reach -= 2 if right == 0 else 0
        if reach <= 0:
            break
    assert parts_of(spiral).max() == ndimage.label(spiral, np.ones((3, 3)))[1]


def test_things_are_matched_to_what_covers_them_best() -> None:
    true = np.array([[1, 1, 0, 2], [1, 1, 0, 2], [0, 0, 0, 0], [3, 3, 0, 0]])
    said = np.array([[1, 1, 0, 0], [1, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 4]])
    found, ious = matched(said, true)
    assert found.tolist() == [1, 2, 0]
    assert ious.tolist() == pytest.approx([3 / 4, 1 / 2, 0])
    assert matched(np.zeros((2, 2), int), np.eye(2, dtype=int))[1].tolist() == [0]
    assert len(matched(np.eye(2, dtype=int), np.zeros((2, 2), int))[0]) == 0


def test_pixels_that_nobody_labelled_count_for_nothing_and_counts_add_up() -> None:
    true = np.where(np.eye(3, dtype=bool), 255, TRUE)
    assert confusion(SAID, true, 2).sum() == 6
    whole = confusion(SAID, TRUE, 2)
    np.testing.assert_array_equal(confusion(SAID[:1], TRUE[:1], 2) + confusion(SAID[1:], TRUE[1:], 2), whole)


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInput, match="other sizes"):
        confusion(SAID, TRUE[:2], 2)
    with pytest.raises(BadInput, match="none that is known"):
        confusion(SAID, TRUE + 1, 2)
    with pytest.raises(BadInput, match="none that is known"):
        confusion(SAID * 7, TRUE, 2)

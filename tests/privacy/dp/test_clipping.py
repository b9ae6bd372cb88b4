"""Clipped updates against a loop in exact numbers; their norm is within the bound in their own type."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.dp.clipping import clip_flat, clip_layers, l2_norm, layer_norms
from aimass.privacy.secagg.faults import FaultError
from aimass.proto.errors import BadInput
from tests.support.noise import seeded

TYPES = st.sampled_from([np.float16, np.float32, np.float64])


def exact_square(arrays: Any) -> Fraction:
    """The squared norm of what the arrays hold, element by element."""
    return sum((Fraction(float(value)) ** 2 for array in arrays for value in array.reshape(-1).tolist()), Fraction(0))


@st.composite
def some_updates(draw: st.DrawFn) -> dict[str, npt.NDArray[Any]]:
    tensors = {}
    for name in draw(st.sets(st.sampled_from("abcd"), min_size=1)):
        shape = draw(st.sampled_from([(), (1,), (3,), (2, 3), (0,), (5, 1, 2)]))
        count, dtype = math.prod(shape), draw(TYPES)
        values = draw(st.lists(st.floats(-100, 100), min_size=count, max_size=count))
        tensors[name] = np.array(values).reshape(shape).astype(dtype)
    return tensors


@given(some_updates(), st.floats(0.01, 200))
def test_a_clipped_update_is_the_loops(update: dict[str, npt.NDArray[Any]], clip: float) -> None:
    clipped, before = clip_flat(update, clip)
    square = exact_square(update.values())
    assert before == pytest.approx(math.sqrt(square), rel=1e-12)
    factor = min(1.0, clip / math.sqrt(square)) if square else 1.0
    unit = max(float(np.finfo(array.dtype).eps) for array in update.values())
    for name, array in update.items():
        assert clipped[name].dtype == array.dtype
        assert clipped[name].shape == array.shape
        for found, value in zip(clipped[name].reshape(-1).tolist(), array.reshape(-1).tolist(), strict=True):
            assert found == pytest.approx(value * factor, rel=8 * unit, abs=1e-7)


@given(some_updates(), st.floats(0.01, 200))
def test_the_norm_of_what_comes_out_is_within_the_bound(update: dict[str, npt.NDArray[Any]], clip: float) -> None:
    clipped, before = clip_flat(update, clip)
    assert l2_norm(clipped.values()) <= clip
    assert exact_square(clipped.values()) <= Fraction(clip) ** 2 * (1 + Fraction(1, 10**14))
    if before <= clip:
        assert all(clipped[name] is array for name, array in update.items())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_does_not_carry_a_norm_over_the_bound(dtype: type) -> None:
    """Clipped once and rounded to float32, about half of all updates would lie above."""
    over = 0
    for seed in range(40):
        values: npt.NDArray[Any] = (seeded("over", seed).take(3000) / 2.0**64 - 0.5).astype(dtype)
        clipped, before = clip_flat({"x": values}, 1.0)
        assert l2_norm(clipped.values()) <= 1.0
        assert l2_norm(clipped.values()) > 1 - 1e-6
        once: npt.NDArray[Any] = (values.astype(np.float64) * (1.0 / before)).astype(dtype)
        over += l2_norm([once]) > 1.0
    assert over > 5 or dtype is np.float64


def test_no_clipping_and_the_wrong_norm_are_found() -> None:
    """The norm test's power: unclipped, clipped by the largest element, each tensor by itself."""
    update = {"a": np.full(4, 3.0), "b": np.full(9, -2.0)}
    each = {name: clip_flat({name: array}, 1.0)[0][name] for name, array in update.items()}
    for broken in (update, {name: np.clip(array, -1, 1) for name, array in update.items()}, each):
        assert l2_norm(broken.values()) > 1.0
    assert l2_norm(clip_flat(update, 1.0)[0].values()) == pytest.approx(1.0, rel=1e-12)
    turned = clip_flat({name: -array for name, array in update.items()}, 1.0)[0]
    assert all((turned[name] == -clip_flat(update, 1.0)[0][name]).all() for name in update)


def test_norms_neither_overflow_nor_vanish() -> None:
    assert l2_norm([np.full(4, 1e300)]) == pytest.approx(2e300, rel=1e-14)
    assert l2_norm([np.full(4, 1e-300), np.full(5, 1e-300)]) == pytest.approx(3e-300, rel=1e-14)
    assert l2_norm([np.full(4, np.float32(3e38))]) == pytest.approx(6e38, rel=1e-6)
    assert l2_norm([np.full(1 << 19, np.float16(60000.0))]) == pytest.approx(60000 * 2**9.5, rel=1e-3)
    assert l2_norm([]) == l2_norm([np.zeros(0), np.zeros((3, 0))]) == 0.0
    clipped, _ = clip_flat({"x": np.full(4, 1e300)}, 1.0)
    assert clipped["x"].tolist() == pytest.approx([0.5] * 4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    """A NaN's norm is above no bound: it would pass every comparison."""
    updates: list[dict[str, npt.NDArray[Any]]] = [
        {"x": np.array([1.0, bad])},
        {"x": np.ones(2), "y": np.array([bad], np.float32)},
        {"x": np.array([bad], np.float32), "y": np.ones(2)},
    ]
    for update in updates:
        with pytest.raises(FaultError, match="E_NONFINITE"):
            clip_flat(update, 1.0)


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan, math.inf])
def test_a_bound_that_is_none_is_refused(clip: float) -> None:
    with pytest.raises(BadInput, match="positive"):
        clip_flat({"x": np.ones(2)}, clip)
    with pytest.raises(BadInput, match="positive"):
        clip_layers({"x": np.ones(2)}, {"x": clip})
    with pytest.raises(BadInput, match="positive"):
        layer_norms({"x": 2}, clip)


def test_whole_numbers_are_not_clipped() -> None:
    with pytest.raises(BadInput, match="floating"):
        clip_flat({"x": np.ones(2), "steps": np.ones(2, np.int64)}, 1.0)


def test_layers_are_clipped_each_to_its_own_norm() -> None:
    update = {"a": np.full(4, 3.0), "b": np.full(9, 0.01), "c": np.zeros(3)}
    clips = layer_norms({name: array.size for name, array in update.items()}, 2.0)
    assert math.fsum(clip**2 for clip in clips.values()) == pytest.approx(4.0, rel=1e-14)
    assert clips["a"] == pytest.approx(2 * math.sqrt(4 / 16))
    clipped, before = clip_layers(update, clips)
    assert before == {"a": 6.0, "b": pytest.approx(0.03), "c": 0.0}
    assert l2_norm([clipped["a"]]) == pytest.approx(clips["a"], rel=1e-12)
    assert clipped["b"] is update["b"]
    assert l2_norm(clipped.values()) <= 2.0


@pytest.mark.parametrize("clips", [{"a": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0}, {}])
def test_each_layer_needs_its_norm(clips: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="own clipping norm"):
        clip_layers({"a": np.ones(1), "b": np.ones(1)}, clips)

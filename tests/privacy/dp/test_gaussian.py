"""Noise on sums of real numbers: on a grid, normal, never the same twice, and accounted with its rounding."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.dp import gaussian
from aimass.privacy.dp.gaussian import GRID_DEVIATION, GridNoise, noised, steps_of, sum_slack
from aimass.privacy.dp.streams import NoiseStream
from aimass.proto.errors import BadInput
from tests.support.noise import seeded
from tests.support.statistics import normal_p

COUNT = 1 << 16
NOISE = GridNoise(multiplier=1.1, clip=0.7, count=COUNT)
Floats = npt.NDArray[Any]


def looks_right(noise: GridNoise, drawn: Floats) -> bool:
    """Mean, variance, fourth moment and the whole distribution of what should be noise alone."""
    scaled = drawn.astype(np.float64).reshape(-1) / noise.deviation
    return (
        abs(float(scaled.mean())) < 4 / math.sqrt(COUNT)
        and abs(float(scaled.var()) - 1) < 4 * math.sqrt(2 / COUNT)
        and abs(float((scaled**4).mean()) - 3) < 4 * math.sqrt(96 / COUNT)
        and normal_p(scaled) > 1e-4
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_is_normal_with_the_stated_deviation(dtype: type) -> None:
    values: Floats = np.zeros((COUNT // 64, 64), dtype)
    drawn = noised(NOISE, values, seeded("normal"))
    assert drawn.shape == values.shape
    assert drawn.dtype == dtype
    assert looks_right(NOISE, drawn)
    assert not values.any(), "the values are the caller's"


BROKEN: dict[str, Callable[[], Floats]] = {
    "half the noise": lambda: noised(GridNoise(0.55, 0.7, COUNT), np.zeros(COUNT), seeded("b")),
    "two percent too little": lambda: 0.98 * noised(NOISE, np.zeros(COUNT), seeded("b")),
    "a bias": lambda: noised(NOISE, np.full(COUNT, 0.02), seeded("b")),
    "uniform": lambda: (seeded("b").take(COUNT) / 2.0**64 - 0.5) * math.sqrt(12) * NOISE.deviation,
    "one draw for all": lambda: np.full(COUNT, noised(GridNoise(1.1, 0.7, 1), np.zeros(1), seeded("b"))[0]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_noise_is_found(name: str) -> None:
    assert not looks_right(NOISE, BROKEN[name]())


def test_two_calls_on_one_stream_have_independent_noise() -> None:
    stream = seeded("twice")
    one, other = noised(NOISE, np.zeros(COUNT), stream), noised(NOISE, np.zeros(COUNT), stream)
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(COUNT)
    assert looks_right(NOISE, (one - other) / math.sqrt(2)), "noise of one draw would cancel in the difference"


def test_no_caller_hands_in_a_key_or_a_seed() -> None:
    """A stream makes its own key, so a key cannot serve twice."""
    for name in gaussian.__all__:
        if inspect.isfunction(function := getattr(gaussian, name)):
            assert not {"key", "seed", "rng"} & set(inspect.signature(function).parameters)
    assert list(inspect.signature(NoiseStream).parameters) == ["token"]


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20), st.floats(0.01, 50), st.floats(0.01, 50))
def test_results_are_multiples_of_the_step_whatever_the_values(
    values: list[float], multiplier: float, clip: float
) -> None:
    """The same numbers can come out for every input: which ones do says nothing but the noised integers."""
    noise = GridNoise(multiplier, clip, len(values))
    out = noised(noise, np.array(values, np.float64), seeded("grid"))
    steps = np.rint(out / noise.step)
    assert (steps * noise.step == out).all()
    zero = np.rint(noised(noise, np.zeros(len(values)), seeded("grid")) / noise.step)
    assert (steps - zero == steps_of(noise, np.array(values, np.float64))).all()


def test_values_go_to_the_nearest_step() -> None:
    noise = GridNoise(1.0, 2.0**29, 4)
    assert noise.step == 1.0
    assert steps_of(noise, np.array([0.6, -0.6, 1.4, 1e9 + 0.9])).tolist() == [1, -1, 1, 10**9 + 1]


@given(st.data())
def test_neighbours_are_no_farther_apart_than_what_is_accounted(data: st.DataObject) -> None:
    """In whole numbers: |steps(a) - steps(b)| <= sensitivity of `accounted`, for |a - b| <= clip."""
    size = data.draw(st.integers(1, 30))
    noise = GridNoise(data.draw(st.floats(0.05, 20)), data.draw(st.floats(1e-3, 1e3)), size)
    numbers = st.lists(st.floats(-1, 1), min_size=size, max_size=size)
    other = np.array(data.draw(numbers)) * 1000 * noise.clip
    change = np.array(data.draw(numbers))
    change *= noise.clip / max(float(np.linalg.norm(change)), 1.0) * (1 - 1e-12)
    apart = steps_of(noise, other + change) - steps_of(noise, other)
    squared = sum(step * step for step in apart.tolist())
    sensitivity = Fraction(GRID_DEVIATION) / Fraction(noise.accounted)
    assert squared <= sensitivity**2 * (1 + Fraction(1, 10**9))


def test_what_is_accounted_is_below_the_multiplier_by_the_rounding() -> None:
    noise = GridNoise(1.0, 1.0, 1 << 20)
    assert noise.accounted == pytest.approx(1 / (1 + 1.25 * 2**10 / 2**29), rel=1e-15)
    assert GridNoise(1.0, 1.0, 1 << 20, slack=0.5).accounted == pytest.approx(1 / 1.5, rel=1e-5)


@pytest.mark.parametrize("terms", [1, 10, 400])
def test_the_slack_bounds_what_adding_in_float32_does(terms: int) -> None:
    """Vectors of norm one, added in the worst of some orders, against the exact sum."""
    rows = np.array(seeded("slack").take(terms * 50) / 2.0**64 - 0.5).reshape(terms, 50)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    exact = np.array([float(sum(Fraction(value) for value in column.tolist())) for column in rows.T])
    worst = 0.0
    for order in (rows, rows[::-1], rows[np.argsort(rows[:, 0])]):
        total = np.zeros(50, np.float32)
        for row in order:
            total += row
        worst = max(worst, float(np.linalg.norm(total - exact)))
    assert 2 * worst <= sum_slack(terms, 24) * 1.0001
    assert sum_slack(terms, 53) < 1e-9
    assert sum_slack(4096, 24) > 1.9, "thousands of terms in float32 have no bound worth having"


@pytest.mark.parametrize(
    ("multiplier", "clip"),
    [(0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (math.inf, 1.0), (1.0, 0.0), (1.0, -2.0), (1.0, math.nan)],
)
def test_noise_that_is_none_is_refused(multiplier: float, clip: float) -> None:
    with pytest.raises(BadInput, match="positive"):
        GridNoise(multiplier, clip, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_values_that_are_not_sums_of_clipped_ones_are_refused(value: float) -> None:
    with pytest.raises(BadInput, match="finite") as caught:
        noised(GridNoise(1.0, 1.0, 2), np.array([0.0, value]), seeded("x"))
    assert caught.value.value is None, "the value would be the partner's data"


def test_other_shapes_and_types_are_refused() -> None:
    for values in (np.zeros(3), np.zeros(2, np.int64), np.zeros(2, np.float16)):
        with pytest.raises(BadInput, match="another vector"):
            noised(GridNoise(1.0, 1.0, 2), values, seeded("x"))
    for bad in (
        lambda: GridNoise(1.0, 1.0, 0),
        lambda: GridNoise(1.0, 1.0, 1, slack=-0.1),
        lambda: sum_slack(1 << 24, 24),
        lambda: sum_slack(-1, 24),
    ):
        with pytest.raises(BadInput):
            bad()

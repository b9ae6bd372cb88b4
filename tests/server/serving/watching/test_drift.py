"""Drift statistics against closed forms, against values instead of cells, and against chance itself."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from aimass.server.serving.watching.drift import (
    Noise,
    chance_distance,
    chance_index,
    distance,
    stability_index,
)

_QUIET = Noise(0.0, np.ones(10))


def _counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1).astype(float)


def test_the_index_of_known_shares_is_the_sum_by_hand() -> None:
    reference, live = np.array([500.0, 300.0, 200.0]) * 1e6, np.array([400.0, 300.0, 300.0]) * 1e6
    by_hand = (0.4 - 0.5) * math.log(0.4 / 0.5) + 0.0 + (0.3 - 0.2) * math.log(0.3 / 0.2)
    assert stability_index(reference, live) == pytest.approx(by_hand, rel=1e-6)


def test_the_same_shares_have_neither_index_nor_distance_however_many_rows_there_are() -> None:
    reference = np.array([100.0, 200.0, 700.0])
    assert stability_index(reference, reference * 50) < 1e-4
    assert distance(reference, reference * 50) < 1e-3


@pytest.mark.parametrize("shift", [0.25, 0.5, 1.0])
def test_of_a_shifted_normal_the_index_is_the_square_of_the_shift_and_the_distance_follows(shift: float) -> None:
    normal = NormalDist()
    at = [normal.inv_cdf(share) for share in np.linspace(0, 1, 2001)[1:-1]]
    shares = np.diff([0.0, *(normal.cdf(x) for x in at), 1.0])
    moved = np.diff([0.0, *(normal.cdf(x - shift) for x in at), 1.0])
    assert stability_index(shares * 1e9, moved * 1e9) == pytest.approx(shift**2, rel=0.01)
    assert distance(shares * 1e9, moved * 1e9) == pytest.approx(2 * normal.cdf(shift / 2) - 1, abs=1e-3)


def test_a_cell_that_was_empty_costs_a_finite_amount_and_negative_counts_are_none() -> None:
    assert math.isfinite(stability_index(np.array([0.0, 100.0]), np.array([100.0, 0.0])))
    assert stability_index(np.array([-5.0, 100.0]), np.array([0.0, 100.0])) == stability_index(
        np.array([0.0, 100.0]), np.array([0.0, 100.0])
    )


def test_over_cells_the_distance_is_never_more_than_between_the_values() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        one, other = rng.normal(size=400), rng.normal(0.3, 1.2, size=300)
        both = np.sort(np.concatenate([one, other]))
        exact = np.abs(
            np.searchsorted(np.sort(one), both, "right") / 400 - np.searchsorted(np.sort(other), both, "right") / 300
        ).max()
        edges = np.linspace(-2, 2, 9)
        assert distance(_counts(one, edges), _counts(other, edges)) <= exact + 0.01


def _exceeded(alpha: float, sigma: float, rows: tuple[int, int]) -> tuple[float, float]:
    """How often each limit is exceeded where both samples are of one distribution."""
    rng, noise, trials = np.random.default_rng(7), Noise(sigma, np.ones(10)), 2_000
    index = far = 0
    for _ in range(trials):
        reference = rng.multinomial(rows[0], np.full(10, 0.1)) + rng.normal(0.0, sigma, 10)
        live = rng.multinomial(rows[1], np.full(10, 0.1)).astype(float)
        index += stability_index(reference, live) > chance_index(reference, rows[1], alpha, noise)
        far += distance(reference, live) > chance_distance(reference, rows[1], alpha, noise)
    return index / trials, far / trials


@pytest.mark.parametrize("sigma", [0.0, 8.0])
@pytest.mark.parametrize("rows", [(300, 300), (2_000, 500)])
def test_without_a_change_limits_are_exceeded_as_seldom_as_they_say(sigma: float, rows: tuple[int, int]) -> None:
    index, far = _exceeded(0.05, sigma, rows)
    assert 0.02 < index < 0.08, "the index's limit is about what it says"
    assert far < 0.05, "the distance's is on the quiet side"


def test_noise_on_the_reference_raises_both_limits() -> None:
    reference = np.full(10, 100.0)
    noise = Noise(20.0, np.ones(10))
    assert chance_index(reference, 500, 0.01, noise) > 1.5 * chance_index(reference, 500, 0.01, _QUIET)
    assert chance_distance(reference, 500, 0.01, noise) > 1.2 * chance_distance(reference, 500, 0.01, _QUIET)


def test_where_one_cell_is_noisier_than_others_the_index_exceeds_its_limit_no_more_often() -> None:
    rng, noise, trials = np.random.default_rng(8), Noise(6.0, np.array([1.0, 1, 1, 9, 9])), 2_000
    shares, exceeded = np.array([0.4, 0.3, 0.15, 0.1, 0.05]), 0
    for _ in range(trials):
        reference = rng.multinomial(2_000, shares) + rng.normal(0.0, 6.0 * np.sqrt(noise.merged))
        live = rng.multinomial(1_000, shares).astype(float)
        exceeded += stability_index(reference, live) > chance_index(reference, 1_000, 0.01, noise)
    assert exceeded / trials < 0.02


def test_noise_below_a_cells_end_has_the_variance_that_chance_gives_it() -> None:
    rng, noise = np.random.default_rng(9), Noise(8.0, np.array([8.0, 2, 2, 4]))
    reference = np.array([50.0, 450, 450, 50])
    noisy = reference + rng.normal(0.0, 8.0 * np.sqrt(noise.merged), (20_000, 4))
    below = np.cumsum(noisy, axis=1) / noisy.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(noise.variance_below(reference)[:-1], below.var(axis=0)[:-1], rtol=0.06)

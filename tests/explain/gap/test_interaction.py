"""The H statistic: closed forms, a version by hand, and pairs that only look as if they worked together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from aimass.explain.gap.interaction import interaction, log_interval, together, weighed
from aimass.explain.gap.interactions import interactions
from aimass.explain.models import Predict, model_of_function
from aimass.explain.rows import Rows
from aimass.explain.work import Work

Floats = npt.NDArray[np.float64]
NAMES = ("a", "b", "c")


def normal(rows: int, seed: int) -> Rows:
    return Rows.of(np.random.default_rng(seed).normal(size=(rows, 3)), NAMES)


def by_hand(predict: Predict, values: Floats, j: int, k: int) -> float:
    """H, a mean at a time."""

    def dependence(columns: list[int], row: Floats) -> float:
        changed = values.copy()
        changed[:, columns] = row[columns]
        return float(predict(changed)[:, 0].mean())

    both, one, other = (np.array([dependence(columns, row) for row in values]) for columns in ([j, k], [j], [k]))
    both, one, other = both - both.mean(), one - one.mean(), other - other.mean()
    return float(np.sqrt(((both - one - other) ** 2).sum() / (both**2).sum()))


def test_a_pair_has_the_share_that_it_has_by_hand() -> None:
    values = normal(40, 1).values

    def predict(cells: Floats) -> Floats:
        found: Floats = np.sin(cells[:, :1] * cells[:, 1:2]) + cells[:, :1] + cells[:, 2:] ** 2
        return found

    found = together(predict, values, (0, 1), 0, Work())
    share, _ = weighed(found, np.full((1, 40), 1 / 40))
    assert share[0] == pytest.approx(by_hand(predict, values, 0, 1), rel=1e-9)


def test_of_a_product_beside_two_effects_it_is_the_share_of_the_variance() -> None:
    """Of x1 + x2 + c x1 x2 with independent standard normals: c^2 / (2 + c^2), and a size of c."""
    model = model_of_function(lambda cells: cells[:, 0] + cells[:, 1] + 2.0 * cells[:, 0] * cells[:, 1], NAMES)
    found = interactions(model, normal(400, 2), Work(), features=("a", "b"), most_rows=400)
    assert found.share[0] == pytest.approx(np.sqrt(4 / 6), abs=0.05)
    assert found.share_low[0] < np.sqrt(4 / 6) < found.share_high[0]
    assert found.size_low[0] < 2.0 < found.size_high[0]


def test_the_intervals_hold_the_truth_nearly_as_often_as_they_say() -> None:
    """Of a figure made of squares of products: 93 of 100, where 400 data sets tell 90 from it."""
    held = np.zeros(2)
    for seed in range(400):
        values = np.random.default_rng(seed).normal(size=(100, 2))
        crossed = together(
            lambda cells: cells[:, :1] + cells[:, 1:] + 0.5 * cells[:, :1] * cells[:, 1:], values, (0, 1), 0, Work()
        )
        found = interaction(crossed)
        held += [found.share_low <= 1 / 3 <= found.share_high, found.size_low <= 0.5 <= found.size_high]
    assert held.min() / 400 >= 0.91
    assert held.max() / 400 <= 0.98


def test_an_interval_of_few_rows_is_wide_and_finite() -> None:
    assert log_interval(0.0, np.zeros(5)) == (0.0, 0.0)
    low, high = log_interval(1.0, np.array([1e-300, 1.0, 1e300]))
    assert 0.0 <= low <= 1.0 <= high < 1e10
    assert log_interval(0.5, np.array([0.0, 0.6, 0.6]))[0] == 0.0


def test_an_additive_model_has_none_even_of_features_that_go_together() -> None:
    values = normal(200, 3).values
    values[:, 1] = values[:, 0]
    model = model_of_function(lambda cells: np.exp(cells[:, 0]) + np.sin(cells[:, 1]) + cells[:, 2] ** 2, NAMES)
    found = interactions(model, Rows.of(values, NAMES), Work())
    np.testing.assert_array_equal(found.share, 0.0)
    np.testing.assert_array_equal(found.share_high, 0.0)
    assert found.describe() == ("No two of these features work together: each adds its own effect.",)


def test_the_strongest_pair_is_first_and_constants_have_no_pair() -> None:
    values = normal(60, 4).values
    model = model_of_function(lambda cells: cells[:, 0] * cells[:, 1] + 3 * cells[:, 1] * cells[:, 2], NAMES)
    found = interactions(model, Rows.of(values, NAMES), Work())
    assert found.pairs[:2] == (("b", "c"), ("a", "b"))
    assert type(found).from_json(found.to_json()) == found
    values[:, 2] = 1.0
    assert interactions(model, Rows.of(values, NAMES), Work()).pairs == (("a", "b"),)


def test_memory_changes_nothing() -> None:
    rows, model = normal(50, 5), model_of_function(lambda cells: cells[:, 0] * cells[:, 1], NAMES)
    assert interactions(model, rows, Work()) == interactions(model, rows, Work(memory_bytes=1 << 20))

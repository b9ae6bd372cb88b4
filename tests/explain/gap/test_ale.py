"""Accumulated local effects: against a version by hand, closed forms, and intervals that hold the truth."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from aimass.explain.gap.ale import accumulated_local_effects
from aimass.explain.gap.effects import effects
from aimass.explain.gap.steps import category_order, quantile_edges
from aimass.explain.models import model_of_function
from aimass.explain.rows import Feature, Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, NotFound

Floats = npt.NDArray[np.float64]
NAMES = ("a", "b", "c")


def curved(values: Floats) -> Floats:
    """Not additive, and of features that go together."""
    found: Floats = np.sin(values[:, 0]) * values[:, 1] + values[:, 0] + 0.5 * values[:, 2]
    return found[:, None]


def together(rows: int, seed: int) -> Floats:
    """Two features with a correlation of 0.8 and one alone, each standard normal."""
    found = np.random.default_rng(seed).normal(size=(rows, 3))
    found[:, 1] = 0.8 * found[:, 0] + 0.6 * found[:, 1]
    return found


def by_hand(values: Floats, column: int, edges: Floats) -> Floats:
    """A row at a time: the mean rise in each bin, summed, less the mean of the curve over the rows."""
    total = [0.0]
    for low, high in itertools.pairwise(edges):
        rises = []
        for row in values:
            if low < row[column] <= high or (row[column] == low == edges[0]):
                ends = np.stack([row, row])
                ends[:, column] = low, high
                said = curved(ends)[:, 0]
                rises.append(said[1] - said[0])
        total.append(total[-1] + float(np.mean(rises)))
    curve: Floats = np.array(total)
    level = float(np.mean([np.interp(row[column], edges, curve) for row in values]))
    return curve - level


def test_a_curve_is_what_it_is_by_hand() -> None:
    values = together(300, 1)
    found = accumulated_local_effects(curved, Rows.of(values, NAMES), 0, 0, steps=10)
    np.testing.assert_allclose(found.value, by_hand(values, 0, found.at), atol=1e-12)
    assert found.behind.sum() == 300
    assert found.behind.min() >= 28


def test_of_a_linear_model_the_slope_is_the_weight() -> None:
    weights = np.array([2.0, -1.0, 0.0])
    rows = Rows.of(together(500, 2), NAMES)
    for column, weight in enumerate(weights):
        found = accumulated_local_effects(lambda values: (values @ weights)[:, None], rows, column, 0)
        np.testing.assert_allclose(np.diff(found.value), weight * np.diff(found.at), atol=1e-12)
        np.testing.assert_allclose(found.value, weight * (found.at - rows.values[:, column].mean()), atol=1e-12)


def test_where_features_go_together_it_follows_the_rows_that_there_are() -> None:
    """Of x1 x2 with a correlation r the effect of x1 is the integral of E[x2 | x1] = r x1: r (x1^2 - 1) / 2."""
    rows = Rows.of(together(60_000, 3), NAMES)
    found = accumulated_local_effects(lambda values: values[:, :1] * values[:, 1:2], rows, 0, 0, steps=60)
    inside = np.abs(found.at) < 2
    np.testing.assert_allclose(found.value[inside], 0.4 * (found.at[inside] ** 2 - 1), atol=0.05)


def test_the_bootstrap_has_the_same_error() -> None:
    values = together(400, 4)
    found = accumulated_local_effects(curved, Rows.of(values, NAMES), 0, 0, steps=8)
    rng, drawn = np.random.default_rng(5), []
    for _ in range(400):
        again = Rows.of(values[rng.integers(0, 400, 400)], NAMES)
        drawn.append(accumulated_local_effects(curved, again, 0, 0, edges=found.at).value)
    np.testing.assert_allclose(found.error, np.std(drawn, axis=0), rtol=0.2)


@pytest.mark.parametrize("place", [0, 4, 8])
def test_the_interval_holds_the_truth_as_often_as_it_says(place: int) -> None:
    """Of w x, whose effect at x is w (x - E x); the whole simulation is `scripts/benches/explain_coverage.py`."""
    held = 0
    for seed in range(400):
        rows = Rows.of(together(100, 10_000 + seed), NAMES)
        found = accumulated_local_effects(lambda values: 2.0 * values[:, :1], rows, 0, 0, steps=8)
        held += abs(found.value[place] - 2.0 * found.at[place]) <= 1.959964 * found.error[place]
    assert 0.92 <= held / 400 <= 0.98


def test_the_interval_holds_the_truth_of_a_product() -> None:
    edges, held = np.linspace(-1.5, 1.5, 13), 0
    truth = 0.8 * (edges**2 - edges[0] ** 2) / 2
    for seed in range(400):
        values = together(400, 20_000 + seed)
        rows = Rows.of(values[np.abs(values[:, 0]) <= 1.5], NAMES)
        found = accumulated_local_effects(lambda cells: cells[:, :1] * cells[:, 1:2], rows, 0, 0, edges=edges)
        held += abs(found.change - truth[-1]) <= 1.959964 * found.change_error
    assert 0.92 <= held / 400 <= 0.98


def categories(rows: int, seed: int) -> Rows:
    """A category whose values go with a number in the order 2, 0, 3, 1."""
    rng = np.random.default_rng(seed)
    place = rng.integers(0, 4, rows)
    number = np.array([1.0, 3.0, 0.0, 2.0])[place] + 0.3 * rng.normal(size=rows)
    values = np.stack([place.astype(float), number], axis=1)
    features = (Feature(name="kind", kind="category", values=("p", "q", "r", "s")), Feature(name="b"))
    return Rows(features, values)


def test_values_of_a_category_stand_beside_those_of_like_rows() -> None:
    order = category_order(categories(2_000, 6), 0).tolist()
    assert order in ([2.0, 0.0, 3.0, 1.0], [1.0, 3.0, 0.0, 2.0])


def test_an_additive_category_has_its_own_differences_and_the_mean_of_nothing() -> None:
    rows, adds = categories(1_000, 7), np.array([0.3, -0.2, 0.9, 0.0])
    found = accumulated_local_effects(
        lambda values: (adds[values[:, 0].astype(int)] + values[:, 1])[:, None], rows, 0, 0
    )
    own = adds[found.at.astype(int)]
    shares = np.bincount(rows.values[:, 0].astype(int))[found.at.astype(int)] / 1_000
    np.testing.assert_allclose(found.value, own - own @ shares, atol=1e-12)
    drawn = []
    for seed in range(300):
        again = rows.take(np.random.default_rng(seed).integers(0, 1_000, 1_000))
        known = accumulated_local_effects(
            lambda values: (adds[values[:, 0].astype(int)] + values[:, 1])[:, None], again, 0, 0
        )
        drawn.append(known.value[np.argsort(known.at)])
    np.testing.assert_allclose(found.error[np.argsort(found.at)], np.std(drawn, axis=0), rtol=0.2)


def test_edges_are_cells_with_even_numbers_of_rows_between() -> None:
    cells = np.append(np.random.default_rng(8).normal(size=1_000), np.nan)
    edges = quantile_edges(cells, 10)
    assert set(edges) <= set(cells[:-1])
    assert np.histogram(cells[:-1], edges)[0].tolist() == pytest.approx([100] * 10, abs=1)
    assert quantile_edges(np.array([2.0, 1.0, 2.0, np.nan]), 10).tolist() == [1.0, 2.0]


def test_the_result_says_what_is_left_out() -> None:
    values = together(200, 9)
    values[:30, 0], values[:, 2] = np.nan, 4.0
    model = model_of_function(lambda cells: np.nan_to_num(cells) @ [1.0, 1.0, 1.0], NAMES)
    found = effects(model, Rows.of(values, NAMES), Work())
    assert [one.feature.name for one in found.curves] == ["a", "b"]
    assert found.left_out == ("c",)
    assert found.curves[0].missing == 30
    said = " ".join(found.warnings())
    assert "c is the same wherever it is known" in said
    assert "a is missing in 30 rows" in said
    assert type(found).from_json(found.to_json()) == found
    assert len(found.to_columns()["effect"]) == sum(len(one.at) for one in found.curves)


def test_steps_that_miss_the_curve_fail_the_self_check() -> None:
    values = together(2_000, 10)
    values[:, 1] = values[:, 0]
    rough = model_of_function(lambda cells: cells[:, 0] * np.cos(6 * cells[:, 1]), NAMES)
    assert not effects(rough, Rows.of(values, NAMES), Work(), features=("a",), steps=6).checks[0].passed
    smooth = model_of_function(lambda cells: cells[:, 0] * np.cos(cells[:, 1]), NAMES)
    assert effects(smooth, Rows.of(values, NAMES), Work(), features=("a",)).checks[0].passed


def test_what_cannot_be_asked_is_named() -> None:
    rows = Rows.of(np.ones((5, 3)), NAMES)
    with pytest.raises(BadInput, match="one value"):
        accumulated_local_effects(curved, rows, 0, 0)
    model = model_of_function(lambda cells: cells[:, 0], NAMES)
    with pytest.raises(NotFound, match="no such output"):
        effects(model, rows, Work(), output="other")
    with pytest.raises(NotFound, match="no such feature"):
        effects(model, rows, Work(), features=("z",))

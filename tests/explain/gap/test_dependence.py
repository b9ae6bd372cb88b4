"""Partial dependence: scikit-learn's figures, closed forms, and rows that go their own way."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import partial_dependence

from aimass.explain.gap.dependence import individual_curves, value_grid
from aimass.explain.gap.dependences import dependences
from aimass.explain.models import asked, model_of_estimator, model_of_function
from aimass.explain.rows import Feature, Rows
from aimass.explain.work import Work

Floats = npt.NDArray[np.float64]
NAMES = ("a", "b")


def test_scikit_learn_agrees_on_the_mean_and_on_each_row() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(80, 2))
    forest = RandomForestRegressor(20, random_state=0).fit(values, values[:, 0] * values[:, 1])
    theirs = partial_dependence(forest, values, [0], kind="both", grid_resolution=9)
    at = theirs["grid_values"][0]
    found = individual_curves(asked(model_of_estimator(forest, NAMES), Work()), values, 0, at, 0)
    np.testing.assert_allclose(found.each, theirs["individual"][0], atol=1e-12)
    np.testing.assert_allclose(found.mean, theirs["average"][0], atol=1e-12)


def test_of_a_linear_model_every_row_has_the_slope_of_the_weight() -> None:
    rows = Rows.of(np.random.default_rng(2).normal(size=(50, 2)), NAMES)
    at = value_grid(rows, 0, 7)
    found = individual_curves(lambda cells: (cells @ [3.0, 1.0])[:, None], rows.values, 0, at, 0)
    np.testing.assert_allclose(np.diff(found.each, axis=1), np.tile(3.0 * np.diff(at), (50, 1)), atol=1e-12)
    np.testing.assert_allclose(found.centred[:, 0], 0.0)


def test_rows_that_go_the_other_way_are_counted() -> None:
    values = np.random.default_rng(3).normal(size=(1_000, 2))
    values[:, 1] = np.where(np.arange(1_000) < 250, -1.0, 1.0)
    model = model_of_function(lambda cells: cells[:, 0] * cells[:, 1], NAMES)
    found = dependences(model, Rows.of(values, NAMES), Work(), features=("a",)).curves[0]
    assert found.against == pytest.approx(0.25)
    assert found.below[-1] < 0 < found.above[-1]
    ends = found.at[-1] - found.at[0]
    assert found.mean[-1] - found.mean[0] == pytest.approx(0.5 * ends)


def test_the_interval_of_the_mean_holds_the_truth_as_often_as_it_says() -> None:
    """Of x1 x2 with E x2 = 1: partial dependence at x1 = 2 is 2."""
    held = 0
    for seed in range(400):
        values = np.random.default_rng(seed).normal([0.0, 1.0], size=(100, 2))
        found = individual_curves(lambda cells: cells[:, :1] * cells[:, 1:], values, 0, np.array([2.0]), 0)
        held += abs(found.mean[0] - 2.0) <= 1.959964 * found.error[0]
    assert 0.92 <= held / 400 <= 0.98


def test_categories_missing_cells_and_constants_have_their_place() -> None:
    rng = np.random.default_rng(4)
    values = np.stack([rng.integers(0, 3, 300).astype(float), np.full(300, 2.0), rng.normal(size=300)], axis=1)
    values[:40, 0] = np.nan
    features = (Feature(name="kind", kind="category", values=("p", "q", "r")), Feature(name="one"), Feature(name="n"))
    model = model_of_function(lambda cells: np.nan_to_num(cells).sum(axis=1), features)
    found = dependences(model, Rows(features, values), Work(), most_rows=200)
    assert [one.feature.name for one in found.curves] == ["kind", "n"]
    np.testing.assert_allclose(np.diff(found.curves[0].mean), 1.0)
    assert found.left_out == ("one",)
    assert found.used == 200
    assert "over 200 of 300 rows" in " ".join(found.warnings())
    assert type(found).from_json(found.to_json()) == found
    assert found.curves[0].missing is not None
    assert found.curves[0].missing[0] == pytest.approx(found.curves[0].mean[0])  # (this model takes it for the first)
    assert found.curves[1].missing is None
    table = found.to_columns()
    assert table["at"][:4] == ["p", "q", "r", "missing"]
    assert {len(column) for column in table.values()} == {4 + len(found.curves[1].at)}
    assert found.picture().panels[0].y.names == ("p", "q", "r", "missing")


def test_a_grid_that_misses_the_curve_fails_the_self_check() -> None:
    rows = Rows.of(np.random.default_rng(5).normal(size=(500, 2)), NAMES)
    rough = model_of_function(lambda cells: np.sin(9 * cells[:, 0]), NAMES)
    assert not dependences(rough, rows, Work(), points=5).checks[0].passed
    smooth = model_of_function(lambda cells: np.sin(cells[:, 0]), NAMES)
    assert dependences(smooth, rows, Work()).checks[0].passed


def test_features_that_go_together_are_named() -> None:
    values = np.repeat(np.random.default_rng(6).normal(size=(200, 1)), 2, axis=1)
    model = model_of_function(lambda cells: cells.sum(axis=1), NAMES)
    said = " ".join(dependences(model, Rows.of(values, NAMES), Work()).warnings())
    assert "a and b go together" in said


def test_without_rows_each_line_is_the_mean_of_at_least_five() -> None:
    rows = Rows.of(np.random.default_rng(9).normal(size=(123, 2)), NAMES)
    model = model_of_function(lambda cells: cells[:, 0] * cells[:, 1], NAMES)
    own = dependences(model, rows, Work(), lines=123)
    found = dependences(model, rows, Work(), lines=50, with_rows=False)
    for one, of in zip(found.curves, own.curves, strict=True):
        assert 10 < len(one.lines) <= 123 // 5
        near = np.abs(one.lines[:, None] - of.lines[None]).max(axis=2)
        assert near.min() > 1e-9  # no row's own curve
        np.testing.assert_array_equal(one.mean, of.mean)
    assert (found.rows_held, own.rows_held) == (0, 123)
    assert "at least 5 rows" in found.picture().how_to_read
    none = dependences(model, rows, Work(), lines=0)
    assert (none.rows_held, "single rows stand" in " ".join(none.warnings())) == (0, False)
    few = dependences(model, rows.take(np.arange(4)), Work(), features=("a",), with_rows=False)
    assert len(few.curves[0].lines) == 0
    assert "<svg" in few.to_svg()

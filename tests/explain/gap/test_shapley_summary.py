"""Mean |Shapley values|: the closed form of a linear model, exact values, and what sampling adds to a mean of |x|."""

from __future__ import annotations

import numpy as np
import pytest

from aimass.explain.charts.picture import Heat, Points
from aimass.explain.gap.shapley_summary import folded_excess, shapley_summary, swarm
from aimass.explain.lpi.shapley import exact_shapley
from aimass.explain.models import asked, model_of_function
from aimass.explain.rows import Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

NAMES = ("a", "b", "c")
WEIGHTS = np.array([1.0, -0.5, 0.0])


def normal(rows: int, seed: int) -> Rows:
    return Rows.of(np.random.default_rng(seed).normal(size=(rows, 3)), NAMES)


def test_of_a_linear_model_it_is_the_weight_times_the_distance_from_the_background() -> None:
    model, rows, other = model_of_function(lambda cells: cells @ WEIGHTS, NAMES), normal(50, 1), normal(30, 2)
    found = shapley_summary(model, rows, Work(), background=other)
    truth = np.abs(WEIGHTS * (rows.values - other.values.mean(axis=0))).mean(axis=0)
    np.testing.assert_allclose(found.mean, truth, atol=1e-12)
    assert found.order() == [0, 1, 2]
    assert (found.low[2], found.high[2]) == (0.0, 0.0)


def test_values_are_the_exact_ones_within_the_error_that_is_told() -> None:
    model, rows, other = (
        model_of_function(lambda c: np.tanh(c[:, 0] * c[:, 1]) + c[:, 2], NAMES),
        normal(40, 3),
        normal(60, 4),
    )
    found = shapley_summary(model, rows, Work(), background=other)
    order = Work().rng("gap", "shapley").permutation(40)
    exact = exact_shapley(asked(model, Work()), rows.values[order], other.values).values[:, :, 0]
    assert np.abs(found.values - exact).max() < 0.2
    assert found.mean == pytest.approx(np.abs(exact).mean(axis=0), rel=0.05)
    assert all(check.passed for check in found.checks)


def test_what_noise_adds_to_a_mean_of_absolute_values_is_as_in_a_simulation() -> None:
    mean, error = np.array([0.0, 0.5, 3.0, 1.0]), np.array([1.0, 1.0, 1.0, 0.0])
    drawn = np.abs(mean + error * np.random.default_rng(5).normal(size=(200_000, 4))).mean(axis=0)
    np.testing.assert_allclose(folded_excess(mean, error), drawn - mean, atol=0.01)


def test_too_few_orders_fail_the_self_check() -> None:
    model = model_of_function(lambda cells: np.sin(9 * cells[:, 0] * cells[:, 1] * cells[:, 2]), NAMES)
    found = shapley_summary(model, normal(30, 6), Work(), references=2)
    assert [check.passed for check in found.checks] == [True, False]


def test_the_result_states_its_limits_and_reads_again() -> None:
    values = normal(300, 7).values
    values[:20, 0] = np.nan
    model = model_of_function(lambda cells: np.nan_to_num(cells) @ WEIGHTS, NAMES)
    found = shapley_summary(model, Rows.of(values, NAMES), Work(), most_rows=100, groups=("bc=b,c",))
    assert found.names == ("a", "bc")
    assert np.isnan(found.cells[:, 1]).all()
    assert type(found).from_json(found.to_json()) == found
    assert "100 of 300 rows" in " ".join(found.warnings())
    dots = [layer for layer in found.picture().panels[1].layers if isinstance(layer, Points)]
    assert sum(len(layer.x) for layer in dots) == 200
    with pytest.raises(BadInput, match="background is empty"):
        shapley_summary(model, Rows.of(values, NAMES), Work(), background=normal(0, 8))


def test_dots_of_one_place_stand_apart_within_their_row() -> None:
    found = swarm(np.array([0.0, 0.0, 0.0, 1.0]))
    assert len(set(found[:3])) == 3
    assert np.abs(found).max() <= 0.4
    np.testing.assert_array_equal(swarm(np.ones(5)), 0.0)


def test_very_many_dots_are_cells_of_their_mean_rank() -> None:
    model = model_of_function(lambda cells: cells @ WEIGHTS, NAMES)
    found = shapley_summary(model, normal(2_000, 9), Work(), most_rows=2_000, references=2)
    (heat,) = (layer for layer in found.picture().panels[1].layers if isinstance(layer, Heat))
    assert heat.values.shape == (3, 60)
    filled = [row[~np.isnan(row)] for row in heat.values]
    assert (np.diff(filled[0]) > 0).all()  # the more of a, the higher its value; b the other way
    assert (np.diff(filled[1]) < 0).all()
    assert "<svg" in found.to_svg()


def test_without_rows_no_two_dots_are_known_to_be_of_one_row_and_none_is_exact() -> None:
    rows = normal(100, 10)
    model = model_of_function(lambda cells: cells @ WEIGHTS, NAMES)
    exact = shapley_summary(model, rows, Work())
    found = shapley_summary(model, rows, Work(), with_rows=False)
    np.testing.assert_array_equal(found.mean, exact.mean)
    assert (np.diff(found.values, axis=0) >= 0).all()  # each feature by itself, in order
    grain = np.ptp(exact.values) / 120
    np.testing.assert_allclose(found.values, np.sort(exact.values, axis=0), atol=grain / 2 + 1e-12)
    assert set(np.unique(found.cells)) <= {place / 10 for place in range(11)}
    told = set(rows.values.ravel().tolist()) | set(exact.values[exact.values != 0].ravel().tolist())
    assert not told & set(found.values.ravel().tolist())
    assert (found.rows_held, type(found).from_json(found.to_json()) == found) == (100, True)
    assert "rounded" in " ".join(found.warnings())
    assert "100 single rows stand in it" in " ".join(exact.warnings())

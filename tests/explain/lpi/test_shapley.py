"""Shapley values by all coalitions: the definition, the axioms, closed forms and another library."""

from __future__ import annotations

import numpy as np
import pytest
import shap
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.explain.lpi.shapley import exact_shapley
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, LimitExceeded, Stopped
from tests.explain.lpi.games import Floats, by_definition, rows_of, tangled

SEEDS = st.integers(0, 10_000)


@pytest.mark.parametrize("levels", [0, 2])
def test_all_coalitions_give_what_all_orders_give(levels: int) -> None:
    rows, background = rows_of(1, 3, 5, levels=levels), rows_of(2, 7, 5, levels=levels)
    background[0, 1] = rows[1, 2] = np.nan
    found = exact_shapley(tangled, rows, background)
    for row, values in zip(rows, found.values, strict=True):
        np.testing.assert_allclose(
            values, by_definition(tangled, row, background, [[0], [1], [2], [3], [4]]), atol=1e-12
        )


def test_a_group_is_one_player() -> None:
    rows, background, groups = rows_of(3, 2, 6), rows_of(4, 5, 6), ((0, 3), (1,), (2, 4, 5))
    found = exact_shapley(tangled, rows, background, groups=groups)
    for row, values in zip(rows, found.values, strict=True):
        np.testing.assert_allclose(values, by_definition(tangled, row, background, groups), atol=1e-12)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_a_linear_model_has_its_closed_form(seed: int) -> None:
    weights = np.random.default_rng(seed).normal(size=8)
    rows, background = rows_of(seed, 4, 8), rows_of(seed + 1, 30, 8)
    found = exact_shapley(lambda values: (values @ weights)[:, None], rows, background)
    np.testing.assert_allclose(found.values[:, :, 0], weights * (rows - background.mean(axis=0)), atol=1e-12)


@given(SEEDS, st.sampled_from([0, 2, 3]))
@settings(max_examples=25, deadline=None)
def test_sums_are_the_prediction_less_the_base_and_dummies_get_nothing(seed: int, levels: int) -> None:
    rows, background = rows_of(seed, 3, 6, levels=levels), rows_of(seed + 1, 9, 6, levels=levels)

    def without_the_last(values: Floats) -> Floats:
        return tangled(values[:, :5])

    found = exact_shapley(without_the_last, rows, background)
    np.testing.assert_allclose(found.values.sum(axis=1), tangled(rows[:, :5]) - found.base, atol=1e-12)
    np.testing.assert_allclose(found.base, tangled(background[:, :5]).mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.values[:, 5], 0.0, atol=1e-14)
    assert found.gap < 1e-12


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_features_that_a_model_cannot_tell_apart_share_alike(seed: int) -> None:
    rows, background = rows_of(seed, 2, 4), rows_of(seed + 1, 6, 4)
    rows[:, 1], background[:, 1] = rows[:, 0], background[:, 0]
    found = exact_shapley(lambda values: (values[:, :1] * values[:, 1:2]) + values[:, 2:3], rows, background)
    np.testing.assert_allclose(found.values[:, 0], found.values[:, 1], atol=1e-12)


@given(SEEDS, st.permutations(range(6)))
@settings(max_examples=20, deadline=None)
def test_neither_the_order_of_columns_nor_units_matter(seed: int, order: list[int]) -> None:
    rows, background = rows_of(seed, 2, 6), rows_of(seed + 1, 8, 6)
    plain = exact_shapley(tangled, rows, background)
    back, units = np.argsort(order), np.array([1.0, 1000.0, 0.01, 2.0, 60.0, 1.8])
    turned = exact_shapley(lambda values: tangled(values[:, back]), rows[:, order], background[:, order])
    scaled = exact_shapley(lambda values: tangled(values / units), rows * units, background * units)
    np.testing.assert_allclose(turned.values, plain.values[:, order], atol=1e-12)
    np.testing.assert_allclose(scaled.values, plain.values, atol=1e-9)


def test_values_are_those_of_shap() -> None:
    rows, background = rows_of(5, 3, 9), rows_of(6, 40, 9)
    masker = shap.maskers.Independent(background, max_samples=len(background))
    other = shap.explainers.Exact(tangled, masker)(rows)
    found = exact_shapley(tangled, rows, background)
    np.testing.assert_allclose(found.values, other.values, atol=1e-6)
    np.testing.assert_allclose(found.base, other.base_values[0], atol=1e-6)


def test_weights_count_like_rows_that_stand_there_as_often() -> None:
    rows, background = rows_of(7, 2, 5), rows_of(8, 3, 5)
    weighted = exact_shapley(tangled, rows, background, weights=[1, 3, 2])
    repeated = exact_shapley(tangled, rows, np.repeat(background, [1, 3, 2], axis=0))
    np.testing.assert_allclose(weighted.values, repeated.values, atol=1e-12)
    np.testing.assert_allclose(weighted.spread, repeated.spread, atol=1e-12)


def test_little_memory_and_many_rows_change_nothing() -> None:
    rows, background = rows_of(9, 40, 7, levels=3), rows_of(10, 11, 7, levels=3)
    whole = exact_shapley(tangled, rows, background)
    small = exact_shapley(tangled, rows, background, work=Work(memory_bytes=1 << 20))
    np.testing.assert_allclose(small.values, whole.values, atol=1e-12)


def test_the_spread_is_that_of_single_references() -> None:
    rows, background = rows_of(11, 1, 4), rows_of(12, 6, 4)
    alone = np.array([exact_shapley(tangled, rows, one[None]).values for one in background])
    found = exact_shapley(tangled, rows, background)
    np.testing.assert_allclose(found.values, alone.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.spread, alone.std(axis=0), atol=1e-9)


def test_what_cannot_be_computed_is_said() -> None:
    rows = rows_of(13, 1, 3)
    with pytest.raises(BadInput, match="background is empty"):
        exact_shapley(tangled, rows, np.zeros((0, 3)))
    with pytest.raises(BadInput, match="does not fit"):
        exact_shapley(tangled, rows, np.zeros((2, 4)))
    with pytest.raises(BadInput, match="exactly one group"):
        exact_shapley(tangled, rows, rows, groups=[[0], [1]])
    with pytest.raises(LimitExceeded, match="too many features"):
        exact_shapley(tangled, rows_of(1, 1, 14), rows_of(2, 1, 14))
    with pytest.raises(LimitExceeded, match="do not fit the memory"):
        exact_shapley(
            tangled, rows_of(1, 1, 130), rows_of(2, 1, 130), groups=[range(10 * k, 10 * k + 10) for k in range(13)],
            work=Work(memory_bytes=1 << 20),
        )  # fmt: skip
    with pytest.raises(Stopped):
        exact_shapley(tangled, rows, rows_of(2, 3, 3), work=Work(stopped=lambda: True))


def test_nobody_is_asked_about_cells_that_agree() -> None:
    rows, background = rows_of(14, 1, 5, levels=2), rows_of(15, 8, 5, levels=2)
    background[:, 3] = rows[0, 3] = np.nan
    asked = [0]

    def counted(values: Floats) -> Floats:
        asked[0] += len(values)
        return tangled(values)

    exact_shapley(counted, rows, background)
    different = np.unique(background[:, [0, 1, 2, 4]], axis=0)
    players = (rows[:, [0, 1, 2, 4]] != different).sum(axis=1)
    assert asked[0] == (1 << players[players > 0]).sum() + 1 + len(different)

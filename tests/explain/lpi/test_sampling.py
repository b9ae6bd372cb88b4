"""Sampled Shapley values: near the exact ones, with an error that is as large as it says."""

from __future__ import annotations

import numpy as np
import pytest

from aimass.explain.lpi.sampling import _in_equal_steps, sampled_shapley
from aimass.explain.lpi.shapley import exact_shapley
from aimass.explain.work import Work
from aimass.proto.errors import BadInput
from tests.explain.lpi.games import Floats, rows_of, tangled


def test_an_additive_model_needs_one_turn_through_the_background() -> None:
    rows, background = rows_of(1, 2, 20), rows_of(2, 15, 20)
    weights = np.linspace(-1, 1, 20)
    found = sampled_shapley(lambda values: (values @ weights)[:, None], rows, background, pairs=15)
    np.testing.assert_allclose(found.values[:, :, 0], weights * (rows - background.mean(axis=0)), atol=1e-12)
    assert found.gap < 1e-12


def test_a_pair_of_orders_is_exact_where_no_three_features_meet() -> None:
    rows, background = rows_of(3, 1, 16), rows_of(4, 1, 16)

    def pairs_alone(values: Floats) -> Floats:
        return np.asarray((values @ np.triu(np.ones((16, 16)), 1) * values).sum(axis=1, keepdims=True))

    found = sampled_shapley(pairs_alone, rows, background, pairs=2)
    exact = exact_shapley(pairs_alone, rows, background, groups=[[i] for i in range(12)] + [[12, 13, 14, 15]])
    np.testing.assert_allclose(found.values[0, :12], exact.values[0, :12], atol=1e-10)
    assert found.errors is not None
    assert found.errors.max() < 1e-10


def test_the_standard_error_is_that_of_many_repetitions() -> None:
    rows, background = rows_of(5, 1, 6), rows_of(6, 20, 6)
    exact = exact_shapley(tangled, rows, background).values[0]
    drawn = [sampled_shapley(tangled, rows, background, pairs=40, work=Work(seed)) for seed in range(150)]
    values = np.array([one.values[0] for one in drawn])
    told = np.sqrt(np.mean([one.errors[0] ** 2 for one in drawn if one.errors is not None], axis=0))
    true = np.sqrt(((values - exact) ** 2).mean(axis=0))
    assert (np.abs(values.mean(axis=0) - exact) < 4 * values.std(axis=0) / np.sqrt(150) + 1e-12).all()
    assert (true < 1.25 * told).all(), "never told smaller than it is"
    inside = np.abs(values - exact) <= 1.96 * np.array([one.errors[0] for one in drawn if one.errors is not None])
    assert inside.mean() > 0.93


def test_chunks_change_nothing_and_the_seed_decides() -> None:
    rows, background = rows_of(7, 2, 30), rows_of(8, 10, 30)
    one = sampled_shapley(tangled, rows, background, pairs=50, work=Work(3))
    small = sampled_shapley(tangled, rows, background, pairs=50, work=Work(3, memory_bytes=1 << 20))
    other = sampled_shapley(tangled, rows, background, pairs=50, work=Work(4))
    np.testing.assert_array_equal(one.values, small.values)
    assert np.abs(one.values - other.values).max() > 0
    with pytest.raises(BadInput, match="no standard error"):
        sampled_shapley(tangled, rows, background, pairs=1)


def test_weights_are_drawn_by_their_size() -> None:
    rows, background = rows_of(9, 1, 5), rows_of(10, 2, 5)
    one = sampled_shapley(tangled, rows, background, pairs=40, weights=[3, 1])
    exact = exact_shapley(tangled, rows, background, weights=[3, 1])
    assert one.gap < 1e-12
    np.testing.assert_allclose(one.base, exact.base)
    assert one.errors is not None
    assert (np.abs(one.values - exact.values) < 4 * one.errors + 1e-12).all()


def test_one_feature_gets_all() -> None:
    rows, background = rows_of(11, 3, 1), rows_of(12, 4, 1)
    found = sampled_shapley(lambda values: values**2, rows, background, pairs=4)
    np.testing.assert_allclose(found.values[:, 0], found.said - found.base)


def test_steps_through_the_weights_are_drawn_by_their_size_in_the_mean() -> None:
    share, rng = np.array([0.3, 0.7]), np.random.default_rng(1)
    drawn = [np.bincount(_in_equal_steps(share, 2, rng), minlength=2) for _ in range(4_000)]
    assert np.abs(np.mean(drawn, axis=0) - 2 * share).max() < 0.03
    assert np.max(drawn, axis=0).tolist() == [1, 2]

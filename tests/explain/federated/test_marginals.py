"""Counts by bin, and what is made of them: quantiles as fine as a bin, draws that are spread as the counts are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from aimass.explain.federated.marginals import counted, drawn, marginals_of, marginals_of_rows, uniforms
from aimass.proto.manifest import Number
from tests.explain.federated.hospitals import TASK, hospitals, pooled

SHARES = np.array([0.0, 0.05, 0.25, 0.5, 0.9, 1.0])


def test_quantiles_are_within_a_bin_of_the_pooled_ones() -> None:
    rows = pooled(hospitals()).rows
    spread = marginals_of(TASK.schema, counted(rows)["marginals"])
    for place, column in enumerate(TASK.schema.columns):
        if isinstance(column, Number):
            known = rows.values[~np.isnan(rows.values[:, place]), place]
            width = (column.maximum - column.minimum) / 64
            exact = np.quantile(known, SHARES, method="inverted_cdf")
            np.testing.assert_allclose(spread[place].quantiles(SHARES), exact, atol=2 * width)


def test_draws_are_spread_as_the_counts_are() -> None:
    rows = pooled(hospitals()).rows
    spread = marginals_of(TASK.schema, counted(rows)["marginals"])
    at = uniforms(np.arange(40_000, dtype=np.uint64), "test")
    for place in range(len(rows.features)):
        values, share = spread[place].values[drawn(spread[place], at)], spread[place].shares
        for value, expected in zip(spread[place].values, share, strict=True):
            seen = np.isnan(values).mean() if np.isnan(value) else (values == value).mean()
            assert seen == pytest.approx(expected, abs=0.012)


def test_uniforms_are_uniform_and_of_each_purpose_others() -> None:
    keys = np.arange(20_000, dtype=np.uint64)
    one, other = uniforms(keys, "a", 1), uniforms(keys, "a", 2)
    assert kstest(one, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.03
    np.testing.assert_array_equal(one[5:9], uniforms(keys[5:9], "a", 1))


def test_nothing_counted_is_spread_evenly_and_noise_below_zero_is_nothing() -> None:
    empty = marginals_of(TASK.schema, np.zeros((len(TASK.schema.columns), 65)))
    np.testing.assert_allclose(empty[0].quantiles(np.array([0.0, 0.5, 1.0])), [0, 60, 120])
    noisy = np.full((len(TASK.schema.columns), 65), -3.0)
    noisy[0, 10] = 5.0
    assert marginals_of(TASK.schema, noisy)[0].shares[10] == 1.0


def test_a_backgrounds_marginal_is_its_own_values() -> None:
    rows = hospitals()[1].rows.take(slice(10))
    spread = marginals_of_rows(TASK.schema, rows.values)
    assert spread[0].shares.sum() == pytest.approx(1.0)
    assert set(spread[0].values) == set(rows.values[:, 0])

"""Association: scipy's figures where it has them, and clusters of what tells the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from aimass.explain.association import association, clusters, ranks
from aimass.explain.rows import Feature, Rows

RNG = np.random.default_rng(0)


def table() -> Rows:
    first = RNG.normal(size=200)
    category = (first > 0).astype(float)
    category[:10] = np.nan
    values = np.stack([first, np.exp(first) + RNG.normal(size=200), category, np.ones(200)], axis=1)
    values[:20, 1] = np.nan
    return Rows((Feature(name="a"), Feature(name="b"), Feature(name="c", kind="category"), Feature(name="d")), values)


def test_two_numbers_have_the_rank_correlation_of_spearman() -> None:
    rows = table()
    known = rows.take(slice(20, None))
    assert association(known)[0, 1] == pytest.approx(abs(spearmanr(*known.values[:, :2].T).statistic), abs=1e-9)


def test_a_number_and_a_category_have_the_correlation_ratio_of_the_ranks() -> None:
    rows = table()
    place = np.nan_to_num(rows.values[:, 2], nan=2.0)
    told = ranks(rows.values[:, 0])
    between = sum(np.sum(place == one) * (told[place == one].mean() - told.mean()) ** 2 for one in range(3))
    square, chance = between / ((told - told.mean()) ** 2).sum(), (1 + np.sqrt(2)) ** 2 / 199
    assert association(rows)[0, 2] == pytest.approx(np.sqrt((square - chance) / (1 - chance)), abs=1e-9)


def test_categories_of_many_values_are_associated_by_more_than_chance_alone() -> None:
    """Two random ones of 25 values over 200 rows correlate by 0.6, and a name of its own for each row by 1."""
    places = RNG.integers(0, 25, size=(200, 2)).astype(float)
    values = np.column_stack([places, np.arange(200.0), places[:, 0] % 5])
    found = association(Rows(tuple(Feature(name=name, kind="category") for name in "abcd"), values))
    assert np.delete(found[2], 2).max() < 0.5
    assert found[0, 1] < 0.5
    assert found[0, 3] > 0.99


def test_a_constant_column_is_associated_with_nothing() -> None:
    np.testing.assert_array_equal(association(table())[3, :3], 0.0)


def test_features_are_in_one_cluster_that_another_joins() -> None:
    base = RNG.normal(size=(500, 1))
    chain = np.cumsum(np.hstack([base, 0.6 * RNG.normal(size=(500, 3))]), axis=1)
    rows = Rows.of(np.hstack([chain, RNG.normal(size=(500, 1))]))
    assert clusters(rows, 0.75) == ((0, 1, 2, 3),)
    assert clusters(rows, 0.9999) == ()

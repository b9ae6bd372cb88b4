"""What predictions are held against, and which columns are one feature."""

from __future__ import annotations

import numpy as np
import pytest

from aimass.explain.lpi.background import background_of
from aimass.explain.lpi.groups import groups_of
from aimass.explain.rows import Feature, Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, NotFound

MIXED = (Feature(name="age", unit="years"), Feature(name="sex", kind="category", values=("Female", "Male")))


def test_few_rows_stand_for_themselves_and_many_are_drawn_once_each() -> None:
    rows = Rows.of(np.arange(60).reshape(30, 2), name="here")
    whole, some = background_of(rows, 100, "sample", Work()), background_of(rows, 10, "sample", Work())
    np.testing.assert_array_equal(whole.values, rows.values)
    assert len(np.unique(some.values[:, 0])) == 10
    assert np.isin(some.values, rows.values).all()
    assert (whole.says, some.says) == ("all 30 rows of here", "10 of 30 rows of here, drawn")
    with pytest.raises(BadInput, match="background is empty"):
        background_of(rows.take(slice(0, 0)), 10, "sample", Work())


def test_centres_find_planted_clusters_with_their_weights_and_categories() -> None:
    rng = np.random.default_rng(1)
    ages = np.concatenate([rng.normal(20, 0.5, 30), rng.normal(80, 0.5, 60)])
    sexes = np.repeat([0.0, 1.0], [30, 60])
    sexes[0] = np.nan
    found = background_of(Rows(MIXED, np.stack([ages, sexes], axis=1)), 2, "kmeans", Work())
    order = np.argsort(found.values[:, 0])
    np.testing.assert_allclose(found.values[order], [[ages[:30].mean(), 0], [ages[30:].mean(), 1]])
    assert found.weights[order].tolist() == [30, 60]
    assert not found.drawn


def test_centres_are_never_more_than_distinct_rows() -> None:
    found = background_of(Rows(MIXED, np.tile([[50.0, np.nan]], (40, 1))), 5, "kmeans", Work())
    np.testing.assert_array_equal(found.values, [[50.0, np.nan]])
    assert found.weights.tolist() == [40]


def test_one_hot_columns_named_ones_and_associated_ones_are_one_feature() -> None:
    rng = np.random.default_rng(2)
    cp, age = rng.integers(0, 3, 200), rng.normal(size=200)
    cells = np.column_stack(
        [age, cp == 0, age + 0.01 * rng.normal(size=200), cp == 1, cp == 2, rng.normal(size=(200, 2))]
    )
    rows = Rows.of(cells, ["age", "cp_typical", "years", "cp_none", "cp_other", "height", "weight"])
    found = groups_of(rows, ["body=height, weight"], 0.9)
    assert [(group.name, group.columns) for group in found] == [
        ("age and years", (0, 2)), ("cp", (1, 3, 4)), ("body", (5, 6)),
    ]  # fmt: skip
    row = np.array([50.0, 0, 51, 1, 0, 1.8, 70])
    assert [group.told(rows.features, row) for group in found] == ["age 50, years 51", "none", "height 1.8, weight 70"]
    assert [group.columns for group in groups_of(rows.take(slice(0, 3)))] == [(place,) for place in range(7)]


def test_groups_that_cannot_be_are_refused() -> None:
    rows = Rows.of(np.zeros((3, 2)), ["a", "b"])
    with pytest.raises(BadInput, match="in two groups"):
        groups_of(rows, ["x=a,b", "y=b"])
    with pytest.raises(NotFound, match="no such feature"):
        groups_of(rows, ["x=c"])
    with pytest.raises(BadInput, match="written as"):
        groups_of(rows, ["a,b"])


def test_zeros_and_ones_that_go_together_in_a_row_are_no_one_hot_code() -> None:
    cells = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]] * 5)
    assert len(groups_of(Rows.of(cells, ["has_cat", "has_dog"]))) == 2

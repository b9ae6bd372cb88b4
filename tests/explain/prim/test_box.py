"""Boxes in words: exact, short, and of the very rows that they hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.explain.prim.box import Condition, conditions_of, contains, sentence, short_between
from aimass.explain.prim.coding import coded
from aimass.explain.prim.peeling import inside
from aimass.explain.rows import Feature, Rows

AGE = Feature(name="age", unit="years")
SEX = Feature(name="sex", kind="category", values=("Female", "Male", "other", "x", "y", "z"))


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (Condition(feature=AGE, low=57.0), "age >= 57 years"),
        (Condition(feature=AGE, high=1234567.25), "age <= 1,234,567.25 years"),
        (Condition(feature=AGE, low=40.0, high=60.0, missing=True), "40 <= age <= 60 years or age is missing"),
        (Condition(feature=AGE, low=40.0, high=40.0), "age = 40 years"),
        (Condition(feature=AGE), "age is known"),
        (Condition(feature=AGE, missing=True), "age is missing"),
        (Condition(feature=SEX, places=(1,)), "sex is Male"),
        (Condition(feature=SEX, places=(0, 2), missing=True), "sex is Female or other or sex is missing"),
        (Condition(feature=SEX, places=(0, 1, 2, 3, 5)), "sex is Female, Male, other, x or 1 more"),
        (Condition(feature=SEX, missing=True), "sex is missing"),
        (Condition(feature=SEX, places=(0, 1, 2, 3, 4, 5)), "sex is known"),
    ],
)
def test_a_condition_says_what_it_holds(condition: Condition, said: str) -> None:
    assert condition.says() == said


def test_a_sentence_joins_its_conditions_and_of_none_it_is_all_rows() -> None:
    both = (Condition(feature=AGE, low=57.0, missing=True), Condition(feature=SEX, places=(1,)))
    assert sentence(both) == "(age >= 57 years or age is missing) and sex is Male"
    assert sentence(()) == "all rows"


def test_conditions_hold_the_cells_that_they_name() -> None:
    cells = np.array([39.0, 40, 60, 61, np.nan])
    assert Condition(feature=AGE, low=40.0, high=60.0).holds(cells).tolist() == [False, True, True, False, False]
    assert Condition(feature=AGE, high=60.0, missing=True).holds(cells).tolist() == [True, True, True, False, True]
    assert Condition(feature=AGE).holds(cells).tolist() == [True, True, True, True, False]
    assert Condition(feature=AGE, missing=True).holds(cells).tolist() == [False, False, False, False, True]
    assert Condition(feature=SEX, places=(0, 2)).holds(np.array([0.0, 1, 2, np.nan])).tolist() == [
        True,
        False,
        True,
        False,
    ]


FINITE = st.floats(-1e9, 1e9, allow_nan=False)


@given(FINITE, FINITE)
def test_a_bound_lies_between_two_values_and_is_short(one: float, other: float) -> None:
    below, upto = sorted((one, other))
    if below < upto:
        assert below < short_between(below, upto) <= upto


def test_a_bound_is_as_short_as_it_can_be() -> None:
    assert short_between(56.71, 57.34) == 57
    assert short_between(1.52, 1.61) == 1.6
    assert short_between(-58.2, -57.34) == -58
    assert short_between(56.0, 57.0) == 57
    assert short_between(0.0, 1e-9) == 1e-9
    assert short_between(1.0, np.nextafter(1.0, 2.0)) == np.nextafter(1.0, 2.0)


@given(st.integers(0, 10_000))
def test_the_rows_of_the_words_are_the_rows_of_the_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.stack([rng.normal(50, 10, 60), rng.integers(0, 3, 60).astype(float)], axis=1)
    values[rng.random(values.shape) < 0.2 * (seed % 2)] = np.nan
    rows = Rows((AGE, SEX), values)
    data = coded(rows, (0, 1))
    keeps = []
    for column in data.columns:
        keep = rng.random(len(column.levels) + 1) < 0.7
        if column.ordered:
            ends = np.sort(rng.integers(0, len(column.levels) + 1, 2))
            keep[:-1] = (np.arange(len(column.levels)) >= ends[0]) & (np.arange(len(column.levels)) < ends[1])
        keeps.append(keep)
    age = data.columns[0]
    if keeps[0][:-1].any() or (keeps[0][-1] and age.missing):
        found = contains(conditions_of(data.columns, tuple(keeps)), rows)
        np.testing.assert_array_equal(found, inside(data.codes, tuple(keeps)))

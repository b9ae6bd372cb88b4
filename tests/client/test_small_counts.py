"""Counts of few rows stay at the partner, and so does what they would follow from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.client.small_counts import withheld, without_small
from aimass.client.surveys import surveyed
from aimass.proto.contribution import Contribution, Group
from aimass.proto.surveys import SURVEYS, survey_of
from tests.support.surveys import batch, plan_of


def table(*counts: float) -> npt.NDArray[np.float64]:
    return np.array(counts, np.float64)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.integers(1, 8))
def test_no_count_below_the_least_is_told_nor_what_is_left_of_the_total(counts: list[int], least: int) -> None:
    whole = table(*counts)
    kept = without_small(whole, least)
    told = kept > 0
    assert (kept[told] == whole[told]).all()
    assert (kept[told] >= least).all()
    taken = whole.sum() - kept.sum()
    assert taken == 0 or taken >= least or not told.any()


def test_a_count_is_told_that_no_small_one_can_be_taken_from() -> None:
    np.testing.assert_array_equal(without_small(table(9, 0, 5, 20), 5), table(9, 0, 5, 20))
    np.testing.assert_array_equal(without_small(table(9, 3, 7, 20), 5), table(9, 0, 0, 20))  # 7 goes with the 3
    np.testing.assert_array_equal(without_small(table(9, 3, 2, 20), 5), table(9, 0, 0, 20))
    np.testing.assert_array_equal(without_small(table(3, 0), 5), table(0, 0))


@pytest.mark.parametrize("name", [name for name in SURVEYS if name != "moments"])
def test_each_columns_table_of_a_survey_is_judged_by_itself(name: str) -> None:
    survey, rows = survey_of(plan_of(name), name), batch(60, 3)
    exact = surveyed(survey, rows)
    assert withheld(exact, survey, 1) is exact
    tensors = withheld(exact, survey, 5).groups[name].tensors
    for tensor, widths in survey.tables.items():
        split = np.cumsum(widths)[:-1]
        for kept, whole in zip(
            np.split(tensors[tensor], split), np.split(exact.groups[name].tensors[tensor], split), strict=True
        ):
            np.testing.assert_array_equal(kept, without_small(whole, 5))


def test_sums_of_a_column_with_few_values_are_not_told() -> None:
    made = Contribution({"moments": Group(1.0, {"count": table(4, 5), "sum_1": table(1, 2)})}, {}, {})
    kept = withheld(made, survey_of(plan_of("moments"), "moments"), 5).groups["moments"].tensors
    assert {name: array.tolist() for name, array in kept.items()} == {"count": [0, 5], "sum_1": [0, 2]}

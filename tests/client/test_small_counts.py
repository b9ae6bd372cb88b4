"""Counts of few rows stay at the partner, and so does what they would follow from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.client.small_counts import MOMENTS_LEAST, withheld, without_small
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
    assert withheld(exact, survey, 1, 60) is exact
    tensors = withheld(exact, survey, 5, 60).groups[name].tensors
    for tensor, widths in survey.tables.items():
        split = np.cumsum(widths)[:-1]
        for kept, whole in zip(
            np.split(tensors[tensor], split), np.split(exact.groups[name].tensors[tensor], split), strict=True
        ):
            np.testing.assert_array_equal(kept, without_small(whole, 5, 60))


def left(name: str, least: int, rows: int, **tensors: npt.NDArray[np.float64]) -> dict[str, list[float]]:
    """What leaves of such sums of a survey."""
    made = Contribution({name: Group(1.0, tensors)}, {}, {})
    kept = withheld(made, survey_of(plan_of(name, **({"bins": 2} if name == "quantiles" else {})), name), least, rows)
    return {tensor: array.tolist() for tensor, array in kept.groups[name].tensors.items()}


def test_sums_of_a_column_with_few_values_are_not_told() -> None:
    sums = {"count": table(MOMENTS_LEAST - 1, MOMENTS_LEAST), "sum_1": table(1, 2)}
    assert left("moments", 5, 100, **sums) == {"count": [0, MOMENTS_LEAST], "sum_1": [0, 2]}
    more = {"count": table(79, 80), "sum_1": table(1, 2)}
    assert left("moments", 80, 200, **more) == {"count": [0, 80], "sum_1": [0, 2]}


def test_sums_whose_count_would_tell_of_few_missing_values_are_not_told() -> None:
    """The label's total, of another table, is the number of all rows."""
    sums = {"count": table(97, 100), "sum_1": table(1, 2)}
    assert left("moments", 5, 100, **sums) == {"count": [0, 100], "sum_1": [0, 2]}
    assert left("moments", 3, 100, **sums) == {name: array.tolist() for name, array in sums.items()}


def test_bins_that_would_tell_of_few_missing_values_go_until_enough_rows_are_in_none() -> None:
    assert left("quantiles", 5, 30, numbers=table(12, 15, 14, 16)) == {"numbers": [0, 15, 14, 16]}
    assert left("quantiles", 5, 35, numbers=table(12, 18, 14, 16)) == {"numbers": [12, 18, 14, 16]}


def test_few_whole_numbers_follow_from_their_sums_of_powers_and_are_not_told() -> None:
    """Newton's identities give five ages back from their count and sums, but of fifty they give none."""
    survey = survey_of(plan_of("moments"), "moments")
    for rows, kept in ((5, False), (MOMENTS_LEAST, True)):
        ages = batch(rows, 7)
        ages.numbers[:] = np.arange(rows)[:, None] + 20
        told = withheld(surveyed(survey, ages), survey, 5, rows).groups["moments"].tensors
        assert all(bool(sums.any()) is kept for name, sums in told.items() if name != "sum_1")

"""What stands beside rows becomes groups in one way for all questions, whatever a file holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aimass.explain.grouping import column_of, grouped
from aimass.proto.errors import NotFound


def groups(column: Any) -> dict[str, int]:
    found = grouped(np.asarray(column), most=3, cut_above=4, periods=2, others="{count} others")
    assert len(found.places) == len(column)
    return dict(zip(found.names, np.bincount(found.places, minlength=len(found.names)).tolist(), strict=True))


def test_words_are_groups_and_the_smallest_are_others() -> None:
    assert groups(["b", "a", "b", "c"]) == {"a": 1, "b": 2, "c": 1}
    assert groups(list("aabbccde")) == {"a": 2, "b": 2, "c": 2, "2 others": 2}


@pytest.mark.parametrize(
    "column",
    [[1.0, np.nan, 10.0, 2.0], np.array([1, None, 10, 2], object), ["1", "", "10", "2"]],
)
def test_what_is_missing_is_a_group_behind_all(column: Any) -> None:
    found = groups(column)
    assert (set(found), found["missing"], list(found)[-1]) == ({"1", "2", "10", "missing"}, 1, "missing")


def test_many_numbers_and_times_are_cut_into_periods_and_missing_ones_are_in_none() -> None:
    assert groups(np.arange(10)) == {"0 to 5": 5, "5 to 9": 5}
    assert groups([36.96, 36.97, 36.98, 36.99, 37.0, np.nan]) == {"36.96 to 36.98": 2, "36.98 to 37": 3, "missing": 1}
    days = np.array(["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04", "2024-02-01", "NaT"], "datetime64[s]")
    assert groups(days) == {"2024-01-01 to 2024-01-03": 2, "2024-01-03 to 2024-02-01": 3, "missing": 1}


def test_a_column_that_is_not_there_is_told() -> None:
    with pytest.raises(NotFound, match="no such column stands beside"):
        column_of({"partner": np.zeros(1)}, "moon")

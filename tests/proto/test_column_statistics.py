"""Statistics of parts come together to those of the whole."""

from __future__ import annotations

import statistics

import pytest

from aimass.proto.column_statistics import (
    CategoryStatistics,
    ColumnStatistics,
    ImageStatistics,
    NumberStatistics,
    TextStatistics,
    merge,
    merge_all,
)


def number(*values: float, missing: int = 0) -> NumberStatistics:
    mean = statistics.fmean(values) if values else 0.0
    return NumberStatistics(
        column="n",
        present=len(values),
        missing=missing,
        minimum=min(values, default=None),
        maximum=max(values, default=None),
        mean=mean,
        squares=sum((value - mean) ** 2 for value in values),
        counts=(sum(value < 5 for value in values), sum(value >= 5 for value in values)),
    )


def test_numbers_of_parts_come_to_those_of_all_rows() -> None:
    parts = [number(1.0, 2.5), number(missing=3), number(9.0, 4.0, 8.5, missing=1), number(7.0)]
    (found,) = merge_all((part,) for part in parts)
    whole = number(1.0, 2.5, 9.0, 4.0, 8.5, 7.0, missing=4)
    assert isinstance(found, NumberStatistics)
    assert (found.present, found.missing, found.minimum, found.maximum) == (6, 4, 1.0, 9.0)
    assert found.counts == whole.counts
    assert found.mean == pytest.approx(whole.mean, rel=1e-15)
    assert found.squares == pytest.approx(whole.squares, rel=1e-14)
    assert found.deviation == pytest.approx(statistics.pstdev([1.0, 2.5, 9.0, 4.0, 8.5, 7.0]))


def test_a_column_without_values_stays_so() -> None:
    assert merge(number(missing=2), number(missing=3)) == number(missing=5)
    assert number(missing=5).deviation == 0


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (
            CategoryStatistics(column="c", present=3, missing=1, counts={"a": 3}),
            CategoryStatistics(column="c", present=2, missing=0, counts={"a": 1, "b": 1}),
            CategoryStatistics(column="c", present=5, missing=1, counts={"a": 4, "b": 1}),
        ),
        (
            ImageStatistics(column="i", present=1, pixels=4, total=10, squares=30),
            ImageStatistics(column="i", present=2, pixels=8, total=1, squares=1),
            ImageStatistics(column="i", present=3, pixels=12, total=11, squares=31),
        ),
        (
            TextStatistics(column="t", present=1, shortest=4, longest=4, characters=4),
            TextStatistics(column="t", present=2, shortest=1, longest=9, characters=10),
            TextStatistics(column="t", present=3, shortest=1, longest=9, characters=14),
        ),
    ],
)
def test_other_kinds_are_added(one: ColumnStatistics, other: ColumnStatistics, both: ColumnStatistics) -> None:
    assert merge(one, other) == both


def test_columns_of_different_kinds_are_not_merged() -> None:
    with pytest.raises(ValueError, match="different kinds"):
        merge(number(1.0), CategoryStatistics(column="n", present=1, missing=0, counts={}))

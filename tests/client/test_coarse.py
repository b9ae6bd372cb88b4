"""Values that count as one: against a plain recursion, and that nothing of few rows is told apart however one asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.client.coarse import EXACT, Coarseness, coarse_rows, joined_categories, joined_numbers
from tests.support.boosting import SCHEMA, chance


def _zeros(place: int) -> int:
    return place & -place


def _cells(counts: Sequence[int], least: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The definition: cut at the coarsest place that leaves enough on both sides, as often as there is one."""
    places = [at for at in range(start + 1, stop) if min(sum(counts[start:at]), sum(counts[at:stop])) >= least]
    if not places:
        yield start, stop
        return
    at = max(places, key=_zeros)
    assert [_zeros(place) for place in places].count(_zeros(at)) == 1
    yield from _cells(counts, least, start, at)
    yield from _cells(counts, least, at, stop)


Columns = st.lists(st.integers(0, 6), min_size=2, max_size=24)


@settings(max_examples=200, deadline=None)
@given(st.lists(Columns, min_size=1, max_size=3), st.integers(1, 8))
def test_cells_of_numbers_are_those_of_the_plain_recursion(columns: list[list[int]], least: int) -> None:
    width = min(map(len, columns))
    counts = np.array([column[:width] for column in columns])
    for target, column in zip(joined_numbers(counts, least), counts.tolist(), strict=True):
        present, parts = column[:-1], width - 1
        if sum(present) < least:
            assert target[:-1].tolist() == [parts] * parts
            continue
        for start, stop in _cells(present, least, 0, parts):
            (place,) = set(target[start:stop].tolist())
            assert start <= place < stop
            if sum(present[start:stop]) == max(present[start:stop]):
                assert present[place] == sum(present[start:stop]), "what needs no join stays where it is"
        if column[-1] >= least:
            assert target[-1] == parts


@settings(max_examples=200, deadline=None)
@given(st.lists(Columns, min_size=1, max_size=3), st.integers(1, 8), st.booleans())
def test_no_joined_cell_is_of_few_rows_and_what_is_joined_stays(
    columns: list[list[int]], least: int, numbers: bool
) -> None:
    width = min(map(len, columns))
    counts, joined = np.array([column[:width] for column in columns]), joined_numbers if numbers else joined_categories
    once = _moved(counts, joined(counts, least))
    for before, after in zip(counts, once, strict=True):
        assert before.sum() == after.sum()
        if before.sum() >= least:
            assert not ((after > 0) & (after < least)).any()
    if least == 1:
        assert (once == counts).all()
    assert (_moved(once, joined(once, least)) == once).all()


def _moved(counts: np.ndarray, target: np.ndarray) -> np.ndarray:
    moved = np.zeros_like(counts)
    np.add.at(moved, (np.arange(len(counts))[:, None], target), counts)
    return moved


def test_rows_of_a_long_tail_count_near_most_of_them() -> None:
    counts = np.zeros((1, 1025), np.int64)
    counts[0, [10, 11, 12, 13, 14, 15, 16]] = 4
    counts[0, 900] = 1
    target = joined_numbers(counts, 5)[0]
    assert target[900] <= 32


@pytest.mark.parametrize("parts", [64, 4_096])
def test_every_value_of_joined_rows_is_that_of_enough(parts: int) -> None:
    rows = chance(300, 2)
    joined = coarse_rows(SCHEMA, rows, Coarseness(least=6, parts=parts))
    for column in (*joined.numbers.T, *joined.categories.T):
        assert min(Counter(map(str, column.tolist())).values()) >= 6
    for column, before, after in zip(SCHEMA.numbers, rows.numbers.T, joined.numbers.T, strict=True):
        held = ~np.isnan(before)
        assert len(np.unique(after[held])) > min(parts, 300 / 6) / 5, "and no coarser than it has to be"
        assert np.abs(after[held] - before[held]).mean() < (column.maximum - column.minimum) / 40
    assert (joined.labels == rows.labels).all()
    assert coarse_rows(SCHEMA, rows, EXACT) is rows

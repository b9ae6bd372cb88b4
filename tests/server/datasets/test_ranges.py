"""Ranges say of sets of numbers what Python's own sets say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aimass.server.datasets.ranges import count, first, minus, numbers_of, ranges_of, union

NUMBERS = st.sets(st.integers(1, 40), max_size=30)


@given(NUMBERS)
def test_they_hold_the_numbers_that_were_given(numbers: set[int]) -> None:
    assert numbers_of(ranges_of(numbers)) == tuple(sorted(numbers))
    assert count(ranges_of(numbers)) == len(numbers)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_union_and_difference_are_those_of_sets(one: set[int], two: set[int], three: set[int]) -> None:
    assert union(ranges_of(one), ranges_of(two), ranges_of(three)) == ranges_of(one | two | three)
    assert minus(ranges_of(one), ranges_of(two)) == ranges_of(one - two)


@given(NUMBERS, st.integers(0, 50))
def test_the_first_are_the_lowest(numbers: set[int], most: int) -> None:
    assert numbers_of(first(ranges_of(numbers), most)) == tuple(sorted(numbers)[:most])


def test_numbers_that_touch_are_one_pair() -> None:
    assert ranges_of([3, 1, 2, 7]) == ((1, 3), (7, 7))

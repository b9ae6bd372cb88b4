"""Sets of shard numbers as ranges: a hundred thousand shards that are done are one pair, and every function is pure."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Ranges", "count", "first", "minus", "numbers_of", "ranges_of", "union"]

Ranges = tuple[tuple[int, int], ...]
"""Pairs of first and last, in order; no two touch. So equal sets are equal values."""


def ranges_of(numbers: Iterable[int]) -> Ranges:
    """The set of `numbers`."""
    return _joined((number, number) for number in sorted(set(numbers)))


def numbers_of(ranges: Ranges) -> tuple[int, ...]:
    """All numbers, in order."""
    return tuple(number for low, high in ranges for number in range(low, high + 1))


def count(ranges: Ranges) -> int:
    """How many numbers there are."""
    return sum(high - low + 1 for low, high in ranges)


def union(*sets: Ranges) -> Ranges:
    """What is in any of them."""
    return _joined(sorted(pair for one in sets for pair in one))


def minus(whole: Ranges, part: Ranges) -> Ranges:
    """What is in `whole` and not in `part`."""
    left = []
    for low, high in whole:
        at = low
        for start, end in part:
            if end < at or start > high:
                continue
            if start > at:
                left.append((at, start - 1))
            at = end + 1
        if at <= high:
            left.append((at, high))
    return tuple(left)


def first(ranges: Ranges, most: int) -> Ranges:
    """The `most` lowest numbers."""
    kept = []
    for low, high in ranges:
        if most <= 0:
            break
        kept.append((low, min(high, low + most - 1)))
        most -= high - low + 1
    return tuple(kept)


def _joined(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """Pairs in order of their first numbers, those that touch as one."""
    joined: list[tuple[int, int]] = []
    for low, high in pairs:
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return tuple(joined)

"""Poisson samples for DP-SGD: each row, or each person, by itself, from randomness that no server knows.

Epsilon is computed for just this sampling; shuffled batches of a fixed size would have another, several times larger.
A plan's seed never serves here: who knows which rows a step drew gets no privacy from their being few.
"""

from __future__ import annotations

import dataclasses
import math
import secrets
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from aimass.privacy.dp.streams import WORD, Token
from aimass.proto.errors import BadInput

__all__ = ["PersonSampler", "RowSampler", "Sampler", "VirtualBatch", "poisson_sample"]

Positions = npt.NDArray[np.intp]


@dataclasses.dataclass(frozen=True, slots=True)
class VirtualBatch:
    """Rows that are held in memory at once: their positions, and whose each is, counted from 0 in this batch.

    Without `persons` each row stands for itself.
    """

    rows: Positions
    persons: Positions | None = None


class Sampler(Protocol):
    """What draws the rows of a step."""

    def draw(self) -> Iterator[VirtualBatch]:
        """One Poisson sample, in parts of bounded size; nothing where nobody was drawn."""
        ...


def poisson_sample(units: int, rate: float, cap: int | None = None, token: Token = secrets.token_bytes) -> Positions:
    """Positions of the units drawn, ascending: each with probability `rate`, rounded down to a multiple of 2^-64.

    More than `cap` are cut to a uniformly random set of so many.
    """
    if not (0 < rate <= 1):
        raise BadInput("a sampling rate lies above 0 and is at most 1", code="private.rate", value=rate)
    threshold = math.floor(math.ldexp(rate, 64))  # exact: a float has 53 bits
    drawn = np.arange(units) if threshold >= 1 << 64 else np.flatnonzero(_words(units, token) < np.uint64(threshold))
    if cap is not None and len(drawn) > cap:
        # Of equal keys, which 64 bits have once in 2^40 batches, the earlier unit stays.
        drawn = np.sort(drawn[np.argsort(_words(len(drawn), token), kind="stable")[:cap]])
    return drawn


class RowSampler:
    """Each row by itself, in virtual batches of `size`."""

    def __init__(self, rows: int, rate: float, cap: int | None, size: int, token: Token = secrets.token_bytes) -> None:
        self._rows, self._rate, self._cap, self._size, self._token = rows, rate, cap, size, token

    def draw(self) -> Iterator[VirtualBatch]:
        """As `Sampler` says."""
        drawn = poisson_sample(self._rows, self._rate, self._cap, self._token)
        for start in range(0, len(drawn), self._size):
            yield VirtualBatch(drawn[start : start + self._size])


class PersonSampler:
    """Each person by itself, with `most` of its rows, chosen at random for each draw.

    A virtual batch has whole persons and `size` rows at most, and nobody in it has over twice as many as another: a
    table of persons by places is at most twice as large as the rows. `persons` [rows] are numbers from 0 on without a
    gap.
    """

    def __init__(
        self,
        persons: npt.NDArray[np.int64],
        rate: float,
        cap: int | None,
        most: int,
        size: int,
        token: Token = secrets.token_bytes,
    ) -> None:
        if most > size:
            raise BadInput("a person has more rows than are held at once", code="private.rows", value=most, limit=size)
        self._rate, self._cap, self._most, self._size, self._token = rate, cap, most, size, token
        self._order = np.argsort(persons, kind="stable")
        self._counts = np.bincount(persons)
        self._starts = np.cumsum(self._counts) - self._counts

    def draw(self) -> Iterator[VirtualBatch]:
        """As `Sampler` says."""
        drawn = poisson_sample(len(self._counts), self._rate, self._cap, self._token)
        rows, counts = _by_size(*self._rows_of(drawn))
        ends = np.cumsum(counts)
        first = done = 0
        while first < len(drawn):
            full = np.searchsorted(ends, done + self._size, side="right")
            last = int(min(full, np.searchsorted(counts, 2 * counts[first], side="right")))
            yield VirtualBatch(rows[done : ends[last - 1]], np.repeat(np.arange(last - first), counts[first:last]))
            first, done = last, int(ends[last - 1])

    def _rows_of(self, drawn: Positions) -> tuple[Positions, Positions]:
        """The rows of the persons drawn, one person's after the other's, and how many of each there are."""
        counts = self._counts[drawn]
        owners = np.repeat(np.arange(len(drawn)), counts)
        places = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = self._order[np.repeat(self._starts[drawn], counts) + places]
        if len(counts) == 0 or counts.max() <= self._most:
            return rows, counts
        shuffled = rows[np.lexsort((_words(len(rows), self._token), owners))]
        return shuffled[places < self._most], np.minimum(counts, self._most)


def _by_size(rows: Positions, counts: Positions) -> tuple[Positions, Positions]:
    """The same with the persons in the order of their counts."""
    order = np.argsort(counts, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rows[np.argsort(np.repeat(rank, counts), kind="stable")], counts[order]


def _words(count: int, token: Token) -> npt.NDArray[np.uint64]:
    return np.frombuffer(token(WORD.itemsize * count), WORD)

"""SliceLine: the slices of a table where a model is worst, found exactly by bounds (Sagadeeva and Boehm, SIGMOD 2021).

A slice S of n rows scores  a (mean error in S / mean error - 1) - (1 - a) (n / |S| - 1)  (their equation 1): above 0 it
is worse than the rows are on the whole, and its size pays for it. Its size and its sum of errors can only fall with
each further predicate, so a slice that cannot beat those known is left out with all that lies within it (section 3).

Sizes and sums are sums over rows: `measure` of several tables, added up, is that of one table.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.work import Work
from aimass.proto.errors import BadInput

__all__ = ["TOO_MANY", "Found", "Measured", "bound", "levels", "measure", "possible_slices", "score", "search"]

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
TOO_MANY: Final = "explain.slices"
"""The code of what is raised where candidates do not fit into memory."""
_CELL_BYTES: Final = 8
_PAIR_BYTES: Final = 64
"""Of a candidate before it is pruned: its places, its parents' bounds."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """Of k slices: `sizes` in rows, `sums` of errors, and `most`, which no error in each exceeds."""

    sizes: Floats
    sums: Floats
    most: Floats

    def take(self, which: npt.NDArray[np.int64] | Flags) -> Measured:
        """Those of these slices."""
        return Measured(self.sizes[which], self.sums[which], self.most[which])


@dataclasses.dataclass(frozen=True)
class Found:
    """The best slices, worst for the model first: `slices` are places of predicates. `evaluated` were measured."""

    slices: tuple[tuple[int, ...], ...]
    scores: Floats
    measured: Measured
    evaluated: int
    possible: int


def score(sizes: Floats, sums: Floats, rows: int, total: float, alpha: float) -> Floats:
    """Equation 1, of slices [k] among `rows` rows whose errors sum to `total`."""
    return alpha * ((sums / sizes) / (total / rows) - 1) - (1 - alpha) * (rows / sizes - 1)


def bound(limits: Measured, least: int, rows: int, total: float, alpha: float) -> Floats:
    """The most that a slice [k] can score whose size, sum and largest error are within `limits` (equation 3).

    As a function of the size, the score rises until the size can hold the whole sum, and is monotone from there on: so
    it is largest at the least size, at that one, or at the greatest.
    """
    largest = np.maximum(limits.sizes, least)
    full = np.clip(limits.sums / np.maximum(limits.most, 1e-300), least, largest)
    best = np.full(len(largest), -np.inf)
    for sizes in (np.full(len(largest), float(least)), full, largest):
        sums = np.minimum(limits.sums, sizes * limits.most)
        best = np.maximum(best, score(sizes, sums, rows, total, alpha))
    return np.where(limits.sizes < least, -np.inf, best)


def measure(slices: Places, met: Flags, errors: Floats, work: Work) -> Measured:
    """Of slices [k, level], places of predicates; `met` [predicates, n] says which rows meet each, errors [n] >= 0.

    Slices that share all but the last predicate are measured together: products of matrices, of which some entries are
    not asked for, take less time than passing over the rows for each slice.
    """
    if not len(slices):
        return Measured(*(np.zeros(0) for _ in range(3)))
    largest = np.array([errors[inside].max(initial=0.0) for inside in met])
    sizes, sums = np.zeros(len(slices)), np.zeros(len(slices))
    blocks = work.chunks(len(errors), 4 * _CELL_BYTES * max(1, len(met)))
    for place, rows in enumerate(blocks):
        part = work.part(place / len(blocks), (place + 1) / len(blocks), "measuring slices")
        counted, summed = _measured(slices, met[:, rows].astype(np.float64), errors[rows], part)
        sizes += counted
        sums += summed
    return Measured(sizes, sums, largest[slices].min(axis=1))


def _measured(slices: Places, member: Floats, errors: Floats, work: Work) -> tuple[Floats, Floats]:
    """Sizes and sums [k] over the rows of `member` float64 [predicates, rows]."""
    if slices.shape[1] == 1:
        return member.sum(axis=1)[slices[:, 0]], (member @ errors)[slices[:, 0]]
    prefixes, which = np.unique(slices[:, :-1], axis=0, return_inverse=True)
    order = np.argsort(which, kind="stable")
    sizes, sums = np.empty(len(slices)), np.empty(len(slices))

    def one(part: slice) -> None:
        inside = member[prefixes[part, 0]]
        for level in range(1, prefixes.shape[1]):
            inside *= member[prefixes[part, level]]
        mine = order[slice(*np.searchsorted(which[order], [part.start, part.stop]))]
        cells = which[mine] - part.start, slices[mine, -1]
        sizes[mine] = (inside @ member.T)[cells]
        inside *= errors
        sums[mine] = (inside @ member.T)[cells]

    work.each(one, work.chunks(len(prefixes), 2 * _CELL_BYTES * (member.shape[1] + len(member))))
    return sizes, sums


def search(
    met: Flags, errors: Floats, columns: Places, work: Work, *, count: int, depth: int, least: int, alpha: float
) -> Found:
    """The `count` best slices of at most `depth` predicates and at least `least` rows that score above 0.

    `met` bool [predicates, n]; `columns` [predicates]: a slice holds one predicate of each column at most. No slice
    that is left out scores more than the last.
    """
    asked = levels(columns, len(errors), float(errors.sum()), work, count=count, depth=depth, least=least, alpha=alpha)
    try:
        slices = next(asked)
        while True:
            slices = asked.send(measure(slices, met, errors, work))
    except StopIteration as end:
        found: Found = end.value
        return found


def levels(
    columns: Places, rows: int, total: float, work: Work, *, count: int, depth: int, least: int, alpha: float
) -> Generator[Places, Measured, Found]:
    """The search as questions: it yields slices [k, level], is sent what they measure, and returns what `search` does.

    Whoever asks may measure where the rows are. `rows` have errors that sum to `total`.
    """
    nothing = Measured(*(np.zeros(0) for _ in range(3)))
    best = Found((), np.zeros(0), nothing, 0, possible_slices(columns, depth))
    if rows == 0 or total <= 0:
        return best
    slices, evaluated = np.arange(len(columns), dtype=np.int64)[:, None], 0
    for level in range(1, depth + 1):
        measured = yield slices
        evaluated += len(slices)
        alive = (measured.sizes >= least) & (measured.sums > 0)
        slices, measured = slices[alive], measured.take(alive)
        best = _better(best, slices, measured, rows, total, alpha, count)
        if level == depth:
            break
        floor = best.scores[-1] if len(best.scores) == count else 0.0
        worth = bound(measured, least, rows, total, alpha) > floor
        slices, limits = _joined(slices[worth], measured.take(worth), columns, len(columns), work)
        slices = slices[bound(limits, least, rows, total, alpha) > floor]
        if not len(slices):
            break
    return dataclasses.replace(best, evaluated=evaluated)


def possible_slices(columns: Places, depth: int) -> int:
    """How many slices of at most `depth` predicates there are: sums of products of counts by column."""
    ways = [1] + [0] * depth
    for size in np.unique(columns, return_counts=True)[1].tolist():
        for level in range(depth, 0, -1):
            ways[level] += ways[level - 1] * size
    return sum(ways[1:])


def _better(
    best: Found, slices: Places, measured: Measured, rows: int, total: float, alpha: float, count: int
) -> Found:
    """The `count` best of those known and these."""
    scores = score(measured.sizes, measured.sums, rows, total, alpha)
    new = np.flatnonzero(scores > 0)
    everything = best.slices + tuple(tuple(row) for row in slices[new].tolist())
    merged = np.concatenate([best.scores, scores[new]])
    order = np.argsort(-merged, kind="stable")[:count]
    both = Measured(
        np.concatenate([best.measured.sizes, measured.sizes[new]]),
        np.concatenate([best.measured.sums, measured.sums[new]]),
        np.concatenate([best.measured.most, measured.most[new]]),
    )
    return dataclasses.replace(
        best, slices=tuple(everything[place] for place in order), scores=merged[order], measured=both.take(order)
    )


def _joined(
    slices: Places, measured: Measured, columns: Places, predicates: int, work: Work
) -> tuple[Places, Measured]:
    """Slices of one predicate more, each of whose parents is among `slices`, with the least of the parents' measures.

    As Apriori joins (Agrawal and Srikant 1994): two that share all but the last place.
    """
    level = slices.shape[1]
    order = np.lexsort(slices.T[::-1])
    slices, measured = slices[order], measured.take(order)
    if math.log2(max(2, predicates)) * (level + 1) > 62:
        raise _too_many(predicates)
    radix = predicates ** np.arange(level - 1, -1, -1, dtype=np.int64)
    keys = slices @ radix
    first, second = _pairs(keys // predicates if level > 1 else np.zeros(len(keys), np.int64), predicates, work)
    apart = columns[slices[first, -1]] != columns[slices[second, -1]]
    first, second = first[apart], second[apart]
    longer = np.concatenate([slices[first], slices[second, -1:]], axis=1)
    parents = [first, second]
    present = np.ones(len(longer), np.bool_)
    for left_out in range(level - 1):  # the other two parents leave out one of the last places
        wanted = np.delete(longer, left_out, axis=1) @ radix
        place = np.minimum(np.searchsorted(keys, wanted), max(0, len(keys) - 1))
        present &= keys[place] == wanted if len(keys) else False
        parents.append(place)
    limits = Measured(*(np.min([values[place] for place in parents], axis=0)[present] for values in _arrays(measured)))
    return longer[present], limits


def _arrays(measured: Measured) -> tuple[Floats, Floats, Floats]:
    return measured.sizes, measured.sums, measured.most


def _pairs(prefixes: Places, predicates: int, work: Work) -> tuple[Places, Places]:
    """All pairs of places whose prefixes, sorted, are equal."""
    sizes = np.unique(prefixes, return_counts=True)[1]
    if int((sizes * (sizes - 1) // 2).sum()) * _PAIR_BYTES > work.memory_bytes:
        raise _too_many(predicates)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if len(sizes) else np.zeros(0, np.int64)
    halves = [np.triu_indices(size, 1) for size in sizes.tolist()]
    first = [start + left for start, (left, _) in zip(starts.tolist(), halves, strict=True)]
    second = [start + right for start, (_, right) in zip(starts.tolist(), halves, strict=True)]
    empty = np.zeros(0, np.int64)
    return np.concatenate([empty, *first]).astype(np.int64), np.concatenate([empty, *second]).astype(np.int64)


def _too_many(predicates: int) -> BadInput:
    return BadInput(
        "there are more slices than memory holds",
        code=TOO_MANY,
        value=f"{predicates} predicates",
        cure="Ask for fewer cuts, a smaller depth, larger slices or fewer columns.",
    )

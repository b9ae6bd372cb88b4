"""How boxes are peeled from sums: which box comes next, decided from counts by bin and from nothing else.

Friedman and Fisher's patient rule induction (`prim.peeling`) asks of each column how many rows of the box lie in each
of its bins, and what their target sums to. Those are sums over rows, so partners who only add can peel together, a peel
a step. Rows are of three sides by their keys: some search, some choose how small a box is to be, the others judge it.

Nothing is pasted afterwards: a peel that cut too deep stays.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.federated.marginals import edges_of, uniforms
from aimass.explain.federated.sums import Floats, Sums
from aimass.explain.prim.box import Condition
from aimass.explain.prim.coding import Column
from aimass.explain.prim.peeling import Keep, Marginal, best_peel, inside
from aimass.explain.rows import Feature, Rows
from aimass.proto.surveys import bins_of

__all__ = [
    "SIDES",
    "Replay",
    "Search",
    "Trail",
    "boxes_of",
    "columns_of",
    "conditions_of",
    "peeled",
    "replayed",
    "sides_of",
    "summed",
]

SIDES: Final = {"searched": (0.0, 0.5), "chosen": (0.5, 0.7), "judged": (0.7, 1.0)}
"""What share of the rows does what."""
_FEWEST: Final = 10
"""Rows over which a mean may choose a box."""
_ROUNDING: Final = 1e-9
"""What two orders of adding may make of one mean."""


@dataclasses.dataclass(frozen=True)
class Search:
    """What stays the same from step to step. `sign` is -1 where boxes are to hold what is low."""

    columns: tuple[Column, ...]
    fraction: float
    support: float
    conditions: int
    boxes: int
    sign: float = 1.0

    @property
    def width(self) -> int:
        """Cells of the widest column, the missing one included."""
        return max(len(column.levels) for column in self.columns) + 1


@dataclasses.dataclass(frozen=True)
class Trail:
    """The boxes of one search, from all rows down: what each keeps, and the sums over the rows in it.

    `last` is the place of the box that was chosen, 0 where none stands out.
    """

    keeps: tuple[tuple[Keep, ...], ...] = ()
    sums: tuple[Sums, ...] = ()
    last: int = 0


@dataclasses.dataclass(frozen=True)
class Replay:
    """Searches that came to their end, one that has not, and the box that the next step asks about, None at the end."""

    done: tuple[Trail, ...]
    open: Trail | None
    now: tuple[Keep, ...] | None


def columns_of(features: Sequence[Feature], bins: int) -> tuple[Column, ...]:
    """Columns whose levels are the lower edges of bins of the schema's bounds, or all values of a category."""
    return tuple(
        Column(
            one,
            np.arange(len(one.values), dtype=np.float64) if one.kind == "category" else edges_of(one, bins)[:-1],
            True,
        )
        for one in features
    )


def coded(columns: Sequence[Column], rows: Rows) -> npt.NDArray[np.int64]:
    """int64 [n, columns]: the place of each cell's level, and behind the last that of what is missing."""
    codes = np.empty((len(rows), len(columns)), np.int64)
    for place, column in enumerate(columns):
        cells, levels = rows.values[:, place], len(column.levels)
        if column.ordered:
            found = bins_of(cells, edges_of(column.feature, levels))
            codes[:, place] = np.where(found < 0, levels, found)
        else:
            codes[:, place] = np.where(np.isnan(cells), levels, cells).astype(np.int64)
    return codes


def sides_of(keys: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.int64]:
    """int64 [n]: of each row its place in `SIDES`."""
    ends = [high for _, high in SIDES.values()]
    return np.searchsorted(ends[:-1], uniforms(keys, "prim sides", seed), side="right")


def summed(
    columns: tuple[Column, ...],
    rows: Rows,
    target: Floats,
    sides: npt.NDArray[np.int64],
    boxes: Sequence[tuple[Keep, ...]],
) -> Mapping[str, Floats]:
    """Of rows [n] in the last of the `boxes` and in none of the former: counts and sums by bin, and by side."""
    codes = coded(columns, rows)
    within = inside(codes, boxes[-1])
    for former in boxes[:-1]:
        within &= ~inside(codes, former)
    width = max(len(column.levels) for column in columns) + 1
    found: dict[str, Floats] = {}
    for place, side in enumerate(SIDES):
        there = within & (sides == place)
        values = target[there]
        found |= {side: np.array(float(len(values))), f"{side}_sum": np.array(values.sum())}
        found[f"{side}_squares"] = np.array((values**2).sum())
        if side == "searched":
            some = codes[there]
            found["levels"] = _by_level(some, None, width)
            found["sums"] = _by_level(some, values, width)
    return found


def _by_level(codes: npt.NDArray[np.int64], weights: Floats | None, width: int) -> Floats:
    return np.stack([np.bincount(one, weights, minlength=width) for one in codes.T]).astype(np.float64)


def boxes_of(search: Search, trails: Sequence[Trail], now: tuple[Keep, ...]) -> Floats:
    """float64 [boxes + 1, columns, width]: the boxes that were found, then the one that is asked about; 1 is kept."""
    found = np.ones((len(trails) + 1, len(search.columns), search.width))
    for place, box in enumerate((*(trail.keeps[trail.last] for trail in trails), now)):
        for column, keep in enumerate(box):
            found[place, column, : len(keep)] = keep
    return found


def peeled(search: Search, boxes: Floats) -> tuple[tuple[Keep, ...], ...]:
    """The boxes again."""
    return tuple(
        tuple(box[place, : len(column.levels) + 1] > 0.5 for place, column in enumerate(search.columns))
        for box in boxes
    )


def replayed(search: Search, found: Sequence[Sums]) -> Replay:
    """What the sums of all steps so far come to."""
    done: list[Trail] = []
    whole = tuple(np.ones(len(column.levels) + 1, bool) for column in search.columns)
    keeps, trail = whole, Trail()
    least = search.support * float(found[0]["searched"]) if found else 0.0
    for sums in found:
        trail = Trail((*trail.keeps, keeps), (*trail.sums, sums))
        further = _peeled(search, keeps, sums, least)
        if further is not None:
            keeps = further
            continue
        done.append(dataclasses.replace(trail, last=_chosen(search, trail)))
        if not done[-1].last or len(done) == search.boxes:
            return Replay(tuple(done), None, None)
        keeps, trail = whole, Trail()
    open_ = dataclasses.replace(trail, last=_chosen(search, trail)) if trail.keeps else None
    return Replay(tuple(done), open_, keeps)


def _peeled(search: Search, keeps: tuple[Keep, ...], sums: Sums, least: float) -> tuple[Keep, ...] | None:
    """The box after the best peel; None where none leaves enough rows, or changes anything."""
    counts, totals = np.asarray(sums["levels"]), search.sign * np.asarray(sums["sums"])
    parts = []
    for place, column in enumerate(search.columns):
        cells = slice(len(column.levels) + 1)
        kept = np.where(keeps[place], np.maximum(counts[place, cells], 0.0), 0.0)
        parts.append(Marginal(kept, np.where(kept > 0, totals[place, cells], 0.0)))
    if min(part.counts.sum() for part in parts) <= 0:
        return None
    peel = best_peel(search.columns, keeps, tuple(parts), search.fraction, least, search.conditions)
    if peel is None:
        return None
    return tuple(peel.keep if place == peel.column else keep for place, keep in enumerate(keeps))


def _chosen(search: Search, trail: Trail) -> int:
    """The largest box whose mean, over the rows that choose, is within a standard error of the best.

    The rule of Breiman et al. 1984, section 3.4.3.
    """
    counts, sums, squares = (
        np.array([float(one[name]) for one in trail.sums]) for name in ("chosen", "chosen_sum", "chosen_squares")
    )
    enough = counts >= _FEWEST
    if not enough.any():
        return 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(enough, search.sign * sums / counts, -math.inf)
        error = np.sqrt(np.maximum(squares / counts - (sums / counts) ** 2, 0.0) / counts)
    best = int(np.argmax(mean))
    return int(np.flatnonzero(mean >= mean[best] - error[best] - _ROUNDING * abs(mean[best]))[0])


def conditions_of(columns: Sequence[Column], keeps: tuple[Keep, ...]) -> tuple[Condition, ...]:
    """The box in words whose bounds are edges of bins; the upper one is the last number below its edge."""
    return tuple(_condition(column, keep) for column, keep in zip(columns, keeps, strict=True) if not keep.all())


def _condition(column: Column, keep: Keep) -> Condition:
    kept, missing, levels = np.flatnonzero(keep[:-1]), bool(keep[-1]), len(column.levels)
    if not column.ordered:
        return Condition(feature=column.feature, places=tuple(kept.tolist()), missing=missing)
    edges = edges_of(column.feature, levels)
    low = high = None
    if len(kept) and kept[0] > 0:
        low = float(edges[kept[0]])
    if len(kept) and kept[-1] < levels - 1:
        high = float(np.nextafter(edges[kept[-1] + 1], -np.inf))
    return Condition(feature=column.feature, low=low, high=high, missing=missing)

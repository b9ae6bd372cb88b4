"""Where the model is wrong over given segments: bands of its prediction, or those who hold the rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Bars, Panel, Picture, Rule, Spans, names_axis
from aimass.explain.grouping import column_of, grouped
from aimass.explain.lineage import Lineage
from aimass.explain.results import Array, Check, Columns, Result
from aimass.explain.rows import Rows
from aimass.explain.segviz.judged import Judged
from aimass.explain.significance import holm, mean_and_interval, shuffled_p
from aimass.explain.words import apart, counted, number, percent
from aimass.explain.work import Work

__all__ = ["Placed", "Segments", "bands_of", "beside_of", "placed", "reach_of", "segments"]

Floats = npt.NDArray[np.float64]
MOST_SEGMENTS: Final = 50
_ENOUGH: Final = 5
"""Rows of a segment that is told as the worst, where any holds as many."""
_CELL_COLOURS: Final = {
    "true positive": "series:0",
    "false positive": "series:1",
    "false negative": "series:3",
    "true negative": "series:4",
    "right": "series:0",
    "wrong": "series:1",
    "near": "series:0",
    "too high": "series:1",
    "too low": "series:3",
}
_NEVER: Final = "Errors by segment say where they are, not why; a segment of few rows has a wide interval."


class Segments(Result, frozen=True, kw_only=True, eq=False, tag="segviz.segments"):
    """`counts` int64 [segments, cells]; `mean`, `low`, `high` [segments] of the loss and its 95 % interval, NaN without
    rows; `p` that a segment is no worse than the others, corrected by Holm, NaN where that is not asked. `overall` is
    the mean loss of all rows.
    """

    by: str
    names: tuple[str, ...]
    cells: tuple[str, ...]
    counts: Array
    loss: str
    overall: float
    mean: Array
    low: Array
    high: Array
    p: Array

    @property
    def share(self) -> bool:
        """Whether the loss is the share of rows that are wrong."""
        return self.loss == "error_rate"

    def told(self, value: float) -> str:
        """A mean loss as people say it."""
        return "unknown" if math.isnan(value) else percent(value) if self.share else number(value)

    def describe(self) -> tuple[str, ...]:
        """The worst segment first, then what is significant."""
        rows, what = self.counts.sum(axis=1), "wrong in" if self.share else self.loss.replace("_", " ")
        known = np.flatnonzero(rows >= min(_ENOUGH, int(rows.max())))
        worst = known[np.argmax(self.mean[known])]
        first = (
            f"By {self.by}, {self.names[worst]} is worst: {what} {self.told(self.mean[worst])} of "
            f"{counted(int(rows[worst]), 'row')} ({self.told(self.low[worst])} to {self.told(self.high[worst])}), "
            f"over all rows {self.told(self.overall)}."
        )
        lines = [first]
        if not np.isnan(self.p).all():
            sure = [f"{self.names[k]} (p = {number(self.p[k], 2)})" for k in np.flatnonzero(self.p <= 0.05)]
            lines.append(
                f"Worse than the others, after Holm's correction: {', '.join(sure)}."
                if sure
                else "None is worse than the others by more than chance, after Holm's correction."
            )
        return tuple(lines)

    def to_columns(self) -> Columns:
        """A line a segment."""
        counts = {name: self.counts[:, place].tolist() for place, name in enumerate(self.cells)}
        figures = {"mean": self.mean, "low": self.low, "high": self.high, "p": self.p}
        return {
            self.by: self.names,
            **counts,
            **{f"{self.loss}_{name}": of.tolist() for name, of in figures.items()},
        }

    def picture(self) -> Picture:
        """How many rows of each kind of right and wrong, and the mean loss with its interval."""
        places, rows = np.arange(len(self.names), dtype=np.float64), self.counts.sum(axis=1)
        ends = self.counts.cumsum(axis=1).astype(np.float64)
        bars = tuple(
            Bars(
                places,
                ends[:, cell],
                begin=ends[:, cell] - self.counts[:, cell],
                colours=(_CELL_COLOURS[name],),
                series=name,
                says=tuple(
                    f"{name}: {count:,} of {of:,}" for count, of in zip(self.counts[:, cell], rows, strict=True)
                ),
            )
            for cell, name in enumerate(self.cells)
        )
        known = ~np.isnan(self.low)
        spans = Spans(places[known], self.mean[known], self.low[known], self.high[known], colour="quiet")
        what = "share of rows that are wrong" if self.share else f"mean {self.loss.replace('_', ' ')}"
        y, reach = names_axis(self.names, self.by), reach_of(self.high, self.mean)
        return Picture(
            f"Where the model is wrong, by {self.by}",
            (
                Panel("Rows", Axis("rows"), y, bars, width=360),
                Panel(
                    "Error",
                    Axis(what, domain=reach),
                    names_axis(self.names),
                    (Rule(self.overall), spans),
                    width=300,
                ),
            ),
            "A bar counts a segment's rows by how the model is right or wrong; a dot is its mean error, 95 % interval.",
            _NEVER,
            columns=2,
        )


def segments(
    judged: Judged,
    places: npt.NDArray[np.int64],
    names: tuple[str, ...],
    by: str,
    lineage: Lineage,
    tested: Work | None = None,
    *,
    shuffles: int = 1999,
    caveats: tuple[str, ...] = (),
) -> Segments:
    """Of rows whose segments are `places` [n] in `names`. `tested` draws shuffles; None asks for none."""
    kinds = len(judged.names)
    counts = np.bincount(places * kinds + judged.cells, minlength=len(names) * kinds).reshape(len(names), kinds)
    inside = places[:, None] == np.arange(len(names))
    means = [mean_and_interval(judged.errors[of], share=judged.share) for of in inside.T]
    mean, low, high = np.array(means).T
    p = np.full(len(names), np.nan)
    if tested is not None and len(names) > 1:
        p = holm(shuffled_p(inside, judged.errors, shuffles, tested, f"segments {by}"))
    off = float(abs(int(counts.sum()) - lineage.rows))
    return Segments(
        lineage=lineage,
        caveats=(*caveats, _NEVER),
        checks=(Check(name="rows that are in no segment", error=off, limit=0.0),),
        by=by, names=names, cells=judged.names, counts=counts.astype(np.int64), loss=judged.loss,
        overall=float(judged.errors.mean()), mean=mean, low=low, high=high, p=p,
    )  # fmt: skip


def reach_of(*ends: Floats) -> tuple[float, float]:
    """From 0 to a little beyond the largest of these, NaN passed over: an axis of errors."""
    known = np.concatenate([end[~np.isnan(end)] for end in ends])
    return 0.0, 1.05 * float(known.max(initial=0.0)) or 1.0


def bands_of(judged: Judged, bands: int, *, chance: bool) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Places [n] and names of bands: of a chance equally wide, else quantiles of what was predicted."""
    shares = np.arange(1, bands) / bands
    cuts = shares if chance else np.unique(np.quantile(judged.said, shares))
    return _cut(judged.said, cuts)


Placed = tuple[str, npt.NDArray[np.int64], tuple[str, ...], tuple[str, ...]]
"""A column that stands beside: its name, places [n], values, and caveats."""


def beside_of(rows: Rows, beside: str) -> Placed | None:
    """The column of that name, or `partner` where none is named; None where that is not there."""
    return placed(rows.beside, beside or "partner") if beside or "partner" in rows.beside else None


def placed(beside: Mapping[str, npt.NDArray[Any]], name: str) -> Placed:
    """A column's values told apart, of many the largest, numbers and times in fifths; raises `NotFound`."""
    found = grouped(
        column_of(beside, name), most=MOST_SEGMENTS - 1, cut_above=MOST_SEGMENTS, periods=5, others="{count} others"
    )
    caveat = f"Only the {found.kept} largest of {found.distinct} values of {name} are told apart."
    return name, found.places, found.names, (caveat,) if found.kept < found.distinct else ()


def _cut(values: Floats, cuts: Floats) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Which of the bands between `cuts` each value is in, and their names, lowest first."""
    told = apart(cuts)
    names = (f"below {told[0]}", *map(" to ".join, itertools.pairwise(told)), f"{told[-1]} and more")
    return np.searchsorted(cuts, values, side="right").astype(np.int64), names

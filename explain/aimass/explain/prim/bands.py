"""Predictions cut at thresholds into bands: how many rows, what was predicted, and what was true in each.

Everything follows from a fine histogram of the predictions, which is a sum over rows. So a slider moves the thresholds
without asking the model again, and partners who add their histograms have the bands of all their rows together.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.means import mean_interval, student95
from aimass.explain.significance import LEVEL, holm
from aimass.proto.errors import BadInput
from aimass.proto.intervals import wilson

__all__ = ["BandRow", "Histogram", "band_names", "band_rows", "histogram", "off", "score_edges"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FINE: Final = 1_000
"""Bins of the histogram: a slider moves in thousandths."""


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Of predictions by group: `edges` [bins + 1] ascending; a bin holds its lower edge, the last one both.

    `counts` int64, `predicted` (sums of predictions), `outcomes` and `squares` (sums of what was true and of its
    squares; NaN where nobody knows) float64, all [groups, bins]. Histograms over the same edges add.
    """

    edges: Floats
    counts: Ints
    predicted: Floats
    outcomes: Floats
    squares: Floats

    def __add__(self, other: Histogram) -> Histogram:
        """Of both's rows together."""
        if not np.array_equal(self.edges, other.edges):
            raise BadInput("histograms over other edges do not add", code="explain.edges")
        return Histogram(
            self.edges,
            self.counts + other.counts,
            self.predicted + other.predicted,
            self.outcomes + other.outcomes,
            self.squares + other.squares,
        )


def score_edges(thresholds: Floats, scores: Floats | None = None) -> Floats:
    """Edges of a histogram, the thresholds among them: of probabilities, or of what the `scores` span."""
    if scores is None:
        return np.union1d(np.arange(FINE + 1) / FINE, thresholds)
    low, high = min(scores.min(), thresholds.min()), max(scores.max(), thresholds.max())
    return np.union1d(np.linspace(low, high if high > low else low + 1.0, FINE + 1), thresholds)


def histogram(
    scores: Floats, edges: Floats, outcomes: Floats | None = None, groups: Ints | None = None, of: int = 1
) -> Histogram:
    """Of predictions `scores` [n], what was true `outcomes` [n], and which of `of` groups each row belongs to."""
    bins = len(edges) - 1
    if len(scores) and not edges[0] <= scores.min() <= scores.max() <= edges[-1]:
        raise BadInput(
            "a prediction lies outside the histogram",
            code="explain.edges",
            value=f"{scores.min()} to {scores.max()}",
            limit=f"{edges[0]} to {edges[-1]}",
        )
    place = np.minimum(np.searchsorted(edges, scores, side="right") - 1, bins - 1)
    cell = place if groups is None else groups * bins + place

    def total(weights: Floats | None) -> Floats:
        if weights is None:
            return np.full((of, bins), np.nan)
        return np.bincount(cell, weights, minlength=of * bins).reshape(of, bins).astype(np.float64)

    counts = np.bincount(cell, minlength=of * bins).reshape(of, bins).astype(np.int64)
    return Histogram(edges, counts, total(scores), total(outcomes), total(None if outcomes is None else outcomes**2))


@dataclasses.dataclass(frozen=True)
class BandRow:
    """One band: of `count` rows the mean prediction and the mean of what was true, with its 95 % interval.

    `p` is the chance that the truth lies as far from the mean prediction if that is right, NaN where nobody knows: of
    shares by the binomial distribution, which is wider than that of rows whose chances differ; else by Student's.
    """

    count: int
    predicted: float
    observed: float
    low: float
    high: float
    p: float


def off(bands: Sequence[BandRow]) -> list[bool]:
    """Of each band whether the truth is further from the predictions than chance explains, corrected for all (Holm)."""
    known = [place for place, band in enumerate(bands) if not np.isnan(band.p)]
    found = [False] * len(bands)
    for place, p in zip(known, holm([bands[place].p for place in known]), strict=True):
        found[place] = bool(p <= LEVEL)
    return found


def band_rows(of: Histogram, thresholds: Floats, *, binary: bool) -> list[list[BandRow]]:
    """Of each group each band; what is true of probabilities is `binary`, and has Wilson's interval.

    Raises `BadInput` for thresholds that are no edges of the histogram.
    """
    cuts = np.searchsorted(of.edges, thresholds)
    if not np.array_equal(of.edges[np.minimum(cuts, len(of.edges) - 1)], thresholds):
        raise BadInput("a threshold lies between the edges of the histogram", code="explain.thresholds")
    starts = np.concatenate([[0], cuts])
    ends = np.concatenate([cuts, [len(of.edges) - 1]])
    return [
        [_band(of, group, slice(start, end), binary=binary) for start, end in zip(starts, ends, strict=True)]
        for group in range(len(of.counts))
    ]


def _band(of: Histogram, group: int, bins: slice, *, binary: bool) -> BandRow:
    parts = (of.counts, of.predicted, of.outcomes, of.squares)
    count, predicted, outcome, square = (float(part[group, bins].sum()) for part in parts)
    if not count:
        return BandRow(0, np.nan, np.nan, np.nan, np.nan, np.nan)
    mean = outcome / count
    if np.isnan(mean):
        return BandRow(int(count), predicted / count, np.nan, np.nan, np.nan, np.nan)
    low, high = wilson(mean, count) if binary else mean_interval(count, outcome, square)
    said = predicted / count
    p = _binomial_p(outcome, count, said) if binary else _student_p(said - mean, high - mean, count)
    return BandRow(int(count), said, mean, low, high, p)


def _binomial_p(hits: float, rows: float, chance: float) -> float:
    """Twice the smaller tail: of so many rows at this chance as few hits, or as many."""
    from scipy.special import betainc  # noqa: PLC0415  (a tenth of a second that only bands with labels pay)

    few = 1.0 if hits >= rows else float(betainc(rows - hits, hits + 1, 1 - min(1.0, max(0.0, chance))))
    many = 1.0 if hits <= 0 else float(betainc(hits, rows - hits + 1, min(1.0, max(0.0, chance))))
    return min(1.0, 2 * min(few, many))


def _student_p(apart: float, half: float, rows: float) -> float:
    """That a mean of `rows` whose 95 % interval is as wide lies so far off; 1 where one row alone says nothing."""
    from scipy.special import stdtr  # noqa: PLC0415

    if np.isnan(half):
        return 1.0
    if half <= 0:
        return 1.0 if apart == 0 else 0.0
    return float(2 * stdtr(rows - 1, -abs(apart) * student95(int(rows) - 1) / half))


def band_names(thresholds: Sequence[str]) -> tuple[str, ...]:
    """Of each band what it holds, lowest first: below 0.2, 0.2 to 0.5, 0.5 and more."""
    between = (f"{low} to {high}" for low, high in itertools.pairwise(thresholds))
    return (f"below {thresholds[0]}", *between, f"{thresholds[-1]} and more")

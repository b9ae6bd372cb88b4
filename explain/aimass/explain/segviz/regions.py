"""Kinds of rows in which the model is wrong: found on some rows, judged on others."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Panel, Picture, Points, Rule, Spans, names_axis, names_height
from aimass.explain.lineage import Lineage
from aimass.explain.results import Array, Check, Columns, Result
from aimass.explain.segviz.judged import Judged
from aimass.explain.segviz.segments import reach_of
from aimass.explain.significance import difference_interval, holm, mean_and_interval, shuffled_p
from aimass.explain.words import LABEL, counted, number, percent, shortened
from aimass.explain.work import Work

__all__ = ["Candidates", "Holders", "Regions", "judged_regions"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Holders = tuple[npt.NDArray[np.int64], tuple[str, ...]]
"""Who holds each row [n], as a place among the names."""
_SURE: Final = 0.05
_NEVER: Final = (
    "A region says for which rows the model is wrong more often, not why; others can hold nearly the same rows."
)


class Regions(Result, frozen=True, kw_only=True, eq=False, tag="segviz.regions"):
    """Of k regions, found `by` SliceLine, best first, or by an error tree, whose leaves part the rows, worst first.

    `found_rows` and `found_mean` [k] are of the rows that they were found on, and flatter them. All others are of the
    rows that judge: `rows`, the `mean` loss with its 95 % interval `low` to `high`, the mean `elsewhere`, the interval
    `more_low` to `more_high` of the difference, and `p` that a region is no worse than elsewhere, corrected by Holm for
    all k; NaN where too few rows leave it open. `overall` is the mean loss of the rows that judge.

    `scores` [k] are SliceLine's; `evaluated` of `possible` slices were measured, and the others cannot be better.
    `held` [k, holders] are shares of a region's rows by who holds them, `held_overall` [holders] those of all rows.
    """

    by: Literal["slices", "tree"]
    loss: str
    says: tuple[str, ...]
    found_rows: Array
    found_mean: Array
    rows: Array
    mean: Array
    low: Array
    high: Array
    elsewhere: Array
    more_low: Array
    more_high: Array
    p: Array
    scores: Array
    overall: float
    judging_rows: int
    evaluated: int = 0
    possible: int = 0
    holders: tuple[str, ...] = ()
    held: Array
    held_overall: Array

    @property
    def share(self) -> bool:
        """Whether the loss is the share of rows that are wrong."""
        return self.loss == "error_rate"

    @property
    def confirmed(self) -> tuple[bool, ...]:
        """Of which regions the rows that judge say the same by more than chance."""
        return tuple((self.p <= _SURE).tolist())

    def told(self, value: float) -> str:
        """A mean loss as people say it."""
        return "unknown" if math.isnan(value) else percent(value) if self.share else number(value)

    def describe(self) -> tuple[str, ...]:
        """A sentence a region, with what became of it on rows that it was not found on."""
        if not self.says:
            return ("No kind of rows was found where the model is worse than elsewhere.",)
        return tuple(self._said(place) for place in range(len(self.says)))

    def headlines(self) -> tuple[str, ...]:
        """The first region that is confirmed, or that none is."""
        sure = [self._said(place) for place, one in enumerate(self.confirmed) if one]
        if sure or not self.says:
            return tuple(sure[:1]) or self.describe()
        return (f"No kind of rows where the model looked worst is confirmed on other rows (of {len(self.says)}).",)

    def _said(self, k: int) -> str:
        what = "wrong in" if self.share else f"mean {self.loss.replace('_', ' ')}"
        found = f"{self.says[k]}: {what} {self.told(self.found_mean[k])} of {counted(int(self.found_rows[k]), 'row')}"
        if not self.rows[k]:
            return f"{found}; none of the rows that judge is of this kind."
        return (
            f"{found}; judged on others {self.told(self.mean[k])} of {self.rows[k]:,} "
            f"({self.told(self.low[k])} to {self.told(self.high[k])}), elsewhere {self.told(self.elsewhere[k])}, "
            f"p = {number(self.p[k], 2)}: {'confirmed' if self.confirmed[k] else 'not confirmed'}.{self._whose(k)}"
        )

    def _whose(self, k: int) -> str:
        """Who holds more of these rows than of all, if anybody does by a tenth of them."""
        if not self.holders:
            return ""
        more = self.held[k] - self.held_overall
        most = int(more.argmax())
        if more[most] < 0.1:
            return ""
        return (
            f" {percent(self.held[k, most])} of these rows are of {self.holders[most]}, "
            f"of all rows {percent(self.held_overall[most])}."
        )

    def to_columns(self) -> Columns:
        """A line a region."""
        names = (
            "found_rows", "found_mean", "rows", "mean", "low", "high", "elsewhere", "more_low", "more_high", "p",
            "scores",
        )  # fmt: skip
        return {
            "region": self.says,
            **{name: getattr(self, name).tolist() for name in names},
            "confirmed": self.confirmed,
            **{f"of {name}": self.held[:, place].tolist() for place, name in enumerate(self.holders)},
        }

    def picture(self) -> Picture:
        """Each region's mean error where it was found and where it was judged, with the interval."""
        at, known = np.arange(len(self.says), dtype=np.float64), self.rows > 0
        low, high = (np.where(np.isnan(end), self.mean, end)[known] for end in (self.low, self.high))
        layers = (
            Rule(self.overall, says="all rows"),
            Points(self.found_mean, at, colour="series:1", series="rows it was found on", size=60.0),
            Spans(at[known], self.mean[known], low, high, series="rows that judge it"),
        )
        what = "share of rows that are wrong" if self.share else f"mean {self.loss.replace('_', ' ')}"
        names = tuple(
            "\n".join(shortened(line, LABEL) for line in says.replace(" and ", "\nand ").split("\n"))
            for says in self.says
        )
        return Picture(
            "Kinds of rows where the model is wrong" if self.by == "slices" else "A tree of the model's errors",
            (
                Panel(
                    "",
                    Axis(what, domain=reach_of(self.high, self.mean, self.found_mean)),
                    names_axis(names),
                    layers,
                    width=420,
                    height=names_height(names),
                ),
            ),
            "A dot with its 95 % interval is the mean error on rows that a region was not found on: believe this one.",
            _NEVER,
        )


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Regions before they are judged: `inside` bool [n, k] of all rows; `scores` [k], NaN where nothing scores them."""

    by: Literal["slices", "tree"]
    says: tuple[str, ...]
    inside: Flags
    scores: Floats
    evaluated: int = 0
    possible: int = 0


def judged_regions(
    candidates: Candidates,
    judged: Judged,
    judges: Flags,
    lineage: Lineage,
    work: Work,
    *,
    shuffles: int,
    holders: Holders | None = None,
    caveats: Sequence[str] = (),
) -> Regions:
    """What the rows under `judges` [n] say of regions that were found on the others.

    The result's check is that half of what was found is worse than elsewhere on the rows that judge.
    """
    by, inside = candidates.by, candidates.inside
    errors, found, tested, count = judged.errors[judges], judged.errors[~judges], inside[judges], len(candidates.says)
    p, known = np.ones(count), tested.any(axis=0)
    if known.any():
        p[known] = shuffled_p(tested[:, known], errors, shuffles, work, by)
    ends = [mean_and_interval(errors[one], share=judged.share) for one in tested.T]
    gaps = [difference_interval(errors[one], errors[~one], share=judged.share) for one in tested.T]
    mean, low, high = np.array(ends, np.float64).reshape(count, 3).T
    more_low, more_high = np.array(gaps, np.float64).reshape(count, 2).T
    elsewhere = _means(errors, ~tested)
    turned = float((mean <= elsewhere).sum()) / max(1, int(known.sum()))
    names, held, overall = _held(inside, holders)
    check = Check(
        name="share of regions that are no worse where they are judged",
        error=turned,
        limit=0.5,
        says="Most of what was found is chance.",
    )
    return Regions(
        lineage=lineage, caveats=(*caveats, _NEVER), checks=(check,) if by == "slices" else (), by=by, loss=judged.loss,
        says=candidates.says, found_rows=inside[~judges].sum(axis=0), found_mean=_means(found, inside[~judges]),
        rows=tested.sum(axis=0), mean=mean, low=low, high=high, elsewhere=elsewhere, more_low=more_low,
        more_high=more_high, p=holm(p), scores=candidates.scores,
        overall=float(errors.mean()) if len(errors) else float(judged.errors.mean()), judging_rows=len(errors),
        holders=names, held=held, held_overall=overall,
        evaluated=candidates.evaluated, possible=candidates.possible,
    )  # fmt: skip


def _means(errors: Floats, inside: Flags) -> Floats:
    """The mean [k] of errors [n] inside of [n, k], NaN where nothing is."""
    with np.errstate(invalid="ignore"):
        found: Floats = np.where(inside.any(axis=0), errors @ inside / inside.sum(axis=0), np.nan)
    return found


def _held(inside: Flags, holders: Holders | None) -> tuple[tuple[str, ...], Floats, Floats]:
    """The names, and of each region and of all rows the share that each holds."""
    if holders is None:
        return (), np.zeros((inside.shape[1], 0)), np.zeros(0)
    places, names = holders
    who = (places[:, None] == np.arange(len(names))).astype(np.float64)
    return names, inside.T @ who / np.maximum(1, inside.sum(axis=0))[:, None], who.mean(axis=0)

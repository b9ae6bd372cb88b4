"""Whose images are segmented wrongly: one class by who holds the images, or by any column that stands beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Panel, Picture, Rule, Spans, names_axis
from aimass.explain.lineage import Lineage
from aimass.explain.results import Array, Columns, Result
from aimass.explain.segviz.segments import Placed, placed
from aimass.explain.significance import holm, mean_and_interval, shuffled_p
from aimass.explain.words import number
from aimass.explain.work import Work

__all__ = ["MaskHolders", "mask_holders"]

Floats = npt.NDArray[np.float64]
_LIKELY: Final = ("owner", "partner")
_NEVER: Final = "Who holds images that are hard to segment looks worse: the view says whose images are, not why."


class MaskHolders(Result, frozen=True, kw_only=True, eq=False, tag="segviz.mask_holders"):
    """Of class `output` the mean Dice [holders] over their `images` that have it, its 95 % interval, NaN of one image.

    `p` that a holder's images are segmented no worse than the others', by shuffles, corrected by Holm.
    """

    by: str
    output: str
    names: tuple[str, ...]
    images: Array
    mean: Array
    low: Array
    high: Array
    p: Array
    overall: float

    def describe(self) -> tuple[str, ...]:
        """The worst, and whether that is more than chance."""
        worst = int(self.mean.argmin())
        ends = f" ({number(self.low[worst])} to {number(self.high[worst])})" if not math.isnan(self.low[worst]) else ""
        sure = "more than chance" if self.p[worst] <= 0.05 else "which may be chance"
        said = (
            f"By {self.by}, {self.output} is segmented worst for {self.names[worst]}: "
            f"Dice {number(self.mean[worst])}{ends} over {self.images[worst]:,} images, "
            f"over all {number(self.overall)}; {sure} (p = {number(self.p[worst], 2)})."
        )
        return (said,)

    def to_columns(self) -> Columns:
        """A line a holder."""
        figures = {name: getattr(self, name).tolist() for name in ("images", "mean", "low", "high", "p")}
        return {self.by: self.names, **figures}

    def picture(self) -> Picture:
        """A dot a holder."""
        at = np.arange(len(self.names), dtype=np.float64)
        low, high = (np.where(np.isnan(end), self.mean, end).clip(0, 1) for end in (self.low, self.high))
        layers = (Rule(self.overall), Spans(at, self.mean, low, high))
        axis = Axis("Dice (dashed: all images)", domain=(0, 1))
        return Picture(
            f"Whose {self.output} is segmented wrongly",
            (Panel("", axis, names_axis(self.names, self.by), layers),),
            "A dot is the mean Dice over a holder's images, the line its 95 % interval.",
            _NEVER,
        )


def mask_holders(
    dice: Floats,
    output: str,
    beside: Mapping[str, npt.NDArray[Any]],
    by: str,
    lineage: Lineage,
    work: Work,
    *,
    shuffles: int = 1999,
    caveats: tuple[str, ...] = (),
) -> MaskHolders | None:
    """Of `dice` [n] by column `by`, or `owner` or `partner` where none is named and several stand there; else None.

    The images are those where either mask has the class: on what is nowhere masks agree easily.
    """
    column = placed(beside, by) if by else _of_several(beside)
    if column is None or not len(dice):
        return None
    by, places, names, limits = column
    inside = places[:, None] == np.arange(len(names))
    mean, low, high = np.array([mean_and_interval(dice[of], share=False) for of in inside.T]).T
    p = holm(shuffled_p(inside, 1 - dice, shuffles, work, f"holders {by}"))
    return MaskHolders(
        lineage=lineage, caveats=(*limits, *caveats, _NEVER), by=by, output=output, names=names,
        images=inside.sum(axis=0), mean=mean, low=low, high=high, p=p, overall=float(dice.mean()),
    )  # fmt: skip


def _of_several(beside: Mapping[str, npt.NDArray[Any]]) -> Placed | None:
    columns = (placed(beside, name) for name in _LIKELY if name in beside)
    return next((column for column in columns if len(column[2]) > 1), None)

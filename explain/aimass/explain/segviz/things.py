"""Single things, such as nuclei: which are found, and how well each is outlined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from aimass.explain.charts.binning import points_or_cells
from aimass.explain.charts.picture import Axis, Panel, Picture, Points, Rule
from aimass.explain.lineage import Lineage
from aimass.explain.results import Array, Check, Columns, Result
from aimass.explain.segviz.assessed import FIGURES, Assessed
from aimass.explain.words import number, percent
from aimass.proto.intervals import wilson

__all__ = ["Things", "things"]

_NEVER: Final = (
    "A thing counts as found where its IoU with one predicted thing is above 1/2; things of an image are alike, so "
    "the intervals are too narrow where there are few images."
)


class Things(Result, frozen=True, kw_only=True, eq=False, tag="segviz.things"):
    """Of `output`'s true things [m] where each is, its pixels, and its `values` [m, figures] against the best match.

    `predicted` things there are, `found` of the true ones. `numbered` says that the labels told things apart; else
    they are connected parts of the mask.
    """

    output: str
    image: Array
    row: Array
    column: Array
    pixels: Array
    figures: tuple[str, ...] = FIGURES
    values: Array
    predicted: int
    found: int
    numbered: bool

    @property
    def iou(self) -> Array:
        """float64 [m]."""
        found: Array = self.values[:, self.figures.index("iou")]
        return found

    @property
    def panoptic_quality(self) -> float:
        """The mean IoU of found things times their F1 score (Kirillov et al. 2019, equation 1)."""
        whole = (self.predicted + len(self.image)) / 2
        return float(self.iou[self.iou > 0.5].sum() / whole) if whole else 1.0

    def describe(self) -> tuple[str, ...]:
        """How many are found, how many are invented, and how well."""
        true, extra = len(self.image), self.predicted - self.found
        if not true:
            return (f"There is no {self.output} in these images; {self.predicted:,} were predicted.",)
        low, high = wilson(self.found / true, true)
        said = (
            f"{self.found:,} of {true:,} things of {self.output} are found ({percent(self.found / true)}, "
            f"95 % interval {percent(low)} to {percent(high)}); {extra:,} of {self.predicted:,} predicted are none. "
            f"Panoptic quality {number(self.panoptic_quality)}."
        )
        return (said,)

    def to_columns(self) -> Columns:
        """A line a true thing, the worst first."""
        order = np.argsort(self.iou, kind="stable")
        where = {"image": self.image, "row": self.row, "column": self.column, "pixels": self.pixels}
        return {
            **{name: of[order].tolist() for name, of in where.items()},
            **{name: self.values[order, place].tolist() for place, name in enumerate(self.figures)},
        }

    def picture(self) -> Picture:
        """IoU over size: whether small things are the ones that are missed."""
        points = points_or_cells(Points(self.pixels.astype(np.float64), self.iou))
        log = len(self.pixels) > 0 and isinstance(points, Points)
        panel = Panel(
            "",
            Axis("pixels of the thing", log=log),
            Axis("IoU", domain=(0, 1.02)),
            (points, Rule(0.5, "y", "found above")),
        )
        return Picture(
            f"Things of {self.output}",
            (panel,),
            "A dot is a true thing; at 0 nothing that is predicted covers it.",
            _NEVER,
        )


def things(
    assessed: Sequence[Assessed], output: str, lineage: Lineage, *, numbered: bool, caveats: tuple[str, ...] = ()
) -> Things:
    """All images' things."""
    every = [thing for one in assessed for thing in one.things]
    predicted, found = sum(one.predicted for one in assessed), sum(one.found for one in assessed)
    parts = () if numbered else ("Things are connected parts of the mask: those that touch count as one.",)
    values = np.array([thing.figures for thing in every], np.float64).reshape(-1, len(FIGURES))
    check = Check(name="things found beyond those predicted", error=float(max(0, found - predicted)), limit=0.0)
    return Things(
        lineage=lineage, caveats=(*parts, *caveats, _NEVER), checks=(check,), output=output,
        image=np.array([thing.image for thing in every], np.int64),
        row=np.array([thing.row for thing in every], np.float64),
        column=np.array([thing.column for thing in every], np.float64),
        pixels=np.array([thing.pixels for thing in every], np.int64),
        values=values, predicted=predicted, found=found, numbered=numbered,
    )  # fmt: skip

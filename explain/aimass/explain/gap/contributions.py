"""What each feature takes off the model's loss: SAGE values with their interval and how long they were sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from aimass.explain.charts.picture import Axis, Bars, Panel, Picture, Rule, names_axis
from aimass.explain.gap.inference import interval95
from aimass.explain.gap.pricing import checked_loss
from aimass.explain.gap.sage import Sage, sage_values
from aimass.explain.lpi.background import background_of
from aimass.explain.lpi.groups import groups_of
from aimass.explain.models import Model, asked, lineage_of
from aimass.explain.results import Array, Check, Columns, Result
from aimass.explain.rows import Rows
from aimass.explain.words import interval, joined, number
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

__all__ = ["Contributions", "contributions"]

_NAMED: Final = 3
_MOST_BARS: Final = 20
_ROUNDING: Final = 1e-6
SHOWS_NOT = (
    "A SAGE value is what this model gains from a feature, with the others known or not; it is no cause, and unknown"
    " features are filled in as if they went with nothing."
)


class Contributions(Result, frozen=True, kw_only=True, eq=False, tag="gap.sage"):
    """`value` [features] in the loss's units with the 95 % interval; they sum to `whole`.

    `passes` is how often the `used` rows were gone through, `tolerance` what the sampling error was to come below, as a
    share of the values' range, and `missing` what it is.
    """

    loss: str
    whole: float
    whole_low: float
    whole_high: float
    background: str
    names: tuple[str, ...]
    value: Array
    low: Array
    high: Array
    used: int
    passes: int
    tolerance: float
    missing: float

    def order(self) -> list[int]:
        """The features, the most useful first."""
        return [int(place) for place in np.argsort(-self.value, kind="stable")]

    def describe(self) -> tuple[str, ...]:
        """What the features take off together, and which the most."""
        loss, whole = self.loss.replace("_", " "), interval(self.whole_low, self.whole_high)
        lines = [f"Of the {loss} of the average prediction the features together take {number(self.whole)} ({whole})."]
        told = [
            f"{self.names[place]} {number(self.value[place])} ({interval(self.low[place], self.high[place])})"
            for place in self.order()[:_NAMED]
            if self.low[place] > 0
        ]
        harm = [self.names[place] for place in self.order() if self.high[place] < 0]
        if told:
            lines.append(f"The most is due to {joined(told)}.")
        if harm:
            lines.append(f"With {joined(harm)} the model is worse than without.")
        return tuple(lines)

    def picture(self) -> Picture:
        """Bars with whiskers, the most useful on top."""
        shown = self.order()[:_MOST_BARS]
        at = np.array(shown, np.int64)
        says = tuple(
            f"{self.names[place]}: {number(self.value[place])} ({interval(self.low[place], self.high[place])})"
            for place in shown
        )
        bars = Bars(np.arange(len(at)), self.value[at], self.low[at], self.high[at], says=says)
        axis = Axis(f"taken off the {self.loss.replace('_', ' ')}")
        return Picture(
            "What each feature takes off the loss",
            (Panel("", axis, names_axis(tuple(self.names[place] for place in shown)), (bars, Rule(0.0))),),
            "A bar is the feature's fair share (SAGE) in what all together take off; its line is the 95 % interval.",
            SHOWS_NOT,
        )

    def to_columns(self) -> Columns:
        """A row a feature."""
        return {
            "feature": self.names,
            "sage": self.value.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }


def contributions(
    model: Model,
    rows: Rows,
    work: Work,
    *,
    background: Rows | None = None,
    groups: Sequence[str] = (),
    loss: str = "",
    most_rows: int = 256,
    references: int = 100,
    tolerance: float = 0.025,
    most_passes: int = 8,
) -> Contributions:
    """Of `most_rows` of the rows, drawn, against so many references of `background`, or of the rows themselves."""
    lineage, priced_by = lineage_of(model, rows, work), checked_loss(model, rows, loss)
    if len(rows) < 2:
        raise BadInput("one row has no interval", code="explain.rows.few", value=len(rows), limit=2)
    used = rows.take(work.rng("gap", "sage", "rows").permutation(len(rows))[:most_rows])
    against = background_of(rows if background is None else background, references, "sample", work)
    players = groups_of(rows, groups)
    found = sage_values(
        asked(model, work.muted()),
        used.values,
        used.need_labels(),
        against,
        [player.columns for player in players],
        priced_by,
        work,
        tolerance=tolerance,
        most_passes=most_passes,
    )
    low, high = interval95(found.value, found.error, len(used))
    ends = interval95(np.array(found.whole), np.array(found.whole_error), len(used))
    return Contributions(
        lineage=lineage,
        caveats=_caveats(rows, used, background),
        checks=_checks(found, tolerance),
        loss=priced_by,
        whole=found.whole,
        whole_low=float(ends[0]),
        whole_high=float(ends[1]),
        background=against.says,
        names=tuple(player.name for player in players),
        value=found.value,
        low=low,
        high=high,
        used=len(used),
        passes=found.passes,
        tolerance=tolerance,
        missing=found.missing,
    )


def _checks(found: Sage, tolerance: float) -> tuple[Check, ...]:
    return (
        Check(
            name="sum",
            error=abs(float(found.value.sum()) - found.whole),
            limit=_ROUNDING * max(1.0, abs(found.whole)),
            says="The values do not sum to what all features together take off.",
        ),
        Check(
            name="sampling",
            error=found.missing,
            limit=tolerance,
            says="The sampling error is this share of the values' range: let it go through the rows more often.",
        ),
    )


def _caveats(rows: Rows, used: Rows, background: Rows | None) -> tuple[str, ...]:
    said = [SHOWS_NOT]
    if len(used) < len(rows):
        said.append(f"The SAGE values are of {len(used):,} of {len(rows):,} rows, drawn.")
    if rows.held_out is False:
        said.append("The model was trained on these rows: what it learnt by heart counts as gained.")
    if background is None:
        said.append("The background is of the explained rows themselves, and counts as given.")
    return tuple(said)

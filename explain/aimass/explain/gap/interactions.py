"""Which features work together: the H statistic of pairs, with intervals."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from aimass.explain.charts.picture import Axis, Bars, Panel, Picture, names_axis
from aimass.explain.gap.effects import usable
from aimass.explain.gap.interaction import Interaction, interaction, together
from aimass.explain.models import Model, asked, lineage_of
from aimass.explain.outputs import output_of, output_title
from aimass.explain.results import Array, Check, Columns, Result
from aimass.explain.rows import Rows
from aimass.explain.words import interval, number
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

__all__ = ["Interactions", "interactions"]

_NAMED = 3
_MOST_BARS = 15
_APART = 1e-4
"""In the output's units: more is no rounding."""
SHOWS_NOT = (
    "H is of the model on rows that are put together from two, many of which nobody has where features go together;"
    " it says how much a pair does together, not in which way."
)


class Interactions(Result, frozen=True, kw_only=True, eq=False, tag="gap.interactions"):
    """`share` is H of each pair, `size` its root mean square in the output's units, strongest by size first.

    Intervals are of 95 % over the `used` rows.
    """

    output: str
    used: int
    pairs: tuple[tuple[str, str], ...]
    share: Array
    share_low: Array
    share_high: Array
    size: Array
    size_low: Array
    size_high: Array

    def describe(self) -> tuple[str, ...]:
        """The strongest pairs."""
        if not len(self.size) or not self.size.any():
            return ("No two of these features work together: each adds its own effect.",)
        return tuple(
            f"{one} and {other} together move the {self.output} by {number(self.size[place])}"
            f" ({interval(self.size_low[place], self.size_high[place])}) beyond what each does alone: H is"
            f" {number(self.share[place])} ({interval(self.share_low[place], self.share_high[place])})."
            for place, (one, other) in enumerate(self.pairs[:_NAMED])
            if self.size[place] > 0
        )

    def picture(self) -> Picture:
        """Two columns of bars: in the output's units, and as a share of what the pair does."""
        count = min(len(self.pairs), _MOST_BARS)
        names = names_axis(tuple(f"{one} × {other}" for one, other in self.pairs[:count]))
        at = np.arange(count)
        size = Bars(at, self.size[:count], self.size_low[:count], self.size_high[:count])
        share = Bars(at, self.share[:count], self.share_low[:count], self.share_high[:count], colours=("series:2",))
        return Picture(
            "Which features work together",
            (
                Panel("Beyond each alone", Axis(self.output), names, (size,), width=320),
                Panel("As a share of what the two do (H)", Axis("H"), names, (share,), width=320),
            ),
            "A bar is how far two features move the prediction together beyond what each does alone; lines are 95 %"
            " intervals.",
            SHOWS_NOT,
            columns=2,
        )

    def to_columns(self) -> Columns:
        """A row a pair."""
        arrays = ("share", "share_low", "share_high", "size", "size_low", "size_high")
        table: dict[str, list[object]] = {
            "feature": [one for one, _ in self.pairs],
            "other": [other for _, other in self.pairs],
        }
        for name in arrays:
            table[name] = getattr(self, name).tolist()
        return table


def interactions(
    model: Model, rows: Rows, work: Work, *, features: Sequence[str] = (), output: str = "", most_rows: int = 100
) -> Interactions:
    """Of all pairs of `features` that have two values, over `most_rows` of the rows, drawn."""
    lineage, predict = lineage_of(model, rows, work), asked(model, work.muted())
    if len(rows) < 2:
        raise BadInput("one row says nothing of how features work together", code="explain.rows.few", value=len(rows))
    used = rows.take(work.rng("gap", "interactions").permutation(len(rows))[:most_rows])
    place = output_of(model, predict(used.values), output)
    wanted = [name for name in features or [f.name for f in rows.features] if usable(used, used.place(name))]
    pairs = tuple(itertools.combinations(wanted, 2))
    found: list[Interaction] = []
    apart = 0.0
    for _, part in work.parts(tuple(f"{one} × {other}" for one, other in pairs)):
        one, other = pairs[len(found)]
        crossed = together(asked(model, part.muted()), used.values, (used.place(one), used.place(other)), place, part)
        apart = max(apart, crossed.apart)
        found.append(interaction(crossed))
    order = sorted(range(len(found)), key=lambda at: -found[at].size)
    ordered = [found[at] for at in order]
    drawn = (f"The pairs are over {len(used):,} of {len(rows):,} rows, drawn.",) if len(used) < len(rows) else ()
    return Interactions(
        lineage=lineage,
        caveats=(SHOWS_NOT, *drawn),
        checks=(Check(name="repeat", error=apart, limit=_APART, says="The model answers one row in several ways."),),
        output=output_title(model, place),
        used=len(used),
        pairs=tuple(pairs[at] for at in order),
        share=_column(ordered, "share"),
        share_low=_column(ordered, "share_low"),
        share_high=_column(ordered, "share_high"),
        size=_column(ordered, "size"),
        size_low=_column(ordered, "size_low"),
        size_high=_column(ordered, "size_high"),
    )


def _column(found: Sequence[Interaction], name: str) -> Array:
    return np.array([getattr(one, name) for one in found], np.float64)

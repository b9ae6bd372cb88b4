"""The result that shows boxes: what each says, what it held on rows that did not choose it, and how it was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from aimass.explain.charts.picture import Axis, Band, Layer, Line, Panel, Picture, Points, Rule, Spans, names_axis
from aimass.explain.prim.box import Condition, sentence
from aimass.explain.prim.target import told
from aimass.explain.results import Array, Check, Columns, Part, Result
from aimass.explain.significance import LEVEL, holm
from aimass.explain.words import number, percent

__all__ = ["Density", "Holder", "Path", "Region", "Regions", "checks_of", "corrected"]


class Density(Part, frozen=True, kw_only=True, eq=False):
    """The target in the `rows` of a box, of so many: its mean with a 95 % interval, and its mean `outside`.

    `coverage` is the share of the target's sum that the box holds, None where a target may be negative.
    """

    rows: int
    of: int
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    outside: float | None = None
    coverage: float | None = None


class Path(Part, frozen=True, kw_only=True, eq=False):
    """The boxes from all rows to the smallest [steps]: `rows` and `mean` of those that searched, the rest of others."""

    rows: Array
    mean: Array
    judged: Array
    judged_mean: Array
    low: Array
    high: Array
    coverage: Array


class Holder(Part, frozen=True, kw_only=True, eq=False):
    """Whose rows they are, of those that judge: `rows` of the `box` are, and `whole` of `of`.

    `p` is the chance of as many in the box or more if the box were as all of them are, corrected for every holder.
    """

    name: str
    rows: int
    box: int
    whole: int
    of: int
    p: float

    @property
    def sentence(self) -> str:
        """How many, beside how many of all."""
        share, base = self.rows / self.box, self.whole / self.of
        return (
            f"{self.rows:,} of its {self.box:,} rows that judge ({percent(share)}) are of {self.name}, of all that "
            f"judge {percent(base)} (p = {number(self.p, 2)})"
        )


class Region(Part, frozen=True, kw_only=True, eq=False):
    """A box, found with peels of this `fraction`; both densities are of the rows that former boxes left.

    `p` is the chance that rows which judge differ as much from those outside, the way that is looked for, if the box
    were none; corrected for all boxes (Holm 1979), None where nobody tested. `more_low` to `more_high` is the 95 %
    interval of that difference. `holders` are what tells rows apart that no model sees.
    """

    conditions: tuple[Condition, ...]
    searched: Density
    judged: Density
    fraction: float
    path: Path
    p: float | None = None
    more_low: float | None = None
    more_high: float | None = None
    holders: tuple[Holder, ...] = ()

    @property
    def sentence(self) -> str:
        """The box in words."""
        return sentence(self.conditions)

    @property
    def confirmed(self) -> bool:
        """Whether rows that did not choose the box say so too, by more than chance."""
        return self.p is not None and self.p <= LEVEL

    @property
    def verdict(self) -> str:
        """`: p = 0.01: confirmed`, nothing where nobody tested."""
        if self.p is None:
            return ""
        return f", p = {number(self.p, 2)}: {'confirmed' if self.confirmed else 'not confirmed'}"


def corrected(regions: Sequence[Region]) -> tuple[Region, ...]:
    """The boxes with their p-values, and those of their holders, corrected for all that were tested."""
    boxes = iter(_holm([one.p for one in regions if one.p is not None]))
    holders = iter(_holm([holder.p for one in regions for holder in one.holders]))
    return tuple(
        msgspec.structs.replace(
            one,
            p=None if one.p is None else next(boxes),
            holders=tuple(msgspec.structs.replace(holder, p=next(holders)) for holder in one.holders),
        )
        for one in regions
    )


def _holm(p: list[float]) -> Iterator[float]:
    return map(float, holm(p))


def checks_of(regions: Sequence[Region]) -> tuple[Check, ...]:
    """Whether each box that was tested is confirmed."""
    return tuple(
        Check(
            name=f"box {place}: the p-value on rows that did not choose it",
            error=one.p,
            limit=LEVEL,
            says="It cannot be told from the other rows.",
        )
        for place, one in enumerate(regions, 1)
        if one.p is not None
    )


def _holders(one: Region) -> str:
    """Whose rows the box has more of than all rows are, where that is more than chance."""
    most = min(one.holders, key=lambda holder: holder.p, default=None)
    return "" if most is None or most.p > LEVEL else f" {most.sentence}."


class Regions(Result, frozen=True, kw_only=True, eq=False, tag="prim.boxes"):
    """Boxes where the mean of `target` is highest, or lowest; `searched` and `judged` are of all rows that did.

    `share` says that means are told in percent.
    """

    target: str
    share: bool
    direction: str
    searched: Density
    judged: Density
    regions: tuple[Region, ...]

    def describe(self) -> tuple[str, ...]:
        """All rows, then each box: what it held, and what it held on rows that did not choose it."""
        whole = (
            f"All rows: {self.target} {self._told(self.searched.mean)}, of those that judge {self._held(self.judged)}."
        )
        if not self.regions:
            return whole, f"No box stands out in which {self.target} is {self.direction}."
        return whole, *(self._says(place, one) for place, one in enumerate(self.regions))

    def headlines(self) -> tuple[str, ...]:
        """The first box that is confirmed, or that none is."""
        sure = [self._says(place, one) for place, one in enumerate(self.regions) if one.confirmed]
        if sure or not self.regions:
            return tuple(sure[:1]) or self.describe()[-1:]
        told = f"No box in which {self.target} looked {self.direction} is confirmed on other rows"
        return (f"{told} (of {len(self.regions)}).",)

    def _says(self, place: int, one: Region) -> str:
        rest = " of the rest" if place else ""
        mean = (
            f"{self.target} {self._told(one.searched.mean)} in {one.searched.rows:,} of {one.searched.of:,} rows{rest}"
        )
        if not one.judged.rows:
            return f"{one.sentence}: {mean}; none of the rows that judge is of this kind{one.verdict}."
        held = f"judged on others {self._held(one.judged)} in {one.judged.rows:,} of {one.judged.of:,}"
        elsewhere = "" if one.judged.outside is None else f", elsewhere {self._told(one.judged.outside)}"
        return f"{one.sentence}: {mean}; {held}{elsewhere}{one.verdict}.{_holders(one)}"

    def _told(self, mean: float | None) -> str:
        return "none" if mean is None else told(mean, share=self.share)

    def _held(self, of: Density) -> str:
        if of.low is None or of.high is None:
            return self._told(of.mean)
        return f"{self._told(of.mean)} ({self._told(of.low)} to {self._told(of.high)})"

    def picture(self) -> Picture:
        """The boxes, then the trajectory of each."""
        panels = (self._densities(), *(self._trajectory(place, one) for place, one in enumerate(self.regions)))
        return Picture(
            f"Where {self.target} is {self.direction}",
            panels,
            "Blue: rows that did not choose the box, with 95 % intervals. Orange: those that did, which flatters it.",
            "Why the target is high there; what lies outside of all boxes may be high as well.",
            columns=2,
        )

    def _densities(self) -> Panel:
        densities = [self.judged, *(one.judged for one in self.regions)]
        searched = [self.searched, *(one.searched for one in self.regions)]
        names = ("all rows", *(f"box {place}" for place in range(1, len(densities))))
        says = ("all rows", *(one.sentence for one in self.regions))
        at = np.arange(len(names), dtype=np.float64)
        mean, low, high = (
            np.array([np.nan if (v := getattr(one, name)) is None else v for one in densities])
            for name in ("mean", "low", "high")
        )
        some = ~np.isnan(mean)
        spans = Spans(
            at[some],
            mean[some],
            np.where(np.isnan(low), mean, low)[some],
            np.where(np.isnan(high), mean, high)[some],
            series="judged",
            says=tuple(word for word, keep in zip(says, some, strict=True) if keep),
        )
        found = Points(np.array([one.mean for one in searched]), at, "series:1", "searched", size=70, says=says)
        axis = Axis(self.target, domain=(0.0, 1.0) if self.share else None)
        base = () if self.judged.mean is None else (Rule(self.judged.mean),)
        height = max(90, 30 * len(names))
        return Panel("Boxes", axis, names_axis(names), (*base, found, spans), width=380, height=height)

    def _trajectory(self, place: int, one: Region) -> Panel:
        path = one.path
        covers = not np.isnan(path.coverage).any()
        x = path.coverage if covers else path.rows / path.rows[0]
        title = "coverage: share of the target's sum in the box" if covers else "support: share of the rows in the box"
        known = ~np.isnan(path.low)
        layers: tuple[Layer, ...] = (
            Band(x[known], path.low[known], path.high[known], series="judged"),
            Line(x, path.judged_mean, series="judged"),
            Line(x, path.mean, "series:1", "searched", dashed=True),
            *self._mark(one, covers=covers),
        )
        y = Axis(self.target, domain=(0.0, 1.0) if self.share else None)
        return Panel(f"Trajectory of box {place + 1}", Axis(title, domain=(0.0, 1.0)), y, layers, 380, 220)

    def _mark(self, one: Region, *, covers: bool) -> tuple[Points, ...]:
        at = one.searched.coverage if covers else one.searched.rows / one.searched.of
        if at is None or one.judged.mean is None:
            return ()
        here = np.array([at]), np.array([one.judged.mean])
        return (Points(*here, "series:5", "the box", size=110, says=(one.sentence,)),)

    def to_columns(self) -> Columns:
        """A line for all rows and each box."""
        lines = [("all rows", self.searched, self.judged), *((r.sentence, r.searched, r.judged) for r in self.regions)]
        fields = ("rows", "of", "mean", "low", "high", "outside", "coverage")
        table: dict[str, list[object]] = {"box": [name for name, _, _ in lines]}
        for which, place in (("searched", 1), ("judged", 2)):
            table |= {f"{which} {field}": [getattr(line[place], field) for line in lines] for field in fields}
        for name in ("p", "more_low", "more_high"):
            table[name] = [None, *(getattr(one, name) for one in self.regions)]
        table["confirmed"] = [None, *(one.confirmed for one in self.regions)]
        return table

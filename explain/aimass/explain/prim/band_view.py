"""The result that shows predictions in bands: sizes, calibration, and the same over partners or time."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from aimass.explain.charts.picture import Axis, Bars, Panel, Picture, Points, Rule, Spans, names_axis
from aimass.explain.prim.bands import BandRow, Histogram, band_names, band_rows, off
from aimass.explain.prim.target import told
from aimass.explain.results import Array, Columns, Result
from aimass.explain.significance import LEVEL, holm, hypergeometric
from aimass.explain.words import apart, interval, joined, number, percent

__all__ = ["Bands"]


class Bands(Result, frozen=True, kw_only=True, eq=False, tag="prim.bands"):
    """How many predictions of `output` fall between the `thresholds` float64 [t], by group, and what was true there.

    `edges`, `counts`, `predicted`, `outcomes` and `squares` are a `bands.Histogram` over the `groups` that the column
    `beside` tells apart; one group without a name where there is none. `chances` says that outputs are probabilities.
    """

    output: str
    chances: bool
    thresholds: Array
    groups: tuple[str, ...]
    beside: str
    edges: Array
    counts: Array
    predicted: Array
    outcomes: Array
    squares: Array

    def at(self, thresholds: Sequence[float]) -> Bands:
        """The same rows cut elsewhere: at the edges of the histogram that are nearest, as a slider moves."""
        wanted = np.asarray(thresholds, np.float64)
        nearest = np.abs(self.edges[None, 1:-1] - wanted[:, None]).argmin(axis=1)
        return msgspec.structs.replace(self, thresholds=np.unique(self.edges[1:-1][nearest]))

    @property
    def histogram(self) -> Histogram:
        """The sums by bin and group."""
        return Histogram(self.edges, self.counts, self.predicted, self.outcomes, self.squares)

    @property
    def names(self) -> tuple[str, ...]:
        """Of each band what it holds."""
        return band_names(apart(self.thresholds))

    def rows(self) -> list[list[BandRow]]:
        """Of each group each band."""
        return band_rows(self.histogram, self.thresholds, binary=self.chances)

    def total(self) -> list[BandRow]:
        """Of each band, over all groups."""
        found = self.histogram
        parts = (found.counts, found.predicted, found.outcomes, found.squares)
        whole = Histogram(found.edges, *(part.sum(axis=0, keepdims=True) for part in parts))
        return band_rows(whole, self.thresholds, binary=self.chances)[0]

    def group_rows(self) -> list[BandRow]:
        """Of each group all its rows together."""
        return [one[0] for one in band_rows(self.histogram, np.zeros(0), binary=self.chances)]

    def describe(self) -> tuple[str, ...]:
        """Whether predictions mean what they say, then each band, then whose rows differ by more than chance."""
        bands, rows = self.total(), int(self.counts.sum())
        said = [self._band(name, band, rows) for name, band in zip(self.names, bands, strict=True)]
        return (*self._meaning(bands), *said, *self._groups())

    def headlines(self) -> tuple[str, ...]:
        """Whether predictions mean what they say, and the first of whose rows differ; else what the last band holds."""
        bands = self.total()
        said = (*self._meaning(bands), *self._groups())
        return said[:2] or (self._band(self.names[-1], bands[-1], int(self.counts.sum())),)

    def _meaning(self, bands: Sequence[BandRow]) -> tuple[str, ...]:
        """Empty where no outcome is known."""
        amiss = [name for name, one in zip(self.names, off(bands), strict=True) if one]
        if amiss:
            said = f"The model does not mean what it says in {_bands(amiss)}"
            return (f"{said}: there the truth lies further off than chance explains.",)
        if all(np.isnan(band.p) for band in bands):
            return ()
        return ("In no band does the truth lie further from the predictions than chance explains.",)

    def _band(self, name: str, band: BandRow, rows: int) -> str:
        begin = f"{name}: {band.count:,} of {rows:,} rows ({percent(band.count / rows)})"
        if not band.count:
            return begin + "."
        mean = f"{begin}, predicted {told(band.predicted, share=self.chances)} on average"
        if np.isnan(band.observed):
            return mean + "."
        return f"{mean}, true {told(band.observed, share=self.chances)}{_within(band, share=self.chances)}."

    def _groups(self) -> tuple[str, ...]:
        """Whose rows lie in the highest band more, or less, than all others', and whose predictions are amiss."""
        if len(self.groups) < 2:
            return ()
        tops = [by[-1].count for by in self.rows()]
        sizes = [sum(band.count for band in by) for by in self.rows()]
        p = holm([_apart(top, size, sum(tops), sum(sizes)) for top, size in zip(tops, sizes, strict=True)])
        told = [place for place in range(len(p)) if p[place] <= LEVEL]
        said = [self._share(place, tops, sizes, float(p[place])) for place in _ends(told, tops, sizes)]
        if not told:
            said = [
                f"By {self.beside}, the band {self.names[-1]} holds everybody's rows alike, as far as chance lets tell."
            ]
        amiss = [name for name, one in zip(self.groups, off(self.group_rows()), strict=True) if one]
        if amiss:
            said.append(f"By {self.beside}, predictions and truth differ by more than chance for {joined(amiss)}.")
        return tuple(said)

    def _share(self, place: int, tops: list[int], sizes: list[int], p: float) -> str:
        share, whole = percent(tops[place] / sizes[place]), percent(sum(tops) / sum(sizes))
        return (
            f"Of {self.groups[place]} {tops[place]:,} of {sizes[place]:,} rows ({share}) lie in the band "
            f"{self.names[-1]}, of all rows {whole} (p = {number(p, 2)})."
        )

    def picture(self) -> Picture:
        """Sizes and calibration by band; with groups also the shares of bands and the calibration of each."""
        panels = [self._sizes(), self._calibration(self.names, self.total(), "What was true, by band")]
        if len(self.groups) > 1:
            panels.append(self._shares())
            panels.append(self._calibration(self.groups, self.group_rows(), f"What was true, by {self.beside}"))
        return Picture(
            f"Predictions of {self.output} in bands",
            tuple(panels),
            "Bars count rows whose prediction lies in a band. Dots with whiskers are what was true, with 95 % "
            "intervals, of which one in twenty misses by chance; dots without are what was predicted.",
            "Why a row lies in its band, and what would move it to another.",
            columns=2,
        )

    def _sizes(self) -> Panel:
        bands = self.total()
        counts = np.array([float(band.count) for band in bands])
        colours = tuple(f"band:{place}/{len(bands)}" for place in range(len(bands)))
        says = tuple(f"{name}: {band.count:,} rows" for name, band in zip(self.names, bands, strict=True))
        bars = Bars(np.arange(len(bands)), counts, colours=colours, says=says)
        return Panel("Rows by band", Axis("rows"), names_axis(self.names), (bars,), width=380, height=_height(bands))

    def _calibration(self, names: tuple[str, ...], bands: Sequence[BandRow], title: str) -> Panel:
        at = np.arange(len(bands), dtype=np.float64)
        predicted, observed, low, high = (
            np.array([getattr(band, name) for band in bands]) for name in ("predicted", "observed", "low", "high")
        )
        axis = Axis(f"probability of {self.output}", domain=(0.0, 1.0)) if self.chances else Axis(self.output)
        some = ~np.isnan(observed)
        says = tuple(f"true {number(one)} ({interval(a, b)})" for one, a, b in zip(observed, low, high, strict=True))
        true = Spans(
            at[some],
            observed[some],
            np.where(np.isnan(low), observed, low)[some],
            np.where(np.isnan(high), observed, high)[some],
            series="true",
            says=tuple(word for word, keep in zip(says, some, strict=True) if keep),
        )
        full = ~np.isnan(predicted)
        said = Points(predicted[full], at[full], "series:1", "predicted", size=70)
        rules = tuple(Rule(float(threshold)) for threshold in self.thresholds) if names == self.names else ()
        return Panel(title, axis, names_axis(names), (*rules, true, said), width=380, height=_height(bands))

    def _shares(self) -> Panel:
        counts = np.array([[band.count for band in by] for by in self.rows()], np.float64)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        ends = shares.cumsum(axis=1)
        at = np.arange(len(self.groups))
        layers = tuple(
            Bars(
                at,
                ends[:, place],
                begin=ends[:, place] - shares[:, place],
                colours=(f"band:{place}/{len(self.names)}",),
                series=name,
                says=tuple(
                    f"{group}, {name}: {percent(share)}"
                    for group, share in zip(self.groups, shares[:, place], strict=True)
                ),
            )
            for place, name in enumerate(self.names)
        )
        axis = Axis("share of the rows", domain=(0.0, 1.0))
        return Panel(f"Bands by {self.beside}", axis, names_axis(self.groups), layers, 380, _height(self.groups))

    def to_columns(self) -> Columns:
        """A line for each group and band."""
        table: dict[str, list[object]] = {
            name: [] for name in ("group", "band", "rows", "predicted", "observed", "low", "high")
        }
        for group, by in zip(self.groups, self.rows(), strict=True):
            for name, band in zip(self.names, by, strict=True):
                cells = (group, name, band.count, band.predicted, band.observed, band.low, band.high)
                for column, cell in zip(table.values(), cells, strict=True):
                    column.append(cell)
        return table


def _apart(top: int, size: int, tops: int, rows: int) -> float:
    """Twice the chance that of `size` rows as many are among the `tops` of all `rows`, or as few (Fisher 1922)."""
    more = hypergeometric(top, rows, tops, size)
    fewer = hypergeometric(size - top, rows, rows - tops, size)
    return min(1.0, 2 * min(more, fewer))


def _ends(places: Sequence[int], tops: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """The place of the highest share and that of the lowest, once where they are one."""
    order = sorted(places, key=lambda place: -tops[place] / sizes[place])
    return [order[0], *order[1:][-1:]] if order else []


def _height(of: Sequence[object]) -> int:
    return max(90, 26 * len(of))


def _within(band: BandRow, *, share: bool) -> str:
    if np.isnan(band.low):
        return ""
    return f" ({told(band.low, share=share)} to {told(band.high, share=share)})"


def _bands(names: Sequence[str]) -> str:
    return f"the {'band' if len(names) == 1 else 'bands'} {joined(names)}"

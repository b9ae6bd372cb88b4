"""The result that shows bands over space: images in the colours of their bands, and what was true in each band."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Bars, Line, Panel, Picture, Points, Raster, Spans, names_axis
from aimass.explain.charts.theme import LIGHT
from aimass.explain.means import student95
from aimass.explain.prim.bands import band_names
from aimass.explain.results import Array, Columns, Result
from aimass.explain.words import apart, percent
from aimass.proto.intervals import wilson

__all__ = ["SpaceBands", "ratio_interval"]

Floats = npt.NDArray[np.float64]
_WIDTH = 190


class SpaceBands(Result, frozen=True, kw_only=True, eq=False, tag="prim.space"):
    """Pixels by predicted probability of `output`, by image: `counts` and `hits` (truly of it) int64 [images, bins].

    Bins lie between `edges` float64 [bins + 1]; hits are -1 where no mask is known, else counts are of pixels with a
    label. `maps` uint8 [k, height, width] are the probabilities, in 255 steps, of the images `shown` int64 [k].
    """

    output: str
    thresholds: Array
    volume: bool
    edges: Array
    counts: Array
    hits: Array
    shown: Array
    maps: Array

    def at(self, thresholds: Sequence[float]) -> SpaceBands:
        """The same pixels cut elsewhere: at the nearest edges, as a slider moves."""
        inner = self.edges[1:-1]
        nearest = np.abs(inner[None] - np.asarray(thresholds, np.float64)[:, None]).argmin(axis=1)
        return msgspec.structs.replace(self, thresholds=np.unique(inner[nearest]))

    @property
    def names(self) -> tuple[str, ...]:
        """Of each band what it holds."""
        return band_names(apart(self.thresholds))

    @property
    def known(self) -> bool:
        """Whether the truth is known."""
        return bool((self.hits >= 0).all())

    def by_image(self, cells: Array) -> Array:
        """Sums int64 [images, bands] of `counts` or `hits`."""
        starts = np.concatenate([[0], np.searchsorted(self.edges, self.thresholds)])
        return np.add.reduceat(cells, starts, axis=1)

    def rates(self) -> tuple[Floats, Floats, Floats]:
        """What share of each band's pixels is of the class, with its 95 % interval over images, float64 [bands]."""
        found = [ratio_interval(hits, counts) for hits, counts in zip(*map(np.transpose, self._bands()), strict=True)]
        share, low, high = np.array(found).T
        return share, low, high

    def _bands(self) -> tuple[Array, Array]:
        return self.by_image(self.hits), self.by_image(self.counts)

    @property
    def _one(self) -> str:
        return "slice" if self.volume else "image"

    @property
    def rows_held(self) -> int:
        """The images whose maps it has."""
        return len(self.shown)

    def describe(self) -> tuple[str, ...]:
        """Each band with its share of the pixels and what was true, then where most of the highest band lies."""
        counts = self.by_image(self.counts)
        totals, whole = counts.sum(axis=0), max(1, int(counts.sum()))
        rates = self.rates() if self.known else None
        said = []
        for place, name in enumerate(self.names):
            line = f"{name}: {percent(totals[place] / whole)} of {whole:,} pixels"
            if rates is not None and totals[place]:
                share, low, high = (float(one[place]) for one in rates)
                over = "" if math.isnan(low) else f" ({percent(low)} to {percent(high)} over {self._one}s)"
                line += f", of which {percent(share)} are {self.output}{over}"
            said.append(line + ".")
        most = int(counts[:, -1].argmax())
        if counts[most, -1]:
            part = percent(counts[most, -1] / counts[most].sum())
            said.append(f"Most of the band {self.names[-1]} lies in {self._one} {most + 1}: {part} of its pixels.")
        else:
            said.append(f"No pixel lies in the band {self.names[-1]}.")
        return tuple(said)

    def picture(self) -> Picture:
        """Bands and their truth, over slices for a volume, then the images that are shown."""
        panels = [self._sizes()]
        panels += [self._truth()] if self.known else []
        panels += [self._slices()] if self.volume else []
        panels += [self._image(place) for place in range(len(self.shown))]
        return Picture(
            f"Where {self.output} is predicted, in bands",
            tuple(panels),
            "Bars and images share their colours: each pixel has that of the band of its probability.",
            "Whether the edges are right, and why a pixel lies in its band; neighbouring pixels are alike.",
            columns=3,
        )

    def _sizes(self) -> Panel:
        counts = self.by_image(self.counts).sum(axis=0)
        shares = counts / max(1, counts.sum())
        colours = tuple(f"band:{place}/{len(shares)}" for place in range(len(shares)))
        says = tuple(f"{name}: {percent(share)}" for name, share in zip(self.names, shares, strict=True))
        bars = Bars(np.arange(len(shares)), shares, colours=colours, says=says)
        return Panel("Pixels by band", Axis("share of the pixels"), names_axis(self.names), (bars,), _WIDTH, _WIDTH)

    def _truth(self) -> Panel:
        share, low, high = self.rates()
        at = np.arange(len(share), dtype=np.float64)
        some = ~np.isnan(share)
        begin, end = (np.where(np.isnan(one), share, one)[some] for one in (low, high))
        spans = Spans(at[some], share[some], begin, end, says=tuple(f"true {percent(one)}" for one in share[some]))
        axis = Axis(f"share that is {self.output}", domain=(0.0, 1.0))
        return Panel("What was true, by band", axis, names_axis(self.names), (spans,), _WIDTH, _WIDTH)

    def _slices(self) -> Panel:
        counts = self.by_image(self.counts)
        x = np.arange(1, len(counts) + 1, dtype=np.float64)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        lines = tuple(
            Line(x, shares[:, place], f"band:{place}/{len(self.names)}", name)
            for place, name in enumerate(self.names)
            if place
        )
        marks = Points(self.shown + 1.0, np.zeros(len(self.shown)), "quiet", size=40)
        return Panel("Through the volume", Axis("slice"), Axis("share of its pixels"), (*lines, marks), _WIDTH, _WIDTH)

    def _image(self, place: int) -> Panel:
        band = np.searchsorted(self.thresholds, self.maps[place] / 255, side="right")
        colours = [bytes.fromhex(one[1:]) for one in LIGHT.band_colours(len(self.thresholds) + 1)]
        pixels = np.frombuffer(b"".join(colours), np.uint8).reshape(-1, 3)[band]
        height, width = band.shape
        axes = Axis("", domain=(0.0, width), grid=False), Axis("", domain=(0.0, height), grid=False, reverse=True)
        high = round(_WIDTH * height / width)
        return Panel(f"{self._one} {self.shown[place] + 1}", *axes, (Raster(pixels),), _WIDTH, high)

    def to_columns(self) -> Columns:
        """A line for each image and band."""
        hits, counts = self._bands()
        images, bands = np.indices(counts.shape).reshape(2, -1)
        table: dict[str, list[object]] = {
            self._one: (images + 1).tolist(),
            "band": [self.names[place] for place in bands],
            "pixels": counts.ravel().tolist(),
        }
        return table | ({f"truly {self.output}": hits.ravel().tolist()} if self.known else {})


def ratio_interval(hits: Array, counts: Array) -> tuple[float, float, float]:
    """The share of `counts` that are `hits` [images], with its 95 % interval for other images like these.

    Pixels of an image are alike, so images are what is drawn: the interval is that of a ratio of means (Cochran 1977,
    section 6.4) by Student's t, and Wilson's over the images where all agree on 0 or 1. Without two images that have
    any it is NaN.
    """
    some = counts > 0
    images = int(some.sum())
    if not images:
        return math.nan, math.nan, math.nan
    share = float(hits[some].sum() / counts[some].sum())
    if images < 2:
        return share, math.nan, math.nan
    if share in {0.0, 1.0}:
        return (share, *wilson(share, images))
    rest = hits[some] - share * counts[some]
    error = math.sqrt(float((rest**2).sum()) * images / (images - 1)) / float(counts[some].sum())
    half = student95(images - 1) * error
    return share, max(0.0, share - half), min(1.0, share + half)

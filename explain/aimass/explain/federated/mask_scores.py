"""What sums of pixels over a federation say of predicted masks: figures by class, and what a threshold would change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Line, Panel, Picture, Rule, Spans, names_axis
from aimass.explain.federated.sums import Floats, Release
from aimass.explain.lineage import Lineage
from aimass.explain.means import student95
from aimass.explain.results import Array, Columns, Result
from aimass.explain.segviz.assessed import STEPS
from aimass.explain.segviz.overlap import OVERLAP, Overlap, overlap_of
from aimass.explain.words import interval, number

__all__ = ["FederatedMasks", "masks_of"]

_CAVEATS: Final = (
    "Figures are of the pixels of all images together, so large things weigh more; outlines are not compared.",
    "A figure says how far masks agree, not whether the difference matters.",
)


class FederatedMasks(Result, frozen=True, kw_only=True, eq=False, tag="federated.masks"):
    """`figures` [classes, 5] are those of `OVERLAP` over all pixels; `low`, `high` [classes] the 95 % interval of Dice.

    `pixels` [classes, 3] are true positive, false positive and false negative. At each of `at` [t] `moved` [t, 3] are
    those of class `output` if a pixel counted from that chance on; `threshold` is the one in use.
    """

    classes: tuple[str, ...]
    images: float
    figures: Array
    low: Array
    high: Array
    pixels: Array
    output: str
    threshold: float
    at: Array
    moved: Array
    release: Release

    def describe(self) -> tuple[str, ...]:
        """Each class, then the threshold beside the best one."""
        iou, dice, precision, recall = (OVERLAP.index(name) for name in ("iou", "dice", "precision", "recall"))
        said = [
            f"{name}: Dice {number(one[dice])} ({interval(self.low[k], self.high[k])}), IoU {number(one[iou])}, "
            f"precision {number(one[precision])}, recall {number(one[recall])} over {number(self.images, 6)} images "
            f"at {self.release.partners} partners."
            for k, (name, one) in enumerate(zip(self.classes, self.figures, strict=True))
        ]
        curve = Overlap(*self.moved.T).dice
        best = int(np.nanargmax(curve))
        said.append(
            f"{self.output} counts from a chance of {number(self.threshold)}; Dice of all pixels would be highest, "
            f"{number(curve[best])}, from {number(self.at[best])}."
        )
        return tuple(said)

    def to_columns(self) -> Columns:
        """A line a class."""
        names = ("true_positive", "false_positive", "false_negative")
        return {
            "class": self.classes,
            **{name: self.figures[:, place].tolist() for place, name in enumerate(OVERLAP)},
            "dice_low": self.low.tolist(),
            "dice_high": self.high.tolist(),
            **{name: self.pixels[:, place].tolist() for place, name in enumerate(names)},
        }

    def picture(self) -> Picture:
        """Dice by class, and what the threshold does."""
        at, share = np.arange(len(self.classes), dtype=np.float64), Axis("share", domain=(0.0, 1.0))
        dice = self.figures[:, OVERLAP.index("dice")]
        low, high = (np.where(np.isnan(end), dice, end) for end in (self.low, self.high))
        parts = Overlap(*self.moved.T)
        lines = (
            Line(self.at, parts.dice, series="Dice"),
            Line(self.at, parts.precision, "series:1", series="precision"),
            Line(self.at, parts.recall, "series:2", series="recall"),
            Rule(self.threshold, says="in use"),
        )
        chance = Axis("chance from which a pixel counts", domain=(0.0, 1.0))
        return Picture(
            "How well masks are predicted, over all partners' images",
            (
                Panel("Dice", Axis("Dice", domain=(0.0, 1.0)), names_axis(self.classes), (Spans(at, dice, low, high),)),
                Panel(f"Threshold of {self.output}", chance, share, lines),
            ),
            "A dot is Dice over all pixels, its line the 95 % interval over images. Further right fewer pixels count.",
            " ".join(self.caveats),
        )


def masks_of(
    sums: Mapping[str, Floats],
    classes: tuple[str, ...],
    output: int,
    threshold: float,
    size: int,
    lineage: Lineage,
    release: Release,
) -> FederatedMasks:
    """Of sums as `masks` makes them, in shares of images of `size` pixels."""
    counts = _whole(sums["pixels"] * size)
    parts = overlap_of(counts)
    low, high = _interval(parts, sums["agreement"], float(sums["rows"]), size, release.deviation("pixels") * size)
    above = _whole(sums["chances"] * size)[:, ::-1].cumsum(axis=1)[:, ::-1]
    missed = above[1, 0] - above[1]
    return FederatedMasks(
        lineage=lineage,
        caveats=(*_CAVEATS, *release.caveats()),
        classes=classes,
        images=float(sums["rows"]),
        figures=parts.figures(),
        low=low,
        high=high,
        pixels=np.stack([parts.both, parts.predicted_alone, parts.true_alone], axis=1),
        output=classes[output],
        threshold=threshold,
        at=np.arange(STEPS) / STEPS,
        moved=np.stack([above[1], above[0], missed], axis=1)[:STEPS],
        release=release,
    )


def _whole(counts: Floats) -> npt.NDArray[np.int64]:
    """Counts of pixels are whole, and rounding of sums is less than half of one; under noise none is below zero."""
    return np.rint(np.maximum(counts, 0.0)).astype(np.int64)


def _interval(parts: Overlap, agreement: Floats, images: float, size: int, noise: float) -> tuple[Floats, Floats]:
    """The 95 % interval of Dice, a ratio of sums over images: its linearised variance (Cochran 1977, eq. 2.46)."""
    twice = 2.0 * parts.both
    whole = twice + parts.predicted_alone + parts.true_alone
    dice = parts.dice
    if images < 2:
        return np.full(len(dice), math.nan), np.full(len(dice), math.nan)
    squares, products, wholes = (agreement * size**2).T
    apart = np.maximum(squares - 2 * dice * products + dice**2 * wholes, 0.0) * images / (images - 1)
    shaken = noise**2 * len(dice) * 4
    error = np.divide(np.sqrt(apart + shaken), whole, out=np.zeros(len(dice)), where=whole > 0)
    half = student95(max(1, round(images) - 1)) * error
    return np.maximum(0.0, dice - half), np.minimum(1.0, dice + half)

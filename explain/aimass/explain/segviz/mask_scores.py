"""How well masks are predicted, class by class: overlap and outlines, over images and along a volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Line, Panel, Picture, Points, Spans, names_axis
from aimass.explain.images import Images
from aimass.explain.lineage import Lineage
from aimass.explain.means import mean_interval
from aimass.explain.results import Array, Check, Columns, Result
from aimass.explain.segviz.assessed import FIGURES, Assessed
from aimass.explain.segviz.overlap import Overlap, overlap_of
from aimass.explain.words import number

__all__ = ["Along", "MaskScores", "along", "mask_scores"]

Floats = npt.NDArray[np.float64]
_TITLES: Final = {
    "iou": "IoU",
    "dice": "Dice",
    "precision": "precision",
    "recall": "recall",
    "area_error": "area error",
    "boundary_f1": "boundary F1",
    "hausdorff_95": "Hausdorff 95 %",
}
_SHARES: Final = ("iou", "dice", "precision", "recall", "boundary_f1")
_ARE_SHARES: Final = np.isin(FIGURES, _SHARES)
_LEAST: Final = {"area_error": -1.0}
"""Of the others none is below 0; an interval of a mean may reach where no figure can be."""
_NEVER: Final = (
    "Images that resemble one another, as tiles or slices of one body do, say less together than intervals suppose; "
    "a figure says how far masks agree, not whether the difference matters."
)
ONE_IMAGE: Final = "One image shows the view: it says nothing of others, and no interval can be given."


class MaskScores(Result, frozen=True, kw_only=True, eq=False, tag="segviz.masks"):
    """`mean`, `low`, `high` [classes, figures] of the 7 `figures` and the 95 % interval, over the images where either
    mask has the class; NaN where none does. `defined` [classes, figures] counts them: on what is nowhere masks agree
    easily.

    `pixels` int64 [classes, 3] are true positive, false positive and false negative over all images; `each`
    [images, classes, figures]. Distances are in `unit`; boundaries agree within `tolerance` of it.
    """

    classes: tuple[str, ...]
    figures: tuple[str, ...] = FIGURES
    mean: Array
    low: Array
    high: Array
    defined: Array
    pixels: Array
    each: Array
    unit: str
    tolerance: float

    def describe(self) -> tuple[str, ...]:
        """Each class: Dice, and how far off its outline is."""
        return tuple(self._said(place) for place in range(len(self.classes)))

    def headlines(self) -> tuple[str, ...]:
        """The class of the lowest Dice over all pixels; the first is the ground, and is easy."""
        some = [k for k in range(1, len(self.classes)) if self.pixels[k].sum()]
        worst = min(some, key=lambda k: float(Overlap(*self.pixels[k]).dice), default=0)
        return (self._said(worst),)

    def _said(self, k: int) -> str:
        dice, edge = self.figures.index("dice"), self.figures.index("hausdorff_95")
        if not self.defined[k, dice]:
            return f"{self.classes[k]} is in no image, predicted or true."
        ends = (
            f" (95 % interval {number(self.low[k, dice])} to {number(self.high[k, dice])})"
            if not math.isnan(self.low[k, dice])
            else ""
        )
        whole, images = Overlap(*self.pixels[k]), len(self.each)
        over = f"{self.defined[k, dice]:,} of {images:,} images that have any" if images > 1 else "the one image"
        return (
            f"{self.classes[k]}: Dice {number(float(whole.dice))} of all pixels together, {number(self.mean[k, dice])}"
            f"{ends} on average over {over}; 95 % of the outline is off by {number(self.mean[k, edge])} {self.unit} "
            "at most, on average."
        )

    def to_columns(self) -> Columns:
        """A line a class and figure."""
        kinds, names = len(self.classes), len(self.figures)
        arrays = {"mean": self.mean, "low": self.low, "high": self.high, "images": self.defined}
        return {
            "class": [name for name in self.classes for _ in range(names)],
            "figure": list(self.figures) * kinds,
            **{name: values.ravel().tolist() for name, values in arrays.items()},
        }

    def picture(self) -> Picture:
        """Shares from 0 to 1 by class, then errors of area and outline."""
        panels = [self._panel("Agreement", _SHARES, Axis("0: none, 1: all", domain=(0, 1)))]
        panels += [self._panel("Error of area", ("area_error",), Axis("share of the true area"))]
        panels += [self._panel("Distance", ("hausdorff_95",), Axis(f"Hausdorff 95 % ({self.unit})"))]
        return Picture(
            "How well masks are predicted",
            tuple(panels),
            "A dot is the mean over the images that have the class, the line its 95 % interval.",
            _NEVER,
        )

    def _panel(self, title: str, names: Sequence[str], axis: Axis) -> Panel:
        places = [self.figures.index(name) for name in names]
        rows = np.arange(len(names), dtype=np.float64)
        spread = (np.arange(len(self.classes)) - (len(self.classes) - 1) / 2) * 0.6 / max(1, len(self.classes))
        layers = []
        for k, name in enumerate(self.classes):
            mean = self.mean[k, places]
            low, high = (np.where(np.isnan(end[k, places]), mean, end[k, places]) for end in (self.low, self.high))
            known = ~np.isnan(mean)
            if axis.domain is not None:
                low, high = low.clip(*axis.domain), high.clip(*axis.domain)
            at = rows + spread[k]
            layers.append(
                Spans(
                    at[known],
                    mean[known],
                    low[known],
                    high[known],
                    colour=f"series:{k}",
                    series=name if len(names) > 1 else "",
                )
            )
        height = max(70, 24 * len(names) * max(1, len(self.classes) // 2))
        return Panel(title, axis, names_axis(tuple(_TITLES[name] for name in names)), tuple(layers), height=height)


class Along(Result, frozen=True, kw_only=True, eq=False, tag="segviz.along"):
    """`dice` float64 [slices, classes] along a volume, exact; a class that neither mask has in a slice is NaN there.

    `slices` int64 [slices] says which slice of the body each is, `step` apart in `unit`.
    """

    classes: tuple[str, ...]
    dice: Array
    step: float
    unit: str
    slices: Array

    def describe(self) -> tuple[str, ...]:
        """The worst slice of each class that is anywhere."""
        lines = []
        for k, name in enumerate(self.classes):
            if not np.isnan(self.dice[:, k]).all():
                worst = int(np.nanargmin(self.dice[:, k]))
                lines.append(f"{name} is worst in slice {self.slices[worst]}: Dice {number(self.dice[worst, k])}.")
        return tuple(lines)

    def to_columns(self) -> Columns:
        """A line a slice."""
        named = {name: self.dice[:, k].tolist() for k, name in enumerate(self.classes)}
        return {"slice": self.slices.tolist(), **named}

    def picture(self) -> Picture:
        """A line a class over the slices, broken where slices are left out, and a dot a slice."""
        at, gaps = self.slices * self.step, np.flatnonzero(np.diff(self.slices) > 1) + 1
        broken, dice = np.insert(at, gaps, at[gaps]), np.insert(self.dice, gaps, np.nan, axis=0)
        layers = [
            layer
            for k, name in enumerate(self.classes)
            for layer in (
                Line(broken, dice[:, k], colour=f"series:{k}", series=name),
                Points(at, self.dice[:, k], colour=f"series:{k}", size=14.0),
            )
        ]
        return Picture(
            "Along the volume",
            (Panel("", Axis(f"place of the slice ({self.unit})"), Axis("Dice", domain=(0, 1.02)), tuple(layers)),),
            "Where a line is low the slice is segmented badly; it breaks where neither has the class, or slices lack.",
            _NEVER,
        )


def mask_scores(
    assessed: Sequence[Assessed],
    classes: tuple[str, ...],
    lineage: Lineage,
    *,
    unit: str,
    tolerance: float,
    caveats: tuple[str, ...] = (),
) -> MaskScores:
    """The figures of every class over these images."""
    each = np.stack([one.figures for one in assessed])
    counts = np.stack([one.counts for one in assessed])
    there = overlap_of(counts)
    known = ~np.isnan(each) & (there.both + there.predicted_alone + there.true_alone > 0)[:, :, None]
    defined, kept = known.sum(axis=0), np.where(known, each, 0.0)
    sums, squares = kept.sum(axis=0), (kept**2).sum(axis=0)
    ends = np.array([mean_interval(*cell) for cell in zip(defined.flat, sums.flat, squares.flat, strict=True)])
    low, high = ends.reshape(*defined.shape, 2).transpose(2, 0, 1)
    low = np.maximum(low, [_LEAST.get(name, 0.0) for name in FIGURES])
    high = np.where(_ARE_SHARES, high.clip(max=1), high)
    with np.errstate(invalid="ignore"):
        mean = np.where(defined > 0, sums / defined, np.nan)
    whole = overlap_of(counts.sum(axis=0))
    pixels = np.stack([whole.both, whole.predicted_alone, whole.true_alone], axis=1)
    dice, iou = (each[:, :, FIGURES.index(name)] for name in ("dice", "iou"))
    off = float(np.abs(dice - 2 * iou / (1 + iou)).max())
    alone = (ONE_IMAGE,) if len(assessed) == 1 else ()
    return MaskScores(
        lineage=lineage, caveats=(*alone, *caveats, _NEVER),
        checks=(Check(name="Dice against IoU", error=off, limit=1e-9),),
        classes=classes, mean=mean, low=low, high=high, defined=defined, pixels=pixels, each=each, unit=unit,
        tolerance=tolerance,
    )  # fmt: skip


def along(assessed: Sequence[Assessed], classes: tuple[str, ...], lineage: Lineage, images: Images) -> Along:
    """Of a volume, whose slices are in order."""
    counts = np.stack([one.counts for one in assessed])
    parts = overlap_of(counts)
    spaced = len(images.spacing) == 3
    step, unit = (images.spacing[0], images.unit) if spaced else (1.0, "slices")
    none = (parts.both + parts.predicted_alone + parts.true_alone) == 0
    dice = np.where(none, np.nan, parts.dice)
    caveat = "Slices of one body: figures are by slice, distances within slices, and nothing is said of other bodies."
    return Along(
        lineage=lineage, caveats=(caveat,), classes=classes, dice=dice, step=step, unit=unit, slices=images.slices
    )

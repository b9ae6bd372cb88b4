"""Images to look at, the worst first: what was predicted rightly, too much, too little, and how surely."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Panel, Picture, Points, Raster
from aimass.explain.charts.theme import LIGHT
from aimass.explain.images import UNLABELLED, ImageModel, Images, asked_images
from aimass.explain.lineage import Lineage
from aimass.explain.results import Array, Check, Columns, Result
from aimass.explain.segviz.assessed import predicted_of
from aimass.explain.words import number
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

__all__ = ["CELLS", "Gallery", "gallery", "overlay"]

Pixels = npt.NDArray[np.uint8]
CELLS: Final = ("true negative", "true positive", "false positive", "false negative")
_SHORT: Final = ("right", "too much", "missed")
_COLOURS: Final = ("", "series:2", "series:1", "series:3")
_BANDS: Final = (0.2, 0.5, 0.8)
_SIDE: Final = 512
"""Pixels that an image of the gallery has a side at most; of a larger one every second, third, ... pixel is kept."""
_PANEL_PX: Final = 220
_NEVER: Final = "The gallery shows the worst images, not typical ones."


class Gallery(Result, frozen=True, kw_only=True, eq=False, tag="segviz.gallery"):
    """For class `output`: `places` [k] of images, worst Dice `scores` [k] first, as uint8 [k, h, w(, 3)] `pixels`.

    `cells` uint8 [k, h, w] are places in `CELLS`, or `UNLABELLED`. `chances` uint8 [k, h, w] are of 255, and so within
    1/510 of what the model says. Every `stride`-th pixel is kept.
    """

    output: str
    threshold: float
    places: Array
    scores: Array
    pixels: Array
    cells: Array
    chances: Array
    stride: int

    def chance(self, image: int, row: int, column: int) -> float:
        """What the model says of one pixel of the gallery's images, within 1/510; raises `BadInput` beyond them."""
        if not all(0 <= at < size for at, size in zip((image, row, column), self.chances.shape, strict=True)):
            limit = " x ".join(map(str, self.chances.shape))
            raise BadInput("no such pixel", code="explain.pixel", value=f"{image}, {row}, {column}", limit=limit)
        return float(self.chances[image, row, column]) / 255

    @property
    def rows_held(self) -> int:
        """The images that it shows."""
        return len(self.places)

    def describe(self) -> tuple[str, ...]:
        """Which images are worst."""
        named = ", ".join(f"{at} ({number(dice)})" for at, dice in zip(self.places, self.scores, strict=True))
        return (f"Worst first, with Dice of {self.output}: image {named}.",)

    def to_columns(self) -> Columns:
        """A line an image."""
        counts = {name: (self.cells == place).sum(axis=(1, 2)).tolist() for place, name in enumerate(CELLS)}
        return {"image": self.places.tolist(), "dice": self.scores.tolist(), **counts}

    def picture(self) -> Picture:
        """Each image, its overlay, and the bands of the predicted chance, beside one another."""
        panels = [panel for place in range(len(self.places)) for panel in self._row(place)]
        words = ", ".join(map(number, _BANDS))
        return Picture(
            f"Where {self.output} is segmented wrongly",
            tuple(panels),
            f"Left the image, then right and wrong pixels, then the chance in bands cut at {words}: brighter is surer.",
            _NEVER,
            columns=3,
        )

    def _row(self, k: int) -> tuple[Panel, ...]:
        legend = tuple(
            Points(np.zeros(0), np.zeros(0), colour=colour, series=name)
            for name, colour in zip(_SHORT, _COLOURS[1:], strict=True)
        )
        titles = (f"Image {self.places[k]}", f"Dice {number(self.scores[k])}", "Chance in bands")
        rasters = (self.pixels[k], overlay(self.pixels[k], self.cells[k]), _banded(self.chances[k]))
        height, width = self.cells.shape[1:]
        x, y = Axis("", domain=(0, width), grid=False), Axis("", domain=(0, height), grid=False, reverse=True)
        size = (_PANEL_PX, max(1, round(_PANEL_PX * height / width)))
        return tuple(
            Panel(title, x, y, (Raster(raster), *(legend if (k, place) == (0, 1) else ())), *size)
            for place, (title, raster) in enumerate(zip(titles, rasters, strict=True))
        )


def gallery(
    model: ImageModel,
    images: Images,
    dice: npt.NDArray[np.float64],
    place: int,
    lineage: Lineage,
    work: Work,
    *,
    count: int,
    threshold: float,
    caveats: tuple[str, ...] = (),
) -> Gallery:
    """The `count` images whose `dice` [n] of class `place` is least; the model is asked about them again."""
    worst = np.argsort(dice, kind="stable")[:count]
    stride = max(1, -(-max(images.height, images.width) // _SIDE))
    chosen = images.take(worst)
    masks, predict = chosen.need_masks(), asked_images(model, work)
    pixels, cells, chances = [], [], []
    for k in range(len(worst)):
        said = predict(chosen.pixels[k : k + 1])[0]
        cells.append(cells_of(predicted_of(said, threshold, place) == place, masks[k], place)[::stride, ::stride])
        chances.append(np.rint(np.clip(said[place], 0, 1) * 255).astype(np.uint8)[::stride, ::stride])
        pixels.append(_shown(chosen.pixels[k])[::stride, ::stride])
        work.tell((k + 1) / len(worst), "gallery")
    limits = (f"Of these images every pixel in {stride} is shown, down and across.",) if stride > 1 else ()
    sorted_ = float(np.maximum(0, -np.diff(dice[worst])).sum())
    return Gallery(
        lineage=lineage, caveats=(*limits, *caveats, _NEVER),
        checks=(Check(name="images that are out of order", error=sorted_, limit=0.0),),
        output=model.classes[place], threshold=threshold, places=worst.astype(np.int64), scores=dice[worst],
        pixels=np.stack(pixels), cells=np.stack(cells), chances=np.stack(chances), stride=stride,
    )  # fmt: skip


def cells_of(predicted: npt.NDArray[np.bool_], mask: Pixels, place: int) -> Pixels:
    """uint8 [h, w] places in `CELLS`, `UNLABELLED` where nobody knows."""
    true = mask == place
    found = np.where(predicted, np.where(true, 1, 2), np.where(true, 3, 0))
    return np.where(mask == UNLABELLED, UNLABELLED, found).astype(np.uint8)


def overlay(pixels: Pixels, cells: Pixels) -> Pixels:
    """uint8 [h, w, 3]: the image in grey under half-clear colours of right and wrong."""
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels.astype(np.float64)
    found = np.repeat(grey[:, :, None], 3, axis=2)
    for place, token in enumerate(_COLOURS):
        if token:
            colour = LIGHT.colour(token)
            rgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
            found[cells == place] = 0.45 * found[cells == place] + 0.55 * rgb
    return found.round().astype(np.uint8)


def _banded(chances: Pixels) -> Pixels:
    """uint8 [h, w, 3]: each pixel in the colour of its band."""
    bands = np.searchsorted(np.array(_BANDS), chances / 255, side="right")
    colours = LIGHT.band_colours(len(_BANDS) + 1)
    table = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in colours], np.uint8)
    return table[bands]


def _shown(pixels: Pixels) -> Pixels:
    """uint8 [h, w] or [h, w, 3] of any number of channels: the first three, or the first."""
    if pixels.ndim == 2:
        return pixels
    return pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, 0]

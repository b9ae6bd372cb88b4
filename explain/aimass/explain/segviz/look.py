"""One image, or one slice of a volume, to be looked at: the whole of it, and the chances around one pixel."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
import numpy as np

from aimass.explain.charts.picture import Axis, Heat, Panel, Picture, Raster
from aimass.explain.images import ImageModel, Images, lineage_of_images
from aimass.explain.results import Array, Columns, Result
from aimass.explain.segviz.assessed import output_of
from aimass.explain.segviz.gallery import CELLS, Gallery, gallery, overlay
from aimass.explain.segviz.overlap import Overlap
from aimass.explain.words import number
from aimass.explain.work import Work
from aimass.proto.errors import BadInput
from aimass.proto.values import Value

__all__ = ["Around", "LookOptions", "around", "explain_image"]

_SIDE: Final = 24
"""Pixels a side around the one that is looked at: each is to be read."""
_PANEL_PX: Final = 300
_NEVER: Final = "A chance is of the model's: it says how sure it is, and not how sure it may be."


class LookOptions(Value, frozen=True):
    """An empty text leaves the choice to the view, which says what it chose."""

    output: Annotated[str, msgspec.Meta(description="the class that is looked at; the last where empty")] = ""
    threshold: Annotated[float, msgspec.Meta(gt=0, lt=1, description="chance from which a pixel counts as of it")] = 0.5
    image: Annotated[int, msgspec.Meta(ge=0, description="the image's number, from 0; of a volume the slice's")] = 0


class Around(Result, frozen=True, kw_only=True, eq=False, tag="segviz.around"):
    """Pixels around one: `pixels` uint8 [h, w(, 3)], `cells` uint8 [h, w] and `chances` float64 [h, w] from `top` and
    `left` on, of which [`row`, `column`] of the image is the one that was asked for."""

    output: str
    image: int
    row: int
    column: int
    top: int
    left: int
    pixels: Array
    cells: Array
    chances: Array

    @property
    def rows_held(self) -> int:
        """The image that it is a part of."""
        return 1

    def describe(self) -> tuple[str, ...]:
        """What the model says of the pixel, and whether that is right."""
        place = self.row - self.top, self.column - self.left
        cell = int(self.cells[place])
        is_ = CELLS[cell] if cell < len(CELLS) else "not labelled"
        chance = number(float(self.chances[place]))
        return (f"Image {self.image}, row {self.row}, column {self.column}: chance of {self.output} {chance}, {is_}.",)

    def picture(self) -> Picture:
        """The pixels, right and wrong, beside the chance of each."""
        height, width = self.cells.shape
        x = Axis("column", domain=(self.left, self.left + width), grid=False)
        y = Axis("row", domain=(self.top, self.top + height), grid=False, reverse=True)
        pixel_x, pixel_y = (
            Axis("", domain=(0, width), grid=False),
            Axis("", domain=(0, height), grid=False, reverse=True),
        )
        size = (_PANEL_PX, max(1, round(_PANEL_PX * height / width)))
        heat = Heat(
            np.arange(self.left, self.left + width + 1, dtype=np.float64),
            np.arange(self.top, self.top + height + 1, dtype=np.float64),
            self.chances,
            f"chance of {self.output}",
            domain=(0.0, 1.0),
        )
        panels = (
            Panel("The image", pixel_x, pixel_y, (Raster(self.pixels),), *size),
            Panel("Right and wrong", pixel_x, pixel_y, (Raster(overlay(self.pixels, self.cells)),), *size),
            Panel(f"Chance of {self.output}", x, y, (heat,), *size),
        )
        return Picture(
            f"Around row {self.row}, column {self.column} of image {self.image}",
            panels,
            "Left the pixels, then right (green), too much (orange) and missed (pink), then the chance of each pixel.",
            _NEVER,
            columns=3,
        )

    def to_columns(self) -> Columns:
        """A line a pixel."""
        rows, columns = np.indices(self.cells.shape).reshape(2, -1)
        named = [CELLS[cell] if cell < len(CELLS) else "not labelled" for cell in self.cells.ravel()]
        return {
            "row": (rows + self.top).tolist(),
            "column": (columns + self.left).tolist(),
            "chance": self.chances.ravel().tolist(),
            "is": named,
        }


def explain_image(
    model: ImageModel,
    images: Images,
    options: LookOptions = LookOptions(),  # noqa: B008  (a frozen value)
    work: Work = Work(),
) -> Gallery:
    """One image as a gallery of it alone; raises `BadInput` for a number that no image has."""
    if options.image >= len(images):
        raise BadInput("no such image", code="explain.image", value=options.image, limit=f"0 to {len(images) - 1}")
    place = output_of(model, options.output)
    lineage = lineage_of_images(model, images, work, seeded=False)
    shown = gallery(
        model, images.take(np.array([options.image])), np.zeros(1), place, lineage, work,
        count=1, threshold=options.threshold, caveats=images.limits,
    )  # fmt: skip
    found = Overlap(*(np.array((shown.cells == cell).sum()) for cell in (1, 2, 3)))  # of the pixels that are shown
    return msgspec.structs.replace(
        shown, places=np.array([options.image], np.int64), scores=np.array([float(found.dice)])
    )


def around(shown: Gallery, image: int, row: int, column: int, side: int = _SIDE) -> Around:
    """The pixels around one of a gallery's image, by its place in the gallery; raises `BadInput` for none."""
    shown.chance(image, row, column)
    height, width = shown.cells.shape[1:]
    top = min(max(0, row - side // 2), max(0, height - side))
    left = min(max(0, column - side // 2), max(0, width - side))
    part = (image, slice(top, top + side), slice(left, left + side))
    return Around(
        lineage=shown.lineage,
        caveats=(*shown.caveats, _NEVER),
        output=shown.output,
        image=int(shown.places[image]),
        row=row,
        column=column,
        top=top,
        left=left,
        pixels=shown.pixels[part],
        cells=shown.cells[part],
        chances=shown.chances[part].astype(np.float64) / 255,
    )

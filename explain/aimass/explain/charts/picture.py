"""A picture as data: what stands where and what it means, drawn by Altair for screens and by matplotlib for papers.

Results say what is to be seen in these few forms, and nothing of how it is drawn. So both drawings show the same
numbers, tests compare pictures by their data, and one theme decides all colours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "MOST_POINTS",
    "Axis",
    "Band",
    "Bars",
    "Boxes",
    "Colour",
    "Heat",
    "Layer",
    "Line",
    "Panel",
    "Picture",
    "Points",
    "Raster",
    "Rule",
    "Spans",
    "names_axis",
    "names_height",
]

Array = npt.NDArray[Any]
MOST_POINTS: Final = 5_000
"""More are binned before they are drawn: see `binning`."""
_LINE_PX: Final = 18

Colour = str
"""`series:0` .. (told apart), `more` and `less` (of a signed effect), `quiet`, `warn`, `band:0/3` (the first of 3)."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """`names` make it one of places 0, 1, ... with these words, in this order; else it is of numbers, `whole` ones
    of rounds and steps.

    A name of several lines has them between line breaks; the panel's height is to leave room.
    """

    title: str
    names: tuple[str, ...] = ()
    log: bool = False
    domain: tuple[float, float] | None = None
    grid: bool = True
    reverse: bool = False
    whole: bool = False


def names_axis(names: tuple[str, ...], title: str = "") -> Axis:
    """One word a place; on a vertical axis the first is on top."""
    return Axis(title, names, grid=False)


def names_height(names: Sequence[str]) -> int:
    """Pixels of a panel beside whose vertical axis names of several lines stand."""
    lines = max((name.count("\n") + 1 for name in names), default=1)
    return max(80, len(names) * (lines * _LINE_PX + 10))


@dataclasses.dataclass(frozen=True)
class Bars:
    """Horizontal bars: `at` [n] places of the vertical axis, from `begin` (0) to `end` [n]; `low`, `high` whiskers."""

    at: Array
    end: Array
    low: Array | None = None
    high: Array | None = None
    begin: Array | None = None
    colours: tuple[Colour, ...] = ("series:0",)
    says: tuple[str, ...] = ()
    series: str = ""


@dataclasses.dataclass(frozen=True)
class Spans:
    """Dots with a whisker: `x` [n] with `low` to `high` [n] at places `at` [n] of the vertical axis."""

    at: Array
    x: Array
    low: Array
    high: Array
    colour: Colour = "series:0"
    series: str = ""
    says: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Line:
    """`y` over `x` [n], NaN leaves a gap; `steps` holds each value until the next x. `faint` are one of very many."""

    x: Array
    y: Array
    colour: Colour = "series:0"
    series: str = ""
    dashed: bool = False
    faint: bool = False
    steps: bool = False


@dataclasses.dataclass(frozen=True)
class Band:
    """What lies between `low` and `high` over `x` [n]: an interval, a spread."""

    x: Array
    low: Array
    high: Array
    colour: Colour = "series:0"
    series: str = ""


@dataclasses.dataclass(frozen=True)
class Points:
    """Dots at `x`, `y` [n]; `shade` [n] colours them from low to high with the legend `shade_title`."""

    x: Array
    y: Array
    colour: Colour = "series:0"
    series: str = ""
    shade: Array | None = None
    shade_title: str = ""
    size: float = 30.0
    says: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Heat:
    """Cells `values` [rows, columns], NaN empty, between edges `x` [columns + 1] and `y` [rows + 1].

    Over axes of names edges are places: -0.5, 0.5, ... `diverging` has its middle at 0; `bands` cut the values at these
    thresholds into as many colours and one, which `band_names` are said by.
    """

    x: Array
    y: Array
    values: Array
    title: str
    diverging: bool = False
    bands: tuple[float, ...] = ()
    band_names: tuple[str, ...] = ()
    domain: tuple[float, float] | None = None
    written: bool = False


@dataclasses.dataclass(frozen=True)
class Boxes:
    """Rectangles: `left`, `right`, `bottom`, `top` [n], outlined."""

    left: Array
    right: Array
    bottom: Array
    top: Array
    colour: Colour = "warn"
    series: str = ""
    says: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Raster:
    """An image uint8 [height, width] or [height, width, 3], its first row on top, a pixel a unit."""

    pixels: Array


@dataclasses.dataclass(frozen=True)
class Rule:
    """A line across at one value, with a word."""

    value: float
    along: Literal["x", "y"] = "x"
    says: str = ""
    colour: Colour = "quiet"


Layer = Bars | Spans | Line | Band | Points | Heat | Boxes | Raster | Rule


@dataclasses.dataclass(frozen=True)
class Panel:
    """Layers over two axes; later ones lie on top. `width` and `height` in pixels, 0 leaves it to the theme.

    What is over the pixels of an image is `as_image`: it is as large as the image beside it.
    """

    title: str
    x: Axis
    y: Axis
    layers: tuple[Layer, ...]
    width: int = 0
    height: int = 0
    as_image: bool = False

    @property
    def fixed(self) -> bool:
        """Whether it is as wide as it says: an image is in it, or it is as one."""
        return self.as_image or any(isinstance(layer, Raster) for layer in self.layers)

    @property
    def series(self) -> dict[str, Colour]:
        """The legend: the colour of each series that has a name."""
        found: dict[str, Colour] = {}
        for layer in self.layers:
            name = getattr(layer, "series", "")
            if name and name not in found:
                found[name] = layer.colours[0] if isinstance(layer, Bars) else layer.colour  # type: ignore[union-attr]
        return found


@dataclasses.dataclass(frozen=True)
class Picture:
    """Panels, `columns` beside one another. Everybody who looks is told how to read it and what it does not show.

    Without a title neither is drawn: the words stand beside the drawing then.
    """

    title: str
    panels: tuple[Panel, ...]
    how_to_read: str
    shows_not: str
    columns: int = 1

    def numbers(self) -> int:
        """How many numbers are drawn."""
        arrays = (
            getattr(layer, field.name)
            for panel in self.panels
            for layer in panel.layers
            for field in dataclasses.fields(layer)
        )
        return sum(array.size for array in arrays if isinstance(array, np.ndarray))

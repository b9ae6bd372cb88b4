"""One map of one image, with its own proof: pixels taken away in its order, and in random ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Heat, Panel, Picture, Raster
from aimass.explain.results import Array, Check, Columns, Result
from aimass.explain.words import percent

__all__ = ["SHOWS_NOT", "ImageMap", "check_of_order", "faster_orders", "image_panel"]

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
_STEPS: Final = 16
_MOST_CELLS: Final = 64
_SIDE: Final = 200
SHOWS_NOT: Final = (
    "Where this model looked in this one image, not why: a bright place is not a cause, and other methods may tell "
    "other places."
)


class ImageMap(Result, frozen=True, kw_only=True, eq=False, tag="lpi.image_map"):
    """`values` [h, w] by `method`, in `unit`, of `pixels` uint8 [h, w] or [h, w, channels]; `says` how it came about.

    `said` is the model's probability, or its mean over the pixels it calls `output`. `beaten` is the share of random
    orders of pixels that lower it faster than the map's own.
    """

    image: int
    output: str
    said: float
    pixels: Array
    values: Array
    method: str
    unit: str
    says: str
    beaten: float

    @property
    def rows_held(self) -> int:
        """The image that is explained."""
        return 1

    def describe(self) -> tuple[str, ...]:
        """Where the largest values are."""
        row, column = np.unravel_index(int(self.values.argmax()), self.values.shape)
        order = f"in its order lower the probability at least as fast as {percent(1 - self.beaten)} of random orders"
        return (
            f"{self.method} for {self.output} ({percent(self.said)}) of image {self.image}: {self.says}",
            f"Its largest value is at row {row}, column {column}. Pixels taken away {order}.",
        )

    def picture(self) -> Picture:
        """The image, and the map beside it."""
        return Picture(
            f"Where {self.output} is seen",
            (image_panel(self.pixels, f"image {self.image}"), self.panel()),
            "Orange pixels speak for it, blue ones against it.",
            SHOWS_NOT,
            columns=2,
        )

    def panel(self) -> Panel:
        """The map alone, in means of blocks where it has very many pixels."""
        height, width = self.values.shape
        step = max(1, -(-max(height, width) // _MOST_CELLS))
        x, y = np.append(np.arange(0, width, step), width), np.append(np.arange(0, height, step), height)
        sums = np.add.reduceat(np.add.reduceat(self.values, y[:-1], axis=0), x[:-1], axis=1)
        means = sums / np.outer(np.diff(y), np.diff(x))
        heat = Heat(x.astype(np.float64), y.astype(np.float64), means, self.unit, diverging=True)
        return _framed(self.method, self.values.shape, heat)

    def to_columns(self) -> Columns:
        """A line a pixel."""
        rows, columns = np.indices(self.values.shape).reshape(2, -1)
        return {"row": rows.tolist(), "column": columns.tolist(), "value": self.values.ravel().tolist()}


def image_panel(pixels: Pixels, title: str) -> Panel:
    """An image, as bright as can be."""
    shown = pixels.astype(np.float64) * (255.0 / max(1, int(pixels.max())))
    return _framed(title, pixels.shape, Raster(shown.round().astype(np.uint8)))


def _framed(title: str, shape: tuple[int, ...], layer: Heat | Raster) -> Panel:
    height, width = shape[:2]
    scale = _SIDE / max(height, width)
    x = Axis("", domain=(0.0, float(width)), grid=False)
    y = Axis("", domain=(0.0, float(height)), grid=False, reverse=True)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Panel(title, x, y, (layer,), *size, as_image=True)


def faster_orders(
    chance: Callable[[Pixels], Floats],
    pixels: Pixels,
    baseline: npt.NDArray[np.float32],
    values: Floats,
    orders: int,
    rng: np.random.Generator,
) -> float:
    """The share of random orders in which pixels replaced by the baseline lower `chance` further, over 16 steps."""
    number, covered = values.size, baseline.round().clip(0, 255).astype(np.uint8)
    counts = np.linspace(0, number, _STEPS + 1).round().astype(int)[1:-1]
    ranks = [np.argsort(np.argsort(-values, axis=None, kind="stable"))]
    ranks += [rng.permutation(number) for _ in range(orders)]
    means = []
    for rank in ranks:
        away = (rank[None] < counts[:, None]).reshape(len(counts), *values.shape)
        where = away if pixels.ndim == 2 else away[..., None]
        means.append(float(chance(np.where(where, covered, pixels)).mean()))
    return float((np.array(means[1:]) < means[0] - 1e-9).mean())


def check_of_order(beaten: float, of: str) -> Check:
    """Values whose order does no better than chance are warned of; `of` is what they are of, many."""
    return Check(name=f"Random orders of {of} that lower the probability faster", error=beaten, limit=0.5)

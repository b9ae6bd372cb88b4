"""Very many points as few cells: what is drawn of more than `MOST_POINTS` is counts, never a random part."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import MOST_POINTS, Heat, Points

__all__ = ["points_or_cells"]

_CELLS: Final = (60, 40)


def points_or_cells(points: Points) -> Points | Heat:
    """The points, or a heat map of how many lie where; of shaded points the mean shade of each cell."""
    if len(points.x) <= MOST_POINTS:
        return points
    counts, x, y = _histogram(points.x, points.y)
    if points.shade is None:
        return Heat(x, y, np.where(counts.T > 0, counts.T, np.nan), "points")
    sums, _, _ = _histogram(points.x, points.y, np.nan_to_num(points.shade))
    with np.errstate(invalid="ignore", divide="ignore"):
        return Heat(x, y, (sums / counts).T, points.shade_title)


def _histogram(
    x: npt.NDArray[Any], y: npt.NDArray[Any], weights: npt.NDArray[Any] | None = None
) -> tuple[Any, Any, Any]:
    return np.histogram2d(x, y, bins=_CELLS, weights=weights)

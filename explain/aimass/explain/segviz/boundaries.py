"""How far apart the outlines of two masks are: boundary F1 and the 95th percentile of Hausdorff's distance.

A boundary pixel is one of the mask beside one that is not (by an edge); beyond the image nothing is of the mask.
Distances are exact, between centres of pixels. Two empty masks have the same outline; an empty one is as far from
another as the image is wide (its diagonal), since no distance says how wrong that is.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["BOUNDARY", "boundary", "boundary_figures", "distances"]

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
BOUNDARY: Final = ("boundary_f1", "hausdorff_95")
_CELLS: Final = 1 << 20
"""Of a table of points and columns at once."""


def boundary(mask: Flags) -> Flags:
    """bool [h, w]: the pixels of the mask that touch what is not of it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def distances(of: Flags, to: Flags, spacing: tuple[float, float]) -> Floats:
    """From each pixel of one mask [h, w] to the nearest of another, which is not empty; float64 [pixels of `of`].

    Felzenszwalb and Huttenlocher 2012: first the nearest within each column, then over the columns; the second step is
    taken only where it is asked for.
    """
    within = _within_columns(to) * spacing[0]
    rows, columns = np.nonzero(of)
    across = (np.arange(to.shape[1]) * spacing[1]) ** 2
    found = np.empty(len(rows))
    step = max(1, _CELLS // to.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        apart = np.abs(columns[part, None] - np.arange(to.shape[1]))
        found[part] = (within[rows[part]] ** 2 + across[apart]).min(axis=1)
    return np.sqrt(found)


def boundary_figures(
    predicted: Flags, true: Flags, spacing: tuple[float, float] = (1.0, 1.0), tolerance: float = 2.0
) -> Floats:
    """float64 [2] in the order of `BOUNDARY`, of masks bool [h, w]; `tolerance` and distances are as `spacing` is.

    Boundary F1 (Csurka et al. 2013) is the harmonic mean of the shares of either boundary within the tolerance of the
    other. Hausdorff's 95th percentile is the larger of those of the two directions.
    """
    one, other = boundary(predicted), boundary(true)
    if not one.any() or not other.any():
        same = not one.any() and not other.any()
        height, width = true.shape
        return np.array([1.0, 0.0] if same else [0.0, math.hypot(height * spacing[0], width * spacing[1])])
    there, back = distances(one, other, spacing), distances(other, one, spacing)
    precision, recall = float((there <= tolerance).mean()), float((back <= tolerance).mean())
    f1 = 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
    return np.array([f1, max(np.percentile(there, 95), np.percentile(back, 95))])


def _within_columns(mask: Flags) -> Floats:
    """float64 [h, w]: rows to the nearest pixel of the mask in the same column; infinite where there is none."""
    height = len(mask)
    rows = np.arange(height, dtype=np.float64)[:, None]
    above = np.maximum.accumulate(np.where(mask, rows, -np.inf), axis=0)
    below = np.minimum.accumulate(np.where(mask, rows, np.inf)[::-1], axis=0)[::-1]
    return np.minimum(rows - above, below - rows)

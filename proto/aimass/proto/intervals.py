"""Where a share's true value lies: for the registry, which promotes by it, and for who explains a model."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["Z95", "wilson"]

Z95: Final = 1.959964
"""Of a normal variable 95 % lies within so many deviations."""


def wilson(mean: float, rows: float) -> tuple[float, float]:
    """The 95 % interval of a proportion over `rows`: Wilson 1927, as in Brown, Cai and DasGupta 2001, eq. 4."""
    square = Z95**2
    centre = (mean * rows + square / 2) / (rows + square)
    half = Z95 * math.sqrt(rows * mean * (1 - mean) + square / 4) / (rows + square)
    return max(0.0, centre - half), min(1.0, centre + half)

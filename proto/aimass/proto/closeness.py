"""How far two predictions of one model may lie apart: one yardstick for who traces, promotes and serves it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["apart"]


def apart(said: npt.NDArray[Any], expected: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The difference of each number from what is expected of it; infinite where either is none. Shapes are equal.

    Beyond 1 it is relative, so that predictions of large numbers are held to as many digits as probabilities are:
    float32 knows 1e5 to within 0.004, and a row computed beside others may come to the neighbour.
    """
    differences = np.abs(said - expected) / np.maximum(1.0, np.abs(expected))
    return np.where(np.isfinite(differences), differences, np.inf)

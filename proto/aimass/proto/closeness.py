"""How far two predictions of one model may lie apart: one yardstick for who traces, promotes and serves it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["apart", "sampled"]

_PIXELS: Final = 256


def apart(said: npt.NDArray[Any], expected: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The difference of each number from what is expected of it; infinite where either is none. Shapes are equal.

    Beyond 1 it is relative, so that predictions of large numbers are held to as many digits as probabilities are:
    float32 knows 1e5 to within 0.004, and a row computed beside others may come to the neighbour.
    """
    differences = np.abs(said - expected) / np.maximum(1.0, np.abs(expected))
    return np.where(np.isfinite(differences), differences, np.inf)


def sampled(said: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What is compared of an answer: [rows, labels] as it is, and of pixels' [rows, labels, h, w] some 256 of each
    label: [rows, numbers]."""
    if said.ndim < 3:
        return said
    pixels = said.reshape(*said.shape[:2], -1)
    return pixels[:, :, :: max(1, pixels.shape[2] // _PIXELS)].reshape(len(said), -1)

"""Seams: a name in one module of the real code for which something else stands while a mechanism runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from aimass.privacy.dp.streams import NoiseStream

__all__ = ["REAL", "Draw", "Seam", "half", "nothing", "replaced"]

Seam = Callable[[], AbstractContextManager[object]]
Draw = Callable[[Fraction, int, NoiseStream], npt.NDArray[np.int64]]
"""Integer noise: variance, how many, and the stream."""

REAL: Seam = nullcontext


def replaced(where: object, name: str, by: Any) -> Seam:
    """`by` in the place of what `where` calls `name`."""
    return lambda: mock.patch.object(where, name, by)


def half(draw: Draw) -> Draw:
    """Half the standard deviation."""
    return lambda variance, count, stream: draw(variance / 4, count, stream)


def nothing(_: Fraction, count: int, __: NoiseStream) -> npt.NDArray[np.int64]:
    """No noise."""
    return np.zeros(count, np.int64)

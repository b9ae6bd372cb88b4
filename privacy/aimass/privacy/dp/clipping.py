"""Bounds on what one contribution may be: its L2 norm, over all tensors or of each group of them.

The bound holds for the numbers that are returned, as float64 computes their norm, not only before they are rounded to
their own type.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.privacy.secagg.faults import Code, fail
from aimass.proto.errors import BadInput

__all__ = ["clip_flat", "clip_layers", "l2_norm", "layer_norms"]

_BLOCK: Final = 1 << 18
_TINY: Final = 1e-140
_HUGE: Final = 1e140
"""Squares of numbers between these are float64 that neither overflow nor vanish in a sum."""

Tensors = Mapping[str, npt.NDArray[Any]]


def l2_norm(arrays: Iterable[npt.NDArray[Any]]) -> float:
    """The L2 norm of all elements, summed in float64; raises `FaultError` E_NONFINITE for NaN or infinity."""
    kept = [array.reshape(-1) for array in arrays]
    each = [float(np.abs(array).max()) for array in kept if array.size]
    if not all(map(math.isfinite, each)):  # before the largest is taken: of NaN and a number, max() gives either
        raise fail(Code.NONFINITE, "an update holds NaN or infinity")
    largest = max(each, default=0.0)
    unit = largest if largest and not _TINY < largest < _HUGE else 1.0
    return unit * math.sqrt(math.fsum(_squares(array, unit) for array in kept))


def _squares(flat: npt.NDArray[Any], unit: float) -> float:
    total = 0.0
    for start in range(0, len(flat), _BLOCK):
        part = flat[start : start + _BLOCK].astype(np.float64)
        if unit != 1.0:
            part /= unit
        total += float(np.dot(part, part))
    return total


def clip_flat(update: Tensors, clip: float) -> tuple[dict[str, npt.NDArray[Any]], float]:
    """The update times min(1, clip / norm), and its norm before; shapes and floating types stay.

    The norm is over all tensors together. Arrays that need no clipping are the caller's own. Raises `BadInput` for a
    clip that is no positive number or tensors that are not floating, `FaultError` E_NONFINITE.
    """
    _check_clip(clip)
    _check_floating(update)
    before = norm = l2_norm(update.values())
    clipped, factor = dict(update), 1.0
    while norm > clip:
        factor *= min(clip / norm, 1 - 2.0**-52)
        clipped = {name: _times(array, factor) for name, array in update.items()}
        norm = l2_norm(clipped.values())
    return clipped, before


def _times(array: npt.NDArray[Any], factor: float) -> npt.NDArray[Any]:
    return (array.astype(np.float64) * factor).astype(array.dtype)


def clip_layers(update: Tensors, clips: Mapping[str, float]) -> tuple[dict[str, npt.NDArray[Any]], dict[str, float]]:
    """Each tensor clipped to its own norm, and their norms before. The whole then has norm sqrt(sum of squares)."""
    if odd := sorted(update.keys() ^ clips.keys()):
        raise BadInput("each tensor needs its own clipping norm", code="dp.clip", value=", ".join(odd[:5]))
    pairs = {name: clip_flat({name: array}, clips[name]) for name, array in update.items()}
    return {name: pair[0][name] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}


def layer_norms(sizes: Mapping[str, int], clip: float) -> dict[str, float]:
    """Clipping norms of tensors whose squares add up to clip^2, each by the root of the tensor's share of elements."""
    _check_clip(clip)
    whole = sum(sizes.values())
    return {name: clip * math.sqrt(size / whole) for name, size in sizes.items()}


def _check_clip(clip: float) -> None:
    if not (math.isfinite(clip) and clip > 0):
        raise BadInput("a clipping norm is a positive number", code="dp.clip", value=clip)


def _check_floating(update: Tensors) -> None:
    if odd := sorted(name for name, array in update.items() if not np.issubdtype(array.dtype, np.floating)):
        raise BadInput("only floating tensors can be clipped", code="dp.clip", value=", ".join(odd[:5]))

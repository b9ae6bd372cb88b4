"""Single things in a mask: its connected parts, and which predicted one is which true one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["matched", "parts_of"]

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]


def parts_of(mask: Flags) -> npt.NDArray[np.int32]:
    """int32 [h, w]: the connected parts of a mask numbered from 1 in the order of their first pixels, 0 is none.

    Pixels that touch by an edge or a corner are connected. Each pixel points to the first of its part: pointers are
    joined over neighbours and shortened until nothing changes (Shiloach and Vishkin 1982).
    """
    places = np.arange(mask.size).reshape(mask.shape)
    pairs = [_beside(places, mask, down, right) for down, right in ((0, 1), (1, 0), (1, 1), (1, -1))]
    one, other = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    first = np.arange(mask.size)
    while True:
        a, b = first[one], first[other]
        apart = a != b
        if not apart.any():
            break
        one, other, a, b = one[apart], other[apart], a[apart], b[apart]
        np.minimum.at(first, np.maximum(a, b), np.minimum(a, b))
        while (shorter := first[first]).tobytes() != first.tobytes():
            first = shorter
    found = np.zeros(mask.size, np.int32)
    inside = mask.ravel()
    found[inside] = np.unique(first[inside], return_inverse=True)[1] + 1
    return found.reshape(mask.shape)


def matched(predicted: npt.NDArray[Any], true: npt.NDArray[Any]) -> tuple[Places, npt.NDArray[np.float64]]:
    """For each true thing 1..m the predicted one that covers it best, 0 where none does, and their IoU [m].

    Of those with an IoU above 1/2 no two share one: Kirillov et al. 2019, "Panoptic segmentation".
    """
    things, others = int(true.max(initial=0)), int(predicted.max(initial=0))
    shape = (things + 1, others + 1)
    both = np.bincount(true.ravel().astype(np.int64) * shape[1] + predicted.ravel(), minlength=shape[0] * shape[1])
    both = both.reshape(shape)
    union = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    ious = both[1:, 1:] / np.maximum(1, union[1:, 1:])
    if not others or not things:
        return np.zeros(things, np.int64), np.zeros(things)
    best = ious.argmax(axis=1)
    covered = ious[np.arange(things), best]
    return np.where(covered > 0, best + 1, 0), covered


def _beside(places: Places, mask: Flags, down: int, right: int) -> tuple[Places, Places]:
    """Pairs of pixels of the mask, one so many rows and columns from the other."""
    height, width = mask.shape
    from_ = (slice(0, height - down), slice(max(0, -right), width - max(0, right)))
    to = (slice(down, height), slice(max(0, right), width + min(0, right)))
    both = mask[from_] & mask[to]
    return places[from_][both], places[to][both]

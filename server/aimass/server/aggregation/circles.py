"""Several secure sums as the one that a driver reads: added, or by a rule that a few that lie cannot move far.

The server sees each circle's sum and no partner's part of it, so a rule works on the circles' means. With 2 m + 1
circles the partners that lie, m at most, are in m of them at most, wherever they are dealt: the median and the trimmed
mean then lie between means of honest circles, coordinate by coordinate (Yin et al. 2018, "Byzantine-Robust Distributed
Learning", definitions 1 and 2), and a clipped mean is moved by m parts of 2 m + 1 of a median norm at most.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.proto.plan import SecureSettings
from aimass.proto.tensors import Array
from aimass.server.drivers.base import Sums

__all__ = ["CircleSums", "RobustSums"]

_BLOCK: Final = 1 << 16


class CircleSums:
    """The sum over all circles."""

    def __init__(self, circles: Sequence[Sums]) -> None:
        self._circles = circles

    def weight(self, group: str) -> float:
        """Sum of the weights of a group."""
        return math.fsum(circle.weight(group) for circle in self._circles)

    def tensors(self, group: str) -> Collection[str]:
        """Names of a group's tensors."""
        return self._circles[0].tensors(group)

    def total(self, group: str, tensor: str) -> Array:
        """float64: the sum of a tensor."""
        return _added([circle.total(group, tensor) for circle in self._circles])

    def part(self, group: str, tensor: str, part: slice) -> Array:
        """float64 [part]: the same of some elements of the flattened tensor."""
        return _added([circle.part(group, tensor, part) for circle in self._circles])


def _added(parts: Sequence[Array]) -> Array:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


class RobustSums:
    """Circles' means by the plan's rule, times the sum of all weights: what a driver divides by it is the rule's value.

    Memory grows with circles and a block, never with the model.
    """

    def __init__(self, circles: Sequence[Sums], secure: SecureSettings) -> None:
        self._circles, self._rule = circles, secure.rule
        # A circle without a sum that can be used had a partner that lies: fewer of those are in the others.
        self._trim = min(secure.tolerated, (len(circles) - 1) // 2)
        self._plain = CircleSums(circles)
        self._clips: dict[str, npt.NDArray[np.float64]] = {}

    def weight(self, group: str) -> float:
        """Sum of the weights of a group: a circle that lies about its weight cannot move a mean by it."""
        return self._plain.weight(group)

    def tensors(self, group: str) -> Collection[str]:
        """Names of a group's tensors."""
        return self._plain.tensors(group)

    def total(self, group: str, tensor: str) -> Array:
        """float64: as `part`, of the whole tensor."""
        shape = self._circles[0].total(group, tensor).shape
        return self.part(group, tensor, slice(None)).reshape(shape)

    def part(self, group: str, tensor: str, part: slice) -> Array:
        """float64 [part]: the rule's value of the circles' means, times the weight."""
        means = self._means(group, tensor, part)
        match self._rule:
            case "median":
                value = np.median(means, axis=0)
            case "trimmed":
                kept = np.sort(means, axis=0)[self._trim : len(means) - self._trim]
                value = kept.mean(axis=0)
            case _:
                value = (means * self._factors(group)[:, None]).mean(axis=0)
        return np.asarray(value * self.weight(group))

    def _means(self, group: str, tensor: str, part: slice) -> npt.NDArray[np.float64]:
        return np.stack([circle.part(group, tensor, part) / circle.weight(group) for circle in self._circles])

    def _factors(self, group: str) -> npt.NDArray[np.float64]:
        """For each circle what clips its mean to the median of the circles' norms (L2 over all tensors of a group)."""
        if group not in self._clips:
            squares = np.zeros(len(self._circles))
            for tensor in self.tensors(group):
                start = 0
                while (means := self._means(group, tensor, slice(start, start + _BLOCK))).size:
                    squares += np.einsum("ij,ij->i", means, means)
                    start += _BLOCK
            norms = np.sqrt(squares)
            self._clips[group] = np.minimum(1.0, np.median(norms) / np.maximum(norms, np.finfo(np.float64).tiny))
        return self._clips[group]

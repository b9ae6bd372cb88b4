"""Several secure sums as the one that a driver reads: added, or by a rule that a few that lie cannot move far.

The server sees each circle's sum and no partner's part of it, so a rule works on the circles' means. The partners that
lie, m at most, are in m circles at most, wherever they are dealt: what a rule promises of n updates of which m are lies
holds of n circles.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np

from aimass.proto.plan import SecureSettings
from aimass.proto.robust import withstands
from aimass.proto.tensors import Array
from aimass.server.aggregation.robust import RobustSums
from aimass.server.drivers.base import Sums

__all__ = ["Circle", "CircleSums", "robust_circles"]


class Circle(Sums, Protocol):
    """The sum of one circle."""

    def forms(self, group: str) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Element type and shape of what was summed, by tensor."""
        ...


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


class _CircleMeans:
    """What a rule looks at: a circle counts once, so that one that lies about its weight cannot move a mean by it."""

    def __init__(self, circles: Sequence[Circle]) -> None:
        self._circles = circles

    def __len__(self) -> int:
        return len(self._circles)

    def forms(self, group: str) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """As all have them."""
        return self._circles[0].forms(group)

    def rows(self, group: str, tensor: str, part: slice, among: Sequence[int]) -> Array:
        """See `robust.Senders`."""
        chosen = [self._circles[place] for place in among]
        return np.stack([circle.part(group, tensor, part) / circle.weight(group) for circle in chosen])


def robust_circles(circles: Sequence[Circle], secure: SecureSettings) -> RobustSums:
    """The plan's rule over the circles' means.

    A circle without a sum that can be used had a partner that lies, so fewer of those are in the others, and no more
    are guarded against than these circles allow.
    """
    tolerated = min(secure.tolerated, withstands(secure.rule, len(circles)))
    return RobustSums(_CircleMeans(circles), secure.rule, tolerated)

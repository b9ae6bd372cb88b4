"""Weighted sums over stored contributions, in blocks: memory grows neither with partners nor with the model.

A sum is defined in the order of the participants' keys over float64, so it does not depend on who was faster, and is
computed from memory-mapped files, of which no page stays in memory once its elements were added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aimass.proto.contribution import Contribution, Metric
from aimass.proto.elements import as_float64
from aimass.proto.pages import forget_behind
from aimass.proto.tensors import Array

__all__ = ["SpooledSums", "sum_metrics"]

_MAPPED: Final = 64 << 20
"""Bytes of all contributions together that stay in memory while they are summed."""


class SpooledSums:
    """Sums of contributions that are given in the order of their participants' keys."""

    def __init__(self, contributions: Sequence[Contribution]) -> None:
        self._contributions = contributions
        self._window = _MAPPED // max(1, len(contributions))

    def weight(self, group: str) -> float:
        """Sum of weights in order."""
        total = 0.0
        for contribution in self._contributions:
            total += contribution.groups[group].weight
        return total

    def tensors(self, group: str) -> tuple[str, ...]:
        """Names of a group's tensors."""
        return tuple(self._contributions[0].groups[group].tensors)

    def total(self, group: str, tensor: str) -> Array:
        """float64, of the tensor's shape: the sum of weight times tensor in order."""
        return self.part(group, tensor, slice(None)).reshape(self._contributions[0].groups[group].tensors[tensor].shape)

    def part(self, group: str, tensor: str, part: slice) -> Array:
        """float64 [part]: the sum over some elements of the flattened tensor; equal to that part of `total`."""
        total: Array | None = None
        for contribution in self._contributions:
            held = contribution.groups[group]
            stored = held.tensors[tensor].reshape(-1)
            elements = as_float64(stored[part])
            forget_behind(stored, part, self._window)
            elements *= held.weight
            if total is None:
                total = elements
            else:
                total += elements
        if total is None:
            raise ValueError("a sum needs a contribution")
        return total


def sum_metrics(contributions: Sequence[Contribution]) -> dict[str, Metric]:
    """Totals and weights of every metric, in order; a partner without a metric adds nothing to it."""
    sums: dict[str, Metric] = {}
    for contribution in contributions:
        for name, metric in contribution.metrics.items():
            held = sums.get(name, Metric(0.0, 0.0))
            sums[name] = Metric(held.total + metric.total, held.weight + metric.weight)
    return dict(sorted(sums.items()))

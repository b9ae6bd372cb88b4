"""A sum over the elements that a mask kept, as the sum of whole updates: for secure sums, of which no single one can be
undone."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from aimass.proto.compression import Codec
from aimass.proto.contribution import sliced
from aimass.proto.methods import UPDATE
from aimass.proto.tensors import Array
from aimass.server.drivers.base import Sums

__all__ = ["SpreadSums"]


class SpreadSums:
    """`sums` of what `codec` kept, the same elements at all who sent; zero stands where nothing was sent."""

    def __init__(self, sums: Sums, codec: Codec) -> None:
        self._sums, self._codec = sums, codec

    def weight(self, group: str) -> float:
        """Sum of the weights of a group."""
        return self._sums.weight(group)

    def tensors(self, group: str) -> Collection[str]:
        """Names of a group's tensors."""
        return self._sums.tensors(group)

    def total(self, group: str, tensor: str) -> Array:
        """float64: the weighted sum of a tensor."""
        if group != UPDATE:
            return self._sums.total(group, tensor)
        return self.part(group, tensor, slice(None)).reshape(self._codec.shapes[tensor][1])

    def part(self, group: str, tensor: str, part: slice) -> Array:
        """float64 [part]: the same of some elements of the flattened tensor."""
        kept = self._codec.kept(tensor) if group == UPDATE else None
        if kept is None:
            return self._sums.part(group, tensor, part)
        whole = slice(*part.indices(kept.count)[:2])
        span, made = kept.span(whole), np.empty(whole.stop - whole.start)
        kept.spread(self._sums.part(group, tensor, span), span, sliced, whole, made)
        return made

"""Weighted sums over stored contributions, in blocks: memory grows neither with partners nor with the model.

A sum is defined in the order of the participants' keys over float64, so it does not depend on who was faster, and is
computed from files that are read block by block, of which nothing stays in memory once its elements were added.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from aimass.proto.compression import Codec
from aimass.proto.contribution import Contribution, Metric
from aimass.proto.pages import PartReader
from aimass.proto.sent import Elements, sent_with
from aimass.proto.tensors import Array

__all__ = ["SpooledSums", "added_metrics"]

_MAPPED: Final = 64 << 20
"""Bytes of all contributions together that stay in memory where their maps keep no files."""
_STRETCH: Final = 1 << 16
"""Elements of all contributions that are added before the next: with what is read of them they stay in the cache, and
of half as many two threads wait for each other."""


class SpooledSums:
    """Sums of contributions that are given in the order of their participants' keys, each with its codec."""

    def __init__(self, contributions: Sequence[Contribution], codecs: Sequence[Codec | None] = ()) -> None:
        """Without `codecs` all are as they are."""
        self._sent = sent_with(contributions, codecs)
        self._window = _MAPPED // max(1, len(contributions))
        self._threads = threading.local()

    def weight(self, group: str) -> float:
        """Sum of weights in order."""
        total = 0.0
        for sent in self._sent:
            total += sent.weight(group)
        return total

    def tensors(self, group: str) -> tuple[str, ...]:
        """Names of a group's tensors."""
        return tuple(self._sent[0].forms(group))

    def total(self, group: str, tensor: str) -> Array:
        """float64, of the tensor's shape: the sum of weight times tensor in order."""
        return self.part(group, tensor, slice(None)).reshape(self._sent[0].forms(group)[tensor][1])

    def part(self, group: str, tensor: str, part: slice) -> Array:
        """float64 [part]: the sum over some elements of the flattened tensor; equal to that part of `total`."""
        if not self._sent:
            raise ValueError("a sum needs a contribution")
        terms = [(sent.elements(group, tensor), sent.weight(group)) for sent in self._sent]
        start, stop, _ = part.indices(math.prod(self._sent[0].forms(group)[tensor][1]))
        total = np.empty(stop - start)
        for first in range(start, stop, _STRETCH):
            stretch = slice(first, min(first + _STRETCH, stop))
            self._add(terms, stretch, total[first - start : stretch.stop - start])
        return total

    def _add(self, terms: Sequence[tuple[Elements, float]], stretch: slice, into: Array) -> None:
        if not hasattr(self._threads, "read"):
            self._threads.read, self._threads.weighted = PartReader(self._window), np.empty(_STRETCH)
        read, weighted = self._threads.read, self._threads.weighted[: len(into)]
        (first, weight), *others = terms
        first(read, stretch, into)
        into *= weight
        for elements, weight in others:
            elements(read, stretch, weighted)
            weighted *= weight
            into += weighted


def added_metrics(measured: Iterable[Mapping[str, Metric]]) -> dict[str, Metric]:
    """Totals and weights of every metric, in order; who measured without a metric adds nothing to it."""
    sums: dict[str, Metric] = {}
    for metrics in measured:
        for name, metric in metrics.items():
            held = sums.get(name, Metric(0.0, 0.0))
            sums[name] = Metric(held.total + metric.total, held.weight + metric.weight)
    return dict(sorted(sums.items()))

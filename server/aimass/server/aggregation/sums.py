"""Weighted sums over stored contributions, one tensor in memory at a time.

A sum is defined in the order of the participants' keys over float64, so it does not depend on who was faster, and is
computed from memory-mapped files: memory grows with the largest tensor, not with partners or models.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from aimass.proto.contribution import Contribution, Metric
from aimass.proto.storage import Blobs
from aimass.proto.tensors import Array, Blob, numpy_dtype

__all__ = ["ModelStore", "SpooledSums", "sum_metrics", "summarise"]

_SKETCH: Final = 64
_SKETCH_SEED: Final = 0x41494D61


class SpooledSums:
    """Sums of contributions that are given in the order of their participants' keys."""

    def __init__(self, contributions: Sequence[Contribution]) -> None:
        self._contributions = contributions

    def weight(self, group: str) -> float:
        """Sum of weights in order."""
        total = 0.0
        for contribution in self._contributions:
            total += contribution.groups[group].weight
        return total

    def total(self, group: str, tensor: str) -> Array:
        """float64, of the tensor's shape: the sum of weight times tensor in order."""
        first = self._contributions[0].groups[group].tensors[tensor]
        total = np.zeros(first.shape, dtype=np.float64)
        for contribution in self._contributions:
            part = contribution.groups[group]
            total += np.multiply(part.tensors[tensor], part.weight, dtype=np.float64)
        return total

    @property
    def tensors(self) -> tuple[tuple[str, str], ...]:
        """Group and name of every tensor."""
        groups = self._contributions[0].groups if self._contributions else {}
        return tuple((group, name) for group, members in groups.items() for name in members.tensors)


def sum_metrics(contributions: Sequence[Contribution]) -> dict[str, Metric]:
    """Totals and weights of every metric, in order; a partner without a metric adds nothing to it."""
    sums: dict[str, Metric] = {}
    for contribution in contributions:
        for name, metric in contribution.metrics.items():
            held = sums.get(name, Metric(0.0, 0.0))
            sums[name] = Metric(held.total + metric.total, held.weight + metric.weight)
    return dict(sorted(sums.items()))


class ModelStore:
    """Models in a blob store, edited tensor by tensor."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def tensor(self, digest: str, name: str) -> Array:
        """One tensor, read-only."""
        return Blob(self._blobs.open(digest)).numpy(name)

    def edit(self, digest: str, change: Callable[[str, Array], Array]) -> str:
        """Write the changed model as it is computed; returns its digest."""
        model = Blob(self._blobs.open(digest))
        return self._blobs.put(self._chunks(model, change))

    @staticmethod
    def _chunks(model: Blob, change: Callable[[str, Array], Array]) -> Iterator[bytes | memoryview]:
        yield model.layout.header
        for spec in model.layout.tensors:
            changed = np.ascontiguousarray(change(spec.name, model.numpy(spec.name)), dtype=numpy_dtype(spec.dtype))
            yield changed.reshape(-1).view(np.uint8).data


def summarise(sums: SpooledSums) -> dict[str, float]:
    """A small view of a step's mean update for later sight: norm by tensor, overall norm, and a seeded sketch.

    The sketch is 64 signed bucket sums (a count sketch, Charikar et al. 2002) of the mean update: inner products of
    two steps' sketches estimate those of their updates, so drift and similarity need no stored models.
    """
    summary: dict[str, float] = {}
    sketch = np.zeros(_SKETCH)
    square = 0.0
    for group, name in sums.tensors:
        mean = (sums.total(group, name) / sums.weight(group)).reshape(-1)
        norm = float(np.linalg.norm(mean))
        summary[f"norm/{name}"] = norm
        square += norm * norm
        _add_to_sketch(sketch, name, mean)
    summary["norm"] = math.sqrt(square)
    return summary | {f"sketch/{bucket:02d}": float(value) for bucket, value in enumerate(sketch)}


def _add_to_sketch(sketch: Array, name: str, values: Array) -> None:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") ^ _SKETCH_SEED
    generator = np.random.Generator(np.random.PCG64(seed))
    for start in range(0, len(values), 1 << 16):
        block = values[start : start + (1 << 16)]
        buckets = generator.integers(0, _SKETCH, len(block))
        signs = generator.integers(0, 2, len(block)) * 2 - 1
        sketch += np.bincount(buckets, weights=block * signs, minlength=_SKETCH)

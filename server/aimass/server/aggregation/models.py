"""Models in a blob store, edited block by block: neither the old one nor the new one is ever all in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

import numpy as np

from aimass.proto.elements import from_float64
from aimass.proto.storage import Blobs
from aimass.proto.tensors import Array, Blob, TensorSpec
from aimass.server.aggregation.summary import Summariser

__all__ = ["BLOCK", "ModelStore"]

BLOCK: Final = 1 << 16
"""Elements that are worked on at once: few enough to stay in a core's cache."""


class ModelStore:
    """What drivers make models with; `summariser`, where there is one, sees every block that changes."""

    def __init__(self, blobs: Blobs, summariser: Summariser | None = None) -> None:
        self._blobs, self._summariser = blobs, summariser

    def tensor(self, digest: str, name: str) -> Array:
        """One tensor, read-only."""
        return Blob(self._blobs.open(digest)).numpy(name)

    def edit(self, digest: str, names: Collection[str], change: Callable[[str, slice, Array], Array]) -> str:
        """Store the model with the tensors `names` changed, and return its digest.

        `change(name, part, old)` gives float64 [part] for the stored elements `old` of the flattened tensor; it is
        called once for each part, in order, and rounded to the tensor's element type.
        """
        return self._blobs.put(self._chunks(Blob(self._blobs.open(digest)), frozenset(names), change))

    def _chunks(
        self, model: Blob, names: frozenset[str], change: Callable[[str, slice, Array], Array]
    ) -> Iterator[bytes | memoryview]:
        yield model.layout.header
        for spec in model.layout.tensors:
            if spec.name in names:
                yield from self._changed(model, spec, change)
            else:
                yield model.raw(spec.name)

    def _changed(
        self, model: Blob, spec: TensorSpec, change: Callable[[str, slice, Array], Array]
    ) -> Iterator[memoryview]:
        held = model.numpy(spec.name).reshape(-1)
        for start in range(0, spec.count, BLOCK):
            part = slice(start, min(start + BLOCK, spec.count))
            new = from_float64(change(spec.name, part, held[part]), spec.dtype)
            if self._summariser is not None:
                self._summariser.add(spec, part, held[part], new)
            yield new.view(np.uint8).data

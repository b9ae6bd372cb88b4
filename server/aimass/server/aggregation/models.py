"""Models in a blob store, made and edited block by block: neither the old one nor the new one is ever all in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

import numpy as np

from aimass.proto.elements import from_float64
from aimass.proto.pages import forget_behind
from aimass.proto.storage import Blobs
from aimass.proto.tensors import Array, Blob, Layout, TensorSpec
from aimass.server.aggregation.summary import BLOCK, Summariser

__all__ = ["BLOCK", "ModelStore", "ahead"]

T = TypeVar("T")
_THREADS: Final = 2
_AHEAD: Final = 8


class ModelStore:
    """What drivers make models with; `summariser`, where there is one, sees every block of a model that changes.

    `block` elements, an even number, are worked on at once: it decides no bit of what is made.
    """

    def __init__(self, blobs: Blobs, summariser: Summariser | None = None, block: int = BLOCK) -> None:
        self._blobs, self._summariser, self._block = blobs, summariser, block

    def tensor(self, digest: str, name: str) -> Array:
        """One tensor, read-only."""
        return Blob(self._blobs.open(digest)).numpy(name)

    def tensors(self, digest: str) -> Mapping[str, Array]:
        """All tensors by name, read-only; nothing is read before its elements are."""
        return Blob(self._blobs.open(digest)).arrays()

    def make(self, tensors: Mapping[str, tuple[str, tuple[int, ...]]], change: Callable[[str, slice], Array]) -> str:
        """Store a blob of these tensors, by name their element type and shape, and return its digest.

        `change(name, part)` gives float64 [part] of the flattened tensor; it is called as that of `edit`.
        """
        layout = Layout.of(TensorSpec(name, dtype, shape) for name, (dtype, shape) in tensors.items())
        return self._blobs.put(self._made(layout, change))

    def blob(self, digest: str) -> Blob:
        """A blob as it is."""
        return Blob(self._blobs.open(digest))

    def put(self, blob: bytes) -> str:
        """Store a small blob as it is, and return its digest."""
        return self._blobs.put([blob])

    def _made(self, layout: Layout, change: Callable[[str, slice], Array]) -> Iterator[bytes | memoryview]:
        yield layout.header
        for spec in layout.tensors:

            def made(start: int, spec: TensorSpec = spec) -> Array:
                part = slice(start, min(start + self._block, spec.count))
                return from_float64(change(spec.name, part), spec.dtype)

            for new in ahead(made, range(0, spec.count, self._block)):
                yield new.view(np.uint8).data

    def edit(self, digest: str, names: Collection[str], change: Callable[[str, slice, Array], Array]) -> str:
        """Store the model with the tensors `names` changed, and return its digest.

        `change(name, part, old)` gives float64 [part] for the stored elements `old` of the flattened tensor, or int64,
        and is rounded to the tensor's element type. It is called once for each part, from more than one thread.
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

        def made(start: int) -> tuple[slice, Array]:
            part = slice(start, min(start + self._block, spec.count))
            return part, from_float64(change(spec.name, part, held[part]), spec.dtype)

        for part, new in ahead(made, range(0, spec.count, self._block)):
            if self._summariser is not None:
                self._summariser.add(spec, part, held[part], new)
            forget_behind(held, part)
            yield new.view(np.uint8).data


def ahead(function: Callable[[int], T], arguments: Iterable[int]) -> Iterator[T]:
    """`map` in order, computed by other threads a few blocks ahead of who takes the results."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="aimass-blocks") as pool:
        waiting: deque[Future[T]] = deque()
        for argument in arguments:
            waiting.append(pool.submit(function, argument))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

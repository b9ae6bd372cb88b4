"""The form of a compressed update on the wire, for the partner that writes it and for all who check or read it.

Of a floating tensor of n elements the group `update` holds those that were kept, in order, flat. Which ones follows
from the plan for a mask; of top-k the group `index` says it. Where they are int8, the group `scale` has a step for each
256 of them. Integers, counters of batches, stay as they are. Any elements can be read without those before them.

    random-mask  of run j, elements j m to j m + m - 1, the one at place r_j mod m: r_j is output j of PCG64, seeded for
                 plan, round and tensor (the bias of the remainder is below 2^-56)
    top-k        of each 256 elements the ceil(256 / m) largest, and of a last block of fewer its m-th part, rounded up;
                 one byte of `index` for each, its place in the block, ascending
    int8         q in -127 to 127 stands for q times the step
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Final, Literal

import msgspec
import numpy as np

from aimass.proto.elements import FLOATS, as_float64
from aimass.proto.errors import BadInput
from aimass.proto.rng import stream_seed
from aimass.proto.tensors import Array
from aimass.proto.values import Value

__all__ = [
    "BLOCK",
    "INDEX",
    "LEVELS",
    "SCALE",
    "Codec",
    "Compress",
    "Kept",
    "Packed",
    "Read",
    "kept_count",
    "mask_key",
    "mask_places",
    "run_lengths",
    "sent_groups",
]

INDEX: Final = "index"
SCALE: Final = "scale"
"""Groups beside the update's, with its weight and its tensors' names."""

BLOCK: Final = 256
"""Elements among which top-k chooses, so that a place is one byte; and that share a scale."""
LEVELS: Final = 127
"""Steps of int8 to either side of zero."""
_STRETCH: Final = 1 << 16
_MASK: Final = b"AIMass update mask v1\0"

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
Read = Callable[[Array, slice], Array]
"""Gives a part of a flat array, which is used before the next is asked for."""


class Compress(Value, frozen=True):
    """How an update is made smaller on its way up: some of its elements, in fewer bits.

    "random-mask" sends one element of each run of `one_in`, at a place that the plan's seed draws for the round, the
    same for all partners (Konecny et al. 2016, section 2). "top-k" sends of each 256 elements the 256 / `one_in` that
    are largest, and their places (Stich et al. 2018). "int8" rounds without bias to 127 steps to either side of zero,
    a scale for each 256 elements sent (QSGD, Alistarh et al. 2017).

    With `error_feedback` a partner keeps what was not sent and adds it to its next update (Karimireddy et al. 2019,
    algorithm 2). Without it what is sent is the update in expectation: a mask's elements are multiplied by `one_in`.
    """

    sparsify: Literal["none", "random-mask", "top-k"] = "none"
    one_in: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    quantise: Literal["none", "int8"] = "none"
    error_feedback: bool = True

    def __post_init__(self) -> None:
        if (self.sparsify == "none") != (self.one_in == 1):
            raise ValueError("`one_in` of 2 to 256 goes with a `sparsify`, and the other way round")
        if self.sparsify == "none" and self.quantise == "none":
            raise ValueError("it compresses nothing: give `sparsify` with `one_in`, or `quantise`")
        if self.sparsify == "top-k" and not self.error_feedback:
            raise ValueError(
                "`top-k` needs `error_feedback`: without it, what is small in every round would never be sent"
            )


def mask_key(plan_seed: int, round_: int) -> bytes:
    """What a round's mask is drawn from: it is public, and of no participant."""
    return stream_seed(plan_seed, "", "compress:mask", round_)


def kept_count(compress: Compress, count: int) -> int:
    """How many of a tensor's `count` elements are sent."""
    if compress.sparsify == "top-k":
        blocks, rest = divmod(count, BLOCK)
        return blocks * _chosen(compress) + -(-rest // compress.one_in)
    return -(-count // compress.one_in)


def _chosen(compress: Compress) -> int:
    """How many top-k keeps of a whole block."""
    return -(-BLOCK // compress.one_in)


def sent_groups(compress: Compress, group: str, shapes: Shapes) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
    """Groups, tensors, element types and shapes that an update `group` of these `shapes` becomes."""
    kept = {
        name: (dtype, kept_count(compress, math.prod(shape)))
        for name, (dtype, shape) in shapes.items()
        if dtype in FLOATS
    }
    small = compress.quantise == "int8"
    values = {name: ("I8" if small else dtype, (count,)) for name, (dtype, count) in kept.items()}
    groups: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {group: {**shapes, **values}}
    if compress.sparsify == "top-k" and kept:
        groups[INDEX] = {name: ("U8", (count,)) for name, (_, count) in kept.items()}
    if small and kept:
        groups[SCALE] = {name: ("F32", (-(-count // BLOCK),)) for name, (_, count) in kept.items()}
    return groups


def run_lengths(one_in: int, count: int, runs: slice) -> Array:
    """int64: elements of the runs `runs` of a mask over `count` elements; the last may be shorter."""
    lengths: Array = np.minimum(one_in, count - np.arange(runs.start, runs.stop, dtype=np.int64) * one_in)
    return lengths


def mask_places(key: bytes, name: str, one_in: int, count: int, runs: slice) -> Array:
    """int64: where in the flattened tensor `name` of `count` elements the ones stand that a mask keeps of `runs`."""
    digest = hashlib.sha256(_MASK + key + name.encode()).digest()
    stream = np.random.PCG64(int.from_bytes(digest[:16], "big"))
    stream.advance(runs.start)
    drawn = stream.random_raw(runs.stop - runs.start)
    places: Array = np.arange(runs.start, runs.stop, dtype=np.int64) * one_in
    places += (drawn % run_lengths(one_in, count, runs).astype(np.uint64)).astype(np.int64)
    return places


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """Which of the `count` elements of the flattened tensor `name` are sent; `index` is what top-k says of them."""

    compress: Compress
    key: bytes
    name: str
    count: int
    index: Array | None = None

    def span(self, part: slice) -> slice:
        """Those kept elements that may lie in `part` of the tensor, and some beside them, as `places` takes them."""
        match self.compress.sparsify:
            case "random-mask":
                return slice(part.start // self.compress.one_in, -(-part.stop // self.compress.one_in))
            case "top-k":
                each, all_ = _chosen(self.compress), kept_count(self.compress, self.count)
                return slice(part.start // BLOCK * each, min(-(-part.stop // BLOCK) * each, all_))
            case _:
                return part

    def places(self, span: slice, read: Read) -> Array:
        """int64: where the kept elements `span` stand in the tensor; of top-k it begins with a block."""
        if self.compress.sparsify == "random-mask":
            return mask_places(self.key, self.name, self.compress.one_in, self.count, span)
        kept = np.arange(span.start, span.stop, dtype=np.int64)
        if self.index is None:
            return kept
        return kept // _chosen(self.compress) * BLOCK + read(self.index, span)

    def spread(self, numbers: Array, span: slice, read: Read, part: slice, into: Array) -> None:
        """Put the kept elements `span`, which are `numbers`, where they stand in `part`: zero where none does."""
        places = self.places(span, read)
        inside = (places >= part.start) & (places < part.stop)
        into[:] = 0.0
        into[places[inside] - part.start] = numbers[inside]

    def check(self, read: Read) -> None:
        """Raise `BadInput` for places that repeat, do not ascend, or lie outside the tensor."""
        each = _chosen(self.compress)
        for span in () if self.index is None else _spans(len(self.index), _STRETCH // each * each):
            places = self.places(span, read)
            if (np.diff(places) <= 0).any():
                raise _bad("places of elements repeat or do not ascend", "index_order", self.name)
            if places[-1] >= self.count:
                raise _bad("a place lies outside its tensor", "index_range", self.name, self.count)


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """A floating tensor as it was sent: the elements that were kept, and the steps of those that are int8."""

    kept: Kept
    values: Array
    scale: Array | None = None

    def numbers(self, span: slice, read: Read) -> Array:
        """float64: the kept elements `span`."""
        numbers = as_float64(read(self.values, span))
        if self.scale is not None:
            first = span.start // BLOCK
            steps = np.repeat(as_float64(read(self.scale, slice(first, -(-span.stop // BLOCK)))), BLOCK)
            numbers *= steps[span.start - first * BLOCK :][: len(numbers)]
        return numbers

    def __call__(self, read: Read, part: slice, into: Array) -> None:
        """Put the elements `part` of the flattened tensor into float64 `into`."""
        span = self.kept.span(part)
        self.kept.spread(self.numbers(span, read), span, read, part, into)

    def square(self, read: Read) -> float:
        """The sum of squares of all elements; NaN or infinity where one is."""
        return sum(float(np.square(self.numbers(span, read)).sum()) for span in _spans(len(self.values)))

    def check(self, read: Read) -> None:
        """Raise `BadInput` as `Kept.check`, for a step below zero or not finite, and for an int8 that is no level."""
        self.kept.check(read)
        if self.scale is None:
            return
        if any((read(self.values, span) < -LEVELS).any() for span in _spans(len(self.values))):
            raise _bad("an element is more steps than there are", "levels", self.kept.name, LEVELS)
        for span in _spans(len(self.scale)):
            steps = read(self.scale, span)
            if not (np.isfinite(steps) & (steps >= 0)).all():
                raise _bad("a scale is negative, NaN or infinite", "scale", self.kept.name)


@dataclasses.dataclass(frozen=True, slots=True)
class Codec:
    """How the updates of one step are compressed: `shapes` are those that they had, `key` the round's (`mask_key`)."""

    compress: Compress
    key: bytes
    shapes: Shapes

    def kept(self, tensor: str, index: Array | None = None) -> Kept | None:
        """Which elements of a tensor are sent; None for integers, which go as they are."""
        dtype, shape = self.shapes[tensor]
        return Kept(self.compress, self.key, tensor, math.prod(shape), index) if dtype in FLOATS else None

    def packed(self, group: str, groups: Mapping[str, Mapping[str, Array]], tensor: str) -> Packed | None:
        """A tensor of the update `group` as it was sent; None for integers."""
        index, scale = (groups[beside].get(tensor) if beside in groups else None for beside in (INDEX, SCALE))
        kept = self.kept(tensor, index)
        return Packed(kept, groups[group][tensor], scale) if kept else None


def _spans(count: int, stretch: int = _STRETCH) -> Iterator[slice]:
    return (slice(start, min(start + stretch, count)) for start in range(0, count, stretch))


def _bad(what: str, code: str, value: object, limit: object = None) -> BadInput:
    return BadInput(f"a contribution was refused: {what}", code=f"contribution.{code}", value=value, limit=limit)

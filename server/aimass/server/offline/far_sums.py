"""Sums of contributions that stay in the run's store: executors add up ranges of them, and the driver takes totals.

A driver that fetched them all would read as many models as there are shards. What is added here is what `SpooledSums`
adds: weight times element in float64, in the order of the participants' keys, so it is the same to the last bit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from aimass.proto.contribution import Metric, decode_contribution
from aimass.proto.elements import as_float64
from aimass.proto.errors import Conflict, IntegrityError
from aimass.proto.objects import ObjectStore
from aimass.proto.plan import Plan
from aimass.proto.step import Reduce, Step, StepKind
from aimass.proto.tensors import Array, Blob, numpy_dtype
from aimass.proto.values import Value

__all__ = ["Apart", "Piece", "SummedPieces", "apart", "pieces_of", "sum_of", "summable"]

_PIECE_ELEMENTS: Final = 1 << 20


class Form(Value, frozen=True):
    """A tensor in a contribution's object: element type, shape, and the byte at which it begins."""

    dtype: str
    shape: tuple[int, ...]
    start: int


class Apart(Value, frozen=True):
    """A contribution that stays in the store under `key`: all of it but the elements of its tensors.

    Those are read of the `version` that was stored, and of no other.
    """

    key: str
    version: str
    weights: dict[str, float]
    groups: dict[str, dict[str, Form]]
    metrics: dict[str, tuple[float, float]]
    figures: dict[str, float]

    def measured(self) -> dict[str, Metric]:
        """Its metrics."""
        return {name: Metric(*pair) for name, pair in self.metrics.items()}


class Piece(Value, frozen=True):
    """Some elements of a flattened tensor, and where their sum begins among all pieces' elements."""

    group: str
    tensor: str
    first: int
    stop: int
    place: int


def summable(plan: Plan, step: Step) -> bool:
    """Whether a step's result is a plain sum of tensors as they are: nothing masked, compressed or kept apart."""
    plain = plan.secure is None and plan.compress is None
    return plain and step.kind is StepKind.TRAIN and step.reduce is Reduce.SUM


def apart(key: str, version: str, blob: Blob) -> Apart:
    """What a driver has to know of the contribution `blob`, which was stored as this version."""
    contribution, begin = decode_contribution(blob), len(blob.layout.header)
    groups: dict[str, dict[str, Form]] = {}
    for group, held in contribution.groups.items():
        specs = {name: blob.layout.by_name[f"{group}/{name}"] for name in held.tensors}
        groups[group] = {name: Form(spec.dtype, spec.shape, begin + spec.start) for name, spec in specs.items()}
    return Apart(
        key=key,
        version=version,
        weights={name: group.weight for name, group in contribution.groups.items()},
        groups=groups,
        metrics={name: (metric.total, metric.weight) for name, metric in contribution.metrics.items()},
        figures=dict(contribution.figures),
    )


def pieces_of(contribution: Apart, elements: int = _PIECE_ELEMENTS) -> tuple[Piece, ...]:
    """All elements of a contribution, in pieces."""
    made, place = list[Piece](), 0
    for group, forms in contribution.groups.items():
        for tensor, form in forms.items():
            count = math.prod(form.shape)
            for first in range(0, count, elements):
                stop = min(first + elements, count)
                made.append(Piece(group, tensor, first, stop, place))
                place += stop - first
    return tuple(made)


def sum_of(store: ObjectStore, contributions: Sequence[Apart], piece: Piece) -> Array:
    """float64: the weighted sum of a piece over `contributions`, which are in the order of their participants' keys.

    Raises `IntegrityError` where one is not what was stored.
    """
    return _folded((_elements(store, one, piece), one.weights[piece.group]) for one in contributions)


def _folded(terms: Iterable[tuple[Array, float]]) -> Array:
    """The first times its weight, and each other's product added to it: as `SpooledSums` does."""
    total: Array | None = None
    for elements, weight in terms:
        np.multiply(elements, weight, elements)
        total = elements if total is None else np.add(total, elements, total)
    if total is None:
        raise ValueError("a sum needs a contribution")
    return total


def _elements(store: ObjectStore, contribution: Apart, piece: Piece) -> Array:
    form = contribution.groups[piece.group][piece.tensor]
    dtype, count = numpy_dtype(form.dtype), piece.stop - piece.first
    start, size = form.start + piece.first * dtype.itemsize, count * dtype.itemsize
    try:
        data = store.read(contribution.key, start, size, contribution.version)
    except Conflict as error:
        raise _changed(store, contribution) from error
    if len(data) != size:
        raise _changed(store, contribution)
    return as_float64(np.frombuffer(data, dtype))


def _changed(store: ObjectStore, contribution: Apart) -> IntegrityError:
    return IntegrityError(
        "a contribution in the run's store is not what was stored there",
        code="offline.contribution",
        value=f"{contribution.key} at {store.url}",
        cure="Nothing of this step was used: see who writes to the store, then --resume.",
    )


@dataclasses.dataclass(frozen=True)
class SummedPieces:
    """`Sums` whose totals stand in a file of float64, piece after piece."""

    contributions: Sequence[Apart]
    path: Path

    def weight(self, group: str) -> float:
        """Sum of weights in order."""
        total = 0.0
        for one in self.contributions:
            total += one.weights[group]
        return total

    def tensors(self, group: str) -> tuple[str, ...]:
        """Names of a group's tensors."""
        return tuple(self._forms(group))

    def total(self, group: str, tensor: str) -> Array:
        """float64, of the tensor's shape."""
        return self.part(group, tensor, slice(None)).reshape(self._forms(group)[tensor].shape)

    def part(self, group: str, tensor: str, part: slice) -> Array:
        """float64 [part], the caller's own."""
        start, stop, _ = part.indices(math.prod(self._forms(group)[tensor].shape))
        begin = next(place for found, name, place in self._places() if (found, name) == (group, tensor))
        with self.path.open("rb") as file:
            file.seek(8 * (begin + start))
            return np.fromfile(file, np.float64, max(0, stop - start))

    def _forms(self, group: str) -> Mapping[str, Form]:
        return self.contributions[0].groups[group]

    def _places(self) -> Iterator[tuple[str, str, int]]:
        place = 0
        for group, forms in self.contributions[0].groups.items():
            for tensor, form in forms.items():
                yield group, tensor, place
                place += math.prod(form.shape)

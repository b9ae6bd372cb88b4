"""The buffer of asynchronous averaging: its options, and the sum in it, which lies in a blob between contributions.

The sum stays what the partners' own sums make it, plain or secret: a buffer only adds what they come to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Final

import msgspec
import numpy as np

from aimass.proto.elements import as_float64
from aimass.proto.methods import UPDATE
from aimass.proto.pages import forget_behind
from aimass.proto.plan import Stage
from aimass.proto.tensors import Array
from aimass.proto.values import Value, convert
from aimass.server.drivers.base import Models, Sums

__all__ = ["OPTIONS", "Buffer", "Buffered", "buffer_of", "stored"]


class Buffer(Value, frozen=True):
    """`buffer` contributions make a version. One of a model that is tau versions old meanwhile counts
    (1 + tau)^-`staleness_power`, and none if tau is more than `max_staleness`."""

    buffer: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    max_staleness: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 20
    staleness_power: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.5

    def discount(self, staleness: int) -> float:
        """s(tau): with the power 1/2 that of Nguyen et al. 2022, section 5."""
        return float((1.0 + staleness) ** -self.staleness_power)


OPTIONS: Final = Buffer.__struct_fields__
"""The options of a stage that are read here."""


def buffer_of(stage: Stage) -> Buffer:
    """The buffer of a stage. Raises `BadInput` for a value out of range, and where its size is not given."""
    given = {name: value for name, value in stage.options.items() if name in OPTIONS}
    buffer: Buffer = convert(Buffer, given, f"the buffer of the {stage.driver} stage")
    return buffer


class Buffered:
    """The sum in a buffer with one more in it, or, without `sums`, as it is: `held` by name, of so much `weight`."""

    def __init__(self, sums: Sums | None, discount: float, held: Mapping[str, Array], weight: float) -> None:
        self._sums, self._discount, self._held, self._weight = sums, discount, held, weight

    def weight(self, group: str) -> float:
        """Sum of the weights, which no staleness makes less: what is old moves the model less."""
        return self._weight + (self._sums.weight(group) if self._sums is not None else 0.0)

    def tensors(self, group: str) -> Collection[str]:
        """Names of the tensors."""
        return tuple(self._held) if self._sums is None else self._sums.tensors(group)

    def total(self, group: str, tensor: str) -> Array:
        """float64: the sum of a tensor."""
        whole = self._held[tensor].shape if self._sums is None else self._sums.total(group, tensor).shape
        return self.part(group, tensor, slice(None)).reshape(whole)

    def part(self, group: str, tensor: str, part: slice) -> Array:
        """float64 [part]: the same of some elements of the flattened tensor."""
        if self._sums is None:
            return self._of_held(tensor, part)
        by = np.asarray(self._sums.part(group, tensor, part) * self._discount)
        return by + self._of_held(tensor, part) if self._held else by

    def _of_held(self, tensor: str, part: slice) -> Array:
        flat = self._held[tensor].reshape(-1)
        values = as_float64(flat[part]).copy()
        forget_behind(flat, part)
        return values


def stored(sums: Buffered, model: Mapping[str, Array], models: Models) -> str:
    """The blob of the sum in a buffer, in float64; its digest."""
    shapes = {name: ("F64", model[name].shape) for name in sums.tensors(UPDATE)}
    return models.make(shapes, lambda name, part: sums.part(UPDATE, name, part))

"""The rule of an averaging stage on whole models, block by block: what it keeps between rounds, the step it takes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aimass.proto.elements import FLOATS, as_float64, dtype_name, moved
from aimass.proto.methods import UPDATE
from aimass.proto.pages import forget_behind
from aimass.proto.tensors import Array
from aimass.server.drivers.base import Models, Sums
from aimass.server.drivers.optimisers import FedAvg, Rule

__all__ = ["moments_after", "stepped"]


def _mean(sums: Sums) -> Callable[[str, slice], Array]:
    """What gives float64 [part] of the weighted mean of the updates."""
    weight = sums.weight(UPDATE)

    def part_of(name: str, part: slice) -> Array:
        by = sums.part(UPDATE, name, part)  # in place: a block is small enough to stay in the cache
        by /= weight
        return by

    return part_of


def moments_after(rule: Rule, model: str, moments: str, sums: Sums, models: Models) -> str:
    """The blob of the moments after this sum, from that before it ("" in the first round); "" for a rule without any.

    Tensors have the model's names and the shape [elements, moments], so that the sum is read once for all moments of an
    element; they are float32, or float64 where the model is. Integers have none.
    """
    count = len(rule.first)
    if not count:
        return ""
    held = models.tensors(model)
    kinds = {name: dtype_name(held[name]) for name in sums.tensors(UPDATE)}
    shapes = {
        name: ("F64" if kind == "F64" else "F32", (held[name].size, count))
        for name, kind in kinds.items()
        if kind in FLOATS
    }
    before = models.tensors(moments) if moments else None
    mean = _mean(sums)

    def change(name: str, part: slice) -> Array:
        rows = slice(part.start // count, part.stop // count)
        delta = mean(name, rows)
        first = tuple(np.full(len(delta), value) for value in rule.first)
        made = rule.moments(delta, *(first if before is None else _columns(before[name], rows)))
        return np.stack(made, axis=1).reshape(-1)

    return models.make(shapes, change)


def stepped(rule: Rule, model: str, moments: str, sums: Sums, models: Models) -> str:
    """The model after the rule's step. Integers, counters of batches, move by the mean under every rule."""
    kept, mean = models.tensors(moments) if moments else {}, _mean(sums)

    def change(name: str, part: slice, old: Array) -> Array:
        if name in kept:
            return moved(old, rule.step(*_columns(kept[name], part)))
        by = mean(name, part)
        return moved(old, rule.step(by) if isinstance(rule, FedAvg) else by)

    return models.edit(model, sums.tensors(UPDATE), change)


def _columns(held: Array, rows: slice) -> tuple[Array, ...]:
    """float64 [rows] of each moment."""
    values = as_float64(held[rows])
    flat, count = held.reshape(-1), held.shape[1]
    forget_behind(flat, slice(rows.start * count, rows.stop * count))
    return tuple(values.T)

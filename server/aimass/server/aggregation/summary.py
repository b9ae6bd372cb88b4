"""A small view of how a step changed the model, for later sight: looking at a run never needs every round's model.

Norms, drift and similarity are exact to the precision of the elements and cost one pass that the making of the model
takes anyway; quantiles are of a fixed sample. The sketch is a count sketch (Charikar et al. 2002, section 3) of the
change: inner products of two steps' sketches estimate those of their changes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from aimass.proto.elements import as_float64
from aimass.proto.errors import BadInput
from aimass.proto.pages import forget_behind
from aimass.proto.tensors import Array, Blob, TensorSpec
from aimass.proto.views import LayerSummary, StepSummary

__all__ = ["BLOCK", "Summariser", "compared"]

BLOCK: Final = 1 << 16
"""Elements that are worked on at once: few enough to stay in a core's cache."""
SKETCH: Final = 128
_SEED: Final = 0x41494D61
_LAYERS: Final = 128
_SAMPLE: Final = 4_096
_QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclasses.dataclass(slots=True)
class _Layer:
    """Sums of squares and products over the elements seen so far, and a sample of the new values."""

    change: float = 0.0
    drift: float = 0.0
    previous: float = 0.0
    product: float = 0.0
    sample: list[Array] = dataclasses.field(default_factory=list)


class Summariser:
    """Fed with each changed block. `first` is the run's first model, `before` the model before the last change.

    A Flower app brings its own model, and may change its form on the way: a layer that the first model lacks drifts
    from zeros, and one that the model before lacks has no similarity.
    """

    def __init__(self, first: Blob, before: Blob | None) -> None:
        self._first = _flat(first)
        self._before = _flat(before) if before is not None else {}
        self._layers: dict[str, _Layer] = {}
        self._elements: dict[str, int] = {}
        self._sketch = np.zeros(SKETCH)
        self._signs = np.random.Generator(np.random.PCG64(_SEED))
        self._pattern: Array = np.empty(0)

    def add(self, spec: TensorSpec, part: slice, old: Array, new: Array) -> None:
        """Take in the stored elements `old` and `new` of a part of the flattened tensor."""
        layer = self._layers.setdefault(spec.name, _Layer())
        self._elements[spec.name] = spec.count
        held, made = _numbers(old), _numbers(new)
        layer.sample.append(_sampled(made, part.start, spec.count))
        change = made - held
        layer.change += float(change @ change)
        if (before := _like(self._before, spec)) is not None:
            previous = held - _numbers(before[part])
            forget_behind(before, part)
            layer.previous += float(previous @ previous)
            layer.product += float(change @ previous)
        drift = made
        if (first := _like(self._first, spec)) is not None:
            drift = made - _numbers(first[part])
            forget_behind(first, part)
        layer.drift += float(drift @ drift)
        self._add_to_sketch(change)

    def _add_to_sketch(self, change: Array) -> None:
        """Element i of a block goes to bucket i mod 128 after a seeded turn, under a seeded sign."""
        rows = -(-len(change) // SKETCH)
        if len(self._pattern) < rows * SKETCH:
            self._pattern = (self._signs.integers(0, 2, rows * SKETCH) * 2 - 1).astype(np.float32)
        turn, sign = self._signs.integers(0, SKETCH), self._signs.integers(0, 2) * 2.0 - 1.0
        signed = np.zeros(rows * SKETCH, dtype=change.dtype)
        np.multiply(change, self._pattern[: len(change)], out=signed[: len(change)])
        self._sketch += np.roll(signed.reshape(rows, SKETCH).sum(axis=0) * sign, int(turn))

    def summary(self) -> StepSummary | None:
        """What was seen; None where no model was made. Raises `BadInput` for a model that is not finite."""
        if not self._layers:
            return None
        spoilt = sorted(name for name, layer in self._layers.items() if not math.isfinite(layer.change + layer.drift))
        if spoilt:
            raise BadInput(
                "the new model holds NaN or infinity",
                code="model.not_finite",
                value=", ".join(spoilt[:5]),
                cure="Lower the learning rates, or train in an element type of wider range.",
            )
        shown = set(sorted(self._layers, key=lambda name: -self._elements[name])[:_LAYERS])
        whole = _pooled(self._layers)
        return StepSummary(
            norm=math.sqrt(whole.change),
            drift=math.sqrt(whole.drift),
            similarity=_similarity(whole),
            layers={name: _described(layer) for name, layer in sorted(self._layers.items()) if name in shown},
            sketch=tuple(float(bucket) for bucket in self._sketch),
        )


def compared(first: Blob, before: Blob | None, old: Blob, new: Blob) -> StepSummary | None:
    """The summary of a step that made `new` of `old` elsewhere; of tensors that only one of them has there is none."""
    summariser, held = Summariser(first, before), _flat(old)
    for spec in new.layout.tensors:
        if (was := _like(held, spec)) is None:
            continue
        made = new.numpy(spec.name).reshape(-1)
        parts = [slice(start, min(start + BLOCK, spec.count)) for start in range(0, spec.count, BLOCK)]
        if all(np.array_equal(was[part], made[part]) for part in parts):
            continue  # frozen: a federated step does not change it either, and the sketches stay comparable
        for part in parts:
            summariser.add(spec, part, was[part], made[part])
            forget_behind(was, part)
            forget_behind(made, part)
    return summariser.summary()


def _numbers(values: Array) -> Array:
    """As they are where they are float32, which is exact enough for a look and half the work; else in float64."""
    return values if values.dtype == np.float32 else as_float64(values)


def _flat(model: Blob) -> dict[str, Array]:
    return {name: array.reshape(-1) for name, array in model.arrays().items()}


def _like(model: Mapping[str, Array], spec: TensorSpec) -> Array | None:
    """The flattened tensor of a model that has this name and as many elements; None without one."""
    found = model.get(spec.name)
    return found if found is not None and found.size == spec.count else None


def _sampled(values: Array, start: int, count: int) -> Array:
    """Every k-th element of the whole tensor, as far as it lies in this part."""
    stride = -(-count // _SAMPLE)
    return values[-start % stride :: stride].copy()


def _similarity(layer: _Layer) -> float | None:
    """Cosine of this change and the one before; None where either is zero or unknown."""
    scale = math.sqrt(layer.change) * math.sqrt(layer.previous)
    return layer.product / scale if scale > 0 else None


def _described(layer: _Layer) -> LayerSummary:
    values = np.concatenate(layer.sample)
    return LayerSummary(
        norm=math.sqrt(layer.change),
        drift=math.sqrt(layer.drift),
        similarity=_similarity(layer),
        quantiles=tuple(float(value) for value in np.quantile(values, _QUANTILES)),
    )


def _pooled(layers: Mapping[str, _Layer]) -> _Layer:
    whole = _Layer()
    for layer in layers.values():
        whole.change += layer.change
        whole.drift += layer.drift
        whole.previous += layer.previous
        whole.product += layer.product
    return whole

"""Where two runs part: what they were begun with, the first step that came to something else, and its tensors. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np

from aimass.proto.elements import as_float64
from aimass.proto.plan import Plan
from aimass.proto.step import StepKind
from aimass.proto.tensors import Blob
from aimass.proto.values import Value

__all__ = ["Comparison", "Course", "Difference", "Parting", "StepTold", "TensorDifference", "compare"]

_BLOCK: Final = 1 << 20
_ABSENT: Final = "-"


class StepTold(Value, frozen=True):
    """What a step came to, however its run was computed; `model` is what it made, empty where it made none."""

    kind: StepKind
    round: int
    purpose: str
    model: str
    metrics: dict[str, float]


class Course(Value, frozen=True):
    """A run as it can be compared: what it was begun with, and what its steps came to, in order.

    `data` says which rows it is over, as far as its record does, `software` with which packages, and `schedule` whether
    participants trained each by itself.
    """

    where: str
    plan: Plan
    data: dict[str, str]
    steps: tuple[StepTold, ...]
    software: dict[str, str] = {}
    schedule: str = "averaging"


class Difference(Value, frozen=True):
    """One thing that is not equal, by its path, as each run has it."""

    what: str
    first: str
    second: str


class TensorDifference(Value, frozen=True):
    """How a tensor differs in two models: in so many of its elements, by how much at most, and where first."""

    name: str
    elements: int
    differing: Annotated[int, msgspec.Meta(ge=1)]
    largest: float | None
    at: int
    first: float
    second: float


class Parting(Value, frozen=True):
    """The first step that came to something else: the `place`-th of both runs, or the end of the shorter one."""

    place: int
    kind: str
    round: int
    why: Literal["step", "model", "metrics", "end"]
    metrics: tuple[Difference, ...] = ()
    tensors: tuple[TensorDifference, ...] | None = None
    """Of the models of the step at `looked_at`: this one, or, where those are not kept any more, the last that both
    runs came to. None where those are gone too."""
    looked_at: int | None = None


class Comparison(Value, frozen=True):
    """Of two runs: `equal` where all steps came to the same bits, whatever they were begun with."""

    equal: bool
    steps: int
    begun: tuple[Difference, ...]
    parting: Parting | None = None


Open = Callable[[str], Blob | None]
"""Opens a run's model by its digest; None where it is not kept."""


def compare(first: Course, second: Course, open_first: Open, open_second: Open) -> Comparison:
    """Hold two runs beside each other, step for step; `open_first` and `open_second` open their models."""
    begun = tuple(_begun(first, second))
    parting = next(_partings(first.steps, second.steps), None)
    if parting is not None and parting.why == "model":
        for place in (parting.place, _last_made(first.steps, second.steps)):
            one, other = open_first(first.steps[place].model), open_second(second.steps[place].model)
            if one is not None and other is not None:
                parting = msgspec.structs.replace(parting, tensors=tuple(_tensors(one, other)), looked_at=place)
                break
    return Comparison(
        equal=parting is None, steps=min(len(first.steps), len(second.steps)), begun=begun, parting=parting
    )


def _begun(first: Course, second: Course) -> Iterator[Difference]:
    for what in ("plan", "data", "software", "schedule"):
        yield from _differences(what, *(msgspec.to_builtins(getattr(course, what)) for course in (first, second)))


def _differences(path: str, first: Any, second: Any) -> Iterator[Difference]:
    """By the innermost path at which two documents differ; lists are compared as wholes."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in sorted(first.keys() | second.keys()):
            yield from _differences(f"{path}.{key}", first.get(key, _ABSENT), second.get(key, _ABSENT))
    elif first != second:
        yield Difference(what=path, first=str(first), second=str(second))


def _partings(first: Sequence[StepTold], second: Sequence[StepTold]) -> Iterator[Parting]:
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        parting = partial(Parting, place=place, kind=one.kind, round=one.round)
        if (one.kind, one.round, one.purpose) != (other.kind, other.round, other.purpose):
            yield parting(why="step")
        elif one.model != other.model:
            yield parting(why="model", metrics=_metrics(one, other))
        elif metrics := _metrics(one, other):
            yield parting(why="metrics", metrics=metrics)
    if len(first) != len(second):
        longer, place = max(first, second, key=len), min(len(first), len(second))
        yield Parting(place=place, kind=longer[place].kind, round=longer[place].round, why="end")


def _last_made(first: Sequence[StepTold], second: Sequence[StepTold]) -> int:
    """The last step at which both runs made a model."""
    pairs = enumerate(zip(first, second, strict=False))
    return max(place for place, (one, other) in pairs if one.model and other.model)


def _metrics(one: StepTold, other: StepTold) -> tuple[Difference, ...]:
    return tuple(_differences("metrics", one.metrics, other.metrics))


def _tensors(first: Blob, second: Blob) -> Iterator[TensorDifference]:
    """The tensors that differ in at least one bit, in the order of the first model; other shapes have no elements to
    compare and differ in all."""
    others = {spec.name: spec for spec in second.layout.tensors}
    for spec in first.layout.tensors:
        if (other := others.pop(spec.name, None)) is None or (other.dtype, other.shape) != (spec.dtype, spec.shape):
            yield _whole(spec.name, spec.count)
        elif (found := _in_elements(spec.name, first, second)) is not None:
            yield found
    for name, spec in others.items():
        yield _whole(name, spec.count)


def _whole(name: str, count: int) -> TensorDifference:
    return TensorDifference(
        name=name, elements=count, differing=max(count, 1), largest=None, at=0, first=0.0, second=0.0
    )


def _in_elements(name: str, first: Blob, second: Blob) -> TensorDifference | None:
    one, other = (model.numpy(name).reshape(-1) for model in (first, second))
    differing, largest, at = 0, 0.0, -1
    for start in range(0, len(one), _BLOCK):
        held, made = one[start : start + _BLOCK], other[start : start + _BLOCK]
        bits = np.dtype(f"u{held.itemsize}")  # of two NaN, or of zeros of either sign, too
        unequal = np.flatnonzero(held.view(bits) != made.view(bits))
        if len(unequal):
            at = start + int(unequal[0]) if at < 0 else at
            differing += len(unequal)
            way = np.abs(as_float64(held[unequal]) - as_float64(made[unequal]))
            largest = max(largest, float(np.nanmax(way, initial=0.0)))
    if at < 0:
        return None
    values = [float(as_float64(model[at : at + 1])[0]) for model in (one, other)]
    return TensorDifference(
        name=name, elements=len(one), differing=differing, largest=largest, at=at, first=values[0], second=values[1]
    )

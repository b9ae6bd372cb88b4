"""What differs between two versions of a model, for whoever decides which is to be served."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from aimass.proto.manifest import Schema
from aimass.proto.registry.entries import Interval, ModelVersion
from aimass.proto.registry.wording import interval_text, privacy_text
from aimass.proto.tensors import Blob
from aimass.proto.values import Value

__all__ = ["Difference", "TensorDifference", "differences", "tensor_differences"]


class Difference(Value, frozen=True):
    """One thing that the two say otherwise."""

    what: str
    first: str
    second: str
    change: str = ""


class TensorDifference(Value, frozen=True):
    """A tensor of both: L2 norms of the first and of the change, and the largest change of one number."""

    tensor: str
    norm: float
    change: float
    largest: float


def differences(first: ModelVersion, second: ModelVersion) -> tuple[Difference, ...]:
    """Task, columns, metrics, privacy, contributors and lineage where they differ; none where all is the same."""
    told = [*_facts(first, second), *_columns(first.schema, second.schema), *_metrics(first.metrics, second.metrics)]
    return tuple(one for one in told if one.first != one.second)


def tensor_differences(first: Blob, second: Blob) -> tuple[TensorDifference, ...]:
    """Of each tensor that both have in one shape, largest change first."""
    shared = [name for name, shape in first.layout.shapes().items() if second.layout.shapes().get(name) == shape]
    return tuple(sorted((_tensor(name, first, second) for name in shared), key=lambda one: -one.change))


def _tensor(name: str, first: Blob, second: Blob) -> TensorDifference:
    before, after = (np.asarray(blob.numpy(name), np.float64).ravel() for blob in (first, second))
    change = after - before
    return TensorDifference(
        tensor=name,
        norm=float(np.linalg.norm(before)),
        change=float(np.linalg.norm(change)),
        largest=float(np.abs(change).max(initial=0.0)),
    )


def _facts(first: ModelVersion, second: ModelVersion) -> Iterator[Difference]:
    for what, tell in _FACTS.items():
        yield Difference(what=what, first=tell(first), second=tell(second))


def _members(version: ModelVersion) -> str:
    who = version.contributors
    return "unknown" if who is None else f"{who.members} {who.kind}, at least {who.fewest}"


_FACTS: Mapping[str, Any] = {
    "task": lambda version: f"{version.task.name} {version.task.digest[:16]}",
    "base": lambda version: "none" if version.base is None else f"{version.base.name} {version.base.digest[:16]}",
    "parameters": lambda version: f"{version.parameters.digest[:16]}, {version.parameters.bytes} bytes",
    "run": lambda version: "none" if version.run is None else f"{version.run.name} {version.run.run_id[:8]}",
    "held-out data": lambda version: (version.held_out.digest or version.held_out.reason)[:40],
    "privacy": lambda version: privacy_text(version.privacy),
    "contributors": _members,
    "licence": lambda version: version.licence or "none",
}


def _columns(first: Schema | None, second: Schema | None) -> Iterator[Difference]:
    if first == second:
        return
    before, after = _forms(first), _forms(second)
    for name in dict.fromkeys((*before, *after)):
        yield Difference(what=f"column {name}", first=before.get(name, "none"), second=after.get(name, "none"))


def _forms(schema: Schema | None) -> dict[str, str]:
    columns = () if schema is None else (*schema.columns, schema.label)
    return {column.name: msgspec.json.encode(column).decode() for column in columns}


def _metrics(first: Mapping[str, Interval], second: Mapping[str, Interval]) -> Iterator[Difference]:
    for name in sorted(first.keys() | second.keys()):
        before, after = first.get(name), second.get(name)
        change = "" if before is None or after is None else f"{after.mean - before.mean:+.4f}{_apart(before, after)}"
        told = ["not measured" if one is None else interval_text(one) for one in (before, after)]
        yield Difference(what=name, first=told[0], second=told[1], change=change)


def _apart(first: Interval, second: Interval) -> str:
    """Whether the two intervals meet, where both have one."""
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return ""
    return ", intervals apart" if first.high < second.low or second.high < first.low else ", intervals overlap"

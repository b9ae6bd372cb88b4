"""What one partner sends for one step: weighted groups of tensors, metrics and released figures in one blob.

Reducing contributions i of a group gives sum_i w_i x_i and sum_i w_i; of a metric the sum of totals and of weights. A
figure belongs to one partner alone and is present only where that partner's policy releases it. Names in the blob are
`GROUP/TENSOR`, `weight/GROUP`, `metric/NAME` (total, weight) and `figure/NAME`.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from aimass.proto.elements import FLOATS, INTEGERS, as_float64, dtype_name
from aimass.proto.errors import BadInput
from aimass.proto.tensors import Array, Blob, blob_parts, numpy_dtype

__all__ = [
    "LABEL",
    "STATE_LOST",
    "Contribution",
    "Group",
    "Limits",
    "Metric",
    "check_contribution",
    "decode_contribution",
    "group_norm",
    "most_bytes",
    "sliced",
]

STATE_LOST: Final = "state_lost"
"""The figure of who has lost what it kept between steps. It tells nothing of rows: no policy keeps it back."""

LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,126}")
"""What a metric or figure may be named."""

_RESERVED: Final = frozenset({"weight", "metric", "figure"})
_GROUP: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_NORM_BLOCK: Final = 1 << 16
_ENTRY_BYTES: Final = 512


def sliced(flat: Array, part: slice) -> Array:
    """Part of an array in memory, or mapped: it stays there."""
    return flat[part]


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """An additive pair: the weighted total of a measure and its weight; the mean is their quotient."""

    total: float
    weight: float


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Tensors x and the weight w that they count with."""

    weight: float
    tensors: Mapping[str, Array]


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a receiver accepts: largest weight, L2 norm of a group, size of a metric's total, its mean or a figure, and
    number of both together."""

    weight: float = 1e9
    norm: float = 1e6
    metric: float = 1e18
    labels: int = 1_000


@dataclasses.dataclass(frozen=True, slots=True)
class Contribution:
    """Groups by name, metrics by name, and figures of this partner by name."""

    groups: Mapping[str, Group]
    metrics: Mapping[str, Metric]
    figures: Mapping[str, float]

    def encode(self) -> bytes:
        """The canonical blob; raises `BadInput` for names that it cannot hold."""
        return b"".join(self.parts())

    def parts(self) -> list[bytes | memoryview]:
        """The same in parts, in order, over the arrays' own memory; raises as `encode` does."""
        arrays: dict[str, Array] = {}
        for name, group in self.groups.items():
            _check_name(_GROUP, name, "group", reserved=_RESERVED)
            arrays[f"weight/{name}"] = np.array(group.weight, dtype=np.float64)
            arrays |= {f"{name}/{tensor}": array for tensor, array in group.tensors.items()}
        for name, metric in self.metrics.items():
            arrays[f"metric/{name}"] = np.array([metric.total, metric.weight], dtype=np.float64)
        for name, figure in self.figures.items():
            arrays[f"figure/{name}"] = np.array(figure, dtype=np.float64)
        return blob_parts(arrays)[1]


def decode_contribution(blob: Blob) -> Contribution:
    """Strictly read a contribution's blob; its arrays are views. Raises `BadInput`; checks no numbers."""
    tensors: dict[str, dict[str, Array]] = {}
    scalars: dict[str, dict[str, Array]] = {"weight": {}, "metric": {}, "figure": {}}
    for name, array in blob.arrays().items():
        group, slash, label = name.partition("/")
        if not slash:
            raise _bad("a tensor has no group", "name", name)
        if group in _RESERVED:
            _check_name(LABEL, label, group)
            expected = (2,) if group == "metric" else ()
            if array.dtype != np.float64 or array.shape != expected:
                raise _bad(
                    "a number has a wrong shape or dtype", "scalar", f"{name} {array.dtype}{array.shape}", expected
                )
            scalars[group][label] = array
        else:
            _check_name(_GROUP, group, "group")
            tensors.setdefault(group, {})[label] = array
    if set(tensors) - set(scalars["weight"]) or set(scalars["weight"]) - set(tensors):
        odd = sorted(set(tensors) ^ set(scalars["weight"]))
        raise _bad("a group needs tensors and a weight", "weight_missing", ", ".join(odd))
    return Contribution(
        groups={name: Group(float(scalars["weight"][name]), members) for name, members in sorted(tensors.items())},
        metrics={name: Metric(float(pair[0]), float(pair[1])) for name, pair in sorted(scalars["metric"].items())},
        figures={name: float(value) for name, value in sorted(scalars["figure"].items())},
    )


def check_contribution(
    contribution: Contribution,
    expected: Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]] | None,
    limits: Limits,
    read: Callable[[Array, slice], Array] = sliced,
) -> None:
    """Refuse numbers that would spoil a sum: NaN, infinity, wrong shape or dtype, absurd weight or norm.

    `expected` gives dtype name and shape of each tensor by group and name; None accepts any floating tensors. `read`
    gives a part of a flat array, which is used before the next is asked for. Raises `BadInput` with code
    `contribution.*` and the value and limit.
    """
    if len(contribution.metrics) + len(contribution.figures) > limits.labels:
        raise _bad("too many metrics and figures", "labels", len(contribution.metrics), limits.labels)
    for name, metric in contribution.metrics.items():
        if (
            not abs(metric.total) <= limits.metric
            or not 0 < metric.weight <= limits.weight
            or not abs(metric.total / metric.weight) <= limits.metric
        ):
            allowed = f"total and mean to {limits.metric:g}, weight to {limits.weight:g}"
            raise _bad("a metric is not finite, or too large", "metric", f"{name} {metric}", allowed)
    for name, figure in contribution.figures.items():
        if not abs(figure) <= limits.metric:
            raise _bad("a figure is not finite, or too large", "figure", f"{name} {figure}", limits.metric)
    if expected is not None:
        _check_layout(contribution, expected)
    for name, group in contribution.groups.items():
        if not (math.isfinite(group.weight) and 0 < group.weight <= limits.weight):
            allowed = f"above 0, to {limits.weight}"
            raise _bad("the weight of a group is not allowed", "weight", f"{name} {group.weight}", allowed)
        norm = group_norm(group, read)
        if not math.isfinite(norm):
            raise _bad("a group holds NaN or infinity", "not_finite", f"{name} {norm}")
        if norm > limits.norm:
            raise _bad("the norm of a group is too large", "norm", f"{name} {norm:.6g}", limits.norm)


def most_bytes(expected: Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]], limits: Limits) -> int:
    """Bytes that no contribution of these tensors exceeds, its header and every label that may stand in it included."""
    tensors = [(group, name, *spec) for group, members in expected.items() for name, spec in members.items()]
    elements = sum(math.prod(shape) * numpy_dtype(dtype).itemsize for _, _, dtype, shape in tensors)
    # A name may be escaped; dtype, shape, offsets and punctuation of an entry have their own room.
    entries = sum(6 * (len(group) + len(name)) + 24 * len(shape) for group, name, _, shape in tensors)
    return elements + entries + _ENTRY_BYTES * (len(tensors) + 2 * len(expected) + limits.labels) + _ENTRY_BYTES


def _check_layout(
    contribution: Contribution, expected: Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]]
) -> None:
    if set(contribution.groups) != set(expected):
        raise _bad(
            "it holds other groups than the step asks for", "groups", sorted(contribution.groups), sorted(expected)
        )
    for group, members in expected.items():
        found = contribution.groups[group].tensors
        if set(found) != set(members):
            odd = sorted(set(found) ^ set(members))
            raise _bad("a group lacks tensors or holds others", "tensors", f"{group}: {', '.join(odd[:5])}")
        for name, (dtype, shape) in members.items():
            spec = dtype_name(found[name]), found[name].shape
            if spec != (dtype, shape):
                found_as = f"{group}/{name} {spec[0]}{spec[1]}"
                raise _bad("a tensor has a wrong shape or dtype", "shape", found_as, f"{dtype}{shape}")


def group_norm(group: Group, read: Callable[[Array, slice], Array] = sliced) -> float:
    """L2 norm over all tensors of a group, to six digits; NaN or infinity where an element is."""
    for name, array in group.tensors.items():
        if dtype_name(array) not in (*FLOATS, *INTEGERS):
            raise _bad("a tensor holds no numbers", "dtype", f"{name} {array.dtype}", ", ".join((*FLOATS, *INTEGERS)))
    arrays = [array.reshape(-1) for array in group.tensors.values()]
    quick = sum(_square(array, read, exact=False) for array in arrays)
    # What float32 cannot hold is computed again: a number that is too large has another name than NaN.
    total = quick if math.isfinite(quick) else sum(_square(array, read, exact=True) for array in arrays)
    return math.sqrt(total) if total >= 0 else math.nan


def _square(flat: Array, read: Callable[[Array, slice], Array], *, exact: bool) -> float:
    """Sum of squares, each block in its own float32 where `exact` does not ask for more."""
    total = 0.0
    for start in range(0, len(flat), _NORM_BLOCK):
        block = read(flat, slice(start, start + _NORM_BLOCK))
        values = block if block.dtype == np.float32 and not exact else as_float64(block)
        with np.errstate(over="ignore", invalid="ignore"):  # the result says so, and the caller asks
            # Of float64 a product has threads, which wait for each other where processors are busy.
            total += float(values @ values if values.dtype == np.float32 else np.square(values, out=values).sum())
    return total


def _check_name(pattern: re.Pattern[str], name: str, what: str, reserved: frozenset[str] = frozenset()) -> None:
    if not pattern.fullmatch(name) or name in reserved:
        raise _bad(f"the name of a {what} is not allowed", "name", ascii(name), pattern.pattern)


def _bad(what: str, code: str, value: object = None, limit: object = None) -> BadInput:
    """What was found, names too, stands in `value`: of a refusal at the partner the server hears code and `what`."""
    return BadInput(f"a contribution was refused: {what}", code=f"contribution.{code}", value=value, limit=limit)

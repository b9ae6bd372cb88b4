"""An app's reply as what a secure sum adds up: the server gets a mean of the replies and never one of them.

Of training that is new minus old of the arrays that came with the message, weighted by the count of examples; of
everything else the numbers alone. A mean is what linear strategies make of single replies. What is no number has no
sum: text, lists and configuration that a reply holds beside its numbers stay here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from aimass.proto.contribution import Contribution, Group, Metric
from aimass.proto.elements import dtype_name, from_float64, update_shapes
from aimass.proto.errors import BadInput
from aimass.proto.flower.records import WEIGHT, measures_of, numbers_in, tensors_of, weight_of
from aimass.proto.step import StepKind
from aimass.proto.tensors import Array, Blob

if TYPE_CHECKING:
    from flwr.app import RecordDict

__all__ = ["summable"]

_LEGACY: Final = ("fitres", "evaluateres")


def summable(kind: StepKind, reply: RecordDict, model: Blob, weighted: Literal["rows", "one"]) -> Contribution:
    """The contribution of a reply to a message with the arrays `model`; its weight is the count of examples, or one.

    Raises `BadInput` for a reply of which no sum could be made.
    """
    for name in _LEGACY:
        if f"{name}.status" in reply and reply[f"{name}.status"]["code"] != 0:
            raise BadInput("the app replied with an error", code="flower.error")
    numbers = numbers_in(reply)
    found = weight_of(numbers)
    if weighted == "one" or (found is None and kind is not StepKind.TRAIN):
        weight = 1.0
    elif found is None or not found > 0:
        raise BadInput(
            "a reply needs its weight, a number above 0",
            code="flower.weight",
            value=found,
            cure=f"Put {WEIGHT!r} into its metrics: sums that are secret are weighted here.",
        )
    else:
        weight = found
    metrics = {name: Metric(value * weight, weight) for name, value in measures_of(numbers).items()}
    return Contribution(_update(kind, reply, model, weight), metrics, {})


def _update(kind: StepKind, reply: RecordDict, model: Blob, weight: float) -> dict[str, Group]:
    """New minus old of every array, integers as whole numbers."""
    made = list(reply.array_records.values())
    wanted = 1 if kind is StepKind.TRAIN else 0
    if len(made) != wanted:
        raise BadInput(
            "sums are made of one array record in training, and of none else",
            code="flower.array_records",
            value=len(made),
            limit=wanted,
        )
    if not made:
        return {}
    new, old, expected = tensors_of(made[0]), model.arrays(), update_shapes(model.layout)
    _check_same(new, old)
    for name in set(old) - set(expected):
        if not np.array_equal(new[name], old[name]):
            raise BadInput("an array changed that no sum can hold", code="flower.not_summable", value=name)
    return {"update": Group(weight, {name: _change(new[name], old[name], expected[name][0]) for name in expected})}


def _check_same(new: dict[str, Array], old: dict[str, Array]) -> None:
    odd = [
        name
        for name in sorted(set(new) | set(old))
        if name not in new
        or name not in old
        or (dtype_name(new[name]), new[name].shape) != (dtype_name(old[name]), old[name].shape)
    ]
    if odd:
        raise BadInput(
            "a reply to training has the arrays of its message, of the same types and shapes",
            code="flower.arrays",
            value=", ".join(odd[:5]),
        )


def _change(new: Array, old: Array, dtype: str) -> Array:
    if new.dtype.kind in "iu":
        return np.subtract(new, old, dtype=np.int64)
    return from_float64(np.subtract(new, old, dtype=np.float64), dtype)

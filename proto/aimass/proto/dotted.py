"""Settings of a plan by their dotted names (`train.steps`, `stages.0.options.rounds`): for who searches over plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from aimass.proto.errors import BadInput
from aimass.proto.values import Scalar, Value, convert

__all__ = ["with_settings"]

V = TypeVar("V", bound=Value)


def with_settings(value: V, settings: Mapping[str, Scalar], what: str = "the plan") -> V:
    """`value` with each of `settings` in the place that its dotted name says; numbers count the elements of a list.

    All checks of `value`'s kind hold for the result. Raises `BadInput`: `plan.no_setting` for a name that leads to
    nothing, or into a section that `value` does not have; `value.invalid` for what the place does not take.
    """
    fields = msgspec.json.decode(msgspec.json.encode(value))
    for name, setting in settings.items():
        _put(fields, name, setting, what)
    return convert(type(value), fields, what)


def _put(fields: Any, name: str, setting: Scalar, what: str) -> None:
    *way, last = name.split(".")
    inside = fields
    for step in way:
        inside = _at(inside, step, name, what)
    if isinstance(inside, dict):
        inside[last] = setting  # a key that is none is found when the whole is read
        return
    _at(inside, last, name, what)  # raises for what is no place
    inside[int(last)] = setting


def _at(inside: Any, step: str, name: str, what: str) -> Any:
    """The part of `inside` that `step` names."""
    if isinstance(inside, dict) and inside.get(step) is not None:
        return inside[step]
    if isinstance(inside, list) and step.isdecimal() and int(step) < len(inside):
        return inside[int(step)]
    if isinstance(inside, dict):
        has = ", ".join(sorted(str(key) for key, held in inside.items() if held is not None))
    else:
        has = f"0 to {len(inside) - 1}" if isinstance(inside, list) and inside else "nothing"
    raise BadInput(
        f"{what} has no setting of this name",
        code="plan.no_setting",
        value=name,
        limit=f"{step!r} is not among: {has}",
        cure="Name a setting that the plan has, and write its section into the plan first.",
    )

"""The values of Flower's metric and config records, with their types, as fields of JSON and back.

Integers are of 64 bits, as on Flower's own wire; with `finite`, NaN and infinity are refused. Both directions raise
`BadInput`.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from aimass.proto.errors import BadInput
from aimass.proto.values import Value

__all__ = ["NUMBERS", "TYPES", "Field", "bad", "check_once", "field_of", "values_of"]

_KINDS: Final[Mapping[str, type]] = {"bool": bool, "int": int, "float": float, "str": str, "bytes": bytes}
"""Types by name; a bool is an int too, so it is asked for first."""

TYPES: Final = tuple(_KINDS)
NUMBERS: Final = ("int", "float")
"""What a metric record holds."""

_INT64: Final = range(-(1 << 63), 1 << 63)
_NOT_FINITE: Final = ("nan", "inf", "-inf")


class Field(Value, frozen=True):
    """A value or a list of values of one type; bytes in base64, floats that JSON has no number for as words."""

    key: str
    type: Literal["bool", "int", "float", "str", "bytes"]
    value: Any


def field_of(key: str, value: Any, *, finite: bool) -> Field:
    """A value as a field. numpy's float64 is a float; an empty list has no type that could be told."""
    many = value if isinstance(value, list) else [value]
    kind: Any = next((name for name, kind in _KINDS.items() if many and isinstance(many[0], kind)), "int")
    told = [_told(key, kind, each, finite=finite) for each in many]
    return Field(key=key, type=kind, value=told if isinstance(value, list) else told[0])


def _told(key: str, kind: str, value: Any, *, finite: bool) -> object:
    if kind == "bytes":
        return base64.b64encode(value).decode()
    told = _KINDS[kind](value)
    if kind == "int" and told not in _INT64:
        raise bad(f"{key!r} is too large a number", "int", value, "64 bits")
    if kind == "float" and not math.isfinite(told):
        if finite:
            raise bad(f"{key!r} is not finite", "not_finite", value)
        return str(told)
    return told


def values_of(fields: Sequence[Field], types: Sequence[str], *, finite: bool) -> dict[str, Any]:
    """The values of a record that holds `types`, by key."""
    check_once(field.key for field in fields)
    return {field.key: _value(field, types, finite=finite) for field in fields}


def _value(field: Field, types: Sequence[str], *, finite: bool) -> Any:
    if field.type not in types:
        raise bad(f"{field.key!r} has a type that its record does not hold", "value", field.type, ", ".join(types))
    many = field.value if isinstance(field.value, list) else [field.value]
    try:
        read = [_read(field.type, each) for each in many]
    except ValueError as error:
        raise bad(f"{field.key!r} is not of the type that it says", "value", field.type) from error
    if finite and field.type == "float" and not all(map(math.isfinite, read)):
        raise bad(f"{field.key!r} is not finite", "not_finite", field.value)
    return read if isinstance(field.value, list) else read[0]


def _read(kind: str, told: Any) -> Any:
    """The one value that `_told` tells so; raises `ValueError` where there is none."""
    if kind == "float" and told in _NOT_FINITE:
        return float(told)
    if kind == "bytes" and isinstance(told, str):
        data = base64.b64decode(told, validate=True)
        if base64.b64encode(data).decode() == told:
            return data
    elif type(told) is _KINDS[kind] and (kind != "int" or told in _INT64):
        return told
    raise ValueError(kind)


def check_once(names: Iterable[str]) -> None:
    """Raise `BadInput` for a name that stands twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise bad("it names a value twice", "duplicate", name)
        seen.add(name)


def bad(what: str, code: str, value: object = None, limit: object = None, cure: str = "") -> BadInput:
    """The error of refused records."""
    return BadInput(f"Flower records were refused: {what}", code=f"flower.{code}", value=value, limit=limit, cure=cure)

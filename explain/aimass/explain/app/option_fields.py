"""Options of a question as widgets whose values stand in the address: one a field, with help, limits and default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
import streamlit as st
from msgspec import inspect

from aimass.explain.app.wording import plain
from aimass.proto.errors import BadInput
from aimass.proto.values import Value

__all__ = ["chosen_options"]

V = TypeVar("V", bound=Value)
_ANY: Final = "the view chooses"


def chosen_options(
    kind: type[V],
    names: Sequence[str],
    *,
    prefix: str,
    choices: Mapping[str, Sequence[str]] | None = None,
    across: int = 3,
) -> V:
    """An option value from a widget for each of these fields, `across` in a row; all other fields keep their default.

    `prefix` goes before the fields' names in the address, so that pages do not read each other's. `choices` are what a
    text may be: classes, features, columns; the empty text leaves the choice to the view. Raises `BadInput` where
    values do not go together.
    """
    fields = {field.name: field for field in _fields(kind)}
    said: dict[str, Any] = {}
    for start in range(0, len(names), across):
        for column, name in zip(st.columns(across), names[start : start + across], strict=False):
            with column:
                said[name] = _asked(fields[name], f"{prefix}-{name}", (choices or {}).get(name))
    try:
        return msgspec.convert(said, kind)
    except msgspec.ValidationError as error:
        raise BadInput(f"an option does not fit: {error}", code="explain.option") from error


def _fields(kind: type[Value]) -> Sequence[inspect.Field]:
    told = inspect.type_info(kind)
    return told.fields if isinstance(told, inspect.StructType) else ()


def _asked(field: inspect.Field, key: str, choices: Sequence[str] | None) -> Any:
    label, help_ = field.name.replace("_", " ").capitalize(), plain(_described(field.type))
    bare, default = _bare(field.type), field.default
    common: dict[str, Any] = {"key": key, "help": help_, "bind": "query-params"}
    match bare:
        case inspect.BoolType():
            return st.toggle(label, value=bool(default), **common)
        case inspect.IntType():
            return int(
                st.number_input(label, value=int(default), min_value=bare.ge, max_value=bare.le, step=1, **common)
            )
        case inspect.FloatType():
            low, high = (closed if closed is not None else open_ for closed, open_ in _limits(bare))
            return float(st.number_input(label, value=float(default), min_value=low, max_value=high, **common))
        case inspect.LiteralType():
            words = [str(value) for value in bare.values]
            return _word(st.selectbox(label, [word or _ANY for word in words], words.index(str(default)), **common))
        case inspect.VarTupleType() if choices is not None:
            return tuple(st.multiselect(label, list(choices), list(default), **common))
        case _ if choices is not None:
            return _word(st.selectbox(label, [_ANY, *choices], **common))
        case _:
            return st.text_input(label, value=str(default), **common)


def _limits(kind: inspect.FloatType) -> tuple[tuple[float | None, float | None], ...]:
    return (kind.ge, kind.gt), (kind.le, kind.lt)


def _word(said: str | None) -> str:
    return "" if said is None or said == _ANY else said


def _bare(kind: inspect.Type) -> Any:
    """The type without its description, and without None where that stands for a choice not made."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        others = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
        return _bare(others[0]) if len(others) == 1 else kind
    return kind


def _described(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            said = (kind.extra_json_schema or {}).get("description", "")
            return str(said) if said else _described(kind.type)
        case inspect.UnionType():
            return next(filter(None, map(_described, kind.types)), "")
        case _:
            return ""

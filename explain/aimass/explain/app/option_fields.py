"""Options of a question as widgets whose values stand in the address: one a field, with help, limits and default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
import streamlit as st
from msgspec import inspect

from aimass.explain.app.unmet import bound
from aimass.explain.app.wording import plain
from aimass.explain.option_types import bare, described, fields_of
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
    fields = {field.name: field for field in fields_of(kind)}
    said: dict[str, Any] = {}
    for start in range(0, len(names), across):
        for column, name in zip(st.columns(across), names[start : start + across], strict=False):
            with column:
                said[name] = _asked(fields[name], f"{prefix}-{name}", (choices or {}).get(name))
    try:
        return msgspec.convert(said, kind)
    except msgspec.ValidationError as error:
        raise BadInput(f"an option does not fit: {error}", code="explain.option") from error


def _asked(field: inspect.Field, key: str, choices: Sequence[str] | None) -> Any:
    label, help_ = field.name.replace("_", " ").capitalize(), plain(described(field.type))
    kind, default = bare(field.type), field.default
    common: dict[str, Any] = {"key": bound(key), "help": help_, "bind": "query-params"}
    match kind:
        case inspect.BoolType():
            return st.toggle(label, value=bool(default), **common)
        case inspect.IntType():
            return int(
                st.number_input(label, value=int(default), min_value=kind.ge, max_value=kind.le, step=1, **common)
            )
        case inspect.FloatType():
            low, high = _limit(kind.ge, kind.gt), _limit(kind.le, kind.lt)
            return float(st.number_input(label, value=float(default), min_value=low, max_value=high, **common))
        case inspect.LiteralType():
            words = [str(value) for value in kind.values]
            return _word(st.selectbox(label, [word or _ANY for word in words], words.index(str(default)), **common))
        case inspect.VarTupleType() if choices is not None:
            return tuple(st.multiselect(label, list(choices), list(default), **common))
        case _ if choices is not None:
            return _word(st.selectbox(label, [_ANY, *choices], **common))
        case _:
            return st.text_input(label, value=str(default), **common)


def _limit(closed: float | None, open_: float | None) -> float | None:
    """Of a number, its own value allowed or not: what is not allowed is refused when the options are made."""
    found = open_ if closed is None else closed
    return None if found is None else float(found)


def _word(said: str | None) -> str:
    return "" if said is None or said == _ANY else said

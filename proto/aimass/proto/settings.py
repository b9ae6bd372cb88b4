"""Settings: a TOML file with the environment over it, decoded into one frozen value. Serves server and client alike.

`AIMASS_SERVER_LISTEN` stands over `listen` of a server, `AIMASS_SERVER_LIMITS__IDLE_S` over `idle_s` in `[limits]`. A
list or a table is written as TOML writes it: `AIMASS_APP_SERVING='["https://a.example", "https://b.example"]'`.
A variable under the prefix that names no setting is an error, as an unknown key in the file is: no setting is lost to
a slip of the pen.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from aimass.proto.errors import BadInput
from aimass.proto.values import Value, convert

__all__ = ["environment_fields", "read_settings"]

V = TypeVar("V", bound=Value)
_NESTED: Final = "__"


def read_settings(kind: type[V], text: str, what: str, prefix: str, environment: Mapping[str, str]) -> V:
    """`kind` from TOML `text` with the variables of `environment` that begin with `prefix` over it.

    Raises `BadInput` for a file that is no TOML, an unknown key or variable, a wrong type or a value out of range.
    """
    try:
        fields = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(f"{what} is not valid TOML: {error}", code="value.toml") from error
    over = environment_fields(kind, prefix, environment)
    return convert(kind, _merged(fields, over), f"{what} with {prefix}*" if over else what)


def environment_fields(kind: type[Value], prefix: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings that the environment gives, nested like the file. Raises `BadInput` for a variable of no setting."""
    fields: dict[str, Any] = {}
    for variable in sorted(name for name in environment if name.startswith(prefix)):
        path = variable.removeprefix(prefix).lower().split(_NESTED)
        known = _names(kind)
        if tuple(path) not in known:
            there_are = [prefix + _NESTED.join(name).upper() for name in known]
            raise BadInput(
                "an environment variable names no setting",
                code="settings.variable",
                value=variable,
                limit=", ".join(difflib.get_close_matches(variable, there_are) or sorted(there_are)),
                cure="Correct or unset it.",
            )
        table = fields
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = _typed(known[tuple(path)], environment[variable])
    return fields


def _names(kind: type[Value]) -> dict[tuple[str, ...], Any]:
    """Every setting of `kind` by its path, with its type."""
    names: dict[tuple[str, ...], Any] = {}
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, Value):
            names |= {(field.name, *path): inner for path, inner in _names(field.type).items()}
        else:
            names[(field.name,)] = field.type
    return names


def _typed(kind: Any, text: str) -> Any:
    """The variable's text as the setting's type, or the list or table that it writes; text that does not fit stays, and
    is refused later."""
    try:
        return msgspec.convert(text, type=kind, strict=False)
    except msgspec.MsgspecError:
        return _toml_value(text)


def _toml_value(text: str) -> Any:
    """A list or a table in TOML's words; all else stays text, also what would be more than one value."""
    try:
        found = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    value = found["value"]
    return value if len(found) == 1 and isinstance(value, list | dict) else text


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for name, value in over.items():
        held = merged.get(name)
        merged[name] = _merged(held, value) if isinstance(held, Mapping) and isinstance(value, Mapping) else value
    return merged

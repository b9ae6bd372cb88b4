"""Options of a question as arguments of a command: one for each field, with its default, its limits and its help."""

from __future__ import annotations

import argparse
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from aimass.explain.option_types import bare, described, fields_of
from aimass.proto.errors import BadInput
from aimass.proto.values import Value

__all__ = ["add_options", "options_of"]

V = TypeVar("V", bound=Value)
_PREFIX: Final = "option_"


def add_options(parser: argparse.ArgumentParser, kind: type[Value], title: str = "what to explain and how") -> None:
    """An argument `--field-name` for each field of `kind`, in a group of their own.

    A truth value is `--name` or `--no-name`. Of several texts each has an argument of its own, as commas may stand in
    them; several numbers may stand in one with commas between. What they may be is checked by `options_of`.
    """
    group = parser.add_argument_group(title)
    for field in fields_of(kind):
        flag, destination = f"--{field.name.replace('_', '-')}", _PREFIX + field.name
        told = _help(field)
        if isinstance(bare(field.type), inspect.BoolType):
            group.add_argument(flag, dest=destination, action=argparse.BooleanOptionalAction, default=None, help=told)
        else:
            action = "append" if _is_many(field.type) else "store"
            group.add_argument(flag, dest=destination, action=action, metavar=_metavar(field.type), help=told)


def options_of(args: argparse.Namespace, kind: type[V]) -> V:
    """The options that were said, the defaults for the rest; raises `BadInput` that names the argument."""
    said = {field.name: getattr(args, _PREFIX + field.name) for field in fields_of(kind)}
    given = {name: _value(kind, name, value) for name, value in said.items() if value is not None}
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadInput(
            f"an option does not fit: {error}",
            code="explain.option",
            cure="The command's --help shows what each may be.",
        ) from error


def _value(kind: type[Value], name: str, said: Any) -> Any:
    field = next(field for field in fields_of(kind) if field.name == name)
    return [one for each in said for one in each.split(",")] if _is_numbers(field.type) else said


def _is_many(kind: inspect.Type) -> bool:
    return isinstance(bare(kind), inspect.VarTupleType | inspect.ListType)


def _is_numbers(kind: inspect.Type) -> bool:
    found = bare(kind)
    return isinstance(found, inspect.VarTupleType) and not isinstance(bare(found.item_type), inspect.StrType)


def _metavar(kind: inspect.Type) -> str:
    match bare(kind):
        case inspect.IntType():
            return "N"
        case inspect.FloatType():
            return "X"
        case inspect.LiteralType(values=values):
            return "{" + ",".join(map(str, values)) + "}"
        case inspect.VarTupleType(item_type=item):
            return f"{_metavar(item)},…" if _is_numbers(kind) else _metavar(item)
        case _:
            return "TEXT"


def _help(field: inspect.Field) -> str:
    """The description, and what holds where nothing is said; argparse reads per cent signs."""
    default = None if field.required else field.default
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    said = described(field.type) + ("" if shown in (None, "") else f" ({shown})")
    return said.strip().replace("%", "%%")

"""What the options of a question are, read from their types: for commands that ask by argument and pages by widget."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import inspect

from aimass.proto.values import Value

__all__ = ["bare", "described", "fields_of"]


def fields_of(kind: type[Value]) -> Iterator[inspect.Field]:
    """Each field with its type, default and description."""
    told = inspect.type_info(kind)
    if isinstance(told, inspect.StructType):
        yield from told.fields


def bare(kind: inspect.Type) -> inspect.Type:
    """The type without its description, and without None where that stands for a choice not made."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        others = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
        return bare(others[0]) if len(others) == 1 else kind
    return kind


def described(kind: inspect.Type) -> str:
    """The description that stands nearest outside."""
    match kind:
        case inspect.Metadata():
            said = (kind.extra_json_schema or {}).get("description", "")
            return str(said) if said else described(kind.type)
        case inspect.UnionType():
            return next(filter(None, map(described, kind.types)), "")
        case _:
            return ""

"""Which settings a plan has, by dotted name, and what each of them may be: read off the plan's own types. Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Final

import msgspec
import msgspec.inspect as types

from aimass.proto.plan import PlanDraft

__all__ = ["known_beside", "takes"]

_SCALARS: Final = {
    types.IntType: "int",
    types.FloatType: "float",
    types.StrType: "str",
    types.BoolType: "bool",
    types.LiteralType: "str",
}


@functools.cache
def takes(name: str) -> frozenset[str]:
    """Which of `int`, `float`, `str` and `bool` a plan takes under this name; nothing where it is no single setting."""
    found = _at(name)
    return frozenset(_SCALARS[type(one)] for one in found if type(one) in _SCALARS)


def known_beside(name: str) -> str:
    """A sentence that names the settings that stand where this one would, as deep as the plan's parts have its name."""
    path = name.split(".")[:-1]
    while path and not _names(".".join(path)):
        path.pop()
    where = f"`{'.'.join(path)}`" if path else "A plan"
    return f"{where} has: {', '.join(_names('.'.join(path)))}."


def _names(name: str) -> tuple[str, ...]:
    return tuple(field.encode_name for one in _at(name) if isinstance(one, types.StructType) for field in one.fields)


def _at(name: str) -> tuple[types.Type, ...]:
    """What may stand at a name; the plan itself at none."""
    found: tuple[types.Type, ...] = (msgspec.inspect.type_info(PlanDraft),)
    for step in name.split(".") if name else ():
        found = tuple(inner for one in found for inner in _below(one, step))
    return found


def _below(one: types.Type, step: str) -> Iterator[types.Type]:
    inner: tuple[types.Type, ...] = ()
    if isinstance(one, types.StructType):
        inner = tuple(field.type for field in one.fields if field.encode_name == step)
    elif isinstance(one, types.VarTupleType) and step.isascii() and step.isdigit():
        inner = (one.item_type,)
    elif isinstance(one, types.DictType):
        inner = (one.value_type,)
    for each in inner:
        yield from each.types if isinstance(each, types.UnionType) else (each,)

"""Frozen values that are read from outside: one strict decoder and one canonical encoding for all of them.

Plans, manifests, policies and settings are `Value`s. An unknown key, a wrong type or a number outside its range is a
named error with its path; the canonical JSON (sorted keys, no white space) is what is hashed and signed.

A digest or signature is always over the bytes as they were written. Who reads them never encodes them again to compare:
a release that knows one field more would write it. So a new field has a default that means what was meant without it.
"""

from __future__ import annotations

import math
import re
import threading
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec
import msgspec.inspect

from aimass.proto.errors import BadInput, InternalError

__all__ = [
    "Scalar",
    "Value",
    "canonical_json",
    "convert",
    "convert_options",
    "decode_canonical_json",
    "decode_json",
    "decode_toml",
    "is_written",
    "prepared",
]


Scalar = bool | int | float | str
"""What an option or a configuration holds under one key."""


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A frozen record with checked fields; two of equal fields are equal."""


V = TypeVar("V")
S = TypeVar("S", bound=msgspec.Struct)


_NO_NUMBER: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
"""Begins NaN and infinity as msgpack writes them; a text or an integer may look like it."""


_PREPARING: Final = threading.Lock()
_PREPARED: Final[set[Any]] = set()
K = TypeVar("K")


def prepared(kind: type[K]) -> type[K]:
    """`kind`, once msgspec knows it whole: whoever reads values with msgspec itself asks for this first.

    It learns a kind's fields at the first use, and threads that come meanwhile find a table of which a part is empty:
    the process crashes (seen with 0.22, of threads that ask services at once).
    """
    if kind not in _PREPARED:
        with _PREPARING:
            msgspec.json.Decoder(kind)
            _PREPARED.add(kind)
    return kind


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON with sorted keys and no white space: equal values give equal bytes.

    Raises `InternalError` for NaN and infinity, which JSON has not: they would be written as null, and not read again.
    """
    data = msgspec.json.encode(value, order="sorted")
    if b"null" not in data or not _suspect(value):
        return data
    if (place := _not_finite(msgspec.to_builtins(value, str_keys=True))) is not None:
        raise InternalError("a number that is not finite cannot be written", code="value.not_finite", value=place)
    return data


def _suspect(value: object) -> bool:
    """Whether `value` may hold what is no number: in no time, where a walk through a large run would take long."""
    try:
        return _NO_NUMBER.search(msgspec.msgpack.encode(value)) is not None
    except OverflowError:  # of an integer beyond 64 bits
        return True


def _not_finite(value: Any, place: str = "$") -> str | None:
    """Where in `value` a number is not finite."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    if isinstance(value, dict):
        parts: Iterable[tuple[object, Any]] = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    else:
        return None
    found = (_not_finite(one, f"{place}.{name}") for name, one in parts)
    return next((one for one in found if one is not None), None)


def decode_json(kind: type[V], data: bytes, what: str) -> V:
    """Strictly decode JSON `data` as `kind`; raises `BadInput` that names `what` and the path of the fault."""
    try:
        return msgspec.json.decode(data, type=prepared(kind))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(kind, what, error) from error


def decode_canonical_json(kind: type[V], data: bytes, what: str) -> V:
    """Like `decode_json`, and refuses bytes that are not the canonical encoding of what they say.

    A field with a default may be missing: an earlier release, which did not know it, wrote the bytes.
    """
    value = decode_json(kind, data, what)
    if not is_written(value, data):
        raise BadInput(f"{what} is not in canonical form", code="value.not_canonical", cure="Send the bytes unchanged.")
    return value


def is_written(value: object, data: bytes, encode: Callable[[object], bytes] = canonical_json) -> bool:
    """Whether `data`, of which `value` was read, is how `encode` writes it.

    A field with a default may be missing, see `decode_canonical_json`.
    """
    if encode(value) == data:
        return True
    return encode(_said(msgspec.to_builtins(value, str_keys=True), msgspec.json.decode(data))) == data


def _said(whole: Any, written: Any) -> Any:
    """`whole` without the fields that are not `written`, which were filled in when it was read."""
    if isinstance(whole, dict) and isinstance(written, dict):
        return {key: _said(whole[key], written[key]) for key in whole if key in written}
    if isinstance(whole, list | tuple) and isinstance(written, list) and len(whole) == len(written):
        return [_said(one, other) for one, other in zip(whole, written, strict=True)]
    return whole


def decode_toml(kind: type[V], text: str, what: str) -> V:
    """Strictly decode TOML `text` as `kind`; raises `BadInput` that names `what` and the path of the fault."""
    try:
        fields = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(f"{what} is not valid TOML: {error}", code="value.toml") from error
    return convert(kind, fields, what)


def convert(kind: type[V], fields: Any, what: str) -> V:
    """Strictly turn plain mappings, lists and scalars into `kind`; raises `BadInput` as `decode_json` does."""
    try:
        return msgspec.convert(fields, type=prepared(kind))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _bad(kind, what, error) from error


def convert_options(
    kind: type[S], options: Mapping[str, Any], what: str, owner: str, beside: Collection[str] = ()
) -> S:
    """`convert` of options that a person writes; what it raises names all that `owner` has, those `beside` too."""
    try:
        return convert(kind, options, what)
    except BadInput as error:
        names = (*(field.encode_name for field in msgspec.structs.fields(kind)), *beside)
        cure = f"{owner} has: {', '.join(names)}. Correct the one that is named."
        raise BadInput(error.what, code=error.code, cure=cure) from error


def _bad(kind: Any, what: str, error: Exception) -> BadInput:
    choices = ", ".join(str(choice) for choice in _choices(kind, str(error)))
    cure = f"Choose one of: {choices}." if choices else "Correct the field that is named."
    return BadInput(f"{what} cannot be read: {error}", code="value.invalid", cure=cure)


def _choices(kind: Any, said: str) -> tuple[Any, ...]:
    """What a field may hold of which msgspec said that it holds none of its choices; empty for other faults."""
    found = re.search(r"Invalid enum value .* - at `\$(.*)`", said)
    if found is None:
        return ()
    infos = [msgspec.inspect.type_info(kind)]
    for step in re.findall(r"\.([^.\[\]`]+)|\[[^\]]*\]", found[1]):
        infos = [inner for info in infos for inner in _inside(info, step)]
    return tuple(value for info in infos for alternative in _alternatives(info) for value in _values(alternative))


def _alternatives(info: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, ...]:
    return info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)


def _inside(info: msgspec.inspect.Type, field: str) -> Iterator[msgspec.inspect.Type]:
    """The types of a field, or of the elements where no field is named."""
    for one in _alternatives(info):
        if isinstance(one, msgspec.inspect.StructType):
            yield from (each.type for each in one.fields if each.encode_name == field)
        elif isinstance(one, msgspec.inspect.VarTupleType | msgspec.inspect.CollectionType):
            yield one.item_type
        elif isinstance(one, msgspec.inspect.DictType):
            yield one.value_type


def _values(info: msgspec.inspect.Type) -> tuple[Any, ...]:
    if isinstance(info, msgspec.inspect.LiteralType):
        return info.values
    if isinstance(info, msgspec.inspect.EnumType):
        return tuple(each.value for each in info.cls)
    return ()

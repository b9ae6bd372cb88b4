"""A plan as a person's file: TOML that `aimass run submit` and `aimass simulate` take. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from aimass.proto.plan import PlanDraft

__all__ = ["written_plan"]


def written_plan(draft: PlanDraft, remarks: Sequence[str] = ()) -> str:
    """The draft as TOML with remarks above it; what has its usual value is left out. `read_plan_draft` reads it."""
    above = [f"# {line}" for text in remarks for line in text.splitlines()]
    return "\n".join([*above, *_section(_said(draft))]) + "\n"


class _Section(dict[str, Any]):
    """What stands under a heading of its own."""


def _said(value: Any) -> Any:
    """Records as sections without what is usual, the rest as JSON has it."""
    if isinstance(value, msgspec.Struct):
        fields = {one.name: one for one in msgspec.structs.fields(value)}
        kept = {name: getattr(value, name) for name, one in fields.items() if not _usual(one, getattr(value, name))}
        return _Section({fields[name].encode_name: _said(part) for name, part in kept.items() if part is not None})
    if isinstance(value, list | tuple):
        return [_said(one) for one in value]
    return msgspec.to_builtins(value)


def _usual(field: msgspec.structs.FieldInfo, value: object) -> bool:
    if field.default_factory is not msgspec.NODEFAULT:
        return bool(value == field.default_factory())
    return field.default is not msgspec.NODEFAULT and bool(value == field.default)


def _section(fields: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """Its values, then the sections in it: TOML counts what follows a heading to that."""
    below = {key: part for key, part in fields.items() if isinstance(part, _Section) or _is_sections(part)}
    for key, part in fields.items():
        if key not in below:
            yield f"{_key(key)} = {_value(part)}"
    for key, part in below.items():
        whole = f"{name}.{_key(key)}" if name else _key(key)
        heading = f"\n[{whole}]" if isinstance(part, _Section) else f"\n[[{whole}]]"
        for one in [part] if isinstance(part, _Section) else part:
            yield heading
            yield from _section(one, whole)


def _is_sections(part: object) -> bool:
    return isinstance(part, list) and bool(part) and all(isinstance(one, _Section) for one in part)


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _text(key)


def _value(part: Any) -> str:
    if isinstance(part, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(one)}" for key, one in part.items()) + " }"
    if isinstance(part, list):
        return "[" + ", ".join(_value(one) for one in part) + "]"
    return _text(part) if isinstance(part, str) else repr(part) if isinstance(part, float) else json.dumps(part)


def _text(text: str) -> str:
    """JSON's quoting is TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

"""Values that a Flower app is configured by, as people write them and Flower reads them: one flat table of scalars."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from aimass.proto.errors import BadInput
from aimass.proto.values import Scalar

__all__ = ["flatten", "parse_config"]

_PAIR: Final = re.compile(r"(\S+?)=('[^']*'|\"[^\"]*\"|\S+)")  # as Flower finds them


def flatten(values: object, what: str) -> dict[str, Scalar]:
    """Nested tables as Flower flattens them: keys joined by dots. Raises `BadInput` for what is no scalar."""
    return dict(_flat(values, what))


def parse_config(texts: Sequence[str], what: str) -> dict[str, Scalar]:
    """`'key=1 name="text"'`, once or several times, or one TOML file: values as `flwr run --run-config` reads them.

    Raises `BadInput` for what is no such value, and for text between values, which Flower passes over.
    """
    if len(texts) == 1 and texts[0].endswith(".toml"):
        return _toml_values(Path(texts[0]).expanduser().read_text("utf-8"), what)
    values: dict[str, Scalar] = {}
    for text in texts:
        if (rest := _PAIR.sub("", text).strip()) or text.endswith(".toml"):
            raise _no_config(f"{what} cannot be read: it is no list of key=value, nor one TOML file", rest or text)
        values |= _toml_values("\n".join(f"{key} = {value}" for key, value in _PAIR.findall(text)), what)
    return values


def _toml_values(text: str, what: str) -> dict[str, Scalar]:
    try:
        return flatten(tomllib.loads(text), what)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _no_config(f"{what} cannot be read: {error}") from error


def _flat(values: object, what: str, above: str = "") -> Iterator[tuple[str, Scalar]]:
    if not isinstance(values, dict):
        raise _no_config(f"{what} cannot be read: it is no table")
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, dict):
            yield from _flat(value, what, f"{name}.")
        elif isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
            yield name, value
        else:
            raise _no_config(f"{what} cannot be read: `{name}` is no int, finite float, bool or str", value)


def _no_config(what: str, value: object = None) -> BadInput:
    return BadInput(
        what, code="app.config", value=value, cure="Give such values as --run-config 'key=1 name=\"text\"'."
    )

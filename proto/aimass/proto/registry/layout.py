"""Where everything stands in a registry, below the URL of any object store.

NAME/versions/00000004.json              a `ModelVersion`, signed, by conditional create
NAME/parameters/SHA256.safetensors       its parameters
NAME/reports/SHA256.json                 what is too large for its document: the run's manifest, smoke inputs
NAME/aliases/champion/00000007.json      an `Alias`, signed; the highest number wins
NAME/rules/00000002.json                 what a version has to fulfil to be promoted, signed; the highest wins
NAME/gc/00000001.json                    what nothing refers to, and since when
"""

from __future__ import annotations

import dataclasses
import re
from typing import Final

import msgspec

from aimass.proto.errors import BadInput
from aimass.proto.names import Name
from aimass.proto.registry.entries import CHAMPION, AliasName

__all__ = [
    "Reference",
    "alias_prefix",
    "aliases_prefix",
    "number_of",
    "parameters_key",
    "parameters_prefix",
    "read_reference",
    "report_key",
    "reports_prefix",
    "rules_prefix",
    "versions_prefix",
]

_DOCUMENT: Final = re.compile(r"(?:.*/)?([0-9]{8})\.json")


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """A version as a person names it: `heart@4` by number, `heart@champion` by alias; exactly one of the two is set."""

    name: str
    alias: str = ""
    number: int = 0

    def __str__(self) -> str:
        return f"{self.name}@{self.alias or self.number}"


def read_reference(text: str) -> Reference:
    """What NAME, NAME@ALIAS or NAME@N means; NAME alone is its champion. Raises `BadInput` as `registry.reference`."""
    name, at, which = text.partition("@")
    try:
        msgspec.convert(name, Name)
        if which.isascii() and which.isdigit() and 0 < int(which) < 10**8 and which[0] != "0":
            return Reference(name, number=int(which))
        return Reference(name, alias=msgspec.convert(which if at else CHAMPION, AliasName))
    except msgspec.ValidationError:
        raise BadInput(
            "this names no version of a model",
            code="registry.reference",
            value=text,
            limit="NAME, NAME@ALIAS or NAME@NUMBER",
            cure="For example heart, heart@champion or heart@4.",
        ) from None


def versions_prefix(name: str) -> str:
    """The folder of a model's versions, for `Numbered`."""
    return f"{name}/versions"


def aliases_prefix(name: str) -> str:
    """The folder of all aliases of a model."""
    return f"{name}/aliases"


def alias_prefix(name: str, alias: str) -> str:
    """The folder of one alias, for `Numbered`."""
    return f"{name}/aliases/{alias}"


def rules_prefix(name: str) -> str:
    """The folder of a model's rules, for `Numbered`."""
    return f"{name}/rules"


def parameters_prefix(name: str) -> str:
    """Where parameters stand."""
    return f"{name}/parameters/"


def parameters_key(name: str, digest: str) -> str:
    """Where the parameters of this digest stand."""
    return f"{name}/parameters/{digest}.safetensors"


def reports_prefix(name: str) -> str:
    """Where reports stand."""
    return f"{name}/reports/"


def report_key(name: str, digest: str) -> str:
    """Where the report of this digest stands."""
    return f"{name}/reports/{digest}.json"


def number_of(key: str) -> int | None:
    """The number of a numbered document, None for other keys."""
    found = _DOCUMENT.fullmatch(key)
    return int(found[1]) if found else None

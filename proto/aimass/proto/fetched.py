"""Public data sets that stand in the cache whole: what `aimass data get` left there, for whoever reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aimass.proto.values import Value, decode_json

__all__ = ["RECORD", "DataRecord", "cached"]

RECORD: Final = "record.json"
"""Written last: a folder without it is not whole."""


class DataRecord(Value, frozen=True):
    """What is in the cache: the set, its source and licence, and each file with its digest."""

    name: str
    package: str
    licence: str
    files: dict[str, str]


def cached(name: str, cache: Path) -> DataRecord | None:
    """The record of a set that is in the cache whole, else None."""
    record = cache / "data" / name / RECORD
    return decode_json(DataRecord, record.read_bytes(), str(record)) if record.is_file() else None

"""The demo's last word: the report of its model over the rows that no hospital trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pyarrow import parquet

from aimass.proto.manifest import Schema
from aimass.proto.rows import held_out_mask, read_table
from scripts.demos.house import House

__all__ = ["REPORT", "salt_of", "write_held_out", "write_report"]

REPORT: Final = "report.html"
HELD_OUT: Final = 0.3


def salt_of(split: int, partner: str) -> str:
    """The salt that fixes a hospital's held-out rows; public, as the data are."""
    return hashlib.sha256(f"{split}{partner}".encode()).hexdigest()


def write_held_out(source: Path, target: Path, schema: Schema, salt: str, share: float = HELD_OUT) -> int:
    """Those of a Parquet file's rows that a partner with this salt does not train on, as a file; returns how many."""
    with source.open("rb") as file:
        held = held_out_mask(read_table(schema, [file], "parquet"), bytes.fromhex(salt), share)
    parquet.write_table(parquet.read_table(source).filter(held), target)
    return int(held.sum())


def write_report(house: House, model: str, files: Mapping[str, Path], trust: Path, registry: str) -> Path:
    """`aimass explain report` of a registered version, as a person types it."""
    named = [word for name, path in files.items() for word in ("--rows", f"{name}={path}")]
    house.run(
        "explain", "report", model, *named, "--held-out", "--registry", registry, "--trust", str(trust),
        "--out", REPORT,
    )  # fmt: skip
    return house.folder / REPORT

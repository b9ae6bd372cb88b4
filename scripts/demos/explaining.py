"""The demo's last word: the report of its model over the rows that no hospital trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pyarrow import parquet

from aimass.proto.manifest import Schema
from aimass.proto.rows import held_out_mask, read_table
from scripts.demos.house import House
from scripts.demos.serving import TRUST, registry_of

__all__ = ["REPORT", "salt_of", "write_held_out", "write_report"]

REPORT: Final = "report.html"
HELD_OUT: Final = 0.3


def salt_of(split: int, partner: str) -> str:
    """The salt that fixes a hospital's held-out rows; public, as the data are."""
    return hashlib.sha256(f"{split}{partner}".encode()).hexdigest()


def write_held_out(source: Path, target: Path, schema: Schema, salt: str, *, independent: bool = False) -> int:
    """Those of a Parquet file's rows that a partner with this salt does not train on, as a file; returns how many.

    Where its data set has a budget each row is held out by itself: `independent`.
    """
    with source.open("rb") as file:
        table = read_table(schema, [file], "parquet")
    held = held_out_mask(table, bytes.fromhex(salt), HELD_OUT, independent=independent)
    parquet.write_table(parquet.read_table(source).filter(held), target)
    return int(held.sum())


def write_report(
    house: House, partners: Sequence[str], schema: Schema, split: int, version: str, *, independent: bool
) -> Path:
    """`aimass explain report` of a registered version over what nobody trained on, as a person types it."""
    named: list[str] = []
    for partner in partners:
        rows = house.folder / partner / "held-out.parquet"
        write_held_out(
            house.folder / partner / "rows.parquet", rows, schema, salt_of(split, partner), independent=independent
        )
        named += ["--rows", f"{partner}={rows}"]
    house.run(
        "explain", "report", version, *named, "--held-out", "--registry", registry_of(house), "--trust", TRUST,
        "--out", REPORT,
    )  # fmt: skip
    return house.folder / REPORT

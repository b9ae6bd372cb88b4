"""A round of federated averaging with two partners, against its floor and, where asked for, against Flower.

Ours: real processes, mutual TLS, the training child, the gate, the journal, spool and commit. The floor: raw copies of
the same bytes over mutual TLS, SHA-256 of each, one fsynced write of each update, in the same process layout.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

from scripts.benches.floor import floor_seconds
from scripts.benches.flower_peer import flower_seconds
from scripts.benches.row import Row
from scripts.demos.bulk import bulk_federation, round_seconds

_SIZES_MB: Final = (1, 100, 400)
_TIMES_FLOWER: Final = {1: 50.0, 100: 15.0, 400: 10.0}
_TIMES_FLOOR: Final = 2.0
_PARTNERS: Final = ("north", "south")


def measure(*, quick: bool, peers: bool = False) -> list[Row]:
    """Seconds of a round at 1, 100 and 400 MB (`quick`: 1 and 100), ratios in one run."""
    rows: list[Row] = []
    for megabytes in _SIZES_MB[:2] if quick else _SIZES_MB:
        size, rounds = megabytes * 1_000_000, 4 if quick else 8
        with tempfile.TemporaryDirectory() as folder:
            floor = floor_seconds(Path(folder) / "floor", size, len(_PARTNERS), rounds)
        with tempfile.TemporaryDirectory() as folder, bulk_federation(Path(folder), size, _PARTNERS) as house:
            ours = round_seconds(house, rounds, len(_PARTNERS))
        name = f"{megabytes} MB"
        rows.append(Row.of(f"round, {name}", ours, "s", None, "lower"))
        rows.append(Row.of(f"floor, {name}", floor, "s", None, "lower"))
        # Two round trips and three commits to the disk are the floor of a small round, and are not in this one.
        rows.append(Row.ratio(f"round / floor, {name}", ours, floor, _TIMES_FLOOR if megabytes > 1 else None, "lower"))
        if peers:
            sys.stderr.write(f"round: Flower at {name}\n")
            with tempfile.TemporaryDirectory() as folder:
                theirs = flower_seconds(Path(folder), size, 2 if quick else 4)
            rows.append(Row.of(f"Flower's round, {name}", theirs, "s", None, "lower"))
            rows.append(Row.ratio(f"Flower / round, {name}", theirs, ours, _TIMES_FLOWER[megabytes], "higher"))
    return rows

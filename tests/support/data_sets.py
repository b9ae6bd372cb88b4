"""Small data sets on object storage for tests, made by the same code as everybody's."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aimass.proto.data_sets import DataSetManifest, read_rule
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.objects import ObjectStore
from aimass.server.datasets.sources import Reading, open_sources
from aimass.server.datasets.split import Made, Wanted, split
from tests.support.clock import ManualClock

TOY = Schema(
    name="toy/1",
    columns=(
        Number(name="age", minimum=0, maximum=120),
        Number(name="dose", minimum=-10, maximum=10),
        Category(name="ward", values=("north", "south", "west")),
    ),
    label=Category(name="ill", values=("no", "yes")),
)


def toy_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows that fit `TOY`, with missing cells here and there, and whose each is under `who`."""
    draw = random.Random(seed)
    return [
        {
            "age": draw.choice(["", draw.randint(0, 120), draw.randint(0, 120)]),
            "dose": round(draw.uniform(-10, 10), 3),
            "ward": draw.choice(["north", "south", "west", ""]),
            "ill": draw.choice(["no", "no", "yes"]),
            "who": f"person {draw.randint(1, max(1, count // 3))}",
        }
        for _ in range(count)
    ]


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["age", "dose", "ward", "ill", "who"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def make(
    store: ObjectStore,
    sources: Sequence[str | Path],
    scratch: Path,
    rule: str = "rows:10",
    schema: Schema = TOY,
    *,
    name: str = "toy",
    reading: Reading | None = None,
    now: float = 1e9,
    bounds: tuple[int | None, int | None] = (None, None),
    seed: int = 0,
    limits: Any = None,
    **wanted: Any,
) -> Made:
    """The next version of `name`; `scratch` is made and left."""
    asked = Wanted(name, schema, read_rule(rule, seed, *bounds), **wanted)
    scratch.mkdir(parents=True, exist_ok=True)
    return split(store, asked, open_sources(sources), scratch, ManualClock(now), reading=reading, limits=limits)


def made_of(store: ObjectStore, folder: Path, count: int = 35, rule: str = "rows:10") -> DataSetManifest:
    """A data set `toy` of so many rows in `store`, from a file in `folder`."""
    return make(store, [write_csv(folder / "toy.csv", toy_rows(count))], folder / "scratch", rule).manifest

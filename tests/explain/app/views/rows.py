"""A registry with the heart task's first model, and some rows of two hospitals, for tests of pages."""

from __future__ import annotations

from pathlib import Path

from pyarrow import csv, parquet

from aimass.explain.app.settings import AppSettings, RowsSetting
from tests.support.datasets import dataset
from tests.support.served_heart import publish_heart

__all__ = ["heart_settings", "nuclei_settings"]


def heart_settings(folder: Path, rows: int = 40) -> AppSettings:
    """`both` has so many rows of each hospital, `few` three rows of one."""
    url, trust = publish_heart(folder)
    files = []
    for name in ("cleveland", "hungarian"):
        path = folder / f"{name}.csv"
        csv.write_csv(parquet.read_table(dataset("heart") / f"{name}.parquet").slice(0, rows), path)
        files.append(f"{name}={path}")
    few = folder / "few.csv"
    csv.write_csv(parquet.read_table(dataset("heart") / "cleveland.parquet").slice(0, 3), few)
    return AppSettings(
        registry=url,
        trust=str(trust),
        rows=(
            RowsSetting(name="both", files=tuple(files), task="heart", held_out=True),
            RowsSetting(name="few", files=(str(few),), task="heart"),
        ),
    )


def nuclei_settings(folder: Path, tiles: int = 3) -> AppSettings:
    """The first model of the nuclei task, which has learnt nothing, and so many tiles with their masks."""
    url, trust = publish_heart(folder, name="nuclei")
    path = folder / "tiles.parquet"
    parquet.write_table(parquet.read_table(dataset("nuclei") / "tiles.parquet").slice(0, tiles), path)
    rows = RowsSetting(name="tiles", files=(str(path),), task="nuclei", held_out=True)
    return AppSettings(registry=url, trust=str(trust), rows=(rows,))

"""A registry with a model, and few rows or images: quick to ask about."""

from __future__ import annotations

from pathlib import Path

from pyarrow import csv, parquet
from streamlit.testing.v1 import AppTest

from aimass.explain.app.settings import AppSettings, RowsSetting
from tests.support.datasets import dataset
from tests.support.served_heart import publish_heart

__all__ = ["fashion_settings", "heart_settings", "settled"]


def heart_settings(folder: Path, rows: int = 40) -> AppSettings:
    """Settings under which `hungarian` are a hospital's rows, and `unknown` the same without their outcomes."""
    url, trust = publish_heart(folder)
    whole = parquet.read_table(dataset("heart") / "hungarian.parquet")
    table = whole.take(list(range(0, len(whole), len(whole) // rows)))
    csv.write_csv(table, folder / "hungarian.csv")
    csv.write_csv(table.drop_columns(["disease"]), folder / "unknown.csv")
    named = [
        RowsSetting(name=name, files=(str(folder / f"{name}.csv"),), task="heart", held_out=True)
        for name in ("hungarian", "unknown")
    ]
    return AppSettings(registry=url, trust=str(trust), rows=tuple(named))


def fashion_settings(folder: Path, images: int = 12) -> AppSettings:
    """Settings under which `clothes` are images with a label each, and the model has learnt nothing."""
    url, trust = publish_heart(folder, name="fashion")
    parquet.write_table(
        parquet.read_table(dataset("fashion") / "test.parquet").slice(0, images), folder / "clothes.parquet"
    )
    rows = RowsSetting(name="clothes", files=(str(folder / "clothes.parquet"),), task="fashion", held_out=True)
    return AppSettings(registry=url, trust=str(trust), rows=(rows,))


def settled(page: AppTest) -> AppTest:
    """The page when nothing of it is computed any more: each run of it waits for its work a little."""
    while page.get("progress"):
        page.run()
    assert not page.exception
    return page

"""Real rows for tests, fetched once through the same door as everybody's."""

from __future__ import annotations

from pathlib import Path

from aimass.client.data_get import cache_folder, get


def dataset(name: str) -> Path:
    """The folder with the set's Parquet files."""
    return get(name, cache_folder())[0]

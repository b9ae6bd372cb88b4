"""Rows are brought together by key in bounded memory: sorted runs on the disk, read back key by key.

The shuffle of MapReduce (Dean and Ghemawat 2004, section 4.2 and 4.4) on one machine. Rows of a key keep their order.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from aimass.proto.durable import disk_errors, make_folder
from aimass.proto.errors import LimitExceeded
from aimass.proto.rows import Table, typed
from aimass.server.datasets.cutting import joined
from aimass.server.datasets.dealing import Keys
from aimass.server.datasets.shard_bytes import row_bytes, to_arrow

__all__ = ["Shuffle", "TooMany"]


class TooMany(LimitExceeded):
    """One key has more rows, or bytes, than it may; `key` says which."""

    def __init__(self, key: int) -> None:
        self.key = key
        super().__init__("a key of a shuffle has too many rows", code="dataset.shuffle", value=key)


class Shuffle:
    """Rows by key in a folder that is this shuffle's alone; no key may exceed the bounds."""

    def __init__(self, folder: Path, person: str | None, most_rows: int, most_bytes: int, buffer_bytes: int) -> None:
        self._folder, self._person = make_folder(folder), person
        self._most_rows, self._most_bytes, self._buffer_bytes = most_rows, most_bytes, buffer_bytes
        self._rows: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()
        self._held: list[tuple[Table, Keys]] = []
        self._held_bytes = 0
        # Each run's file, and the record batch in it that a key's rows are.
        self._runs: list[tuple[Path, dict[int, int]]] = []

    @property
    def keys(self) -> list[int]:
        """All keys that have rows."""
        return list(self._rows)

    def add(self, table: Table, keys: Keys) -> None:
        """Take rows with their keys; raises `TooMany`."""
        sizes = row_bytes(table)
        distinct, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
        in_bytes = np.bincount(places, weights=sizes, minlength=len(distinct)).astype(np.int64)
        for key, rows, size in zip(distinct.tolist(), counts.tolist(), in_bytes.tolist(), strict=True):
            self._rows[key] += rows
            self._bytes[key] += size
            if self._rows[key] > self._most_rows or self._bytes[key] > self._most_bytes:
                raise TooMany(key)
        self._held.append((table, keys))
        self._held_bytes += int(sizes.sum())
        if self._held_bytes >= self._buffer_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what is held as one run."""
        if not self._held:
            return
        keys = np.concatenate([keys for _, keys in self._held])
        order = np.argsort(keys, kind="stable")
        table = joined([table for table, _ in self._held]).take(order)
        self._held, self._held_bytes = [], 0
        distinct, starts = np.unique(keys[order], return_index=True)
        ends = [*starts[1:].tolist(), len(keys)]
        path = self._folder / f"{len(self._runs):06}.arrow"
        (rows,) = to_arrow(table, self._person).to_batches()
        with (
            disk_errors("a shuffle's rows"),
            pa.OSFile(str(path), "wb") as file,
            pa.ipc.new_file(file, rows.schema) as run,
        ):
            for start, end in zip(starts.tolist(), ends, strict=True):
                run.write_batch(rows.slice(start, end - start))
        self._runs.append((path, {key: place for place, key in enumerate(distinct.tolist())}))
        self._schema = table.schema

    def take(self, key: int) -> Table:
        """The rows of a key, in the order in which they came; `flush` before the first."""
        batches = []
        for path, places in self._runs:
            if key in places:
                with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as run:
                    batches.append(run.get_batch(places[key]))
        return typed(self._schema, pa.Table.from_batches(batches), self._person)

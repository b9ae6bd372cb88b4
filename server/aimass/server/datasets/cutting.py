"""Rows that come in batches of any size are cut where a rule says, so that the cuts do not depend on the batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from aimass.proto.errors import LimitExceeded
from aimass.proto.rows import Table
from aimass.server.datasets.shard_bytes import row_bytes

__all__ = ["cut", "joined", "too_many", "whole"]


def cut(tables: Iterable[Table], most_rows: int, most_bytes: int) -> Iterator[Table]:
    """The rows in their order, in pieces that are as long as both bounds let them be; no piece is empty.

    Raises `LimitExceeded` for one row that is larger than `most_bytes`.
    """
    held: list[Table] = []
    rows = size = 0
    for table in tables:
        before = np.concatenate([[0], np.cumsum(row_bytes(table))])  # bytes before each row, and of all
        start = 0
        while start < table.rows:
            fitting = int(np.searchsorted(before, before[start] + most_bytes - size, side="right")) - 1
            end = min(fitting, start + most_rows - rows)
            if end > start:
                held.append(table.take(slice(start, end)))
                rows, size, start = rows + end - start, size + int(before[end] - before[start]), end
            if start < table.rows:
                if not held:
                    raise _too_large(int(before[start + 1] - before[start]), most_bytes)
                yield joined(held)
                held, rows, size = [], 0, 0
    if held:
        yield joined(held)


def whole(tables: Iterable[Table], most_rows: int, most_bytes: int, what: str) -> Iterator[Table]:
    """The rows as one piece, none where there are none; raises `LimitExceeded` where they are more than a piece may be.

    `what` names the rows that have to stay together.
    """
    pieces = cut(tables, most_rows, most_bytes)
    first = next(pieces, None)
    if first is None:
        return
    if next(pieces, None) is not None:
        raise too_many(what, most_rows, most_bytes)
    yield first


def too_many(what: str, most_rows: int, most_bytes: int) -> LimitExceeded:
    """Rows that have to stay together are no shard."""
    return LimitExceeded(
        "the rows of one shard are more than a shard may have",
        code="dataset.shard_limit",
        value=what,
        limit=f"{most_rows} rows, {most_bytes} bytes as a trainer holds them",
        cure="Deal them to more shards, cut them by rows or size, or allow more: --most-rows, --most-bytes.",
    )


def joined(tables: Sequence[Table]) -> Table:
    """Tables of one schema as one."""
    first = tables[0]
    columns = {name: np.concatenate([table.columns[name] for table in tables]) for name in first.columns}
    persons = [table.persons for table in tables if table.persons is not None]
    return dataclasses.replace(first, columns=columns, persons=np.concatenate(persons) if persons else None)


def _too_large(size: int, most_bytes: int) -> LimitExceeded:
    return LimitExceeded(
        "one row is larger than a shard may be",
        code="dataset.row_size",
        value=f"{size} bytes",
        limit=f"{most_bytes} bytes",
        cure="Allow larger shards: --most-bytes.",
    )

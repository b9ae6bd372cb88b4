"""One shard's rows as bytes that are always the same, and what they hold: labels, statistics, hashes of rows."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet

from aimass.proto.column_statistics import (
    CategoryStatistics,
    ColumnStatistics,
    ImageStatistics,
    MaskStatistics,
    NumberStatistics,
    TextStatistics,
)
from aimass.proto.manifest import UNLABELLED, Category, Column, Image, Label, Mask, Number, Text
from aimass.proto.rows import Table

__all__ = ["FORMAT", "parquet_bytes", "row_bytes", "statistics_of", "to_arrow"]

FORMAT: Final = f"shards 1, pyarrow {pa.__version__}"
"""What writes the bytes: equal rows give equal bytes under an equal format, and perhaps others under another."""
_GROUP_BYTES: Final = 8 << 20
_GROUP_ROWS: Final = 65_536
_BINS: Final = 20
_LEVEL: Final = 3


def parquet_bytes(table: Table, person: str | None) -> memoryview:
    """The rows as a Parquet file in memory: compressed by zstd, in groups that a reader takes one by one."""
    arrow = to_arrow(table, person)
    width = int(row_bytes(table).max(initial=1))
    sink = pa.BufferOutputStream()
    parquet.write_table(
        arrow,
        sink,
        row_group_size=min(_GROUP_ROWS, max(1, _GROUP_BYTES // width)),
        compression="zstd",
        compression_level=_LEVEL,
        store_schema=False,
    )
    return memoryview(sink.getvalue()).cast("B")  # Arrow's are signed, and some stores take those for a list


def to_arrow(table: Table, person: str | None) -> Any:
    """Typed columns as Arrow's, each in one piece: what is missing is null."""
    columns = {
        column.name: _arrow(column, table.columns[column.name])
        for column in (*table.schema.columns, table.schema.label)
    }
    if person is not None:
        columns[person] = pa.array(table.persons, pa.string())
    return pa.table(columns)


def _arrow(column: Column | Label, values: npt.NDArray[Any]) -> Any:
    match column:
        case Number():
            return pa.array(values, pa.float64(), mask=np.isnan(values))
        case Category():
            indices = pa.array(values, pa.int64(), mask=values < 0)
            return pa.array(column.values, pa.string()).take(indices)
        case Text():
            return pa.array(values, pa.string())
        case Image() | Mask():
            width = int(np.prod(column.shape))
            pixels = pa.py_buffer(np.ascontiguousarray(values))
            return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(values), [None, pixels])


def row_bytes(table: Table) -> npt.NDArray[np.int64]:
    """What a trainer holds for each row: int64 [rows]; a number or category 8 bytes, an image its pixels, a text its
    characters in UTF-8."""
    sizes = np.zeros(table.rows, np.int64)
    for column in (*table.schema.columns, table.schema.label):
        match column:
            case Image() | Mask():
                sizes += int(np.prod(column.shape))
            case Text():
                sizes += np.array([len(text.encode()) for text in table.columns[column.name]], np.int64)
            case _:
                sizes += 8
    return sizes


def statistics_of(table: Table) -> tuple[ColumnStatistics, ...]:
    """By column, in the schema's order, label last."""
    return tuple(
        _statistics(column, table.columns[column.name]) for column in (*table.schema.columns, table.schema.label)
    )


def _statistics(column: Column | Label, values: npt.NDArray[Any]) -> ColumnStatistics:
    match column:
        case Number():
            return _of_numbers(column, values)
        case Category():
            counts = np.bincount(values[values >= 0], minlength=len(column.values)).tolist()
            return CategoryStatistics(
                column=column.name,
                present=sum(counts),
                missing=len(values) - sum(counts),
                counts=dict(zip(column.values, counts, strict=True)),
            )
        case Mask():
            of_place = np.bincount(values.reshape(-1), minlength=UNLABELLED + 1)
            return MaskStatistics(
                column=column.name,
                present=len(values),
                unlabelled=int(of_place[UNLABELLED]),
                pixels=dict(zip(column.values, of_place.tolist(), strict=False)),
            )
        case Image():
            # Exact in 64 bits up to 2.8e14 pixels, which no shard has.
            pixels = values.reshape(-1)
            of_value = np.bincount(pixels, minlength=256)
            scale = np.arange(256)
            return ImageStatistics(
                column=column.name,
                present=len(values),
                pixels=pixels.size,
                total=int(of_value @ scale),
                squares=int(of_value @ (scale * scale)),
            )
        case Text():
            lengths = [len(text) for text in values]
            return TextStatistics(
                column=column.name,
                present=len(values),
                shortest=min(lengths),
                longest=max(lengths),
                characters=sum(lengths),
            )


def _of_numbers(column: Number, values: npt.NDArray[np.float64]) -> NumberStatistics:
    present = values[~np.isnan(values)]
    mean = math.fsum(present) / len(present) if len(present) else 0.0  # exact sums are the same on every machine
    counts, _ = np.histogram(present, bins=_BINS, range=(column.minimum, column.maximum))
    return NumberStatistics(
        column=column.name,
        present=len(present),
        missing=len(values) - len(present),
        minimum=float(present.min()) if len(present) else None,
        maximum=float(present.max()) if len(present) else None,
        mean=mean,
        squares=math.fsum((present - mean) ** 2),
        counts=tuple(counts.tolist()),
    )

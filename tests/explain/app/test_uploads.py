"""Rows that a viewer brings: bounded also where they are packed small, and refused without what stands in them."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from aimass.explain.app.uploads import read_upload
from aimass.proto.errors import BadInput, LimitExceeded
from tests.support.datasets import dataset
from tests.support.served_heart import TASK

MIB = 1 << 20
ROWS = parquet.read_table(dataset("heart") / "hungarian.parquet").slice(0, 5)


class File:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def getvalue(self) -> bytes:
        return self.data


def packed(table: pa.Table) -> bytes:
    out = io.BytesIO()
    parquet.write_table(table, out, compression="zstd")
    return out.getvalue()


def read(data: bytes, name: str, most: int = MIB) -> int:
    return len(read_upload(File(data), name, len(data), TASK.schema, most))


def test_csv_and_parquet_are_read() -> None:
    out = io.BytesIO()
    csv.write_csv(ROWS, out)
    assert read(out.getvalue(), "mine.csv") == read(packed(ROWS), "mine.parquet") == 5


def test_a_small_file_of_very_many_rows_is_refused_before_it_is_read() -> None:
    many = pa.concat_tables([ROWS] * 120_000).combine_chunks()
    data = packed(many)
    assert len(data) < MIB
    with pytest.raises(LimitExceeded, match="600,000 rows"):
        read(data, "bomb.parquet")


def test_a_large_file_and_one_that_is_none_are_refused() -> None:
    with pytest.raises(LimitExceeded):
        read(packed(ROWS), "mine.parquet", most=100)
    with pytest.raises(BadInput):
        read(b"PAR1 no PAR1", "mine.parquet")


def test_a_cell_that_does_not_fit_is_named_by_row_and_column_and_never_repeated() -> None:
    data = b"age,sex\nMiller,Male\n"
    with pytest.raises(BadInput) as raised:
        read(data, "mine.csv")
    assert "Miller" not in raised.value.sentence()

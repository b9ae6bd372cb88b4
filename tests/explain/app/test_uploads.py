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


def repeated(column: str, text: str, rows: int) -> bytes:
    """Rows that hold one long text each, which stands in the file once."""
    many = pa.concat_tables([ROWS] * (rows // len(ROWS))).combine_chunks()
    place = pa.array([0] * rows, pa.int32())
    cells = pa.DictionaryArray.from_arrays(place, pa.array([text]))
    return packed(
        many.drop_columns([name for name in [column] if name in many.column_names]).append_column(column, cells)
    )


@pytest.mark.parametrize("column", ["sex", "beside the schema"])
def test_a_text_that_stands_in_a_file_once_and_in_every_row_is_counted_as_often_as_it_is_read(column: str) -> None:
    data = repeated(column, "x" * 1_000, 20_000)
    assert len(data) < MIB
    with pytest.raises(LimitExceeded, match="MiB unpacked"):
        read(data, "bomb.parquet")


def test_columns_of_fixed_width_are_counted_by_their_rows() -> None:
    many = pa.concat_tables([ROWS] * 4_000).combine_chunks()
    wide = many.append_column("wide", pa.array([b"x" * 1_000] * 20_000, pa.binary(1_000)))
    with pytest.raises(LimitExceeded, match="MiB unpacked"):
        read(packed(wide), "bomb.parquet")


def test_a_column_of_lists_is_refused_before_it_is_read() -> None:
    with pytest.raises(BadInput) as raised:
        read(packed(ROWS.append_column("list", pa.array([[0] * 1_000] * 5))), "mine.parquet")
    assert raised.value.code == "app.upload_lists"


def test_a_csv_file_has_no_more_rows_than_another() -> None:
    with pytest.raises(LimitExceeded, match="rows"):
        read(b"age\n" + b"1\n" * 250_000, "mine.csv")


def test_texts_beside_the_schema_do_not_keep_a_file_of_a_usual_size_out() -> None:
    assert read(repeated("name", "Miller", 5_000), "mine.parquet") == 5_000

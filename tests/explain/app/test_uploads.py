"""Rows that a viewer brings: bounded also where they are packed small, and refused without what stands in them."""

from __future__ import annotations

import io
import struct

import pyarrow as pa
import pytest
from pyarrow import csv, parquet
from streamlit.testing.v1 import AppTest

from aimass.explain.app.upload_trial import _judged
from aimass.explain.app.uploads import _READING, read_upload
from aimass.proto.errors import AimassError, BadInput, InternalError, LimitExceeded, to_wire
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


def test_a_small_file_of_very_many_rows_is_refused_before_the_app_reads_it() -> None:
    many = pa.concat_tables([ROWS] * 60_000).combine_chunks()
    data = packed(many)
    assert len(data) < MIB
    with pytest.raises(LimitExceeded, match="300,000 rows"):
        read(data, "bomb.parquet", most=16 * MIB)


def forged(data: bytes, rows: int, says: int) -> bytes:
    """A Parquet file whose footer says another number of rows: the first whole number of 64 bits that stands in it."""
    size = struct.unpack("<I", data[-8:-4])[0]
    footer = data[-8 - size : -8].replace(b"\x16" + varint(2 * rows), b"\x16" + varint(2 * says), 1)
    return data[: -8 - size] + footer + struct.pack("<I", len(footer)) + b"PAR1"


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def test_rows_are_counted_as_they_are_read_whatever_the_footer_says() -> None:
    data = forged(packed(pa.concat_tables([ROWS] * 60_000).combine_chunks()), 300_000, 5)
    assert parquet.ParquetFile(io.BytesIO(data)).metadata.num_rows == 5
    with pytest.raises(LimitExceeded, match="300,000 rows"):
        read(data, "bomb.parquet", most=16 * MIB)


def test_a_page_that_is_more_than_reading_may_take_is_not_unpacked_by_the_app() -> None:
    beside = pa.table({"note": ["x" * (MIB // 8)] * 2_000})
    out = io.BytesIO()
    parquet.write_table(beside, out, compression="zstd", use_dictionary=False, data_page_size=1 << 30)
    assert len(out.getvalue()) < MIB
    with pytest.raises(LimitExceeded, match="more than 72 MiB of memory"):
        read(out.getvalue(), "bomb.parquet")


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
    cells = pa.array([text] * rows)
    return packed(
        many.drop_columns([name for name in [column] if name in many.column_names]).append_column(column, cells)
    )


@pytest.mark.parametrize("column", ["sex", "beside the schema"])
def test_a_text_that_stands_in_a_file_once_and_in_every_row_is_counted_as_often_as_it_is_read(column: str) -> None:
    data = repeated(column, "x" * 5_000, 20_000)
    assert len(data) < MIB
    with pytest.raises(LimitExceeded, match="of memory"):
        read(data, "bomb.parquet")


def test_columns_of_lists_count_as_they_are_read() -> None:
    assert read(packed(ROWS.append_column("list", pa.array([[0] * 1_000] * 5))), "mine.parquet") == 5
    many = pa.concat_tables([ROWS] * 400).append_column("list", pa.array([[0] * 10_000] * 2_000))
    with pytest.raises(LimitExceeded, match="of memory"):
        read(packed(many), "bomb.parquet")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_a_csv_file_has_as_many_rows_as_another_however_its_lines_end(end: str, last: bool) -> None:
    full = csv_text(200_000, end) if last else csv_text(200_000, end).removesuffix(end)
    assert read(full.encode(), "mine.csv", most=16 * MIB) == 200_000
    with pytest.raises(LimitExceeded, match="got 200,001 rows; allowed: 200,000 rows"):
        read((csv_text(200_001, end)).encode(), "mine.csv", most=16 * MIB)


def csv_text(rows: int, end: str) -> str:
    names, line = ROWS.column_names, ",".join(str(cell or "") for cell in ROWS.slice(0, 1).to_pylist()[0].values())
    return end.join([",".join(names), *[line] * rows, ""])


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_csv_file_of_very_many_columns_is_refused_before_any_is_made(end: bytes) -> None:
    names = ",".join(ROWS.column_names).encode()
    cells = b"," * (len(ROWS.column_names) - 1)
    most = 4_096 + len(ROWS.column_names)
    beside = 4_096 * b","
    with pytest.raises(LimitExceeded, match=f"got {most + 1:,} columns; allowed: {most:,} columns"):
        read(names + beside + b"," + end + cells + beside + b"," + end, "mine.csv", most=16 * MIB)


def test_names_that_go_over_lines_are_left_to_the_trial() -> None:
    with pytest.raises(LimitExceeded, match="of memory"):
        read(b'"\n"' + b"," * 100_000 + b"\n" + b"," * 100_000 + b"\n", "mine.csv")


def test_no_more_than_two_files_are_read_at_once() -> None:
    free: list[bool] = []

    class Watched(File):
        def getvalue(self) -> bytes:
            free.append(_READING.acquire(blocking=False))
            return super().getvalue()

    data = packed(ROWS)
    with _READING:
        read_upload(Watched(data), "mine.parquet", len(data), TASK.schema, MIB)
    assert free == [False]


def test_texts_beside_the_schema_do_not_keep_a_file_of_a_usual_size_out() -> None:
    assert read(repeated("name", "Miller", 5_000), "mine.parquet") == 5_000


@pytest.mark.parametrize(
    ("code", "said", "kind"),
    [
        pytest.param(-6, b"", LimitExceeded, id="the reader aborts"),
        pytest.param(-9, b"rows 5", LimitExceeded, id="killed as it answers"),
        pytest.param(1, b"", InternalError, id="it does not start"),
        pytest.param(0, b"", InternalError, id="it says nothing"),
        pytest.param(0, to_wire(BadInput("no")), BadInput, id="the file is bad"),
    ],
)
def test_a_trial_that_does_not_say_how_many_rows_there_are_passes_no_file(
    code: int, said: bytes, kind: type[AimassError]
) -> None:
    with pytest.raises(kind):
        _judged(code, said, MIB)


def test_a_file_that_is_refused_is_not_read_again_when_its_page_runs_anew() -> None:
    def page() -> None:
        import io

        import streamlit as st

        from aimass.explain.app.uploads import _read_once
        from aimass.proto.errors import BadInput
        from tests.support.served_heart import TASK

        class Counted(io.BytesIO):
            file_id, name, size = "1", "mine.csv", 8

            def getvalue(self) -> bytes:
                st.session_state["reads"] = st.session_state.get("reads", 0) + 1
                return super().getvalue()

        try:
            _read_once(Counted(b"age\nold\n"), TASK.schema, 1 << 20)
        except BadInput as error:
            st.error(error.sentence())

    shown = AppTest.from_function(page).run(timeout=30)
    first = shown.error[0].value
    shown.run(timeout=30)
    assert shown.session_state["reads"] == 1
    assert shown.error[0].value == first
    assert "lacks columns" in first

"""Rows from files that people really have: every cell fits, or is named by row and column and never by content."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from aimass.proto.errors import BadInput
from aimass.proto.manifest import Category, Image, Number, Schema, Text
from aimass.proto.rows import Table, check, encode, held_out_mask, read_table, require

SCHEMA = Schema(
    name="small/1",
    columns=(
        Number(name="x", minimum=-5, maximum=10, missing_values=(9,)),
        Category(name="c", values=("a", "true", "3")),
    ),
    label=Category(name="y", values=("no", "yes"), required=True),
)


def csv(text: str | bytes) -> Table:
    return read_table(SCHEMA, [io.BytesIO(text.encode() if isinstance(text, str) else text)], "csv")


def table_of(**columns: object) -> io.BytesIO:
    sink = io.BytesIO()
    parquet.write_table(pa.table(columns), sink)
    sink.seek(0)
    return sink


@pytest.mark.parametrize(
    "text",
    [
        "x,c,y\n1,a,yes\n",
        "x,c,y\r\n1,a,yes\r\n",
        b"\xef\xbb\xbfx,c,y\n1,a,yes\n",
        'x,c,y\n"1","a","yes"\n',
        "more,y,x,c\nignored,yes,1,a\n",
        "x,c,y\n1,a,yes",
    ],
    ids=["plain", "crlf", "byte-order mark", "quoted", "other columns and order", "no last newline"],
)
def test_the_same_row_is_read_from_every_way_of_writing_it(text: str | bytes) -> None:
    table = require(csv(text))
    assert (table.columns["x"][0], table.columns["c"][0], table.columns["y"][0]) == (1.0, 0, 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "Empty CSV file"),
        (b"x,c,y\n1,a,yes\n1,secret\n", "row 2: Expected 3 columns, got 2"),
        (b"x,c,y\n1,secret\xff,yes\n", "invalid UTF8 data"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_cause_and_none_of_its_cells(text: bytes, told: str) -> None:
    with pytest.raises(BadInput) as refused:
        csv(text)
    assert refused.value.value == told
    assert "secret" not in refused.value.sentence()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("before", ["", "{end}", "\ufeff"], ids=["plain", "an empty line first", "byte-order mark"])
def test_a_row_of_too_many_cells_has_the_number_of_one_with_a_cell_that_does_not_fit(before: str, end: str) -> None:
    def told(row: str) -> str:
        with pytest.raises(BadInput) as refused:
            require(csv(before.format(end=end) + end.join(["x,c,y", "1,a,yes", "", row]) + end))
        return str(refused.value.value)

    assert told("old,a,yes").startswith("row 2, x:")
    assert told("1,a,yes,more") == "row 2: Expected 3 columns, got 4"


def test_a_table_of_names_alone_has_no_rows_and_can_be_looked_at() -> None:
    assert check(csv("x,c,y\n")).rows == 0


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b"\xff\xfe\x00\x01", b"x,c,y\n1,a\n", b"x,x,c,y\n1,1,a,yes\n", b"x,c,y\n\xff,a,yes\n", b"x,c\n1,a\n"],
    ids=["empty", "only a newline", "utf-16", "a cell short", "a column twice", "no utf-8", "no label"],
)
def test_a_file_that_is_no_table_of_the_schema_is_refused_by_name(text: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        require(csv(text))
    assert caught.value.code.startswith("rows.")


@pytest.mark.parametrize(
    ("cell", "value"), [("", np.nan), ("9", np.nan), ("nan", np.nan), ("-5", -5.0), (" 3 ", 3.0), ("1e0", 1.0)]
)
def test_numbers_and_their_ways_of_being_missing(cell: str, value: float) -> None:
    table = csv(f"x,c,y\n{cell},a,yes\n")
    assert table.findings == ()
    np.testing.assert_equal(table.columns["x"][0], value)


@pytest.mark.parametrize("cell", ["twelve", "10.01", "inf", "-inf", "1_0", "0x5", "1,5", "5 mmHg", "١"])
def test_what_is_no_number_of_the_schema_is_found_and_its_text_stays_here(cell: str) -> None:
    (finding,) = csv(f'x,c,y\n"{cell}",a,yes\n').findings
    assert (finding.row, finding.column) == (0, "x")
    assert cell not in repr(finding)
    with pytest.raises(BadInput) as caught:
        require(csv(f'x,c,y\n"{cell}",a,yes\n'))
    assert cell not in f"{caught.value.value} {caught.value.limit} {caught.value.cure}"


def test_parquet_gives_the_same_rows_as_csv_whatever_type_its_columns_have() -> None:
    text = require(csv("x,c,y\n1,true,yes\n,3,no\n"))
    typed = require(
        read_table(SCHEMA, [table_of(x=pa.array([1, None], pa.int8()), c=["true", "3"], y=["yes", "no"])], "parquet")
    )
    flags = require(read_table(SCHEMA, [table_of(x=[1.0], c=[True], y=["yes"])], "parquet"))
    numbers = require(read_table(SCHEMA, [table_of(x=[1.0], c=[3.0], y=["yes"])], "parquet"))
    for name in ("x", "c", "y"):
        np.testing.assert_array_equal(text.columns[name], typed.columns[name])
    assert (flags.columns["c"][0], numbers.columns["c"][0]) == (1, 2)


@pytest.mark.parametrize(
    "column", [pa.array([[1]]), pa.array([{"a": 1}]), pa.array([b"\xff"]), pa.array([10**9], pa.timestamp("s"))]
)
def test_a_parquet_column_of_another_kind_is_found_cell_by_cell(column: object) -> None:
    table = read_table(SCHEMA, [table_of(x=column, c=["a"], y=["yes"])], "parquet")
    assert [finding.column for finding in table.findings] == ["x"]


def test_files_of_one_set_that_differ_in_type_are_read_together_or_refused_by_name() -> None:
    one, other = table_of(x=[1], c=["a"], y=["yes"]), table_of(x=["1"], c=["a"], y=["yes"])
    with pytest.raises(BadInput, match="together"):
        read_table(SCHEMA, [one, other], "parquet")
    assert (
        read_table(SCHEMA, [table_of(x=[1], c=["a"], y=["no"]), table_of(x=[1.5], c=["a"], y=["no"])], "parquet").rows
        == 2
    )


@given(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from("a3"), st.booleans()), min_size=2, max_size=40),
    st.integers(0, 39),
)
def test_in_an_independent_split_one_row_less_moves_no_other(rows: list[tuple[int, str, bool]], gone: int) -> None:
    def sides(kept: list[tuple[int, str, bool]]) -> Counter[tuple[int, str, bool, bool]]:
        text = "x,c,y\n" + "".join(f"{x},{c},{'yes' if y else 'no'}\n" for x, c, y in kept)
        mask = held_out_mask(csv(text), bytes(32), 0.4, independent=True)
        return Counter((*row, bool(held)) for row, held in zip(kept, mask, strict=True))

    whole, less = sides(rows), sides([row for place, row in enumerate(rows) if place != gone % len(rows)])
    assert (whole - less).total() == 1
    assert (less - whole).total() == 0


def test_about_the_fraction_of_the_rows_is_held_out_one_by_one() -> None:
    text = "x,c,y\n" + "".join(f"{place % 9},a,yes\n" for place in range(2_000))
    held = held_out_mask(csv(text), bytes(32), 0.3, independent=True).sum()
    assert abs(held - 600) < 5 * (2_000 * 0.3 * 0.7) ** 0.5


def test_images_of_another_size_are_found() -> None:
    schema = Schema(name="i/1", columns=(Image(name="i", shape=(2, 2)),), label=SCHEMA.label)
    table = read_table(schema, [table_of(i=[b"1234", b"123", None], y=["yes", "no", "no"])], "parquet")
    assert [finding.row for finding in table.findings] == [1, 2]
    assert encode(table).images.shape == (3, 2, 2)  # type: ignore[union-attr]


LETTERS = Schema(
    name="letters/1",
    columns=(Text(name="text", longest=12),),
    label=Category(name="y", values=("no", "yes"), required=True),
)


def test_texts_are_read_as_they_are_and_over_several_lines() -> None:
    cells = ["Hello, you", "über\n日本", ' "so" ']
    quoted = "".join('"{}",yes\n'.format(cell.replace('"', '""')) for cell in cells)
    for source, format_ in (
        (io.BytesIO(f"text,y\n{quoted}".encode()), "csv"),
        (table_of(text=cells, y=["yes"] * 3), "parquet"),
    ):
        batch = encode(require(read_table(LETTERS, [source], format_)))
        assert batch.texts is not None
        assert batch.texts.tolist() == cells
        assert batch.take(slice(1, 2)).texts.tolist() == cells[1:2]  # type: ignore[union-attr]
        assert batch.size_bytes == 3 * 8 + sum(map(len, cells))


@pytest.mark.parametrize("cell", [None, "", "  ", "x" * 13])
def test_a_text_that_is_absent_or_too_long_is_found_by_its_place(cell: str | None) -> None:
    table = read_table(LETTERS, [table_of(text=["fine", cell], y=["yes", "no"])], "parquet")
    assert [(finding.row, finding.column) for finding in table.findings] == [(1, "text")]
    with pytest.raises(BadInput) as caught:
        require(table)
    assert "xx" not in str(caught.value)


def test_a_column_of_numbers_is_no_text() -> None:
    assert len(read_table(LETTERS, [table_of(text=[1.5], y=["yes"])], "parquet").findings) == 1


def test_texts_decide_over_the_split_wherever_they_stand() -> None:
    texts = [f"text {row}" for row in range(40)]
    there, back = (
        read_table(LETTERS, [table_of(text=order, y=["yes"] * 40)], "parquet") for order in (texts, texts[::-1])
    )
    held = held_out_mask(there, bytes(32), 0.25)
    assert held.sum() == 10
    assert np.array_equal(held, held_out_mask(back, bytes(32), 0.25)[::-1])
    assert check(there).duplicates == 0


def test_two_columns_of_texts_are_refused() -> None:
    two = Schema(name="two/1", columns=(Text(name="a"), Text(name="b")), label=LETTERS.label)
    with pytest.raises(BadInput) as caught:
        encode(read_table(two, [table_of(a=["x"], b=["y"], y=["no"])], "parquet"))
    assert caught.value.code == "rows.texts"


@given(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from("a3"), st.booleans()), min_size=1, max_size=40), st.randoms()
)
def test_equal_rows_are_told_apart_and_the_split_follows_the_rows_wherever_they_stand(
    rows: list[tuple[int, str, bool]], chance: object
) -> None:
    def split(order: list[tuple[int, str, bool]]) -> list[tuple[int, str, bool]]:
        text = "x,c,y\n" + "".join(f"{x},{c},{'yes' if y else 'no'}\n" for x, c, y in order)
        mask = held_out_mask(csv(text), bytes(32), 0.3)
        return sorted(row for row, held in zip(order, mask, strict=True) if held)

    shuffled = list(rows)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert split(rows) == split(shuffled)
    for label in (True, False):
        members = [row for row in rows if row[2] is label]
        assert len([row for row in split(rows) if row[2] is label]) == int(0.3 * len(members) + 0.5)


def whose(*persons: object, text: bool = False) -> Table:
    """A row for each, of which every cell is the same but the person."""
    count = len(persons)
    if text:
        lines = "".join(f"1,a,yes,{person}\n" for person in persons)
        return read_table(SCHEMA, [io.BytesIO(f"x,c,y,patient\n{lines}".encode())], "csv", "patient")
    columns = {"x": [1.0] * count, "c": ["a"] * count, "y": ["yes"] * count, "patient": pa.array(persons)}
    return read_table(SCHEMA, [table_of(**columns)], "parquet", "patient")


def test_a_persons_rows_are_known_by_text_and_whole_numbers_alike_and_never_reach_a_model() -> None:
    read = [
        whose(7, 8, 7),
        whose("7", " 8", "7 "),
        whose("7", "8", " 7", text=True),
        read_table(SCHEMA, [table_of(x=[1.0] * 3, c=["a"] * 3, y=["yes"] * 3, patient=pa.array(["7", "8", "7"]).dictionary_encode())], "parquet", "patient"),
    ]  # fmt: skip
    for table in read:
        assert require(table).persons.tolist() == ["7", "8", "7"]  # type: ignore[union-attr]
        assert check(table).rows_by_person == (1, 2)
        assert "patient" not in table.columns
        assert encode(table).numbers.shape == (3, 1)
        assert table.take(np.array([2])).persons.tolist() == ["7"]  # type: ignore[union-attr]


@pytest.mark.parametrize("table", [whose(7, None, None), whose("7", "", " "), whose("7", "", "", text=True)])
def test_rows_of_nobody_are_counted_and_their_place_is_told(table: Table) -> None:
    with pytest.raises(BadInput) as refused:
        require(table)
    assert "2 cells" in refused.value.sentence()
    assert refused.value.value == "; ".join(f"row {row}, patient: says of nobody whose row it is" for row in (2, 3))


def test_a_column_of_persons_that_is_absent_or_a_fraction_or_a_models_own_is_refused() -> None:
    with pytest.raises(BadInput) as refused:
        whose(7.5, 8.0)
    assert refused.value.code == "rows.person"
    assert "7.5" not in refused.value.sentence()
    with pytest.raises(BadInput) as refused:
        read_table(SCHEMA, [table_of(x=[1.0], c=["a"], y=["yes"])], "parquet", "patient")
    assert refused.value.code == "rows.columns"
    with pytest.raises(BadInput) as refused:
        read_table(SCHEMA, [table_of(x=[1.0], c=["a"], y=["yes"])], "parquet", "c")
    assert refused.value.code == "rows.person"


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(0, 30))
def test_a_person_is_on_one_side_of_the_split_alone_and_one_less_moves_nobody_else(
    persons: list[int], gone: int
) -> None:
    mask = held_out_mask(whose(*persons), bytes(32), 0.3)
    held, kept = (
        {p for p, side in zip(persons, mask, strict=True) if side is np.bool_(which)} for which in (True, False)
    )
    assert not held & kept
    left = [person for person in persons if person != gone]
    if left:
        again = held_out_mask(whose(*left), bytes(32), 0.3)
        assert {p for p, side in zip(left, again, strict=True) if side} == held - {gone}


def test_about_the_fraction_of_the_persons_is_held_out() -> None:
    mask = held_out_mask(whose(*range(4_000)), bytes(32), 0.3)
    assert abs(mask.sum() - 1_200) < 5 * (4_000 * 0.3 * 0.7) ** 0.5
    assert not held_out_mask(whose(*range(100)), bytes(32), 0.0).any()

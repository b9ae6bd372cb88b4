"""Columns that are converted at once are what their cells are one by one, and so are the findings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.cells import Finding, cell_by_cell, convert
from aimass.proto.manifest import Category, Column, Image, Number
from aimass.proto.whole_columns import by_distinct, images_at_once, numbers_at_once

NUMBER = Number(name="n", minimum=-100, maximum=1e6, missing_values=(-9, 7.5))
NEEDED = Number(name="n", minimum=-100, maximum=1e6, required=True)
CATEGORY = Category(name="c", values=("a", "true", "1", "2.5", "7", "b c"), missing_values=("?", "7"))
IMAGE = Image(name="i", shape=(2, 3))

TEXTS = st.one_of(
    st.sampled_from(["", "?", "a", "b c", "True", "FALSE", "true", "1", "7", "2.5", "nan", "inf", "-Infinity", "1_0", " 1", "1 ", "+1", "0x10", "1e3", "-9", ".5", "5.", "1e400", "-0", "１", "NaN(1)", "1e-400", "0.1", "999999.9999999999"]),
    st.floats(-200, 2e6).map(repr),
    st.text(max_size=4),
)  # fmt: skip
CELLS = st.one_of(
    st.tuples(st.just(pa.string()), st.lists(st.none() | TEXTS)),
    st.tuples(st.just(pa.large_string()), st.lists(st.none() | TEXTS)),
    st.tuples(st.just(pa.float64()), st.lists(st.none() | st.floats() | st.sampled_from([1.0, -9.0, 7.5, -0.0]))),
    st.tuples(st.just(pa.float32()), st.lists(st.none() | st.floats(width=32))),
    st.tuples(st.just(pa.int64()), st.lists(st.none() | st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-10, 10))),
    st.tuples(st.just(pa.uint8()), st.lists(st.none() | st.integers(0, 255))),
    st.tuples(st.just(pa.bool_()), st.lists(st.none() | st.booleans())),
    st.tuples(st.just(pa.null()), st.lists(st.none())),
)


def both(column: Column, values: Any) -> None:
    fast: list[Finding] = []
    slow: list[Finding] = []
    found = convert(column, values, fast)
    chunks = [values] if isinstance(values, pa.Array) else values.chunks
    row, parts = 0, []
    for chunk in chunks:
        parts.append(cell_by_cell(column, chunk, row, slow))
        row += len(chunk)
    expected = np.concatenate(parts)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()
    assert fast == slow
    assert [each.cell for each in fast] == [each.cell for each in slow]


@given(CELLS, st.sampled_from([NUMBER, NEEDED, CATEGORY]))
def test_any_cells_mean_what_they_mean_one_by_one(cells: tuple[pa.DataType, list[Any]], column: Column) -> None:
    kind, values = cells
    both(column, pa.array(values, kind))
    both(column, pa.chunked_array([pa.array(values[:2], kind), pa.array(values[2:], kind)]))


@given(st.lists(st.sampled_from(["a", "b c", "?", "x", "", None]), min_size=1))
def test_texts_by_their_place_in_a_dictionary_mean_the_same(values: list[str | None]) -> None:
    both(CATEGORY, pa.array(values, pa.string()).dictionary_encode())


@pytest.mark.parametrize("kind", [pa.binary(), pa.binary(6)])
def test_images_are_taken_where_they_stand(kind: pa.DataType) -> None:
    values = pa.array([bytes(range(start, start + 6)) for start in range(5)], kind)
    for part in (values, values[1:4], values[:0]):
        assert images_at_once(IMAGE.shape, part) is not None
        both(IMAGE, part)


def test_images_of_another_size_or_none_are_looked_at_one_by_one() -> None:
    for values in (pa.array([b"123456", b"12345"]), pa.array([None, b"123456"]), pa.array(["123456"])):
        assert images_at_once(IMAGE.shape, values) is None
        both(IMAGE, values)


def test_the_usual_columns_are_converted_at_once() -> None:
    assert numbers_at_once(NUMBER, pa.array(["1", None, "-9", "2.5"])) is not None
    assert numbers_at_once(NUMBER, pa.array([1.0, None, float("nan")])) is not None
    assert by_distinct(pa.array(["a", "b c", None] * 9), str) is not None


def test_a_column_without_chunks_is_empty() -> None:
    assert convert(NUMBER, pa.chunked_array([], pa.string()), []).shape == (0,)
    assert convert(IMAGE, pa.chunked_array([], pa.binary()), []).shape == (0, 2, 3)

"""Smoke inputs are nobody's rows, and are read back as what they were made as."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import BadInput
from aimass.proto.manifest import Category, Image, Number, Schema, Text
from aimass.proto.registry.entries import SmokeInputs
from aimass.proto.registry.smoke import made_up, smoke_inputs, table_of, tensors_of, worst_difference
from aimass.proto.rows import Table, encode
from aimass.proto.synthetic import synthetic_rows
from aimass.proto.task import Task
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.values import canonical_json, decode_canonical_json

SCHEMA = Schema(
    name="mixed/1",
    columns=(
        Number(name="age", minimum=0, maximum=120),
        Category(name="sex", values=("f", "m")),
        Image(name="scan", shape=(2, 3)),
        Text(name="letter", longest=200),
        Number(name="dose", minimum=-1, maximum=1, required=True),
    ),
    label=Category(name="ill", values=("no", "yes")),
)
PARAMETERS = Blob(encode_numpy({"w": np.ones(1, np.float32)}))


class Steady(Task):
    """Says the same of every row."""

    schema = SCHEMA

    def __init__(self, answer: float) -> None:
        self._answer = answer

    def predict(self, parameters: Blob, rows: Table) -> npt.NDArray[np.float64]:
        return np.full((rows.rows, 2), self._answer)


@given(st.integers(1, 20), st.integers(0, 1000))
def test_rows_are_read_back_as_they_were_made(rows: int, seed: int) -> None:
    written = SmokeInputs(columns=made_up(SCHEMA, rows, seed), expected=())
    read = decode_canonical_json(SmokeInputs, canonical_json(written), "them")
    batch, made = encode(table_of(SCHEMA, read.columns)), synthetic_rows(SCHEMA, rows, seed)
    assert np.array_equal(batch.numbers, made.numbers, equal_nan=True)
    assert np.array_equal(batch.categories, made.categories)
    assert batch.images is not None
    assert made.images is not None
    assert np.array_equal(batch.images, made.images)
    assert batch.texts is not None
    assert made.texts is not None
    assert batch.texts.tolist() == made.texts.tolist()


def test_tensors_hold_the_same_by_name() -> None:
    tensors = tensors_of(SCHEMA, made_up(SCHEMA, 50, 1))
    table = table_of(SCHEMA, made_up(SCHEMA, 50, 1))
    assert list(tensors) == [column.name for column in SCHEMA.columns]
    assert np.array_equal(tensors["age"], table.columns["age"], equal_nan=True)
    assert set(tensors["sex"]) == {b"f", b"m", b""}
    assert tensors["scan"].dtype == np.dtype(np.uint8)
    assert tensors["scan"].shape == (50, 2, 3)


def test_what_is_expected_is_what_the_model_says() -> None:
    smoke = smoke_inputs(Steady(0.5), PARAMETERS, rows=3)
    assert smoke.expected == ((0.5, 0.5),) * 3
    assert worst_difference(smoke, np.full((3, 2), 0.5 + 1e-7)) == pytest.approx(1e-7)


def test_a_model_that_does_not_answer_with_numbers_has_none() -> None:
    with pytest.raises(BadInput, match="does not answer with numbers"):
        smoke_inputs(Steady(math.nan), PARAMETERS)


@pytest.mark.parametrize("said", [np.full((3, 2), np.nan), np.full((3, 2), np.inf), np.zeros((2, 2)), np.zeros((3, 3))])
def test_no_number_and_another_shape_are_infinitely_far(said: npt.NDArray[np.float64]) -> None:
    assert worst_difference(smoke_inputs(Steady(0.5), PARAMETERS, rows=3), said) == math.inf


def test_large_numbers_are_held_to_as_many_digits() -> None:
    smoke = smoke_inputs(Steady(1e6), PARAMETERS, rows=1)
    assert worst_difference(smoke, np.full((1, 2), 1e6 + 0.1)) == pytest.approx(1e-7)


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("sex", ("x",)),
        ("age", ("old",)),
        ("scan", ("AAAA",)),
        ("scan", ("~",)),
        ("letter", (3.0,)),
        ("dose", (1.0, 2.0)),
    ],
)
def test_cells_that_do_not_fit_are_refused(column: str, cells: tuple[float | str, ...]) -> None:
    columns = {**made_up(SCHEMA, 1, 0), column: cells}
    with pytest.raises(BadInput) as told:
        table_of(SCHEMA, columns)
    assert told.value.code == "registry.smoke"

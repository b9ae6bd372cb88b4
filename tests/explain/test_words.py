"""Cells as people read them: enough digits that other things look other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.explain.rows import Feature
from aimass.explain.words import LABEL, apart, cell, counted, in_lines, shortened


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (2021, "2021"), (-9999, "-9999"), (10_000, "10,000"), (1_700_000_000, "1,700,000,000"), (36.96, "36.96"),
        (37.0, "37"), (1234.5, "1234.5"), (0.012345, "0.0123"), (0.0, "0"), (-0.0, "0"), (99.999, "100"),
    ],
)  # fmt: skip
def test_a_cell_stands_as_in_the_file(value: float, told: str) -> None:
    assert cell(value) == told


@given(st.lists(st.floats(-1e12, 1e12, allow_subnormal=False), min_size=2, max_size=8, unique=True))
def test_what_differs_is_told_apart(values: list[float]) -> None:
    told = apart(values)
    assert len(set(told)) == len({value + 0.0 for value in values})
    for word, value in zip(told, values, strict=True):
        assert math.isclose(float(word.replace(",", "")), value, rel_tol=0.01, abs_tol=0.01)


def test_a_range_of_hundredths_has_two_ends() -> None:
    assert Feature(name="temp", unit="°C").between(36.96, 37.0) == "36.96 to 37 °C"
    assert Feature(name="year").between(2019, 2020) == "2019 to 2020"
    assert apart([1.0, 1.0, 1.0001]) == ("1", "1", "1.0001")
    assert apart([np.nan, 1.0]) == ("none", "1")


def test_long_names_lose_their_middle_and_one_row_is_one() -> None:
    assert shortened("age", 12) == "age"
    short = shortened("serum creatinine concentration at admission", 24)
    assert len(short) <= 24
    assert short == "serum creatinin…dmission"
    assert counted(1, "row") == "1 row"
    assert counted(1200, "row") == "1,200 rows"


def test_values_stand_in_lines_of_a_labels_width_and_none_is_broken() -> None:
    values = "batch_size 14, learning_rate 0.0445, momentum 0.224, optimizer sgd, weight_decay 0.00443"
    assert in_lines(values, 4) == (
        "batch_size 14, learning_rate 0.0445,\nmomentum 0.224, optimizer sgd,\nweight_decay 0.00443"
    )
    assert in_lines(values, 1) == "batch_size 14, learning_rate 0.0445, …"
    assert in_lines("set as most runs", 4) == "set as most runs"
    assert max(map(len, in_lines(f"{'x' * 80} 1, y 2", 4).split("\n"))) <= LABEL

"""Rows by conditions as people write them, and by what a model says of them."""

from __future__ import annotations

import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.explain.conditions import rows_where
from aimass.explain.finding import Finding, Order, found_places, orders_for
from aimass.explain.rows import Feature, Rows
from aimass.proto.errors import BadInput, NotFound

FEATURES = (
    Feature(name="age", unit="years"),
    Feature(name="age at entry"),
    Feature(name="care", kind="category", values=("bed and board", "none", "age = 3")),
)
ROWS = Rows(FEATURES, np.array([[40.0, 1.0, 0.0], [57.0, np.nan, 1.0], [61.5, 3.0, np.nan], [np.nan, 4.0, 2.0]]))
OUTPUTS = ("no", "perhaps", "yes")
SAID = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4], [0.2, 0.5, 0.3]])
LABELS = np.array([2, 2, 0, -1])


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", [0, 1, 2, 3]),
        ("age >= 57", [1, 2]),
        ("age>=57 years", [1, 2]),
        ("age < 57 ; age at entry = 1", [0]),
        ("age at entry > 1", [2, 3]),
        ("age at entry is missing", [1]),
        ("age is known and age != 57", [0, 2]),
        ("care = bed and board and age <= 40", [0]),
        ("care != none", [0, 3]),
        ("care = age = 3", [3]),
        ("age > 1,000", []),
    ],
)
def test_conditions_are_read_as_people_write_them(text: str, rows: list[int]) -> None:
    assert np.flatnonzero(rows_where(ROWS, text)).tolist() == rows


@pytest.mark.parametrize(
    "text",
    ["weight > 3", "age", "age > old", "age ~ 3", "care > none", "care = nobody", "> 3", "age >= 57 and weight > 2"],
)
def test_what_is_no_condition_is_named(text: str) -> None:
    with pytest.raises(BadInput) as raised:
        rows_where(ROWS, text)
    assert raised.value.code == "explain.where"
    assert str(raised.value.value) in text


def test_endless_conditions_are_refused() -> None:
    with pytest.raises(BadInput, match="too long"):
        rows_where(ROWS, "age > 1 and " * 1_000)


@given(
    st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=20),
    st.sampled_from([">=", "<=", ">", "<", "=", "!="]),
    st.floats(-5, 5),
)
def test_a_condition_of_a_number_is_what_its_sign_means(cells: list[float | None], sign: str, value: float) -> None:
    values = np.array([[np.nan if cell is None else cell] for cell in cells])
    rows = Rows((Feature(name="x"),), values)
    means = {
        ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "=": operator.eq, "!=": operator.ne
    }[sign]  # fmt: skip
    expected = [cell is not None and means(cell, value) for cell in cells]
    assert rows_where(rows, f"x {sign} {value!r}").tolist() == expected


def found(order: Order = "table", **said: str) -> list[int]:
    finding = Finding(order=order, **said)  # type: ignore[arg-type]
    return [int(place) for place in found_places(finding, SAID, OUTPUTS, LABELS, classifies=True)]


def test_rows_are_found_by_what_is_said_and_whether_it_is_true() -> None:
    assert found() == [0, 1, 2, 3]
    assert found(which="wrong") == [0, 2]
    assert found(which="right") == [1]
    assert found(said="yes") == [1, 2]
    assert found("highest") == [1, 2, 3, 0]
    assert found("lowest") == [0, 3, 2, 1]
    assert found("unsure") == [2, 3, 0, 1]
    assert found("worst") == [0, 2, 1, 3]
    assert found("worst", which="wrong", said="yes") == [2]
    among = np.array([False, True, True, True])
    places = found_places(Finding(order="lowest"), SAID, OUTPUTS, LABELS, classifies=True, among=among, output=0)
    assert places.tolist() == [1, 3, 2]


def test_numbers_have_the_most_wrong_but_no_right_and_wrong() -> None:
    said, labels = np.array([[1.0], [5.0], [2.0]]), np.array([1.5, 2.0, np.nan])
    assert found_places(Finding(order="worst"), said, ("days",), labels, classifies=False).tolist() == [1, 0, 2]
    for finding in (Finding(which="wrong"), Finding(order="unsure")):
        with pytest.raises(BadInput):
            found_places(finding, said, ("days",), labels, classifies=False)
    assert "unsure" not in orders_for(classifies=False, labelled=True)


def test_what_hangs_on_outcomes_is_refused_without() -> None:
    for finding in (Finding(which="right"), Finding(order="worst")):
        with pytest.raises(BadInput, match="nobody knows"):
            found_places(finding, SAID, OUTPUTS, None, classifies=True)
    assert orders_for(classifies=True, labelled=False) == ("table", "highest", "lowest", "unsure")
    with pytest.raises(NotFound, match="no such label"):
        found(said="maybe")

"""Results: written and read to the same value, equal when they say the same, and honest about their own checks."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aimass.explain.charts.picture import Axis, Bars, Panel, Picture, names_axis
from aimass.explain.lineage import Lineage
from aimass.explain.results import Array, Check, Columns, Result, Whole, csv_text
from aimass.proto.errors import BadInput


class Sizes(Result, frozen=True, kw_only=True, eq=False, tag="test.sizes"):
    """A result for these tests."""

    names: tuple[str, ...]
    sizes: Array

    def describe(self) -> tuple[str, ...]:
        return (f"{len(self.names)} sizes",)

    def to_columns(self) -> Columns:
        return {"name": self.names, "size": self.sizes.tolist()}

    def picture(self) -> Picture:
        bars = Bars(np.arange(len(self.names)), self.sizes)
        panel = Panel("", Axis("size"), names_axis(self.names), (bars,))
        return Picture("Sizes", (panel,), "A bar is a size.", "Nothing else.")


def sizes(*values: float, **more: object) -> Sizes:
    names = tuple(f"n{place}" for place in range(len(values)))
    return Sizes(lineage=Lineage(model="m"), names=names, sizes=np.array(values), **more)  # type: ignore[arg-type]


@given(
    arrays.arrays(
        st.sampled_from(["<f8", "<f4", "<i8", "?", "u1"]), arrays.array_shapes(max_dims=3, min_side=0), elements=None
    )
)
def test_arrays_of_every_type_come_back_bit_for_bit(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    if array.dtype.kind == "f":
        array = np.where(np.isinf(array), 1.0, array).astype(array.dtype)
    written = Sizes(lineage=Lineage(model="m"), names=(), sizes=array).to_json()
    read = Sizes.from_json(written).sizes
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(read, array)
    assert Sizes.from_json(written).to_json() == written


def test_results_are_equal_by_what_they_say() -> None:
    assert sizes(1.0, math.nan) == sizes(1.0, math.nan)
    assert sizes(1.0) != sizes(2.0)
    assert hash(sizes(1.0)) == hash(sizes(1.0))
    assert sizes(1.0).digest != sizes(2.0).digest


def test_an_infinite_number_is_refused_when_it_is_written() -> None:
    with pytest.raises(BadInput, match="infinite"):
        sizes(math.inf).to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "test.other"},
        {"sizes": [1.0]},
        {"sizes": {"dtype": "object", "shape": [1], "values": [1]}},
        {"sizes": {"dtype": "float64", "shape": [2], "values": [1.0]}},
        {"sizes": {"dtype": "float64", "shape": [-1], "values": [1.0]}},
        {"sizes": {"dtype": "float64", "shape": [1]}},
        {"more": 1},
    ],
)
def test_what_is_no_result_is_named(change: dict[str, object]) -> None:
    document = json.loads(sizes(1.0).to_json()) | change
    with pytest.raises(BadInput, match="this is no Sizes"):
        Sizes.from_json(json.dumps(document))


def test_a_check_that_fails_is_said_before_the_caveats_and_nan_fails() -> None:
    held = Check(name="sum", error=0.001, limit=0.01)
    broken = Check(name="completeness", error=0.2, limit=0.01, says="Take more steps.")
    odd = Check(name="odd", error=math.nan, limit=0.01)
    said = sizes(1.0, checks=(held, broken, odd), caveats=("Not a cause.",)).warnings()
    assert said[0] == "completeness: 0.2 where 0.01 is allowed. Take more steps."
    assert len(said) == 3
    assert said[-1] == "Not a cause."


class Both(Whole, frozen=True, kw_only=True, eq=False, tag="test.both"):
    """An answer of two views."""

    one: Sizes
    other: Sizes

    def views(self) -> dict[str, Result]:
        return {"one": self.one, "other": self.other}


def test_an_answer_says_and_doubts_what_its_views_do_and_shows_the_first() -> None:
    one, other = sizes(1.0, caveats=("Few rows.",)), sizes(2.0, 3.0, caveats=("Few rows.", "Skewed."))
    whole = Both(lineage=Lineage(model="m"), one=one, other=other, caveats=("Its own.",))
    assert whole.describe() == ("1 sizes", "2 sizes")
    assert whole.warnings() == ("Its own.", "Few rows.", "Skewed.")
    assert whole.picture().numbers() == one.picture().numbers()
    assert whole.to_columns() == one.to_columns()


def test_a_notebook_shows_words_that_cannot_become_markup() -> None:
    html = sizes(1.0, caveats=("<script>alert(1)</script>",))._repr_html_()
    assert "<svg" in html
    assert "<script" not in html


def test_a_csv_cell_does_not_run_as_a_formula() -> None:
    assert csv_text({"=name": ["=1+1", "plain"], "x": [-1.5, 2.0]}) == "'=name,x\n'=1+1,-1.5\nplain,2.0\n"

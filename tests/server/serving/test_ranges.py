"""Whether numbers lie within the bounds of their columns, as one tensor and each by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import BadInput
from aimass.proto.manifest import Category, Number, Schema
from aimass.server.serving.ranges import RangeCheck, Ranges
from tests.support.fronts import ListedVersions
from tests.support.registries import SCHEMA, version_of

NUMBERS = Schema(
    name="numbers/1",
    columns=(
        Number(name="a", minimum=0, maximum=10),
        Number(name="b", minimum=-1, maximum=1, missing_values=(-99,)),
    ),
    label=Category(name="y", values=("no", "yes")),
)
CELL = st.floats(width=32) | st.sampled_from([0.0, 10.0, -1.0, 1.0, -99.0])


def plainly(rows: np.ndarray) -> tuple[str, ...]:
    """The same, cell by cell."""
    found = []
    for place, column in enumerate(NUMBERS.numbers):
        taken = (column.minimum, column.maximum, *column.missing_values)
        least, most = min(taken), max(taken)
        if any(cell < least or cell > most for cell in rows[:, place].tolist()):
            found.append(f"{column.name} lies outside {column.minimum:g} to {column.maximum:g}")
    return tuple(found)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4))
def test_rows_and_columns_say_what_each_cell_says(cells: list[tuple[float, float]]) -> None:
    rows = np.array(cells, np.float32)
    assert Ranges(NUMBERS).outside({"rows": rows}) == plainly(rows)
    assert Ranges(NUMBERS).outside({"a": rows[:, 0], "b": rows[:, 1:]}) == plainly(rows)


def test_what_is_no_number_of_the_schema_is_nothing_to_this() -> None:
    ranges = Ranges(SCHEMA)
    assert ranges.outside({"other": np.array([1e9]), "age": np.array([b"old"], object)}) == ()
    assert ranges.outside({"age": np.array([300], np.int64)}) == ("age lies outside 0 to 120",)


def test_a_version_that_is_not_known_yet_is_looked_for_again_and_few_are_kept() -> None:
    versions = ListedVersions()
    check = RangeCheck(versions, "refuse")
    assert check("heart", 1, {"age": np.array([300.0])}) == ()
    versions.hold(*(version_of("heart", number) for number in range(1, 200)))
    for number in range(1, 200):
        with pytest.raises(BadInput):
            check("heart", number, {"age": np.array([300.0])})
    assert len(check._known) <= 64

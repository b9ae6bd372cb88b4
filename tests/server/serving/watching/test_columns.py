"""Live rows in cells of the reference: what counts where, and what is told of a column."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.manifest import Category, Image, Number, Schema
from aimass.proto.model_manifest import Reference
from aimass.proto.statistics import CategoryCounts, Histogram, NumberCounts
from aimass.server.serving.watching.cells import (
    CategoryCells,
    NumberCells,
    category_cells,
    number_cells,
    reference_cells,
)
from aimass.server.serving.watching.columns import added, columns_of, counted, judged, rows_of
from aimass.server.serving.watching.settings import DriftSettings

_AGE = Number(name="age", minimum=0, maximum=100)
_SEX = Category(name="sex", values=("f", "m", "x"))
_SCHEMA = Schema(name="people/1", columns=(_AGE, _SEX), label=Category(name="ill", values=("no", "yes")))
_BINS = tuple(float(rows) for rows in np.histogram(np.random.default_rng(0).normal(50, 10, 4_000), 50, (0, 100))[0])
_HISTOGRAM = Histogram(
    numbers=(NumberCounts(column="age", minimum=0, maximum=100, counts=_BINS, missing=0),),
    categories=(CategoryCounts(column="sex", values=("f", "m", "x"), counts=(2_000.0, 1_980.0, 20.0), missing=0),),
)
_SETTINGS = DriftSettings(least_rows=300)


def _cells(sigma: float = 0.0) -> tuple[NumberCells | CategoryCells, ...]:
    found, unsaid = reference_cells(_SCHEMA, Reference(histogram=_HISTOGRAM, partners=3, noise=sigma))
    assert unsaid == ()
    return found


def _age(counts: tuple[float, ...], missing: float = 0.0) -> NumberCells:
    found = number_cells(NumberCounts(column="age", minimum=0, maximum=100, counts=counts, missing=missing))
    assert isinstance(found, NumberCells)
    return found


@given(st.lists(st.integers(0, 500), min_size=2, max_size=60).filter(lambda rows: sum(rows) >= 50), st.integers(0, 99))
def test_every_row_of_the_reference_is_in_a_cell_and_every_cell_has_its_share(rows: list[int], missing: int) -> None:
    cells = _age(tuple(map(float, rows)), float(missing))
    assert cells.reference.sum() == sum(rows) + missing
    assert cells.merged.sum() == len(rows) + 1
    filled = cells.reference[:-1][cells.reference[:-1] > 0]
    assert (filled[:-1] >= 0.1 * sum(rows) - 1e-6).all()
    assert len(filled) == 1 or filled[-1] >= 0.02 * sum(rows) - 1e-6
    assert (np.diff(cells.edges) > 0).all()


@given(st.lists(st.integers(0, 500), min_size=2, max_size=60).filter(lambda rows: sum(rows) >= 50))
def test_rows_like_those_of_the_reference_count_as_the_reference_does(rows: list[int]) -> None:
    cells = _age(tuple(map(float, rows)))
    middles = (np.arange(len(rows)) + 0.5) * 100 / len(rows)
    np.testing.assert_array_equal(cells.count(np.repeat(middles, rows)), cells.reference)


def test_what_is_missing_outside_or_no_number_has_a_cell_of_its_own_and_both_ends_are_inside() -> None:
    found = _age((100.0, 100.0)).count(np.array([0.0, 100.0, -0.1, 100.1, np.nan, np.inf]))
    assert found.tolist() == [1, 1, 4]


def test_cells_end_in_the_middle_of_empty_bins_whose_rows_were_joined_elsewhere() -> None:
    cells = _age((0.0, 500.0, 0.0, 0.0, 0.0, 500.0, 0.0, 0.0, 0.0, 0.0))
    assert cells.edges.tolist() == [10.0, 35.0, 60.0]


def test_a_column_that_is_nearly_always_the_same_drifts_where_it_no_longer_is() -> None:
    for counts in ((0.0, 0.0, 1_000.0, 0.0), (0.0, 0.0, 960.0, 40.0)):
        cells = _age(counts)
        rows = {"age": np.repeat([60.0, 90.0], [700, 300])}
        (found,) = judged([cells], counted([cells], rows), 0.0, _SETTINGS)
        assert found.drifted


def test_rare_categories_share_a_cell_and_unknown_ones_count_as_missing() -> None:
    held = CategoryCounts(column="c", values=("a", "b", "1", "2"), counts=(500.0, 500.0, 5.0, 4.0), missing=1.0)
    cells = category_cells(held)
    assert isinstance(cells, CategoryCells)
    assert cells.reference.tolist() == [500, 500, 9, 1]
    found = cells.count(np.array([b"a", "b", b"1", 2, 2.0, b"new", None, b"\xff"], dtype=object))
    assert found.tolist() == [1, 1, 3, 3]


def test_rows_of_the_reference_itself_do_not_drift() -> None:
    rng = np.random.default_rng(3)
    rows = {"age": rng.normal(50, 10, 2_000), "sex": rng.choice(["f", "m"], 2_000).astype(object)}
    found = judged(_cells(), counted(_cells(), rows), 0.0, _SETTINGS)
    assert {one.column for one in found} == {"age", "sex"}
    assert not any(one.drifted for one in found)


def test_a_number_that_moved_by_a_standard_deviation_drifts_and_is_told_first() -> None:
    rng = np.random.default_rng(3)
    rows = {"age": rng.normal(60, 10, 2_000), "sex": rng.choice(["f", "m"], 2_000).astype(object)}
    age, sex = judged(_cells(), counted(_cells(), rows), 0.0, _SETTINGS)
    assert (age.column, age.drifted, sex.drifted) == ("age", True, False)
    assert age.index == pytest.approx(1.0, abs=0.25)
    assert age.distance == pytest.approx(0.383, abs=0.05)


def test_a_category_of_which_another_value_is_suddenly_common_drifts() -> None:
    rows = {"sex": np.array([b"m"] * 900 + [b"f"] * 100, dtype=object)}
    (sex,) = judged(_cells(), counted(_cells(), rows), 0.0, _SETTINGS)
    assert sex.drifted
    assert sex.distance is None


def test_a_column_that_stops_coming_drifts() -> None:
    (age,) = judged(_cells(), counted(_cells(), {"age": np.full(400, np.nan)}), 0.0, _SETTINGS)
    assert age.drifted
    assert age.distance is None, "there are no values whose order could be compared"


def test_few_rows_say_nothing_yet() -> None:
    assert judged(_cells(), counted(_cells(), {"age": np.full(299, 99.0)}), 0.0, _SETTINGS) == ()


_NOISY = Schema(
    name="noisy/1",
    columns=(
        *(Number(name=f"n{at}", minimum=-4, maximum=4) for at in range(7)),
        *(Category(name=f"c{at}", values=tuple("abcdefg")) for at in range(6)),
    ),
    label=_SCHEMA.label,
)
_SHARES = np.array([0.4, 0.25, 0.15, 0.1, 0.05, 0.03, 0.02])


def _noisy(rng: np.random.Generator, rows: int, sigma: float) -> Reference:
    """What a survey finds of 13 columns whose rows are spread normally or by `_SHARES`, in 32 bins or 7 values."""
    numbers, categories = [], []
    for column in _NOISY.columns:
        missing = float(rng.normal(0, sigma))
        if isinstance(column, Number):
            bins = np.histogram(rng.standard_normal(rows).clip(-4, 4), 32, (-4, 4))[0] + rng.normal(0, sigma, 32)
            told = NumberCounts(column=column.name, minimum=-4, maximum=4, counts=tuple(bins.tolist()), missing=missing)
            numbers.append(told)
        else:
            counts = tuple((rng.multinomial(rows, _SHARES) + rng.normal(0, sigma, 7)).tolist())
            values = tuple("abcdefg")
            categories.append(CategoryCounts(column=column.name, values=values, counts=counts, missing=missing))
    return Reference(histogram=Histogram(numbers=tuple(numbers), categories=tuple(categories)), partners=3, noise=sigma)


def _live(rng: np.random.Generator, shift: float, shares: np.ndarray, rows: int = 300) -> dict[str, np.ndarray]:
    values = np.array(list("abcdefg"), dtype=object)
    return {
        column.name: rng.normal(shift, 1, rows).clip(-4, 4)
        if isinstance(column, Number)
        else rng.choice(values, rows, p=shares)
        for column in _NOISY.columns
    }


@pytest.mark.parametrize(("rows", "sigma"), [(1_000, 20.0), (1_000, 50.0), (10_000, 200.0)])
def test_a_noisy_reference_accuses_hardly_any_model_whose_rows_are_as_in_training(rows: int, sigma: float) -> None:
    """One of 60 at most; where counts below 0 were taken for none it was nine, and five, and five."""
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(60):
        cells, _ = reference_cells(_NOISY, _noisy(rng, rows, sigma))
        found = judged(cells, counted(cells, _live(rng, 0.0, _SHARES, 3_000)), sigma, DriftSettings())
        alarms += any(one.drifted for one in found)
    assert alarms <= 1


def test_a_noisy_reference_still_sees_what_moved() -> None:
    rng = np.random.default_rng(5)
    seen = []
    for _ in range(10):
        cells, unsaid = reference_cells(_NOISY, _noisy(rng, 1_000, 20.0))
        found = judged(cells, counted(cells, _live(rng, 1.0, _SHARES[::-1], 1_000)), 20.0, DriftSettings())
        seen += [one.drifted for one in found]
        assert len(unsaid) <= 4
    assert np.mean(seen) > 0.95


def test_counts_that_noise_made_negative_take_back_what_it_gave_to_others() -> None:
    counts = np.tile([60.0, -20.0, 60.0, 0.0], 8)
    cells = number_cells(NumberCounts(column="age", minimum=0, maximum=100, counts=tuple(counts), missing=-3), 10.0)
    assert isinstance(cells, NumberCells)
    assert cells.reference[:-1].sum() == counts.sum()
    assert (cells.reference[:-1] >= 50 * np.sqrt(cells.merged[:-1])).all(), "each cell is clear of its noise"
    held = CategoryCounts(column="c", values=tuple("abcd"), counts=(500.0, 300.0, 60.0, -40.0), missing=0.0)
    found = category_cells(held, (), 20.0)
    assert isinstance(found, CategoryCells)
    assert found.reference.tolist() == [500, 320, 0], "what is rare is clear of its noise only beside the next"


def test_columns_that_noise_hides_are_named() -> None:
    cells, unsaid = reference_cells(_SCHEMA, Reference(histogram=_HISTOGRAM, partners=3, noise=600.0))
    assert cells == ()
    assert {one.reason for one in unsaid} == {
        "noise of 600 rows on each count of the reference hides how they are spread"
    }


def test_what_is_missing_counts_as_far_as_it_is_beyond_the_noise() -> None:
    cells, _ = reference_cells(_SCHEMA, Reference(histogram=_HISTOGRAM, partners=3, noise=20.0))
    rng = np.random.default_rng(6)
    for share, drifts in ((0.0, False), (0.02, False), (0.5, True)):
        ages = np.where(rng.random(2_000) < share, np.nan, rng.normal(50, 10, 2_000))
        (age,) = judged(cells, counted(cells, {"age": ages}), 20.0, _SETTINGS)
        assert age.drifted == drifts


def test_an_empty_reference_names_every_column_and_says_why() -> None:
    cells, unsaid = reference_cells(_SCHEMA, Reference(reason="a partner's policy does not release it"))
    assert cells == ()
    assert [one.column for one in unsaid] == ["age", "sex"]
    assert "policy does not release" in unsaid[0].reason


def test_columns_that_a_reference_cannot_tell_of_are_named() -> None:
    schema = Schema(name="scans/1", columns=(_AGE, Image(name="scan", shape=(2, 2))), label=_SCHEMA.label)
    few = Histogram(
        numbers=(NumberCounts(column="age", minimum=0, maximum=9, counts=(9.0, 2.0), missing=1),), categories=()
    )
    cells, unsaid = reference_cells(schema, Reference(histogram=few))
    assert cells == ()
    assert [(one.column, one.reason) for one in unsaid] == [
        ("age", "the reference has 11 rows with a value, and 50 are the least to compare with"),
        ("scan", "the reference counts numbers and categories alone"),
    ]


def test_columns_come_by_name_or_all_in_one_tensor() -> None:
    numbers = Schema(name="two/1", columns=(_AGE, Number(name="bmi", minimum=0, maximum=80)), label=_SCHEMA.label)
    rows = np.arange(6.0).reshape(3, 2)
    found = columns_of(numbers, [{"rows": rows}, {"age": rows[:, :1], "other": rows}, {"rows": rows[:, :1]}])
    assert found["bmi"].tolist() == [1, 3, 5]
    assert sorted(found["age"].tolist()) == [0, 0, 2, 2, 4, 4]
    assert columns_of(numbers, []) == {}


def test_windows_add_up_and_a_column_that_is_left_out_is_not_held_against_the_others() -> None:
    rows = [{"age": np.full(4, 50.0)}, {"age": np.full(2, 1.0), "sex": np.array(["f"], dtype=object)}]
    one = counted(_cells(), columns_of(_SCHEMA, rows))
    both = added(one, counted(_cells(), {"age": np.full(4, 50.0)}))
    assert both["age"].sum() == 10
    assert both["sex"].sum() == 1
    assert rows_of(both) == 10
    assert rows_of({}) == 0

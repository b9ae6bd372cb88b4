"""Counts of few rows stay at the partner, and so does what they would follow from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.client.small_counts import MOMENTS_LEAST, withheld, withheld_cells, without_small
from aimass.client.surveys import surveyed
from aimass.proto.analysis import check_sums
from aimass.proto.asks import Cells, Phase
from aimass.proto.contribution import Contribution, Group
from aimass.proto.errors import BadInput
from aimass.proto.surveys import SURVEYS, survey_of
from tests.support.surveys import batch, plan_of


def table(*counts: float) -> npt.NDArray[np.float64]:
    return np.array(counts, np.float64)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.integers(1, 8))
def test_no_count_below_the_least_is_told_nor_what_is_left_of_the_total(counts: list[int], least: int) -> None:
    whole = table(*counts)
    kept = without_small(whole, least)
    told = kept > 0
    assert (kept[told] == whole[told]).all()
    assert (kept[told] >= least).all()
    taken = whole.sum() - kept.sum()
    assert taken == 0 or taken >= least or not told.any()


def test_a_count_is_told_that_no_small_one_can_be_taken_from() -> None:
    np.testing.assert_array_equal(without_small(table(9, 0, 5, 20), 5), table(9, 0, 5, 20))
    np.testing.assert_array_equal(without_small(table(9, 3, 7, 20), 5), table(9, 0, 0, 20))  # 7 goes with the 3
    np.testing.assert_array_equal(without_small(table(9, 3, 2, 20), 5), table(9, 0, 0, 20))
    np.testing.assert_array_equal(without_small(table(3, 0), 5), table(0, 0))


@pytest.mark.parametrize("name", [name for name in SURVEYS if name != "moments"])
def test_each_columns_table_of_a_survey_is_judged_by_itself(name: str) -> None:
    survey, rows = survey_of(plan_of(name), name), batch(60, 3)
    exact = surveyed(survey, rows)
    assert withheld(exact, survey, 1, 60) is exact
    tensors = withheld(exact, survey, 5, 60).groups[name].tensors
    for tensor, widths in survey.tables.items():
        split = np.cumsum(widths)[:-1]
        for kept, whole in zip(
            np.split(tensors[tensor], split), np.split(exact.groups[name].tensors[tensor], split), strict=True
        ):
            np.testing.assert_array_equal(kept, without_small(whole, 5, 60))


PHASE = Phase(
    cells=(
        Cells(name="some", counts=True),
        Cells(name="others", counts=True),
        Cells(name="bins", shape=(2, 4), counts=True, tables=1, within="some"),
        Cells(name="ways", shape=(3,), counts=True),
        Cells(name="moves", shape=(4,), counts=True, within="ways", parts=(0, 0, 2, 2)),
        Cells(name="one", shape=(4,), counts=True, within="ways", parts=(1, 1, -1, -1)),
        Cells(name="known", shape=(4,), counts=True, parts=(0, 0, 0, 1)),
        Cells(name="often", shape=(4,), counts=True, tables=0, overlapping=True),
        Cells(name="sums", shape=(4,), of="often", row_norm=1.0),
    )
)


@given(st.integers(0, 40), st.integers(2, 6), st.integers(0, 10_000))
def test_nothing_of_few_rows_follows_from_any_total_that_a_table_is_within(rows: int, least: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(4, 0.5))
    bins, way = rng.choice(4, (2, rows), p=shares), rng.choice(3, rows, p=rng.dirichlet(np.full(3, 0.5)))
    side, half, known = (
        rng.choice(3, rows, p=[0.6, 0.2, 0.2]),
        rng.integers(2, size=rows),
        rng.choice(4, rows, p=shares),
    )
    often = rng.random((rows, 4)) < shares
    sums = {
        "some": table((side == 0).sum())[0],
        "others": table((side == 1).sum())[0],
        "bins": np.stack([counted(one[side == 0], 4) for one in bins]),
        "ways": counted(way, 3),
        "moves": counted((way + half)[way != 1], 4),
        "one": counted(np.where(way == 1, half, 2 + half), 4),
        "known": counted(known, 4),
        "often": often.sum(axis=0).astype(np.float64),
        "sums": often.sum(axis=0) * 0.5,
    }
    check_sums(PHASE, sums)
    kept = withheld_cells(Contribution({"explain": Group(1.0, sums)}, {}, {}), PHASE, least, rows).groups["explain"]
    told, ways = kept.tensors, kept.tensors["ways"]
    totals = [
        (rows, [told["some"], told["others"]]),
        *((told["some"], one) for one in told["bins"]),
        (rows, ways),
        (ways[0], told["moves"][:2]),
        (ways[2], told["moves"][2:]),
        (ways[1], told["one"][:2]),
        (rows - ways[1] if ways[1] == sums["ways"][1] else 0, told["one"][2:]),
        (rows, told["one"]),
        (rows, told["known"]),
        (sums["known"][:3].sum(), told["known"][:3]),
    ]
    for total, parts in totals:
        assert not (np.any(parts) and 0 < total - np.sum(parts) < least)
        assert not (np.any(parts) and not total)
    assert not any(((one > 0) & (one < least)).any() for name, one in told.items() if name != "sums")
    gone = often[:, (told["often"] == 0) & (sums["often"] > 0)].any(axis=1).sum()
    assert gone == 0 or gone >= least or not told["often"].any()
    np.testing.assert_array_equal(told["sums"], told["often"] / 2)


def counted(cells: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.float64]:
    return np.bincount(cells, minlength=width).astype(np.float64)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (Cells(name="further", shape=(3,), counts=True, within="none"), "no rows before it"),
        (Cells(name="further", shape=(3,), counts=True, within="often"), "no rows before it"),
        (Cells(name="further", shape=(3,), counts=True, within="ways", parts=(0, 1, 3)), "that 'ways' has not"),
        (Cells(name="further", shape=(4, 2), counts=True, within="ways"), "does not begin with"),
    ],
)
def test_a_table_is_within_counts_that_its_phase_has(cells: Cells, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Phase(cells=(*PHASE.cells, cells))


def test_cells_say_of_what_they_are_part_where_they_can_be() -> None:
    for odd in (
        {"within": "ways"},
        {"shape": (3,), "parts": (0, 1)},
        {"shape": (2,), "parts": (0, 0), "overlapping": True},
    ):
        with pytest.raises(ValueError, match=r"no table of counts|do not fit|no total"):
            Cells(name="bins", counts=True, **odd)


def test_a_table_of_more_rows_than_it_is_within_never_leaves() -> None:
    phase = Phase(cells=(PHASE.cells[0], PHASE.cells[2]))
    sums = {"some": np.array(6.0), "bins": np.array([[6.0, 0, 0, 0], [3.0, 3, 0, 0]])}
    check_sums(phase, sums)
    with pytest.raises(BadInput, match="more rows in cells"):
        check_sums(phase, sums | {"bins": sums["bins"] + [[0, 0, 0, 1], [0, 0, 0, 0]]})


def left(name: str, least: int, rows: int, **tensors: npt.NDArray[np.float64]) -> dict[str, list[float]]:
    """What leaves of such sums of a survey."""
    made = Contribution({name: Group(1.0, tensors)}, {}, {})
    kept = withheld(made, survey_of(plan_of(name, **({"bins": 2} if name == "quantiles" else {})), name), least, rows)
    return {tensor: array.tolist() for tensor, array in kept.groups[name].tensors.items()}


def test_sums_of_a_column_with_few_values_are_not_told() -> None:
    sums = {"count": table(MOMENTS_LEAST - 1, MOMENTS_LEAST), "sum_1": table(1, 2)}
    assert left("moments", 5, 100, **sums) == {"count": [0, MOMENTS_LEAST], "sum_1": [0, 2]}
    more = {"count": table(79, 80), "sum_1": table(1, 2)}
    assert left("moments", 80, 200, **more) == {"count": [0, 80], "sum_1": [0, 2]}


def test_sums_whose_count_would_tell_of_few_missing_values_are_not_told() -> None:
    """The label's total, of another table, is the number of all rows."""
    sums = {"count": table(97, 100), "sum_1": table(1, 2)}
    assert left("moments", 5, 100, **sums) == {"count": [0, 100], "sum_1": [0, 2]}
    assert left("moments", 3, 100, **sums) == {name: array.tolist() for name, array in sums.items()}


def test_bins_that_would_tell_of_few_missing_values_go_until_enough_rows_are_in_none() -> None:
    assert left("quantiles", 5, 30, numbers=table(12, 15, 14, 16)) == {"numbers": [0, 15, 14, 16]}
    assert left("quantiles", 5, 35, numbers=table(12, 18, 14, 16)) == {"numbers": [12, 18, 14, 16]}


def test_few_whole_numbers_follow_from_their_sums_of_powers_and_are_not_told() -> None:
    """Newton's identities give five ages back from their count and sums, but of fifty they give none."""
    survey = survey_of(plan_of("moments"), "moments")
    for rows, kept in ((5, False), (MOMENTS_LEAST, True)):
        ages = batch(rows, 7)
        ages.numbers[:] = np.arange(rows)[:, None] + 20
        told = withheld(surveyed(survey, ages), survey, 5, rows).groups["moments"].tensors
        assert all(bool(sums.any()) is kept for name, sums in told.items() if name != "sum_1")

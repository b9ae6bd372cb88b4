"""Peels: those of the paper, the same from sums of partners as from all rows, and pastes that undo what was too much."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.explain.prim.coding import Coded, Column, coded
from aimass.explain.prim.pasting import paste, simplify, without_crumbs
from aimass.explain.prim.peeling import Marginal, best_peel, inside, marginal, peel, peels
from aimass.explain.rows import Feature, Rows
from aimass.explain.work import Work

Floats = npt.NDArray[np.float64]


def numbers(values: Floats) -> Coded:
    return coded(Rows.of(values), tuple(range(values.shape[1])))


def by_the_paper(values: Floats, target: Floats, fraction: float, least: int) -> list[tuple[int, float]]:
    """Friedman and Fisher's peeling of numbers without ties, as one would write it: sort, cut, look."""
    path: list[tuple[int, float]] = []
    while True:
        size = max(1, int(fraction * len(target)))
        trials = []
        for column in range(values.shape[1]):
            order = np.argsort(values[:, column])
            trials += [order[size:], order[:-size]]
        trials = [trial for trial in trials if len(trial) >= least]
        best = max(trials, key=lambda trial: target[trial].mean(), default=None)
        if best is None:
            return path
        values, target = values[best], target[best]
        path.append((len(target), float(target.mean())))


@pytest.mark.parametrize("seed", range(5))
def test_the_path_is_that_of_the_paper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(300, 4))
    target = values[:, 0] ** 2 + rng.normal(size=300)
    found = peel(numbers(values), target, 0.07, 20, 99, Work())
    expected = by_the_paper(values, target, 0.07, 20)
    assert len(expected) > 20
    assert [one.count for one in found.peels] == [count for count, _ in expected]
    assert [one.mean for one in found.peels] == pytest.approx([mean for _, mean in expected])
    for step in (1, 7, len(found.peels)):
        kept = inside(numbers(values).codes, found.box(step))
        assert kept.sum() == found.counts[step]
        assert target[kept].mean() == pytest.approx(found.means[step])


@given(st.integers(0, 10_000))
def test_of_two_columns_that_hold_the_same_the_first_is_peeled_whatever_rounding_made_of_their_sums(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 6, 80).astype(float)
    data = numbers(np.stack([one, one], axis=1))
    target = rng.random(80)
    exact = marginal(data.codes[:, 0], target, data.columns[0])
    rounded = [Marginal(exact.counts, exact.sums * (1 + rng.normal(0, 3e-16, len(exact.sums)))) for _ in range(2)]
    keeps = tuple(np.ones(len(column.levels) + 1, bool) for column in data.columns)
    found = best_peel(data.columns, keeps, (rounded[0], rounded[1]), 0.1, 8, 9)
    assert found is not None
    assert found.column == 0


def test_ties_go_together_and_no_peel_is_less_than_half_of_what_was_asked_where_it_can_be_more() -> None:
    column = Column(Feature(name="a"), np.arange(4.0), missing=False)
    counts = np.array([1.0, 40.0, 50.0, 9.0, 0.0])
    lowest, highest = peels(column, Marginal(counts, counts), 0.1)
    np.testing.assert_array_equal(lowest, [True, True, False, False, False])  # one row is less than five
    np.testing.assert_array_equal(highest, [False, False, False, True, False])


def test_missing_cells_go_by_themselves_and_categories_from_the_least_on() -> None:
    number = Column(Feature(name="a"), np.arange(2.0), missing=True)
    found = list(peels(number, Marginal(np.array([50.0, 40, 10]), np.zeros(3)), 0.1))
    np.testing.assert_array_equal(found[-1], [False, False, True])
    category = Column(Feature(name="b", kind="category", values=("p", "q", "r")), np.arange(3.0), missing=True)
    sums = np.array([40.0, 1.0, 0.0, 9.0])
    (gone,) = peels(category, Marginal(np.array([50.0, 5.0, 4.0, 9.0]), sums), 0.14)
    np.testing.assert_array_equal(gone, [False, True, True, False])


@given(st.integers(0, 1_000))
def test_partners_who_add_their_counts_and_sums_peel_as_all_rows_do(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, size=(90, 3)).astype(np.float64)
    values[rng.random(values.shape) < 0.1] = np.nan
    target = rng.integers(0, 2, 90).astype(np.float64)
    data = numbers(values)
    keeps = tuple(np.ones(len(column.levels) + 1, bool) for column in data.columns)
    pooled, added = [], []
    for place, column in enumerate(data.columns):
        pooled.append(marginal(data.codes[:, place], target, column))
        parts = [marginal(data.codes[part, place], target[part], column) for part in (slice(0, 13), slice(13, 90))]
        added.append(Marginal(parts[0].counts + parts[1].counts, parts[0].sums + parts[1].sums))
    one, other = (best_peel(data.columns, keeps, tuple(found), 0.1, 10, 3) for found in (pooled, added))
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert (one.column, one.count, one.total) == (other.column, other.count, other.total)
        np.testing.assert_array_equal(one.keep, other.keep)


def test_the_order_of_columns_and_their_units_change_no_path() -> None:
    rng = np.random.default_rng(4)
    values = rng.integers(0, 12, size=(400, 3)).astype(np.float64)
    target = rng.integers(0, 2, 400).astype(np.float64)
    names = ["a", "b", "c"]
    first = peel(coded(Rows.of(values, names), (0, 1, 2)), target, 0.05, 20, 3, Work())
    turned = Rows.of(values[:, ::-1] * [2.54, 1e-6, 1e9], names[::-1])
    second = peel(coded(turned, (0, 1, 2)), target, 0.05, 20, 3, Work())
    np.testing.assert_array_equal(first.counts, second.counts)
    np.testing.assert_allclose(first.means, second.means, rtol=1e-12)


def test_a_box_has_no_more_conditions_than_it_may() -> None:
    values = np.random.default_rng(0).random((500, 6))
    path = peel(numbers(values), values.sum(axis=1), 0.05, 20, 2, Work())
    assert len({one.column for one in path.peels}) == 2


def test_a_target_that_is_the_same_everywhere_is_not_peeled() -> None:
    values = np.random.default_rng(0).random((100, 2))
    assert peel(numbers(values), np.full(100, 0.1), 0.1, 5, 2, Work()).peels == ()


def test_a_paste_takes_back_what_was_cut_too_deep() -> None:
    values = np.arange(100.0)[:, None]
    target = (values[:, 0] >= 50).astype(np.float64)
    data = numbers(values)
    keep = np.zeros(101, bool)
    keep[70:90] = True
    keep[40:45] = False
    (grown,) = paste(data, target + values[:, 0] / 1000, (keep,), 0.1, Work())
    assert np.flatnonzero(grown[:-1]).tolist() == list(range(70, 100))
    above = np.zeros(101, bool)
    above[80:] = True
    (same,) = paste(data, -values[:, 0], (above,), 0.1, Work())
    assert same[:-1].all()


@pytest.mark.parametrize("missing", [0.02, 0.3, 0.98])
def test_few_missing_cells_beside_a_range_or_a_crumb_of_range_beside_them_are_left_out(missing: float) -> None:
    values = np.linspace(0, 1, 1000)[:, None]
    values[: round(1000 * missing), 0] = np.nan
    data = numbers(values)
    keep = np.append(data.columns[0].levels > min(0.99, 0.5 + missing / 2), True)
    (found,) = without_crumbs(data, np.ones(1000), (keep,), 0.1)
    assert [bool(found[:-1].any()), bool(found[-1])] == {0.02: [True, False], 0.3: [True, True], 0.98: [False, True]}[
        missing
    ]
    (needed,) = without_crumbs(data, np.where(np.isnan(values[:, 0]) == (missing < 0.5), 9.0, 0.0), (keep,), 0.1)
    assert needed[:-1].any()
    assert needed[-1]


def test_a_bound_that_raises_nothing_is_shed() -> None:
    rng = np.random.default_rng(1)
    values = rng.random((400, 2))
    target = (values[:, 0] > 0.5).astype(np.float64)
    data = numbers(values)
    idle = np.append(data.columns[1].levels > 0.1, True)
    needed = np.append(data.columns[0].levels > 0.5, True)
    found = simplify(data, target, (needed, idle))
    np.testing.assert_array_equal(found[0], needed)
    assert found[1].all()
    levels = data.columns[0].levels
    half = np.append((levels > 0.5) & (levels < 0.98), True)
    np.testing.assert_array_equal(simplify(data, target, (half,) * 2)[0], needed)

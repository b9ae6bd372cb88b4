"""The choice of splits against the plainest way to say it: every split of every column, one by one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.proto.boosting import Boosting, BoostingOptions
from aimass.proto.manifest import Category, Number, Schema
from aimass.server.drivers.splits import best_splits, leaf_values

Floats = npt.NDArray[np.float64]
SCHEMA = Schema(
    name="small/1",
    columns=(
        Number(name="n", minimum=0.0, maximum=1.0),
        Category(name="few", values=("a", "b", "c")),
        Category(name="many", values=("a", "b", "c", "d", "e")),
    ),
    label=Category(name="label", values=("no", "yes")),
)


def _boosting(penalty: float = 1.0, gamma: float = 0.0, min_child_weight: float = 1.0) -> Boosting:
    options = BoostingOptions(rounds=1, bins=4, penalty=penalty, gamma=gamma, min_child_weight=min_child_weight)
    return Boosting(schema=SCHEMA, options=options)


def _histograms(boosting: Boosting, nodes: int, seed: int) -> Floats:
    """Of rows by chance, whose cells are chosen at random."""
    rng = np.random.default_rng(seed)
    found = np.zeros((nodes, boosting.offsets[-1], 2))
    for node, size in enumerate(rng.integers(0, 60, nodes)):
        values = np.stack([rng.integers(-1024, 1024, size) / 1024, rng.integers(1, 256, size) / 1024], axis=1)
        for at in boosting.columns:
            np.add.at(found[node], rng.integers(at.start, at.stop, size), values)
    return found


def _every_left(column: int, width: int) -> Iterator[tuple[bool, ...]]:
    """Which cells may go left, what is missing being the last one; of many categories it is on no side alone."""
    values = width - 1
    for missing in (False, True):
        if column == 0:
            yield from ((*(bin_ < edge for bin_ in range(values)), missing) for edge in range(values + 1))
        elif values < 4:
            yield from ((*(value != chosen for value in range(values)), missing) for chosen in range(values))
        else:
            both = (sides for sides in itertools.product((False, True), repeat=values) if len(set(sides)) == 2)
            yield from ((*sides, missing) for sides in both)


def _plain(boosting: Boosting, cells: Floats) -> float:
    """The largest gain of any split, over all partitions of categories."""
    options, best = boosting.options, 0.0
    total = cells[boosting.columns[0]].sum(axis=0)

    def score(sums: Floats) -> float:
        return float(sums[0] ** 2 / (sums[1] + options.penalty))

    for column, at in enumerate(boosting.columns):
        for left in _every_left(column, at.stop - at.start):
            side = cells[at][np.array(left)].sum(axis=0)
            other = total - side
            if min(side[1], other[1]) >= max(options.min_child_weight, 1e-12):
                best = max(best, score(side) + score(other) - score(total))
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 2.0]))
def test_no_split_gains_more_than_the_one_that_is_chosen(seed: int, min_child_weight: float) -> None:
    # (without a penalty sorted categories are the best of all partitions; with one they are nearly)
    boosting = _boosting(penalty=0.0, min_child_weight=min_child_weight)
    histograms = _histograms(boosting, 5, seed)
    if min_child_weight:
        histograms[:, boosting.columns[2]] = 0.0
        histograms[:, boosting.columns[2].start] = histograms[:, boosting.columns[0]].sum(axis=1)
    found = best_splits(boosting, histograms)
    for node, cells in enumerate(histograms):
        best = _plain(boosting, cells)
        assert found.gains[node] == pytest.approx(best, rel=1e-4, abs=1e-4) or found.columns[node] < 0
        if best > 1e-3:
            assert found.columns[node] >= 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_sums_gains_and_sides_of_a_split_say_the_same(seed: int) -> None:
    boosting = _boosting()
    histograms = _histograms(boosting, 6, seed)
    found = best_splits(boosting, histograms)
    for node in np.flatnonzero(found.columns >= 0):
        cells = histograms[node, boosting.columns[found.columns[node]]]
        left = found.left[node, : len(cells)]
        assert (found.sums[node, 0] == cells[left].sum(axis=0)).all()
        assert (found.sums[node, 1] == cells[~left].sum(axis=0)).all()
        assert (found.totals[node] == found.sums[node].sum(axis=0)).all()
        scores = [sums[0] ** 2 / (sums[1] + 1.0) for sums in (*found.sums[node], found.totals[node])]
        assert found.gains[node] == pytest.approx(scores[0] + scores[1] - scores[2], rel=1e-4, abs=1e-5)
        assert found.sums[node, :, 1].min() >= 1.0


def test_of_equal_gains_the_first_column_and_its_first_way_count() -> None:
    boosting = _boosting(min_child_weight=0.0)
    histograms = np.zeros((1, boosting.offsets[-1], 2))
    histograms[0, [0, 2]] = [[-1.0, 1.0], [1.0, 1.0]]  # an empty bin between them: two edges are the same
    for at in boosting.columns[1:]:
        histograms[0, [at.start, at.start + 1]] = [[-1.0, 1.0], [1.0, 1.0]]
    found = best_splits(boosting, histograms)
    assert found.columns.tolist() == [0]
    assert found.left[0, :5].tolist() == [True, False, False, False, False]


def test_a_node_whose_split_gains_less_than_gamma_stays_a_leaf() -> None:
    histograms = _histograms(_boosting(), 1, 3)
    gain = float(best_splits(_boosting(), histograms).gains[0])
    assert best_splits(_boosting(gamma=gain), histograms).columns[0] >= 0
    assert best_splits(_boosting(gamma=gain * 1.001), histograms).columns[0] == -1


def test_a_leaf_adds_what_lowers_its_loss_most() -> None:
    options = _boosting(penalty=2.0).options
    assert leaf_values(options, 0.5, np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [-0.25, 0.0]

"""What a server that lies learns of one partner's plain histograms of trees: before rows are joined, after, and still.

The rule for each table alone (`tree_counts`) is in force in all of them. What is called before is the rule without
`coarse_rows`: the attack has to succeed there, or it would prove nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from aimass.client.coarse import EXACT, Coarseness, coarse_rows
from aimass.client.tree_counts import coarsened
from aimass.client.trees import counted, grounded, summed
from aimass.proto.boosting import Boosting, BoostingOptions
from aimass.proto.manifest import Category
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.trees import Ensemble, Objective, Tree, encode
from tests.support.boosting import SCHEMA, Grove, chance

LEAST = 5
JOINED = Coarseness(least=LEAST)
TWO = msgspec.structs.replace(SCHEMA, label=Category(name="outcome", values=("no", "yes"), required=True))
BOOSTING = Boosting(schema=TWO, options=BoostingOptions(rounds=1, depth=3, bins=2, grid=400))
ROWS = chance(150, 4, labels=2)
AGES = BOOSTING.columns[0]


def _edges(age: int, weight: int = 200) -> Blob:
    """Two bins of each number, which end at these parts of the grid."""
    grid = BOOSTING.grid()
    at = np.stack([grid[0, [0, age, -1]], grid[1, [0, weight, -1]]])
    return Blob(encode_numpy({"edges": at}))


def _told(model: Ensemble, edges: Blob, coarseness: Coarseness) -> dict[str, np.ndarray]:
    """What leaves of the first level of such a step."""
    made = summed(grounded(BOOSTING, ROWS, (Blob(encode(model)), edges), coarseness), (), bytes(16))
    return dict(coarsened(made, BOOSTING, LEAST).groups["trees"].tensors)


def _by_bins(coarseness: Coarseness) -> list[int]:
    """Rows in each part of the ages' range: differences of tables whose bins end one part further."""
    empty = Grove(TWO).empty()
    upto = [int(_told(empty, _edges(part), coarseness)["rows"][0, AGES.start]) for part in range(100, 320)]
    whole = [count for count in upto if LEAST <= count <= len(ROWS.labels) - LEAST]
    return [more - rows for rows, more in itertools.pairwise(whole)]


def _marked(*below: tuple[int, float]) -> Ensemble:
    """A model of a margin of 0, and so a Hessian of 1/4, for rows below all these thresholds; of none for the others."""
    trees = [
        Tree(
            feature=np.array([column, -1, -1], np.int32),
            threshold=np.array([threshold, 0, 0], np.float32),
            default_left=np.zeros(3, bool),
            value=np.array([0, 0, -60], np.float32),
            gain=np.zeros(3, np.float32),
            cover=np.zeros(3, np.float32),
        )
        for column, threshold in below
    ]
    return Ensemble(Objective.LOGISTIC, np.zeros(1, np.float32), Grove(TWO).empty().sizes, tuple(trees))


def _marks(coarseness: Coarseness, *below: tuple[int, float]) -> int:
    """How many rows are below all these thresholds, by the sum of the Hessians of all."""
    return round(4 * float(_told(_marked(*below), _edges(200), coarseness)["hessians"][0, AGES].sum()))


def _by_thresholds(coarseness: Coarseness) -> list[int]:
    """The same by differences of models, whose thresholds lie on no grid."""
    upto = [_marks(coarseness, (0, threshold)) for threshold in np.arange(30.05, 90, 0.5)]
    return [more - rows for rows, more in itertools.pairwise(upto)]


@pytest.mark.parametrize("attack", [_by_bins, _by_thresholds])
def test_by_differences_a_server_found_single_rows_of_a_column_and_finds_none(
    attack: Callable[[Coarseness], list[int]],
) -> None:
    before, after = attack(EXACT), attack(JOINED)
    singles = sum(count == 1 for count in before)
    assert singles > 10, "the attack works where rows are not joined"
    assert min(count for count in after if count) >= LEAST
    assert sum(count > 0 for count in after) > 5, "and is told something where they are"


def test_other_grids_and_bins_of_later_runs_tell_no_row_that_the_first_did_not() -> None:
    """The parts of a column that any of 40 plans tells apart, taken together, are of enough rows each."""
    told = set()
    for grid in range(380, 420):
        boosting = msgspec.structs.replace(BOOSTING, options=BoostingOptions(rounds=1, bins=2, grid=grid))
        counts = coarsened(counted(boosting, ROWS, JOINED), boosting, LEAST).groups["trees"].tensors["grid"][0]
        told |= set(zip(boosting.grid()[0, 1:].tolist(), np.cumsum(counts).tolist(), strict=True))
    steps = np.diff(sorted({rows for _, rows in told}))
    assert steps.min() >= LEAST


def test_bins_of_before_told_where_each_fifth_value_lies_and_those_of_now_between_which_public_places() -> None:
    ages = np.sort(ROWS.numbers[~np.isnan(ROWS.numbers[:, 0]), 0])
    told = coarse_rows(TWO, ROWS, JOINED).numbers[:, 0]
    cells = np.unique(told[~np.isnan(told)])
    assert not set(cells.tolist()) & set(ages.tolist())
    # Another value for one row moves no cell but those beside it, whatever it is within its cell.
    row = int(np.flatnonzero(ROWS.numbers[:, 0] == ages[70])[0])
    moved = ROWS.numbers.copy()
    moved[row, 0] = np.nextafter(ages[70], np.float32(120))
    assert (coarse_rows(TWO, dataclasses.replace(ROWS, numbers=moved), JOINED).numbers[:, 0] == told).sum() == len(ages)


def _level(columns: list[int]) -> Blob:
    """Each node is split by the first bin of a column, what is missing on the right."""
    left = np.zeros((len(columns), max(BOOSTING.widths)), bool)
    left[:, 0] = True
    return Blob(encode_numpy({"columns": np.array(columns, np.int64), "left": left}))


def _node(age: int, weight: int) -> tuple[int, float]:
    """Rows below both, and the sum of their gradients at a margin of 0: 1/2 each, less those whose label is yes."""
    inputs = Blob(encode(Grove(TWO).empty())), _edges(age, weight)
    made = summed(grounded(BOOSTING, ROWS, inputs, JOINED), (_level([0]), _level([1, 1])), bytes(16))
    told = coarsened(made, BOOSTING, LEAST).groups["trees"].tensors
    return int(told["rows"][0, AGES].sum()), float(told["gradients"][0, AGES].sum())


def test_a_model_with_a_leaf_for_one_row_still_tells_that_it_is_there() -> None:
    joined = coarse_rows(TWO, ROWS, JOINED).numbers
    ages, weights = (np.unique(column[~np.isnan(column)])[1:] - 0.01 for column in joined.T)
    counts = {(age, weight): (joined < np.array([age, weight])).all(axis=1).sum() for age in ages for weight in weights}
    age, weight = next(place for place, rows in counts.items() if 0 < rows < LEAST)
    assert _marks(JOINED, (0, age), (1, weight)) == counts[age, weight]


def test_by_nodes_of_two_columns_that_differ_in_one_row_its_label_is_still_told() -> None:
    """Why trees are grown by secure sums alone unless a policy says otherwise: no table here has a small count."""
    joined = coarse_rows(TWO, ROWS, JOINED)
    ages, weights = joined.numbers.T
    grid, found = BOOSTING.grid(), 0
    for first, second in itertools.pairwise(range(100, 300, 10)):
        for weight in range(40, 200, 10):
            between = (ages >= grid[0, first]) & (ages < grid[0, second]) & (weights < grid[1, weight])
            if between.sum() == 1:
                (rows, gradient), (more, other) = _node(first, weight), _node(second, weight)
                told = more - rows == 1 and rows >= LEAST  # or few on a side were joined with the other
                assert not told or [0.5 - (other - gradient)] == ROWS.labels[between].tolist()
                found += told
    assert found

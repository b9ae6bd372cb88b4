"""A partner's sums for trees against loops over its rows; and what it refuses to count."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from aimass.client.coarse import EXACT, Coarseness, coarse_rows
from aimass.client.tasks.heart import trees as heart
from aimass.client.trees import counted, derivatives, grounded, summed
from aimass.proto.boosting import UNIT, Boosting, BoostingOptions, boosting_of
from aimass.proto.errors import BadInput
from aimass.proto.rows import Batch
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.tree_scores import features, margins
from aimass.proto.trees import Objective, decode, encode
from tests.support.boosting import SCHEMA, Grove, chance, plan_of

SEED = bytes(range(16))
ROWS = chance(200, 1)
BOOSTING = Boosting(schema=SCHEMA, options=BoostingOptions(rounds=1, depth=3, bins=5, grid=40))
MODEL = Blob(Grove().first(0))


def _edges(boosting: Boosting = BOOSTING) -> np.ndarray[Any, np.dtype[np.float32]]:
    grid = boosting.grid()
    return np.ascontiguousarray(grid[:, [0, 10, 20, 25, 30, 40]])


def _level(columns: Sequence[int], left: Sequence[Sequence[int]]) -> Blob:
    """Splits of nodes, each by which cells go left."""
    sides = np.zeros((len(columns), max(BOOSTING.widths)), bool)
    for side, cells in zip(sides, left, strict=True):
        side[list(cells)] = True
    return Blob(encode_numpy({"columns": np.array(columns, np.int64), "left": sides}))


def _blob(edges: np.ndarray[Any, Any]) -> Blob:
    return Blob(encode_numpy({"edges": edges}))


FIRST = _level([0, 1, 3], [[0, 1], [0, 2, 5], [1, 2]])
"""Of three trees: by age, below the second edge; by weight; by stage, what is missing on the right."""


def _sums(
    rows: Batch, levels: Sequence[Blob] = (), coarseness: Coarseness = EXACT, boosting: Boosting = BOOSTING
) -> dict[str, Any]:
    ground = grounded(boosting, rows, (MODEL, _blob(_edges(boosting))), coarseness)
    return dict(summed(ground, levels, SEED).groups["trees"].tensors)


def test_histograms_are_what_a_loop_over_rows_adds_up() -> None:
    edges, (gradients, hessians) = _edges(), derivatives(Objective.SOFTMAX, np.zeros((200, 3)), ROWS.labels)
    plain = {name: np.zeros((6, BOOSTING.offsets[-1])) for name in ("gradients", "hessians", "rows")}
    for row in range(200):
        cells = []
        for column, value in enumerate(ROWS.numbers[row]):
            inside = [one for one in range(5) if edges[column][one] <= value < edges[column][one + 1]]
            cells.append(inside[0] if inside else 5)
        cells += [
            int(code) if code >= 0 else width - 1 for code, width in zip(ROWS.categories[row], (3, 7), strict=True)
        ]
        for tree, (column, left) in enumerate(((0, {0, 1}), (1, {0, 2, 5}), (3, {1, 2}))):
            node = 2 * tree + (cells[column] not in left)
            for at, cell in zip(BOOSTING.columns, cells, strict=True):
                plain["gradients"][node, at.start + cell] += round(gradients[row, tree] / UNIT) * UNIT
                plain["hessians"][node, at.start + cell] += round(hessians[row, tree] / UNIT) * UNIT
                plain["rows"][node, at.start + cell] += 1
    found = _sums(ROWS, [FIRST])
    for name, sums in plain.items():
        assert (found[name] == sums).all()


def test_rows_of_a_node_that_was_not_split_count_no_further() -> None:
    before, after = _sums(ROWS, [FIRST]), _sums(ROWS, [FIRST, _level([-1, 0, 0, 0, 0, 0], [[], *[[0, 1]] * 5])])
    assert after["rows"][:2].sum() == 0
    assert (after["rows"][2:4].sum(axis=0) == before["rows"][1]).all()


def test_margins_are_those_of_the_trees_so_far() -> None:
    ensemble = decode(MODEL)
    zero = margins(ensemble, features(ROWS))
    assert (zero == 0).all()
    at_zero = _sums(ROWS)["gradients"][:, BOOSTING.columns[0]].sum(axis=1)
    shares = np.bincount(ROWS.labels, minlength=3)
    assert at_zero == pytest.approx(200 / 3 - shares, abs=1e-3)


@pytest.mark.parametrize("objective", list(Objective))
def test_derivatives_are_those_of_the_loss(objective: Objective) -> None:
    outputs = 3 if objective is Objective.SOFTMAX else 1
    rng = np.random.default_rng(1)
    margin, labels = rng.normal(0, 2, (50, outputs)), rng.integers(0, 3 if outputs == 3 else 2, 50)

    def loss(at: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        match objective:
            case Objective.SQUARED_ERROR:
                return np.asarray((at[:, 0] - labels) ** 2 / 2)
            case Objective.LOGISTIC:
                return np.logaddexp(0, np.where(labels == 1, -at[:, 0], at[:, 0]))
            case Objective.SOFTMAX:
                return np.asarray(np.log(np.exp(at).sum(axis=1)) - at[np.arange(50), labels])

    gradients, hessians = derivatives(objective, margin, labels)
    for output in range(outputs):
        step = np.zeros_like(margin)
        step[:, output] = 1e-4
        up, here, down = loss(margin + step), loss(margin), loss(margin - step)
        assert gradients[:, output] == pytest.approx((up - down) / 2e-4, abs=1e-6)
        twice = 2.0 if objective is Objective.SOFTMAX else 1.0  # (XGBoost's, and Friedman's with K / (K - 1))
        assert hessians[:, output] == pytest.approx(twice * (up - 2 * here + down) / 1e-8, abs=1e-4)


def test_no_margin_is_too_large_for_a_gradient() -> None:
    far = np.array([[-1e4], [1e4]])
    gradients, hessians = derivatives(Objective.LOGISTIC, far, np.array([1, 0]))
    assert gradients[:, 0].tolist() == [-1.0, 1.0]
    assert (hessians > 0).all()


def test_where_a_split_leaves_few_rows_on_a_side_they_count_with_those_of_the_other() -> None:
    levels, some = [FIRST, _level([2] * 6, [[0, 1]] * 6)], Coarseness(least=15)
    rows = coarse_rows(SCHEMA, ROWS, some)  # so that the nodes alone differ
    free, held = (
        _sums(rows, levels, coarseness)["rows"][:, BOOSTING.columns[0]].sum(axis=1) for coarseness in (EXACT, some)
    )
    # Each pair of the second level is of a node of the first, none of which is small here.
    few = [place for place in range(0, len(free), 2) if 0 < min(free[place : place + 2]) < 15]
    assert 0 < len(few) < 6
    for place in range(0, len(free), 2):
        pair = free[place : place + 2]
        joined = [0.0, 0.0]
        joined[int(pair.argmax())] = pair.sum()
        assert held[place : place + 2].tolist() == (joined if place in few else pair.tolist())


def test_counts_are_of_the_plans_grid_and_of_labels() -> None:
    made = counted(BOOSTING, ROWS).groups["trees"].tensors
    ages = ROWS.numbers[:, 0].astype(np.float64)
    assert made["grid"][0].tolist() == np.histogram(ages[~np.isnan(ages)], 40, (0, 120))[0].tolist()
    assert made["labels"].tolist() == np.bincount(ROWS.labels, minlength=3).tolist()


def test_sums_tell_rows_that_are_joined_no_further_apart_than_that() -> None:
    some = Coarseness(least=7, parts=64)
    joined = coarse_rows(SCHEMA, ROWS, some)
    for name, sums in _sums(ROWS, [FIRST], some).items():
        assert (sums == _sums(joined, [FIRST], some)[name]).all()
    assert (counted(BOOSTING, ROWS, some).groups["trees"].tensors["grid"] > 0).sum() < 45


def test_the_steps_of_a_round_walk_its_trees_once() -> None:
    inputs = (MODEL, _blob(_edges()))
    first = grounded(BOOSTING, ROWS, inputs)
    assert grounded(BOOSTING, ROWS, (*inputs, FIRST), before=first) is first
    other = _edges()
    other[0, 1] = other[0, 0]
    for changed in (
        grounded(BOOSTING, ROWS.take(slice(0, 100)), inputs, before=first),
        grounded(BOOSTING, ROWS, inputs, Coarseness(least=2), before=first),
        grounded(BOOSTING, ROWS, (MODEL, _blob(other)), before=first),
    ):
        assert changed is not first


def test_the_largest_value_lies_in_the_last_bin_and_the_smallest_in_the_first() -> None:
    numbers = np.array([[0.0, 0.5], [120.0, 250.0]], np.float32)
    assert BOOSTING.binned(numbers, _edges()).tolist() == [[0, 0], [4, 4]]
    assert BOOSTING.binned(numbers, BOOSTING.grid()).tolist() == [[0, 0], [39, 39]]


def test_bins_that_the_server_makes_finer_than_the_plans_grid_are_refused() -> None:
    between = _edges()
    between[0, 2] += np.float32(0.01)
    swapped = _edges()[:, [0, 2, 1, 3, 4, 5]]
    for edges in (between, swapped, _edges()[:, 1:], _edges().astype(np.float64), _edges()[:1]):
        with pytest.raises(BadInput, match="not on the plan's grid") as error:
            grounded(BOOSTING, ROWS, (MODEL, _blob(np.ascontiguousarray(edges))))
        assert error.value.code == "trainer.bins"


@pytest.mark.parametrize(
    "level",
    [
        _level([0, 1], [[0], [0]]),
        _level([0, 1, 4], [[0]] * 3),
        Blob(encode_numpy({"columns": np.zeros(3, np.int64), "left": np.zeros((3, 4), bool)})),
    ],
)
def test_a_level_of_other_trees_is_refused(level: Blob) -> None:
    with pytest.raises(BadInput, match="none of this round's trees"):
        _sums(ROWS, [level])


def test_trees_of_other_columns_are_refused() -> None:
    other = plan_of(Grove(), rounds=1)
    assert boosting_of(other).schema == SCHEMA
    with pytest.raises(BadInput, match="other columns"):
        grounded(BOOSTING, ROWS, (Blob(heart.first(0)), _blob(_edges())))


def test_which_rows_a_round_draws_follows_from_no_seed_that_the_server_knows() -> None:
    boosting = msgspec.structs.replace(BOOSTING, options=msgspec.structs.replace(BOOSTING.options, subsample=0.5))
    row = np.arange(200)
    # Two partners whose rows differ in one number alone: were draws the seed's own, all else would count alike.
    other = dataclasses.replace(ROWS, numbers=np.where(row[:, None] == 0, np.float32(33.0), ROWS.numbers))
    stages = slice(BOOSTING.columns[3].start, BOOSTING.columns[3].stop)
    first, second = (_sums(rows, boosting=boosting)["rows"][0, stages] for rows in (ROWS, other))
    assert np.abs(first - second).sum() > 1
    assert (first == _sums(ROWS, boosting=boosting)["rows"][0, stages]).all(), "each level of a round draws the same"
    known = np.random.Generator(np.random.PCG64(int.from_bytes(SEED[8:], "big"))).random(200) < 0.5
    told = np.bincount(BOOSTING.cells(ROWS, _edges())[known, 3], minlength=7)
    assert first.tolist() != told.tolist()


def test_a_model_of_another_loss_than_the_tasks_is_not_counted_by() -> None:
    """A server that chose the squared error could give each place of a row a power of ten, and read them off a sum."""
    empty = Grove().empty()
    other = dataclasses.replace(empty, objective=Objective.SQUARED_ERROR, base=np.zeros(1, np.float32))
    with pytest.raises(BadInput, match="another loss"):
        grounded(BOOSTING, ROWS, (Blob(encode(other)), _blob(_edges())), EXACT, empty.objective)
    grounded(BOOSTING, ROWS, (MODEL, _blob(_edges())), EXACT, empty.objective)

"""What trees say of rows, against the plain walk from the root and hand-made sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.rows import Batch
from aimass.proto.tree_scores import features, leaves, margins, predictions
from aimass.proto.trees import Ensemble, Objective, Tree
from tests.support.drawn_trees import drawn_ensemble, drawn_rows, walked


@given(st.integers(0, 2**32), st.sampled_from(Objective))
def test_rows_come_to_the_leaves_that_a_walk_from_the_root_finds(seed: int, objective: Objective) -> None:
    ensemble = drawn_ensemble(seed, objective)
    rows = drawn_rows(seed, ensemble.sizes, 40)
    expected = np.tile(ensemble.base.astype(float), (40, 1))
    found = leaves(ensemble, rows)
    for number, tree in enumerate(ensemble.trees):
        ends = [walked(tree, row) for row in rows]
        assert found[number].tolist() == ends
        expected[:, tree.output] += tree.value[ends].astype(float)
    np.testing.assert_allclose(margins(ensemble, rows), expected, rtol=1e-12)


def test_a_number_on_the_threshold_goes_right() -> None:
    feature, zeros = np.array([0, -1, -1], np.int32), np.zeros(3, np.float32)
    tree = Tree(feature, np.array([0.1, 0, 0], np.float32), np.zeros(3, bool), zeros, zeros, zeros)
    stump = Ensemble(Objective.SQUARED_ERROR, zeros[:1], np.zeros(1, np.int32), (tree,))
    on = np.array([[0.1]], np.float32)
    assert leaves(stump, on).tolist() == [[2]]
    assert leaves(stump, np.nextafter(on, np.float32(0))).tolist() == [[1]]


def test_blocks_of_rows_are_walked_to_the_last_row() -> None:
    ensemble = drawn_ensemble(3, Objective.SOFTMAX, trees=7, depth=6)
    rows = drawn_rows(3, ensemble.sizes, 1025)
    one_by_one = np.concatenate([margins(ensemble, rows[row : row + 1]) for row in range(0, 1025, 64)])
    np.testing.assert_array_equal(margins(ensemble, rows)[::64], one_by_one)


def test_no_trees_and_no_rows() -> None:
    empty = drawn_ensemble(1, trees=0)
    rows = drawn_rows(1, empty.sizes, 3)
    assert margins(empty, rows).tolist() == [[float(empty.base[0])]] * 3
    assert leaves(empty, rows).shape == (0, 3)
    assert margins(drawn_ensemble(1), rows[:0]).shape == (0, 1)


def test_features_are_numbers_then_codes_and_missing_is_nan() -> None:
    batch = Batch(np.array([[1.5, np.nan]], np.float32), np.array([[3, -1]]), None, np.array([0]))
    np.testing.assert_array_equal(features(batch), np.array([[1.5, np.nan, 3, np.nan]], np.float32))


def test_margins_become_probabilities() -> None:
    two = predictions(Objective.LOGISTIC, np.array([[0.0], [np.log(3)], [-800.0], [800.0]]))
    np.testing.assert_allclose(two, np.array([[0.5, 0.5], [0.25, 0.75], [1, 0], [0, 1]]), atol=1e-300)
    three = predictions(Objective.SOFTMAX, np.array([[0.0, np.log(2), np.log(5)], [1e4, 0.0, 0.0]]))
    np.testing.assert_allclose(three, np.array([[1 / 8, 2 / 8, 5 / 8], [1, 0, 0]]))
    assert predictions(Objective.SQUARED_ERROR, np.array([[2.5]])) == pytest.approx(2.5)

"""The tree splits where scikit-learn's does, and its leaves part the rows."""

from __future__ import annotations

import numpy as np
from sklearn.tree import DecisionTreeRegressor

from aimass.explain.rows import Rows
from aimass.explain.segviz.error_tree import grow
from aimass.explain.segviz.predicates import predicates_of
from aimass.explain.work import Work


def test_its_leaves_are_those_of_a_regression_tree() -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 8, (400, 4)).astype(np.float64)
    errors = random.random(400) + (values[:, 0] > 3) * (1 + (values[:, 1] > 5)) + 0.7 * (values[:, 2] > 1)
    predicates = predicates_of(Rows.of(values), 10)
    met = np.array([one.of(values[:, int(one.column[1:]) - 1]) for one in predicates])
    leaves = grow(met, errors, Work(), depth=3, least=15)
    tree = DecisionTreeRegressor(max_depth=3, min_samples_leaf=15, random_state=0).fit(values, errors)
    ours = np.zeros(400)
    for leaf in leaves:
        inside = leaf.holds(met)
        assert inside.sum() >= 15
        assert (ours[inside] == 0).all()
        ours[inside] = errors[inside].mean()
    np.testing.assert_allclose(ours, tree.predict(values), atol=1e-9)


def test_equal_errors_are_one_leaf() -> None:
    met = np.random.default_rng(0).random((5, 100)) < 0.5
    assert len(grow(met, np.full(100, 0.3), Work(), depth=3, least=5)) == 1
    assert len(grow(met[:0], np.arange(100.0), Work(), depth=3, least=5)) == 1
    assert len(grow(met[:, :1], np.ones(1), Work(), depth=3, least=5)) == 1


def test_a_small_side_must_differ_more_than_a_large_one() -> None:
    # weighing sides by their sizes decides: 5 of 100 rows that differ by 1.0, or 50 that differ by 0.5
    errors = np.full(100, 1.0)
    errors[:5] += 1.0
    errors[50:] += 0.5
    met = np.zeros((2, 100), np.bool_)
    met[0, :5], met[1, 50:] = True, True
    leaves = grow(met, errors, Work(), depth=1, least=5)
    assert [leaf.path for leaf in leaves] == [((1, True),), ((1, False),)]
    sums = [sum(errors[side].var() * side.sum() for side in (row, ~row)) for row in met]
    assert sums[1] < sums[0]
    errors[:5] += 3.0
    assert grow(met, errors, Work(), depth=1, least=5)[0].path == ((0, True),)

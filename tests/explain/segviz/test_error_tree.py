"""The tree splits where scikit-learn's does, and its leaves part the rows."""

from __future__ import annotations

import numpy as np
from sklearn.tree import DecisionTreeRegressor

from aimass.explain.rows import Feature, Rows
from aimass.explain.segviz.error_tree import grow
from aimass.explain.segviz.predicates import Predicate, path_sentence, predicates_of
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


def test_a_path_tells_one_bound_a_side_and_brackets_what_may_be_missing() -> None:
    values = np.column_stack([[*np.arange(50.0, 70.0), np.nan], np.arange(21.0), np.arange(21) % 2])
    sex = Feature(name="sex", kind="category", values=("f", "m"))
    rows = Rows((Feature(name="age", unit="years"), Feature(name="bp"), sex), values)
    predicates = predicates_of(rows, 30)

    def one(column: str, test: str, value: float = 0.0) -> Predicate:
        return next(p for p in predicates if (p.column, p.test, p.value) == (column, test, value))

    random = np.random.default_rng(0)
    path = [(one("age", "below", 64), True), (one("sex", "equals", 1), False), (one("age", "at_least", 59), False)]
    assert path_sentence(path) == "age < 59 years and sex is not m"
    assert path_sentence(path[1:]) == "sex is not m and (age < 59 years or missing)"
    assert path_sentence([(one("age", "missing"), True), path[2]]) == "age is missing"
    assert path_sentence([(one("age", "missing"), False), path[2]]) == "age < 59 years"
    assert path_sentence([(one("age", "missing"), False)]) == "age is known"
    assert path_sentence([]) == "all rows"
    for _ in range(200):  # a sentence says no more and no less than its path: the same words hold for the same rows
        steps = [(predicates[k], bool(random.integers(2))) for k in random.integers(0, len(predicates), 4)]
        inside = np.all([p.of(rows.column(p.column)) == meets for p, meets in steps], axis=0)
        assert not inside.any() or (reads(path_sentence(steps), rows) == inside).all(), path_sentence(steps)


def reads(sentence: str, rows: Rows) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which rows a sentence is true of, read word by word."""
    found = np.ones(len(rows), np.bool_)
    for word in sentence.split(" and "):
        column, _, rest = word.strip("()").partition(" ")
        cells = rows.column(column)
        rest, lax = rest.removesuffix(" or missing").removesuffix(" years"), rest.endswith(" or missing")
        rest = rest.removesuffix(" years")
        match rest.split():
            case ["<", cut]:
                true = cells < float(cut)
            case [">=", cut]:
                true = cells >= float(cut)
            case ["is", "missing"]:
                true = np.isnan(cells)
            case ["is", "known"]:
                true = ~np.isnan(cells)
            case ["=", name]:
                true = cells == ("f", "m").index(name)
            case _:
                true = cells != ("f", "m").index(rest.split()[-1])
        found &= true | (lax & np.isnan(cells))
    return found

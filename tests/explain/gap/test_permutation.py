"""Permutation importance: its closed form, scikit-learn's figures, every pair by hand, and intervals that hold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.inspection import permutation_importance as peer
from sklearn.linear_model import LinearRegression

from aimass.explain.gap.importance import importance
from aimass.explain.gap.permutation import permutation_importance
from aimass.explain.models import FunctionModel, model_of_function
from aimass.explain.rows import Feature, Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, Stopped

Floats = npt.NDArray[np.float64]
WEIGHTS = np.array([1.0, 0.5, 0.0, -0.2])
NAMES = ("a", "b", "c", "d")


def linear(weights: Floats = WEIGHTS) -> FunctionModel:
    return model_of_function(lambda values: values @ weights, NAMES[: len(weights)])


def gaussian(rows: int, seed: int, noise: float = 1.0, weights: Floats = WEIGHTS) -> Rows:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, len(weights)))
    return Rows.of(values, NAMES[: len(weights)], values @ weights + noise * rng.normal(size=rows), held_out=True)


def by_hand(model: FunctionModel, rows: Rows, columns: list[int]) -> Floats:
    """h(i, k) of all pairs, one prediction at a time."""
    labels, found = rows.need_labels(), np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows.values):
        before = (float(model.predict(row[None])[0, 0]) - labels[i]) ** 2
        for k, other in enumerate(rows.values):
            changed = row.copy()
            changed[columns] = other[columns]
            found[i, k] = (float(model.predict(changed[None])[0, 0]) - labels[i]) ** 2 - before
    return found


def test_of_a_linear_model_it_is_twice_the_squared_weight_times_the_variance() -> None:
    _, found = permutation_importance(
        linear(), gaussian(40_000, 1), [[0], [1], [2], [3]], "squared_error", Work(seed=3)
    )
    truth = 2 * WEIGHTS**2
    for one, true in zip(found, truth, strict=True):
        assert abs(one.value - true) <= 4 * one.error
    assert found[0].error < 0.03


def test_as_many_shuffles_as_there_are_other_rows_are_all_pairs() -> None:
    rows, model = gaussian(23, 2), linear()
    pairs = by_hand(model, rows, [0])
    _, (found,) = permutation_importance(model, rows, [[0]], "squared_error", Work(), shuffles=22)
    assert found.value == pytest.approx(pairs.sum() / (23 * 22), rel=1e-12)
    influence = (pairs.sum(axis=1) + pairs.sum(axis=0)) / 22
    part = np.corrcoef(influence, found.influence)[0, 1]
    assert part == pytest.approx(1.0, abs=1e-12)
    assert found.exact


def test_a_column_of_few_values_is_computed_over_all_pairs_missing_ones_among_them() -> None:
    rows = gaussian(60, 4)
    values = rows.values.copy()
    values[:, 1] = np.where(values[:, 1] > 0.5, np.nan, np.round(values[:, 1]).clip(-1, 1))
    model = model_of_function(lambda cells: np.nan_to_num(cells, nan=3.0) @ WEIGHTS, NAMES)
    coarse = Rows(rows.features, values, rows.labels)
    pairs = by_hand(model, coarse, [1])
    _, (found,) = permutation_importance(model, coarse, [[1]], "squared_error", Work())
    assert found.value == pytest.approx(pairs.sum() / (60 * 59), rel=1e-12)
    influence = pairs.sum(axis=1) + pairs.sum(axis=0)
    assert np.corrcoef(influence, found.influence)[0, 1] == pytest.approx(1.0, abs=1e-12)
    assert found.exact


def test_scikit_learn_agrees_within_its_own_error() -> None:
    """Its permutations leave a row its own value once in n: its mean is (n - 1) / n of ours."""
    rows = gaussian(150, 5)
    fitted = LinearRegression().fit(rows.values, rows.labels)
    theirs = peer(
        fitted, rows.values, rows.labels, scoring="neg_mean_squared_error", n_repeats=400, random_state=0, n_jobs=1
    )
    model = model_of_function(fitted.predict, NAMES)
    _, found = permutation_importance(model, rows, [[0], [1], [2], [3]], "squared_error", Work(), shuffles=149)
    ours = np.array([one.value for one in found]) * 149 / 150
    assert np.abs(ours - theirs.importances_mean) == pytest.approx(
        0.0, abs=4 * float(theirs.importances_std.max()) / 400**0.5
    )


def test_features_that_are_shuffled_together_share_their_interaction() -> None:
    rng = np.random.default_rng(6)
    values = np.repeat(rng.normal(size=(3_000, 1)), 2, axis=1)
    rows = Rows.of(values, ("a", "b"), values.sum(axis=1), held_out=True)
    model = model_of_function(lambda cells: cells.sum(axis=1), ("a", "b"))
    found = importance(model, rows, Work())
    assert found.members == (("a",), ("b",), ("a", "b"))
    assert found.low[2] < 8.0 < found.high[2]  # 2 Var(a + b), where each alone has 2 Var(a)
    assert found.low[0] < 2.0 < found.high[0]
    assert any("a + b tell the same" in said for said in found.caveats)


@pytest.mark.parametrize(("weight", "rows"), [(1.0, 200), (0.3, 200)])
def test_the_interval_holds_the_truth_as_often_as_it_says(weight: float, rows: int) -> None:
    """The whole simulation is `scripts/benches/explain_coverage.py`; the losses' own spread would hold it in 83 of 100."""
    weights, held = np.array([weight, 0.5]), 0
    for seed in range(400):
        data = gaussian(rows, 1_000 + seed, weights=weights)
        _, (one,) = permutation_importance(linear(weights), data, [[0]], "squared_error", Work(seed=seed))
        held += abs(one.value - 2 * weight**2) <= 1.959964 * one.error
    assert 0.92 <= held / 400 <= 0.98


def test_an_unused_feature_has_nothing_and_a_feature_of_noise_an_interval_about_nothing() -> None:
    rows = gaussian(300, 7)
    found = importance(linear(), rows, Work())
    assert (found.value[2], found.low[2], found.high[2]) == (0.0, 0.0, 0.0)
    random = Rows(rows.features, rows.values, np.random.default_rng(8).integers(0, 2, 300), ("0", "1"))
    classifier = model_of_function(lambda cells: (cells[:, 2] > 0) * 1.0, NAMES, ("0", "1"))
    errors = importance(classifier, random, Work(), loss="error_rate")
    assert errors.low[2] < 0.0 < errors.high[2]


def test_ranks_are_certain_where_the_truth_is_far_and_open_where_it_is_not() -> None:
    found = importance(linear(), gaussian(2_000, 9), Work())
    assert (found.best.tolist(), found.worst.tolist()) == ([1, 2, 4, 3], [1, 2, 4, 3])
    same = np.array([0.5, 0.5, 0.5])
    even = importance(linear(same), gaussian(200, 10, weights=same), Work())
    assert (even.best.tolist(), even.worst.tolist()) == ([1, 1, 1], [3, 3, 3])


def test_the_order_of_columns_and_the_units_change_nothing() -> None:
    rows = gaussian(120, 11)
    _, found = permutation_importance(linear(), rows, [[0], [1]], "squared_error", Work())
    turned = Rows.of(rows.values[:, ::-1] * 1_000, NAMES, rows.labels)
    model = model_of_function(lambda cells: cells @ (WEIGHTS[::-1] / 1_000), NAMES)
    _, other = permutation_importance(model, turned, [[3], [2]], "squared_error", Work())
    np.testing.assert_allclose([one.value for one in other], [one.value for one in found], rtol=1e-9)


def test_workers_and_memory_change_no_bit() -> None:
    rows = gaussian(400, 12)
    one = importance(linear(), rows, Work(seed=1))
    other = importance(linear(), rows, Work(seed=1, workers=3, memory_bytes=1 << 20))
    np.testing.assert_allclose(one.value, other.value, rtol=1e-12)
    np.testing.assert_array_equal(one.best, other.best)


def test_what_cannot_be_asked_is_named() -> None:
    rows = gaussian(10, 13)
    with pytest.raises(BadInput, match="too few rows"):
        importance(linear(), rows.take(slice(0, 1)), Work())
    with pytest.raises(BadInput, match="no labels"):
        importance(linear(), Rows(rows.features, rows.values), Work())
    with pytest.raises(BadInput, match="none of this model's"):
        importance(linear(), rows, Work(), loss="log_loss")
    with pytest.raises(BadInput, match="no number"):
        importance(model_of_function(lambda cells: cells[:, 0] * np.nan, NAMES), rows, Work())
    with pytest.raises(BadInput, match="none of the model's classes"):
        classifier = model_of_function(lambda cells: np.full(len(cells), 0.5), NAMES, ("0", "1"))
        importance(classifier, Rows(rows.features, rows.values, np.full(10, 2), ("0", "1", "2")), Work())
    with pytest.raises(BadInput, match="none of the model's classes"):
        importance(classifier, Rows(rows.features, rows.values, np.full(10, -1), ("0", "1")), Work())
    with pytest.raises(BadInput, match="labels are missing"):
        importance(linear(), Rows(rows.features, rows.values, np.append(np.ones(9), np.nan)), Work())
    with pytest.raises(Stopped):
        importance(linear(), rows, Work(stopped=lambda: True))


def test_limits_are_stated_in_the_result() -> None:
    rows = gaussian(50, 14)
    values = rows.values.copy()
    values[:, 3] = np.nan
    few = Rows(rows.features, values, np.zeros(50, np.int64), ("0", "1"), held_out=False)
    model = model_of_function(lambda cells: 1 / (1 + np.exp(-cells[:, 0])), NAMES, ("0", "1"))
    said = " ".join(importance(model, few, Work()).warnings())
    assert "d is the same in all rows" in said
    assert "one label" in said
    assert "trained on these rows" in said
    assert "50 rows are few" in said


def test_values_that_the_schema_does_not_know_are_named() -> None:
    features = (Feature(name="kind", kind="category", values=("p", "q")), Feature(name="b"))
    values = np.random.default_rng(15).normal(size=(120, 2))
    values[:, 0] = np.arange(120) % 3
    model = model_of_function(lambda cells: cells[:, 0], features)
    found = importance(model, Rows(features, values, values[:, 0]), Work())
    assert "kind has values that are none of the known ones" in " ".join(found.warnings())

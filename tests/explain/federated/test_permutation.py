"""Permutation importance against a shared marginal: what pooled shuffling says, and shuffling within partners does not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.inspection import permutation_importance

from aimass.explain.federated import permutation
from aimass.explain.federated.marginals import Marginal, counted, marginals_of
from aimass.explain.federated.sums import Release, Sums, added, moments
from aimass.explain.gap.importance import importance
from aimass.explain.lineage import Lineage
from aimass.explain.losses import losses
from aimass.explain.models import model_of_function
from aimass.explain.rows import Rows, features_of
from aimass.explain.work import Work
from aimass.proto.analysis import Summed
from aimass.proto.asks import Ask
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Number, Schema
from tests.explain.federated.hospitals import at, heart, hospitals, pooled
from tests.explain.federated.test_analyses import ask
from tests.explain.federated.together import together

Floats = npt.NDArray[np.float64]
WEIGHTS = np.array([1.0, -0.5, 0.0])
MODEL = model_of_function(lambda values: values @ WEIGHTS, ["a", "b", "unused"])
ROWS = 3_000


def partner(seed: int, middle: float) -> Floats:
    values: Floats = np.random.default_rng(seed).normal((middle, 0.0, 0.0), 1.0, (ROWS, 3))
    return values


def sums(values: Floats, marginals: Floats, first: int = 0) -> Sums:
    """Of rows whose labels are what the model says, against the values of other rows as they are."""
    shares = np.full(len(marginals), 1 / len(marginals))
    spread = [Marginal(column, shares, np.empty(0)) for column in marginals.T]
    keys = np.arange(first, first + len(values), dtype=np.uint64)
    rows = Rows.of(values, ["a", "b", "unused"], values @ WEIGHTS)
    return permutation.partial(MODEL, rows, keys, spread, "squared_error", 5, 3)


def test_partners_that_differ_need_a_marginal_that_they_share() -> None:
    """For y = w.x the importance is 2 w^2 Var(x): 2 (1 + 4) of the first feature, whose means are -2 and 2."""
    low, high = partner(1, -2.0), partner(2, 2.0)
    both = np.concatenate([low, high])
    shared = added([sums(low, both), sums(high, both, ROWS)])
    within = added([sums(low, low), sums(high, high, ROWS)])
    truth = 2 * WEIGHTS**2 * np.array([5.0, 1.0, 1.0])
    mean, error = moments(float(shared["rows"]), shared["rises"], np.diagonal(shared["products"]))
    assert (np.abs(mean - truth) <= 4 * error + 0.05 * truth).all()
    alone = np.asarray(within["rises"]) / float(within["rows"])
    assert alone[0] == pytest.approx(2.0, rel=0.1)  # its own variance alone: five times too little
    assert (mean[2], error[2]) == (0.0, 0.0)


class Linear(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    def fit(self, values: Floats, labels: Floats) -> Linear:
        self.fitted_ = True
        return self

    def predict(self, values: Floats) -> Floats:
        found: Floats = values @ WEIGHTS
        return found


def test_it_is_scikit_learns_over_the_pooled_rows() -> None:
    both = np.concatenate([partner(1, -2.0), partner(2, 2.0)])
    oracle = permutation_importance(
        Linear().fit(both, both[:, 0]), both, both @ WEIGHTS, scoring="neg_mean_squared_error", n_repeats=5,
        random_state=0,
    )  # fmt: skip
    found = sums(both, both)
    np.testing.assert_allclose(np.asarray(found["rises"]) / len(both), oracle.importances_mean, rtol=0.06)


def test_a_row_draws_the_same_wherever_it_lies() -> None:
    values = partner(4, 0.0)[:50]
    whole = sums(values, values)
    parts = added([sums(values[:20], values), sums(values[20:], values, 20)])
    np.testing.assert_allclose(whole["rises"], parts["rises"], rtol=0, atol=1e-12)


def test_the_result_is_the_pooled_views_with_ranks_and_says_where_the_values_come_from() -> None:
    question = ask({"shuffles": 3, "loss": "brier"})
    found = together(permutation.analysis, question, at(hospitals()))
    told = permutation.analysis.read(question, found, Lineage(model="heart", rows=920, partners=4), Release(partners=4))
    whole, labels = pooled(hospitals()).rows, pooled(hospitals()).rows.need_labels()
    assert told.base == pytest.approx(losses(heart().predict(whole.values), labels, "brier").mean(), abs=1e-9)
    assert any("counts over the federation" in line for line in told.caveats)
    order = told.order()
    assert told.best[order[0]] == 1 <= told.worst[order[0]]
    assert (told.best <= told.worst).all()
    assert told.worst[order[-1]] == 13
    assert type(told).from_json(told.to_json()) == told
    assert told.to_chart().to_dict()


def test_importance_agrees_with_the_pooled_view_that_shuffles() -> None:
    question = ask({"shuffles": 30, "loss": "log_loss"})
    found = together(permutation.analysis, question, at(hospitals()))
    told = permutation.analysis.read(question, found, Lineage(model="heart"), Release(partners=4))
    whole = pooled(hospitals()).rows
    same = importance(heart(), whole, Work(), loss="log_loss", shuffles=30)
    apart = np.abs(told.value - same.value[: same.single]) / np.hypot(told.error, same.error[: same.single])
    assert (apart < 1.0).all()  # the same rows: only draws, and bins, differ


def test_ranks_from_products_are_those_of_the_rows_influence() -> None:
    rng = np.random.default_rng(6)
    rises = rng.normal((0.3, 0.28, 0.1), 0.5, (900, 3))
    rises[:, 1] += 0.9 * (rises[:, 0] - 0.3)
    values = {"rises": rises.sum(axis=0), "products": rises.T @ rises}
    _, error = moments(900, values["rises"], np.diagonal(values["products"]))
    drawn = permutation._resampled(900, values, error, Work())
    np.testing.assert_allclose(np.cov(drawn.T) * 900, np.cov(rises.T), rtol=0.15, atol=0.01)


def test_a_loss_of_another_kind_is_refused() -> None:
    with pytest.raises(BadInput, match="another kind of label"):
        permutation.analysis.check(ask({"loss": "squared_error"}))


def covered(seed: int, rows: int = 300) -> npt.NDArray[np.bool_]:
    """Whether each interval holds 2 w^2, of two partners' rows in standard normal features whose labels have noise."""
    schema = Schema(
        name="linear/1",
        columns=tuple(Number(name=name, minimum=-6, maximum=6) for name in ("a", "b", "unused")),
        label=Number(name="y", minimum=-20, maximum=20),
    )
    question = Ask(schema=schema, options={"shuffles": 10}, seed=seed)
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 3))
    labels = values @ WEIGHTS + rng.normal(size=rows)
    parts = [
        Rows(features_of(schema), values[some], labels[some]) for some in (slice(rows // 3), slice(rows // 3, rows))
    ]
    keys = rng.integers(0, 1 << 63, rows).astype(np.uint64)
    marginals = added(counted(part) for part in parts)
    spread = marginals_of(schema, marginals["marginals"])
    sums = added(
        permutation.partial(MODEL, part, some, spread, "squared_error", 10, seed, lends=True)
        for part, some in zip(parts, (keys[: rows // 3], keys[rows // 3 :]), strict=True)
    )
    found = [Summed(marginals, ("p", "q")), Summed(sums, ("p", "q"))]
    told = permutation.analysis.read(question, found, Lineage(model="linear"), Release(partners=2))
    truth = 2 * WEIGHTS**2
    inside: npt.NDArray[np.bool_] = (told.low <= truth) & (truth <= told.high)
    return inside


def test_intervals_of_a_counted_marginal_hold_the_truth_though_rows_lend_as_they_take() -> None:
    held = np.mean([covered(seed) for seed in range(300)], axis=0)
    assert (held[:2] > 0.91).all()  # 95 % less three standard errors; from what rows take alone, 86 and 91 %
    assert (held[:2] < 0.985).all()
    assert held[2] == 1.0

"""Permutation importance against a shared marginal: what pooled shuffling says, and shuffling within partners does not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.inspection import permutation_importance

from aimass.explain.federated import permutation
from aimass.explain.federated.marginals import Marginal
from aimass.explain.federated.sums import Release, Sums, added, moments
from aimass.explain.lineage import Lineage
from aimass.explain.models import model_of_function
from aimass.explain.rows import Rows
from aimass.proto.errors import BadInput
from tests.explain.federated.hospitals import at, hospitals
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
    mean, error = moments(float(shared["rows"]), np.asarray(shared["rises"]), np.asarray(shared["squares"]))
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


def test_the_result_ranks_features_and_says_where_the_values_come_from() -> None:
    question = ask({"shuffles": 3, "loss": "brier"})
    found = together(permutation.analysis, question, at(hospitals()))
    told = permutation.analysis.read(question, found, Lineage(model="heart"), Release(partners=4))
    assert told.rows == 920
    assert (told.low <= told.value).all()
    assert any("counts over the federation" in line for line in told.caveats)
    assert told.features[told.order()[0]] in told.describe()[1]
    assert type(told).from_json(told.to_json()) == told
    assert told.to_chart().to_dict()


def test_a_loss_of_another_kind_is_refused() -> None:
    with pytest.raises(BadInput, match="another kind of label"):
        permutation.analysis.check(ask({"loss": "squared_error"}))

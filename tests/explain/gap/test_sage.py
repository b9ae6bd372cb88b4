"""SAGE: all orders by hand, a closed form, efficiency, its stopping rule and intervals that hold the truth."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from aimass.explain.gap.contributions import contributions
from aimass.explain.gap.sage import sage_values
from aimass.explain.lpi.background import Background
from aimass.explain.models import asked, model_of_function
from aimass.explain.rows import Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

Floats = npt.NDArray[np.float64]
NAMES = ("a", "b", "c")
WEIGHTS = np.array([1.0, 0.5, 0.0])


def gaussian(rows: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 3))
    return Rows.of(values, NAMES, values @ WEIGHTS + rng.normal(size=rows), held_out=True)


def background(values: Floats) -> Background:
    return Background(values, np.ones(len(values)), True, "these")


def by_hand(values: Floats, labels: Floats, references: Floats, outcome: Floats) -> Floats:
    """The mean over all orders of what each feature's joining takes off the squared error; `outcome` are weights."""

    def loss(known: tuple[int, ...]) -> float:
        total = 0.0
        for row, label in zip(values, labels, strict=True):
            cells = references.copy()
            cells[:, known] = row[list(known)]
            total += float((np.tanh(cells @ outcome).mean() - label) ** 2)
        return total / len(values)

    found, orders = np.zeros(3), list(itertools.permutations(range(3)))
    for order in orders:
        for place, feature in enumerate(order):
            found[feature] += loss(order[:place]) - loss(order[: place + 1])
    return found / len(orders)


def test_over_many_passes_it_is_the_mean_over_all_orders() -> None:
    rows = gaussian(25, 1)
    outcome, references = np.array([1.0, -2.0, 0.5]), gaussian(8, 2).values
    model = model_of_function(lambda cells: np.tanh(cells @ outcome), NAMES)
    labels = rows.need_labels()
    truth = by_hand(rows.values, labels, references, outcome)
    found = sage_values(
        asked(model, Work()),
        rows.values,
        labels,
        background(references),
        [[0], [1], [2]],
        "squared_error",
        Work(seed=3),
        tolerance=0.0,
        most_passes=300,
    )
    assert np.abs(found.value - truth).max() < 4 * found.sampling.max()
    assert found.sampling.max() < 0.02 * np.ptp(truth)
    assert found.value.sum() == pytest.approx(found.whole, abs=1e-12)


def test_of_a_linear_model_of_independent_features_it_is_the_squared_weight_times_the_variance() -> None:
    """With the others averaged over their marginal, what a feature takes off is its part of the variance."""
    model = model_of_function(lambda cells: cells @ WEIGHTS, NAMES)
    found = contributions(model, gaussian(4_000, 4), Work(), most_rows=2_000, references=400)
    for value, low, high, true in zip(found.value, found.low, found.high, WEIGHTS**2, strict=True):
        assert abs(value - true) <= 2 * max(high - low, 0.01)
    assert (found.value[2], found.low[2], found.high[2]) == (0.0, 0.0, 0.0)


def test_it_stops_where_the_sampling_error_is_small_and_says_where_it_is_not() -> None:
    model = model_of_function(lambda cells: np.tanh(3 * cells[:, 0] * cells[:, 1]) + cells[:, 2], NAMES)
    rows = gaussian(100, 5)
    easy = contributions(model, rows, Work(), tolerance=0.2)
    hard = contributions(model, rows, Work(), tolerance=0.001, most_passes=3)
    assert easy.passes == 2
    assert all(check.passed for check in easy.checks)
    assert hard.passes == 3
    assert [check.passed for check in hard.checks] == [True, False]
    assert "go through the rows more often" in " ".join(hard.warnings())


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Against the whole distribution as background: x1 of x1 + x2 / 2 takes off 1."""
    model = model_of_function(lambda cells: cells @ WEIGHTS, NAMES)
    centre, held = background(np.zeros((1, 3))), 0
    for seed in range(300):
        rows = gaussian(100, 100 + seed)
        found = sage_values(
            model.predict,
            rows.values,
            rows.need_labels(),
            centre,
            [[0], [1], [2]],
            "squared_error",
            Work(seed=seed),
            tolerance=0.5,
        )
        assert found.sampling.max() < 1e-12  # an order and its reverse are exact where only pairs work together
        held += abs(found.value[0] - 1.0) <= 1.984 * found.error[0]
    assert 0.91 <= held / 300 <= 0.98


def test_columns_that_are_one_feature_join_together() -> None:
    rows = gaussian(80, 6)
    model = model_of_function(lambda cells: cells @ WEIGHTS, NAMES)
    found = contributions(model, rows, Work(), groups=("both=a,b",), references=20)
    assert found.names == ("both", "c")
    assert found.value[0] == pytest.approx(found.whole, abs=1e-12)
    assert type(found).from_json(found.to_json()) == found


def test_a_feature_that_harms_is_said_to() -> None:
    rows = gaussian(300, 7)
    model = model_of_function(lambda cells: cells[:, 0] + 2.0 * cells[:, 2], NAMES)
    assert "With c the model is worse than without." in contributions(model, rows, Work()).describe()


def test_what_cannot_be_asked_is_named() -> None:
    rows, model = gaussian(10, 8), model_of_function(lambda cells: cells @ WEIGHTS, NAMES)
    with pytest.raises(BadInput, match="one row"):
        contributions(model, rows.take(slice(0, 1)), Work())
    with pytest.raises(BadInput, match="background is empty"):
        contributions(model, rows, Work(), background=rows.take(slice(0, 0)))

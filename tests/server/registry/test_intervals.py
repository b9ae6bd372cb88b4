"""Intervals hold what they promise, as often as they promise it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.contribution import Metric
from aimass.proto.intervals import of_auc, wilson
from aimass.proto.task import auc
from aimass.proto.views import MetricView
from aimass.server.registry.intervals import bootstrapped, interval_of


def test_wilsons_interval_is_that_of_the_paper() -> None:
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1 / 29, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)


@given(st.floats(0, 1), st.integers(1, 10**9))
def test_it_lies_within_0_and_1_around_the_mean(mean: float, rows: int) -> None:
    low, high = wilson(mean, rows)
    assert 0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1


def test_of_what_does_not_say_how_it_spreads_nothing_is_claimed() -> None:
    metric = MetricView(mean=0.8, weight=100.0)
    assert interval_of("accuracy", metric, noisy=False).low is not None
    assert interval_of("accuracy", metric, noisy=True).low is None
    assert interval_of("loss", metric, noisy=False).low is None
    assert interval_of("accuracy", MetricView(mean=1.2, weight=100.0), noisy=False).low is None


def _right(said: npt.NDArray[np.float64], labels: npt.NDArray[Any]) -> dict[str, Metric]:
    return {"accuracy": Metric(float((said.argmax(axis=1) == labels).sum()), float(len(labels)))}


def _accuracy(said: npt.NDArray[np.float64], labels: npt.NDArray[Any]) -> Mapping[str, Metric]:
    return _right(said, labels) | ({"score": Metric(1.0, 1.0)} if 0 < labels.sum() < len(labels) else {})


def _answers(right: int, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[Any]]:
    """What a model says that is right on so many rows, and their labels: half of them of each class."""
    labels = np.arange(count) % 2
    return np.eye(2)[np.where(np.arange(count) < right, labels, 1 - labels)], labels


def test_of_an_accuracy_on_held_out_rows_the_interval_is_wilsons() -> None:
    found = bootstrapped(_accuracy, *_answers(320, 400), np.random.default_rng(1))["accuracy"]
    assert found.mean == pytest.approx(0.8)
    assert (found.low, found.high) == pytest.approx(wilson(0.8, 400))


@pytest.mark.parametrize("rows", [5, 10, 20, 50])
def test_of_few_rows_the_true_accuracy_lies_within_as_often_as_promised(rows: int) -> None:
    """Exactly, over all numbers of right answers: resampling came to 23 % of 5 rows and to 63 % of 20."""
    true, holds = 0.95, 0.0
    for right in range(rows + 1):
        found = bootstrapped(_right, *_answers(right, rows), np.random.default_rng(right))["accuracy"]
        assert found.low is not None
        assert found.high is not None
        chance = math.comb(rows, right) * true**right * (1 - true) ** (rows - right)
        holds += chance if found.low <= true <= found.high else 0.0
    assert holds > 0.91


def _spread(said: npt.NDArray[np.float64], labels: npt.NDArray[Any]) -> Mapping[str, Metric]:
    return {"loss": Metric(float(said.sum()), float(len(labels)))}


def test_of_the_fewest_rows_that_are_resampled_the_true_loss_lies_within_about_as_often_as_promised() -> None:
    chance, labels = np.random.default_rng(3), np.zeros(50)
    found = [bootstrapped(_spread, chance.exponential(size=50), labels, chance)["loss"] for _ in range(40)]
    holds = [one.low <= 1.0 <= one.high for one in found if one.low is not None and one.high is not None]
    assert len(holds) == 40
    assert sum(holds) >= 0.85 * 40


def test_fewer_rows_have_no_interval_but_for_proportions() -> None:
    found = bootstrapped(_spread, np.arange(49.0), np.zeros(49), np.random.default_rng(1))["loss"]
    assert (found.rows, found.low, found.high) == (49.0, None, None)


def test_very_many_rows_are_resampled_less_often() -> None:
    asked = 0

    def measures(said: npt.NDArray[np.float64], labels: npt.NDArray[Any]) -> Mapping[str, Metric]:
        nonlocal asked
        asked += 1
        return _spread(said, labels)

    rows = np.arange(50_000.0)
    found = bootstrapped(measures, rows, rows, np.random.default_rng(1))["loss"]
    assert asked == 1 + 400
    assert found.low is not None


def test_a_measure_that_some_rows_leave_undefined_has_no_interval() -> None:
    labels = np.array([0] * 60 + [1])
    found = bootstrapped(_accuracy, np.eye(2)[labels], labels, np.random.default_rng(1))
    assert (found["score"].mean, found["score"].low, found["score"].high) == (1.0, None, None)


def test_what_is_perfect_on_all_rows_has_an_interval_that_ends_below_or_none() -> None:
    said, labels = _answers(80, 80)
    found = bootstrapped(_accuracy, said, labels, np.random.default_rng(1))
    assert (found["score"].mean, found["score"].low, found["score"].high) == (1.0, None, None), "no resample differs"
    assert found["accuracy"].low == pytest.approx(80 / (80 + 1.959964**2))
    assert found["accuracy"].high == 1.0


@pytest.mark.parametrize(("positives", "negatives"), [(25, 25), (10, 190)])
@pytest.mark.parametrize("true", [0.7, 0.9, 0.98, 0.995])
def test_the_true_auc_lies_within_as_often_as_promised_close_to_1_too(
    true: float, positives: int, negatives: int
) -> None:
    chance = np.random.default_rng(7)
    shift = math.sqrt(2) * NormalDist().inv_cdf(true)  # of two normal variables
    labels = np.arange(positives + negatives) < positives
    holds = 0
    for _ in range(300):
        area = auc(chance.normal(size=len(labels)) + shift * labels, labels)
        assert area is not None
        low, high = of_auc(area, positives, negatives)
        assert 0 <= low <= area <= high <= 1
        holds += low <= true <= high
    assert holds >= 0.92 * 300


def test_an_auc_is_held_against_the_counts_of_both_classes_and_one_of_1_has_an_interval() -> None:
    def measures(said: npt.NDArray[np.float64], labels: npt.NDArray[Any]) -> dict[str, Metric]:
        area = auc(said[:, 1], labels == 1)
        return {} if area is None else {"auc": Metric(area * len(labels), float(len(labels)))}

    said, labels = _answers(40, 40)
    found = bootstrapped(measures, said, labels, np.random.default_rng(1))["auc"]
    assert (found.low, found.high) == of_auc(1.0, 20, 20)
    assert found.low == pytest.approx(0.8987, abs=1e-4)  # where 1 - low is 1.96 deviations of its own
    assert found.high == 1.0
    few = bootstrapped(measures, said[:10], labels[:10], np.random.default_rng(1))["auc"]
    assert few.low is not None
    assert found.low is not None
    assert few.low < found.low

"""Intervals hold what they promise, as often as they promise it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.contribution import Metric
from aimass.proto.views import MetricView
from aimass.server.registry.intervals import bootstrapped, interval_of, wilson


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


def _accuracy(said: npt.NDArray[np.float64], labels: npt.NDArray[Any]) -> Mapping[str, Metric]:
    right = said.argmax(axis=1) == labels
    measures = {"accuracy": Metric(float(right.sum()), float(len(labels)))}
    return measures | ({"auc": Metric(1.0, 1.0)} if len(set(labels.tolist())) > 1 else {})


def test_resampling_comes_to_the_same_as_wilson() -> None:
    labels = np.arange(400) % 2
    said = np.eye(2)[np.where(np.arange(400) % 5 == 0, 1 - labels, labels)]
    found = bootstrapped(_accuracy, said, labels, np.random.default_rng(1))["accuracy"]
    assert found.mean == pytest.approx(0.8)
    assert (found.low, found.high) == pytest.approx(wilson(0.8, 400), abs=0.02)


def test_a_measure_that_some_rows_leave_undefined_has_no_interval() -> None:
    labels = np.array([0] * 30 + [1])
    found = bootstrapped(_accuracy, np.eye(2)[labels], labels, np.random.default_rng(1))
    assert (found["auc"].mean, found["auc"].low, found["auc"].high) == (1.0, None, None)
    assert found["accuracy"].low == 1.0

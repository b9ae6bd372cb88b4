"""How the convergence benchmark deals rows and reads a curve: as the paper says it does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scripts.benches.convergence import crossing, dealt
from scripts.benches.convergence_heart import difference


@pytest.mark.parametrize("iid", [True, False])
@given(seed=st.integers(0, 99))
def test_every_row_is_dealt_once_and_in_equal_parts(seed: int, *, iid: bool) -> None:
    labels = np.arange(400) % 10
    parts = dealt(labels, seed, iid=iid)
    assert sorted(np.concatenate(parts)) == list(range(400))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 2
    again = dealt(labels, seed, iid=iid)
    assert all((one == other).all() for one, other in zip(parts, again, strict=True))


def test_dealt_by_label_a_partner_has_two_digits_or_three_where_a_cut_falls_within_one() -> None:
    labels = np.arange(6_000) % 10
    of_each = [len(set(labels[part])) for part in dealt(labels, 1, iid=False)]
    assert max(of_each) <= 4
    assert np.mean(of_each) < 2.2
    assert np.mean([len(set(labels[part])) for part in dealt(labels, 1, iid=True)]) > 9.5


def test_a_curve_crosses_between_two_rounds_on_a_line_and_never_falls() -> None:
    assert crossing([0.5, 0.9], 0.7) == pytest.approx(1.5)
    assert crossing([0.5, 0.3, 0.9], 0.7) == pytest.approx(2.5)  # from the best so far, not from the last
    assert crossing([0.8], 0.4) == pytest.approx(0.5)
    assert crossing([0.5, 0.6], 0.7) is None


def test_the_interval_of_paired_differences_is_students() -> None:
    above, below = [3.0, 5.0, 4.0, 7.0], [1.0, 4.5, 4.2, 4.0]
    row = difference("x", above, below)
    by_scipy = stats.ttest_rel(above, below).confidence_interval(0.95)
    assert row.range == pytest.approx((by_scipy.low, by_scipy.high))
    assert math.isclose(row.value, 1.325)

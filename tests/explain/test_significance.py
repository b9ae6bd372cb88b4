"""p-values are those of exact tests, and corrected ones hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact, ttest_ind

from aimass.explain.significance import difference_interval, holm, mean_and_interval, shuffled_p
from aimass.explain.work import Work


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    assert len(holm([])) == 0


def test_shuffles_agree_with_the_exact_test() -> None:
    errors = np.array([1.0] * 12 + [0.0] * 28)
    inside = np.zeros((40, 2), np.bool_)
    inside[[*range(8), *range(12, 18)], 0] = True
    inside[::2, 1] = True
    found = shuffled_p(inside, 2 * errors, 20_000, Work(), "test")
    exact = shuffled_p(inside, errors, 99, Work(), "test")
    for place in range(2):
        both = int(errors[inside[:, place]].sum())
        n = int(inside[:, place].sum())
        table = [[both, n - both], [12 - both, 28 - n + both]]
        assert found[place] == pytest.approx(fisher_exact(table, "greater")[1], abs=0.01)
        assert exact[place] == pytest.approx(fisher_exact(table, "greater")[1], rel=1e-9)


def test_chance_is_called_significant_no_more_often_than_promised() -> None:
    random, false = np.random.default_rng(0), 0
    for trial in range(200):
        inside = random.random((60, 4)) < 0.4
        p = holm(shuffled_p(inside, random.exponential(size=60), 199, Work(trial), "null"))
        false += bool(p.min() <= 0.05)
    assert false <= 19  # 99.8 % of binomial(200, 0.05) are at most 19


def test_the_memory_bound_changes_no_p_value_by_much_and_no_shuffle_gives_zero() -> None:
    errors, inside = np.arange(50.0), (np.arange(50) > 40)[:, None]
    assert shuffled_p(inside, errors, 99, Work(), "a") == pytest.approx(0.01)
    assert shuffled_p(inside, errors, 99, Work(memory_bytes=1 << 20), "a") == pytest.approx(0.01)


def test_intervals_of_differences_hold_the_truth_as_often_as_they_say() -> None:
    random, held = np.random.default_rng(1), [0, 0]
    for _ in range(1000):
        one, other = (random.random(40) < 0.4).astype(float), (random.random(90) < 0.2).astype(float)
        low, high = difference_interval(one, other, share=True)
        held[0] += low <= 0.2 <= high
        low, high = difference_interval(random.normal(1, 3, 12), random.normal(0, 1, 50), share=False)
        held[1] += low <= 1 <= high
    assert min(held) >= 930
    assert max(held) <= 975


def test_a_difference_by_hand_and_by_scipy() -> None:
    random = np.random.default_rng(2)
    one, other = random.normal(size=9), random.normal(size=30)
    wanted = ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert difference_interval(one, other, share=False) == pytest.approx(tuple(wanted), abs=0.02)
    ones, zeros = np.repeat([1.0, 0.0], [56, 14]), np.repeat([1.0, 0.0], [48, 32])
    assert difference_interval(ones, zeros, share=True) == pytest.approx((0.0524, 0.3339), abs=1e-4)  # Newcombe 1998
    assert np.isnan(difference_interval(one[:1], other, share=False)).all()
    assert np.isnan(difference_interval(one[:0], other, share=True)).all()


def test_the_mean_of_nothing_is_unknown() -> None:
    assert np.isnan(mean_and_interval(np.zeros(0), share=True)).all()
    assert mean_and_interval(np.ones(3), share=True)[0] == 1.0
    mean, low, high = mean_and_interval(np.array([3.0]), share=False)
    assert mean == 3.0
    assert np.isnan([low, high]).all()


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_where_errors_are_zero_or_one_p_is_fishers(rows: int, wrong: int, size: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    errors, inside = np.zeros(rows), np.zeros((rows, 1), np.bool_)
    errors[random.permutation(rows)[:wrong]] = 1.0
    inside[random.permutation(rows)[:size]] = True
    both, of, all_wrong = int(errors @ inside[:, 0]), int(inside.sum()), int(errors.sum())
    table = [[both, of - both], [all_wrong - both, rows - of - all_wrong + both]]
    assert shuffled_p(inside, errors, 99, Work(), "x")[0] == pytest.approx(fisher_exact(table, "greater")[1], rel=1e-8)

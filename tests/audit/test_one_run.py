"""The bound of one-run auditing: against exact binomials, plain loops and golden figures, and honest by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.audit.one_run import epsilon_from_guesses, right_guesses, surprise


def exactly(trials: int, share: float, k: int) -> float:
    return math.comb(trials, k) * share**k * (1 - share) ** (trials - k)


@pytest.mark.parametrize(("guesses", "right", "epsilon"), [(10, 7, 0.0), (50, 45, 1.0), (200, 120, 0.3), (30, 30, 2.0)])
def test_without_delta_it_is_the_tail_of_randomised_response(guesses: int, right: int, epsilon: float) -> None:
    share = math.exp(epsilon) / (1 + math.exp(epsilon))
    tail = sum(exactly(guesses, share, k) for k in range(right, guesses + 1))
    assert surprise(500, guesses, right, epsilon, 0.0) == pytest.approx(tail, rel=1e-9)


@pytest.mark.parametrize(("guesses", "right", "epsilon"), [(40, 30, 0.5), (100, 80, 1.0), (100, 51, 0.0)])
def test_delta_adds_the_largest_mean_of_what_lies_just_below(guesses: int, right: int, epsilon: float) -> None:
    share = 1 / (1 + math.exp(-epsilon))
    means = [sum(exactly(guesses, share, k) for k in range(right - i, right)) / i for i in range(1, right + 1)]
    plain = surprise(1000, guesses, right, epsilon, 0.0)
    assert surprise(1000, guesses, right, epsilon, 1e-6) - plain == pytest.approx(2e-3 * max(means), rel=1e-9)


GOLDEN = [
    (1_000, 1_000, 900, 0.0, 0.95, 2.021233),
    (1_000, 1_000, 900, 1e-5, 0.95, 2.020646),
    (1_000, 100, 95, 1e-5, 0.95, 2.165176),
    (1_000, 100, 95, 1e-3, 0.95, 0.594314),
    (5_000, 400, 400, 1e-5, 0.95, 4.753625),
    (100_000, 2_000, 1_400, 1e-8, 1 - 5e-5, 0.653947),
    (50, 10, 5, 1e-5, 0.95, 0.0),
]


@pytest.mark.parametrize(("canaries", "guesses", "right", "delta", "confidence", "epsilon"), GOLDEN)
def test_golden_figures_of_the_papers_own_listing(
    canaries: int, guesses: int, right: int, delta: float, confidence: float, epsilon: float
) -> None:
    """Its appendix D, run with SciPy's binomial."""
    assert epsilon_from_guesses(canaries, guesses, right, delta, confidence) == pytest.approx(epsilon, abs=2e-6)


def test_all_right_without_delta_has_a_closed_form() -> None:
    share = 0.05 ** (1 / 300)
    assert epsilon_from_guesses(1_000, 300, 300, 0.0, 0.95) == pytest.approx(math.log(share / (1 - share)), abs=1e-9)


def test_more_right_guesses_prove_more_and_more_delta_canaries_or_confidence_less() -> None:
    def bound(right: int = 160, delta: float = 1e-5, confidence: float = 0.95, canaries: int = 1_000) -> float:
        return epsilon_from_guesses(canaries, 200, right, delta, confidence)

    by_right = [bound(right) for right in range(0, 201, 5)]
    assert by_right == sorted(by_right)
    assert by_right[20] == 0.0, "half of them are right by chance"
    assert bound(delta=0.0) > bound(delta=1e-5) > bound(delta=1e-4)
    assert bound() > bound(confidence=0.999)
    assert bound() > bound(canaries=10_000)


def test_the_bound_is_above_the_truth_no_more_often_than_is_stated() -> None:
    """Randomised response of epsilon 1, and the bound is not far below it either."""
    chance = np.random.default_rng(1)
    right = chance.binomial(400, math.e / (1 + math.e), 3_000).tolist()
    bounds = {each: epsilon_from_guesses(400, 400, each, 0.0, 0.9) for each in set(right)}
    above = sum(bounds[each] > 1.0 for each in right) / len(right)
    assert 0.06 < above <= 0.1 + 5 * math.sqrt(0.09 / len(right))


def test_the_most_and_the_least_confident_are_guessed() -> None:
    scores = np.array([5.0, -3.0, 0.1, 0.0, 2.0, -4.0])
    included = np.array([True, False, False, True, False, False])
    assert right_guesses(scores, included, 2) == 2
    assert right_guesses(scores, included, 4) == 3  # 2.0 is out
    assert right_guesses(scores, ~included, 4) == 1
    assert right_guesses(scores, included, 0) == 0


def test_impossible_counts_are_refused() -> None:
    for canaries, guesses, right in ((10, 11, 5), (10, 5, 6), (10, 5, -1)):
        with pytest.raises(ValueError, match="no more"):
            surprise(canaries, guesses, right, 1.0, 0.0)

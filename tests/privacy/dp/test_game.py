"""The distinguishing game on the noised sum: its bound stays below what is stated, and half the noise is caught."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from aimass.privacy.dp.distributed import noise_share
from aimass.privacy.dp.noise_plan import NoiseKind, NoisePlan, solve_multiplier
from aimass.privacy.dp.sampler import discrete_gaussian
from tests.support.games import epsilon_at_least, share_at_least, share_at_most
from tests.support.noise import seeded
from tests.support.noise_plans import DELTA, TEN, epsilon_of, gaussian_curve, setting, skellam_curve

Share = Callable[[NoisePlan, int, int], npt.NDArray[np.int64]]


def honest(plan: NoisePlan, member: int, trials: int) -> npt.NDArray[np.int64]:
    return noise_share(plan, trials, seeded("game", member, trials))


def game(plan: NoisePlan, trials: int, share: Share) -> float:
    """The lower bound from so many sums over the least cohort, the canary in half of them, all its norm in a lane.

    For one lane in whole numbers this is the worst contribution that the bound of the norm admits.
    """
    shares = range(plan.setting.circle.shares)
    total = sum(np.asarray(share(plan, member, trials)) for member in shares)
    scores = np.asarray(total)
    canary = math.isqrt(plan.norm_squared)
    with_, without = scores[: trials // 2] + canary, scores[trials // 2 :]
    return epsilon_at_least(with_, without, DELTA)


BROKEN: dict[str, Share] = {
    "half the noise": lambda plan, member, trials: discrete_gaussian(
        Fraction(plan.deviation) ** 2 / 4, trials, seeded(member)
    ),
    "one member alone adds noise": lambda plan, member, trials: honest(plan, member, trials) * (member == 0),
    "noise from the plan's seed": lambda plan, member, trials: np.zeros(trials, np.int64),  # who knows it takes it away
}


@pytest.mark.parametrize("kind", NoiseKind)
@pytest.mark.parametrize("stated", [1.0, 3.0])
@pytest.mark.parametrize("trials", [1000, 100_000])
def test_the_bound_is_below_the_stated_epsilon(stated: float, kind: NoiseKind, trials: int) -> None:
    curve = skellam_curve if kind is NoiseKind.SKELLAM else gaussian_curve
    plan = solve_multiplier(setting(TEN, 12, 18, kind=kind), epsilon_of(1, curve), stated)
    found = game(plan, trials, honest)
    assert found < stated
    assert trials < 100_000 or found > 0.3 * stated, "and not vacuous"


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_mechanism_is_caught_with_enough_trials(name: str) -> None:
    plan = solve_multiplier(setting(TEN, 12, 18), epsilon_of(1, gaussian_curve), 1.0)
    assert game(plan, 200_000, BROKEN[name]) > 1.0


def test_a_contribution_that_was_not_clipped_is_caught() -> None:
    plan = solve_multiplier(setting(TEN, 12, 18), epsilon_of(1, gaussian_curve), 1.0)
    total = sum(honest(plan, member, 200_000) for member in range(8))
    scores = np.asarray(total)
    assert epsilon_at_least(scores[:100_000] + 3 * math.isqrt(plan.norm_squared), scores[100_000:], DELTA) > 1.0


def test_the_games_power_is_the_specifications() -> None:
    """At half the noise of epsilon 1: about 0.40 after 1,000 trials and 1.29 after 100,000."""
    plan = solve_multiplier(setting(TEN, 12, 18), epsilon_of(1, gaussian_curve), 1.0)
    few, many = (game(plan, trials, BROKEN["half the noise"]) for trials in (2000, 200_000))
    assert few == pytest.approx(0.40, abs=0.3)
    assert many == pytest.approx(1.29, abs=0.3)


def test_shares_are_bounded_as_clopper_and_pearson_do() -> None:
    """Against sums of exact binomial probabilities, and their two known ends."""
    for count, trials in ((1, 10), (7, 10), (10, 10), (30, 50)):
        least = share_at_least(count, trials, 0.025)
        tail = sum(math.comb(trials, k) * least**k * (1 - least) ** (trials - k) for k in range(count, trials + 1))
        assert tail == pytest.approx(0.025, rel=1e-9)
    assert share_at_least(0, 10, 0.025) == 0.0
    assert share_at_most(10, 10, 0.025) == 1.0
    assert share_at_most(0, 10, 0.025) == pytest.approx(1 - 0.025 ** (1 / 10), rel=1e-9)
    assert share_at_least(10, 10, 0.025) == pytest.approx(0.025 ** (1 / 10), rel=1e-9)

"""The clipping norm follows its quantile, by noised votes whose price is the stated one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from aimass.privacy.dp.adaptive import Adaptive, next_clip, share_within, update_multiplier, vote
from aimass.privacy.dp.noise_plan import Circle, plan_noise
from aimass.privacy.secagg.faults import FaultError
from aimass.proto.errors import BadInput
from tests.support.noise import seeded
from tests.support.noise_plans import HUNDRED, TEN, setting

RULE = Adaptive(HUNDRED, 1.0)


def test_the_specifications_figure() -> None:
    assert update_multiplier(RULE, 1.0) == pytest.approx(1.00504, abs=5e-6)
    assert RULE.bit_deviation == 5.0


@pytest.mark.parametrize("multiplier", [0.5, 1.0, 6.38])
def test_update_and_votes_together_cost_what_the_update_alone_did(multiplier: float) -> None:
    both = 1 / (2 * update_multiplier(RULE, multiplier) ** 2) + RULE.rho
    assert both == pytest.approx(1 / (2 * multiplier**2), rel=1e-12)
    where = setting(HUNDRED, 14, 24)
    plain, grown = plan_noise(where, multiplier), plan_noise(where, update_multiplier(RULE, multiplier))
    assert grown.rho + RULE.rho == pytest.approx(plain.rho, rel=1e-3), "less what rounding adds to the norm"


def test_votes_that_cost_more_than_everything_are_refused() -> None:
    with pytest.raises(BadInput, match="few partners"):
        update_multiplier(Adaptive(TEN, 1.0), 1.1)


@pytest.mark.parametrize("circle", [TEN, HUNDRED, Circle(3, 0, 2), Circle(1000, 100, 900), Circle(5000, 500, 2751)])
def test_a_vote_is_a_half_up_or_down_with_wide_enough_noise(circle: Circle) -> None:
    rule = Adaptive(circle, 1.0)
    assert rule.steps % 2 == 0
    assert rule.deviation >= 4
    assert rule.deviation * math.sqrt(circle.shares) == pytest.approx(rule.steps * circle.members / 20)
    count = 4000
    stream = seeded("vote", circle)
    within = np.array([vote(rule, 0.9, 1.0, stream) for _ in range(count)])
    beyond = np.array([vote(rule, 1.1, 1.0, stream) for _ in range(count)])
    for votes, mean in ((within, rule.steps / 2), (beyond, -rule.steps / 2)):
        assert abs(votes.mean() - mean) < 5 * rule.deviation / math.sqrt(count)
        assert votes.var() / rule.deviation**2 == pytest.approx(1, abs=5 * math.sqrt(2 / count))


def test_the_bound_itself_counts_as_within() -> None:
    votes = [np.mean([vote(RULE, norm, 1.0, seeded(i)) for i in range(300)]) for norm in (1.0, math.nextafter(1.0, 2))]
    assert votes[0] - votes[1] == RULE.steps


@pytest.mark.parametrize("first", [0.05, 100.0])
@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.8])
def test_the_norm_comes_to_lie_at_the_quantile(first: float, quantile: float) -> None:
    """Norms from 1 to 3, uniform: 150 rounds from far below and far above."""
    rule, stream = Adaptive(HUNDRED, first, quantile), seeded("follow", first, quantile)
    clip, last = first, []
    for _ in range(150):
        norms = 1 + 2 * (stream.take(100) / 2.0**64)
        total = sum(vote(rule, norm, clip, stream) for norm in norms.tolist())
        clip = next_clip(rule, clip, share_within(rule, total, 100))
        last.append(clip)
    assert np.mean(last[-50:]) == pytest.approx(1 + 2 * quantile, abs=0.1)


def test_a_turned_sign_would_run_away() -> None:
    """Power of the test above: moving the other way ends at a limit."""
    clip = 2.0
    for _ in range(150):
        within = min(1.0, max(0.0, (clip - 1) / 2 + 0.01))
        clip = clip**2 / next_clip(RULE, clip, within)
    assert not 1.9 < clip < 2.1


def test_one_step_is_the_formula_and_stays_within_limits() -> None:
    assert next_clip(RULE, 2.0, 0.9) == pytest.approx(2 * math.exp(-0.2 * 0.4), rel=1e-15)
    assert next_clip(RULE, 2.0, 1e300) == next_clip(RULE, 2.0, 2.0)
    assert next_clip(RULE, 2.0, -1e300) == next_clip(RULE, 2.0, -1.0)
    assert next_clip(RULE, 1e6, 0.0) == 1e6
    assert next_clip(RULE, 1e-6, 1.0) == 1e-6


def test_shares_are_of_those_who_were_summed() -> None:
    half = RULE.steps // 2
    assert share_within(RULE, 90 * half, 90) == 1.0
    assert share_within(RULE, -90 * half, 90) == 0.0
    assert share_within(RULE, 0, 90) == 0.5
    for members in (0, -1, 101):
        with pytest.raises(BadInput, match="one member"):
            share_within(RULE, 0, members)


@pytest.mark.parametrize(
    "odd",
    [
        {"quantile": 0.0},
        {"quantile": 1.0},
        {"quantile": math.nan},
        {"rate": 0.0},
        {"rate": 1.5},
        {"first": 0.0},
        {"first": math.inf},
    ],
)
def test_impossible_rules_are_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="adaptive"):
        Adaptive(**{"circle": HUNDRED, "first": 1.0, **odd})
    with pytest.raises(FaultError, match="E_POLICY"):
        Adaptive(Circle(100, 10, 55), 1.0)

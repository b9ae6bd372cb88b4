"""How large a cohort must be for a mean update to be seen through the noise of its sum."""

from __future__ import annotations

import math

import pytest

from aimass.privacy.dp.noise_plan import Circle, NoisePlan, Setting, plan_noise
from aimass.privacy.dp.signal import by_cohort, clear_from

GAMMA = 100_000


def noise(members: int = 100, quorum: int = 90, count: int = 1 << 20, multiplier: float = 6.3846) -> NoisePlan:
    return plan_noise(Setting(Circle.of(members, GAMMA, quorum), count, 20, 1.0), multiplier)


def test_the_documented_row_has_the_documented_noise_and_signal() -> None:
    (own,) = by_cohort(noise(), GAMMA, [100])
    assert own.noise == pytest.approx(0.0714, abs=1e-4)
    assert own.signal == pytest.approx(0.001, abs=3e-5)
    assert own.noise == pytest.approx(noise().mean_deviation, rel=1e-12)
    assert own.ratio == pytest.approx(own.noise / own.signal)


def test_another_cohort_keeps_the_share_of_the_least_one_and_of_colluders() -> None:
    (one,) = by_cohort(noise(), GAMMA, [1_000])
    assert one.noise == pytest.approx(6.3846 / math.sqrt(1_000 * (900 - 100)))


def test_noise_falls_with_partners_and_from_the_stated_cohort_on_is_below_the_signal() -> None:
    plan = noise(count=2_000, multiplier=3.0)
    least = clear_from(plan, GAMMA)
    assert least is not None
    before, at, after = by_cohort(plan, GAMMA, [least - 1, least, 2 * least])
    assert before.ratio >= 1 > at.ratio > after.ratio


def test_of_a_model_that_is_too_large_for_any_cohort_that_is_said() -> None:
    assert clear_from(noise(count=1 << 24, multiplier=500.0), GAMMA) is None

"""Constants of distributed noise: the golden table, what bounds what, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.dp.noise_plan import Circle, NoiseKind, Setting, plan_noise, solve_multiplier
from aimass.privacy.secagg.faults import Code, FaultError
from tests.support.noise_plans import (
    GOLDEN,
    HUNDRED,
    TEN,
    THOUSAND,
    Golden,
    epsilon_of,
    gaussian_curve,
    setting,
    skellam_curve,
)


@pytest.mark.parametrize("row", GOLDEN, ids=str)
def test_the_golden_table(row: Golden) -> None:
    plan = solve_multiplier(row.setting, epsilon_of(row.rounds, gaussian_curve), row.epsilon)
    assert plan.multiplier == pytest.approx(row.multiplier, abs=5.01e-5)
    assert plan.scale == pytest.approx(row.scale, abs=5.01e-3)
    assert plan.deviation == pytest.approx(row.deviation, abs=5.01e-3)
    assert plan.norm / plan.scale == pytest.approx(row.ratio, abs=5.01e-5)
    assert plan.xi < 1e-50
    assert plan.setting.block == plan.setting.size == plan.setting.count


@pytest.mark.parametrize("row", GOLDEN, ids=str)
def test_skellam_costs_three_thousandths_more_at_most(row: Golden) -> None:
    plan = plan_noise(row.setting, row.multiplier)
    found = epsilon_of(row.rounds, skellam_curve)(plan)
    assert found == pytest.approx(epsilon_of(row.rounds, gaussian_curve)(plan), rel=3e-3)


def test_solving_gives_no_more_than_the_epsilon_and_hardly_less() -> None:
    epsilon = epsilon_of(20, gaussian_curve)
    plan = solve_multiplier(setting(), epsilon, 2.0)
    assert epsilon(plan) <= 2.0
    assert epsilon(plan_noise(plan.setting, plan.multiplier * (1 - 1e-9))) > 2.0


def test_too_few_bits_are_refused_and_not_searched_for_ever() -> None:
    with pytest.raises(FaultError) as caught:
        solve_multiplier(setting(HUNDRED, 20, 13), epsilon_of(100, gaussian_curve), 1.0)
    assert caught.value.fault.code is Code.PLAN


@given(
    st.integers(3, 300),
    st.floats(0, 0.3),
    st.integers(1, 100_000),
    st.integers(14, 24),
    st.floats(0.3, 20),
    st.floats(1e-3, 1e3),
)
def test_constants_keep_their_promises(
    members: int, share: float, count: int, bits: int, z: float, clip: float
) -> None:
    colluders = int(share * members)
    circle = Circle(members, colluders, (members + colluders) // 2 + 1)
    kind = NoiseKind.SKELLAM if bits <= 20 else NoiseKind.DISCRETE_GAUSSIAN  # each where no share is refused
    where = Setting(circle, count, bits, clip, kind)
    plan = plan_noise(where, z)
    noise = math.sqrt(circle.shares) * plan.deviation
    assert noise == pytest.approx(plan.scale * z * clip, rel=1e-9), "central noise of z C from the shares counted on"
    worst = (plan.scale * clip * members) ** 2 / where.block + members * plan.deviation**2 + members / 4
    assert 7 * math.sqrt(worst) == pytest.approx(2 ** (bits - 1), rel=1e-9), "a lane holds seven deviations"
    steps, lanes = plan.scale * clip, where.size
    bound = steps**2 + lanes / 4 + math.sqrt(2 * math.log(1 / math.exp(-0.5))) * (steps + math.sqrt(lanes) / 2)
    assert plan.norm_squared == pytest.approx(min((steps + math.sqrt(lanes)) ** 2, bound), rel=1e-9, abs=1.001)
    assert plan.norm_squared >= (plan.scale * clip) ** 2 * (1 - 1e-12) - 1
    assert plan.mean_deviation == pytest.approx(
        noise / plan.scale * math.sqrt(members / circle.shares) / members, rel=1e-9
    )


def test_the_clip_changes_the_scale_alone() -> None:
    one, other = plan_noise(setting(clip=1.0), 2.0), plan_noise(setting(clip=8.0), 2.0)
    assert one.scale == 8 * other.scale
    assert (one.deviation, one.norm_squared, one.rho) == (other.deviation, other.norm_squared, other.rho)


def test_tau_is_the_sum_of_theorem_one() -> None:
    plan = dataclasses.replace(plan_noise(setting(), 2.0), deviation=1.0)
    plain = 10 * sum(math.exp(-2 * math.pi**2 * k / (k + 1)) for k in range(1, 8))
    assert plan.tau == pytest.approx(plain, rel=1e-12)
    assert plan.xi == plan.tau * (1 << 14)


# ------------------------------------------------------------------- row 46, and other refusals


def code_of(where: Setting, z: float = 1.0) -> Code:
    with pytest.raises(FaultError) as caught:
        plan_noise(where, z)
    return caught.value.fault.code


def test_a_share_below_four_steps_is_refused_for_the_discrete_gaussian() -> None:
    narrow = setting(HUNDRED, 20, 9)
    assert code_of(narrow, 6.0) is Code.POLICY
    assert plan_noise(dataclasses.replace(narrow, kind=NoiseKind.SKELLAM), 6.0).deviation < 4
    with pytest.raises(FaultError, match="E_POLICY"):
        solve_multiplier(narrow, lambda plan: 1.0, 1.0)


@pytest.mark.parametrize(
    ("circle", "least"), [(HUNDRED, 56), (TEN, 6), (THOUSAND, 551), (Circle(3, 0, 3), 2), (Circle(3, 1, 3), 3)]
)
def test_a_least_cohort_below_the_quorum_is_refused(circle: Circle, least: int) -> None:
    """Such a cohort could be opened with fewer shares of noise than were counted on."""
    assert (
        plan_noise(setting(dataclasses.replace(circle, quorum=least)), 1.0).setting.circle.shares
        == least - circle.colluders
    )
    assert code_of(setting(dataclasses.replace(circle, quorum=least - 1))) is Code.POLICY
    assert code_of(setting(dataclasses.replace(circle, quorum=circle.members + 1))) is Code.POLICY


@pytest.mark.parametrize(
    ("changes", "z"),
    [
        ({"circle": Circle(0, 0, 0)}, 1.0),
        ({"circle": Circle(10, 10, 10)}, 1.0),
        ({"circle": Circle(10, -1, 9)}, 1.0),
        ({"circle": Circle(70_000, 1, 60_000)}, 1.0),
        ({"count": 0}, 1.0),
        ({"count": 1 << 60}, 1.0),
        ({"bits": 1}, 1.0),
        ({"bits": 33}, 1.0),
        ({"bits": 4}, 1.0),
        ({"clip": 0.0}, 1.0),
        ({"clip": math.nan}, 1.0),
        ({"clip": math.inf}, 1.0),
        ({}, 0.0),
        ({}, -1.0),
        ({}, math.nan),
        ({}, math.inf),
    ],
)  # fmt: skip
def test_impossible_plans_are_refused(changes: dict[str, Any], z: float) -> None:
    assert code_of(dataclasses.replace(setting(), **changes), z) is Code.PLAN


def test_a_rounds_circle_has_the_honest_shares_that_were_counted_on() -> None:
    assert Circle.of(100, 100_000, 90) == HUNDRED
    assert Circle.of(10, 1, 9) == TEN
    assert Circle.of(10, 0, 9).colluders == 0
    HUNDRED.check_round(100, 100_000, 90)
    HUNDRED.check_round(95, 100_000, 95)
    HUNDRED.check_round(20, 500_000, 90)
    for members, gamma, least in ((100, 100_000, 89), (100, 110_000, 90), (20, 600_000, 90)):
        with pytest.raises(FaultError) as caught:
            HUNDRED.check_round(members, gamma, least)
        assert caught.value.fault.code is Code.POLICY


# ------------------------------------------------------------------- what both parties hash


def test_every_constant_is_in_the_digest() -> None:
    plan = plan_noise(setting(), 2.0)
    where, circle = plan.setting, plan.setting.circle
    others = [
        dataclasses.replace(plan, **{name: getattr(plan, name) * 2})
        for name in ("multiplier", "scale", "deviation", "norm_squared")
    ]
    settings = (
        dataclasses.replace(where, count=where.count + 1),
        dataclasses.replace(where, bits=19),
        dataclasses.replace(where, clip=2.0),
        dataclasses.replace(where, kind=NoiseKind.SKELLAM),
        *(
            dataclasses.replace(where, circle=dataclasses.replace(circle, **{name: getattr(circle, name) + 1}))
            for name in ("members", "colluders", "quorum")
        ),
    )
    others += [dataclasses.replace(plan, setting=changed) for changed in settings]
    digests = {plan.digest, *(other.digest for other in others)}
    assert len(digests) == len(others) + 1
    assert all(len(digest) == 32 for digest in digests)
    assert plan.digest == plan_noise(setting(), 2.0).digest

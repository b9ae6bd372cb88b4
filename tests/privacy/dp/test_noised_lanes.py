"""Distributed noise in the lanes of a step: what a driver reads of the sum, and what does not fit together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from aimass.privacy.dp.adaptive import Adaptive
from aimass.privacy.dp.noise_plan import Circle, NoiseKind, NoisePlan, Setting, plan_noise
from aimass.privacy.secagg.context import NO_DIGEST, LaneKind, RoundContext
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.lanes import Groups, LanePlan, clipped, decode, encode, from_bytes, plan_lanes, to_bytes
from aimass.privacy.secagg.quantise import check_lanes, check_sum
from aimass.proto.contribution import Contribution, Group, Metric
from tests.support import secagg_v7
from tests.support.secagg import Seeded
from tests.support.secagg_lanes import PLAIN, keys, summed

GROUPS: Groups = {
    "a": {"bias": ("F32", (7,)), "kernel": ("F64", (30, 20))},
    "b": {"scale": ("F16", ()), "empty": ("F32", (0, 3))},
}
COUNT = 608
KEY = bytes(range(16))
NOISE = plan_noise(Setting(Circle(10, 1, 9), COUNT, 20, 2.0), 0.5)
SIZES = dataclasses.replace(PLAIN, members=10, bits=16, max_weight=1)


def planned(
    noise: NoisePlan | None = NOISE,
    groups: Groups = GROUPS,
    metrics: Sequence[str] = (),
    updates: bool = True,
    **sizes: Any,
) -> LanePlan:
    return plan_lanes(groups, metrics, dataclasses.replace(SIZES, **sizes), updates=updates, noise=noise)


def given(seed: int, norm: float, weight: float = 1.0, **metrics: Metric) -> Contribution:
    values = np.frombuffer(Seeded("noised", seed).token(8 * COUNT), "<u8") / 2.0**64 - 0.5
    values *= norm / np.linalg.norm(values)
    return Contribution(
        {
            "a": Group(weight, {"bias": values[:7].astype(np.float32), "kernel": values[7:607].reshape(30, 20)}),
            "b": Group(weight, {"scale": np.array(values[607], np.float16), "empty": np.zeros((0, 3), np.float32)}),
        },
        metrics,
        {},
    )


def context_of(plan: LanePlan) -> RoundContext:
    return dataclasses.replace(
        secagg_v7.context(),
        lanes=plan.lanes,
        bits=plan.bits,
        clip=plan.clip,
        scale=plan.scale,
        layout_digest=plan.digest,
        dp_digest=plan.noise_digest,
        min_cohort=9,
        gamma_ppm=100_000,
    )


def test_all_tensors_are_one_row_of_lanes_with_the_noise_plans_constants() -> None:
    plan = planned()
    assert [(spec.name, spec.kind, spec.count) for spec in plan.specs] == [
        ("noised", LaneKind.NOISED, 1024),
        ("weight/a", LaneKind.WEIGHT, 1),
        ("weight/b", LaneKind.WEIGHT, 1),
        ("check", LaneKind.CHECK, 2),
    ]
    assert (plan.clip, plan.scale, plan.bits) == (2.0, NOISE.scale, 20)
    assert (plan.specs[0].clip, plan.specs[0].scale) == (2.0, NOISE.scale)
    assert plan.noise_digest == NOISE.digest
    assert plan.places == {
        "a/bias": slice(0, 7),
        "a/kernel": slice(7, 607),
        "b/empty": slice(607, 607),
        "b/scale": slice(607, 608),
    }
    assert plan == planned(groups={"b": dict(list(GROUPS["b"].items())[::-1]), "a": GROUPS["a"]})


def test_without_noise_nothing_changes() -> None:
    plan = planned(None)
    assert plan.noise_digest == NO_DIGEST
    assert plan.clip == PLAIN.clip
    assert {spec.kind for spec in plan.specs} == {LaneKind.UPDATE, LaneKind.WEIGHT, LaneKind.CHECK}


def test_a_driver_reads_the_sum_of_clipped_contributions_with_noise() -> None:
    plan = planned(metrics=["loss"])
    norms = [0.5, 1.9, 2.0, 40.0, 1.0, 1e4, 0.0001, 2.0, 1.5, 3.0]
    inputs = [given(seed, norm, 1.0 + seed, loss=Metric(2.0, 1.0)) for seed, norm in enumerate(norms)]
    lanes = [from_bytes(plan, to_bytes(plan, encode(plan, each, keys(seed), KEY))) for seed, each in enumerate(inputs)]
    sums = decode(plan, summed(plan, lanes), 10, KEY)
    deviation = math.sqrt(10 * (NOISE.deviation**2 + 0.25)) / NOISE.scale
    errors = []
    for group, members in GROUPS.items():
        assert sums.weight(group) == 10, "every weight is one, whatever was handed in"
        for name, (_, shape) in members.items():
            exact = sum(
                each.groups[group].tensors[name].astype(np.float64) * min(1.0, 2.0 / norm)
                for each, norm in zip(inputs, norms, strict=True)
            )
            found = sums.total(group, name)
            assert found.shape == shape
            assert found.dtype == np.float64
            errors.append((found - exact).reshape(-1))
    every = np.concatenate(errors) / deviation
    assert len(every) == COUNT
    assert every.std() == pytest.approx(1, abs=5 / math.sqrt(2 * COUNT))
    assert np.abs(every).max() < 6
    assert sums.metrics() == {"loss": Metric(20.0, 10.0)}


def test_a_part_of_a_tensor_is_the_callers_own() -> None:
    plan = planned()
    sums = decode(plan, encode(plan, given(1, 1.0), keys(1), KEY), 1, KEY)
    whole = sums.total("a", "kernel").reshape(-1).copy()
    part = sums.part("a", "kernel", slice(3, 9))
    assert (part == whole[3:9]).all()
    part += 1
    assert (sums.part("a", "kernel", slice(3, 9)) == whole[3:9]).all()


def test_noise_is_fresh_for_each_key_and_the_same_for_one() -> None:
    plan = planned()
    one, same, other = (encode(plan, given(1, 1.0), keys(seed), KEY) for seed in (1, 1, 2))
    assert (one == same).all()
    noised = slice(0, 1024)
    assert (one[noised] != other[noised]).mean() > 0.99
    assert (one[1024:] == other[1024:]).all()


def test_elements_are_not_clipped_one_by_one() -> None:
    assert clipped(planned(), given(1, 1e6)) == 0


def test_the_check_lanes_hold_over_noised_lanes() -> None:
    plan = planned()
    context = context_of(plan)
    plan.check_context(context)
    inputs = [check_lanes(context, encode(plan, given(seed, 1.0), keys(seed), KEY)) for seed in range(3)]
    total = summed(plan, inputs)
    assert len(check_sum(context, total)) == plan.count
    total[5] ^= 1
    with pytest.raises(FaultError, match="E_SUM_CHECK"):
        check_sum(context, total)


@pytest.mark.parametrize(
    "change", [{"dp_digest": NO_DIGEST}, {"scale": 1.0}, {"clip": 1.0}, {"bits": 21}, {"layout_digest": bytes(32)}]
)
def test_a_context_of_other_noise_is_refused(change: dict[str, Any]) -> None:
    plan = planned()
    context = context_of(plan)
    with pytest.raises(FaultError) as caught:
        plan.check_context(dataclasses.replace(context, **change))
    assert caught.value.fault.code is Code.PLAN


# ------------------------------------------------------------------- votes on the clip


MANY = plan_noise(Setting(Circle(100, 10, 90), COUNT, 20, 2.0), 0.5)
RULE = Adaptive(MANY.setting.circle, 2.0)


def voting(noise: NoisePlan | None = MANY, rule: Adaptive | None = RULE) -> LanePlan:
    sizes = dataclasses.replace(SIZES, members=100, bits=13)
    return plan_lanes(GROUPS, (), sizes, updates=True, noise=noise, adaptive=rule)


def test_votes_stand_in_a_lane_of_their_own_and_their_share_comes_back() -> None:
    plan = voting()
    assert [spec.name for spec in plan.specs] == ["noised", "vote", "weight/a", "weight/b", "check"]
    assert plan.noise_digest not in {MANY.digest, voting(rule=None).noise_digest}
    assert plan.noise_digest != voting(rule=dataclasses.replace(RULE, quantile=0.6)).noise_digest
    for within in (0, 40, 100):
        lanes = [encode(plan, given(i, 1.9 if i < within else 2.1), keys(i), KEY) for i in range(100)]
        found = decode(plan, summed(plan, lanes), 100, KEY).within()
        assert found == pytest.approx(within / 100, abs=5 * 0.05 * math.sqrt(100 / 80))


def test_without_votes_there_is_no_share() -> None:
    plan = voting(rule=None)
    assert decode(plan, encode(plan, given(1, 1.0), keys(1), KEY), 1, KEY).within() is None


def test_votes_of_another_circle_or_without_noise_are_refused() -> None:
    other = Adaptive(Circle(100, 10, 91), 2.0)
    narrow = plan_noise(Setting(Circle(4096, 1000, 2549), COUNT, 14, 2.0, NoiseKind.SKELLAM), 0.5)
    sizes = dataclasses.replace(SIZES, members=4096, bits=2)
    wide = Adaptive(narrow.setting.circle, 2.0)
    calls: list[Callable[[], LanePlan]] = [
        lambda: voting(noise=None),
        lambda: voting(rule=other),
        lambda: plan_lanes(GROUPS, (), sizes, updates=True, noise=narrow, adaptive=wide),
    ]
    for call in calls:
        with pytest.raises(FaultError, match="votes"):
            call()


@pytest.mark.parametrize("change", [{"min_cohort": 8}, {"gamma_ppm": 700_000}])
def test_a_round_with_less_noise_than_was_counted_on_is_refused(change: dict[str, Any]) -> None:
    """Row 46: a lower least cohort, or more colluders, than the noise was made for."""
    plan = planned()
    with pytest.raises(FaultError) as caught:
        plan.check_context(dataclasses.replace(context_of(plan), **change))
    assert caught.value.fault.code is Code.POLICY


@pytest.mark.parametrize(
    "change",
    [
        {"updates": False},
        {"max_weight": 2},
        {"members": 9},
        {"bits": 15},
        {"groups": {"a": {"bias": ("F32", (607,))}}},
        {"groups": {"a": {"bias": ("F32", (607,)), "steps": ("I64", ())}}},
        {"groups": {"a": {"bias": ("F32", (607,)), "odd": ("BOOL", ())}}},
    ],
)  # fmt: skip
def test_noise_for_another_step_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FaultError) as caught:
        planned(**change)
    assert caught.value.fault.code is Code.PLAN


def test_contributions_that_cannot_be_noised_are_refused() -> None:
    plan = planned()
    bad = given(1, 1.0)
    bad.groups["a"].tensors["kernel"][3, 3] = math.nan
    with pytest.raises(FaultError, match="E_NONFINITE"):
        encode(plan, bad, keys(1), KEY)
    with pytest.raises(FaultError, match="E_ENCODING"):
        encode(plan, Contribution({"a": given(1, 1.0).groups["a"]}, {}, {}), keys(1), KEY)

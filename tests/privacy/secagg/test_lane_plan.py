"""Which lane holds what, how wide lanes are, and what cannot be planned."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.secagg.context import LaneKind, layout_digest
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.lane_plan import Groups, plan_lanes
from aimass.privacy.secagg.quantise import CHECK_LANES, bits_needed, largest_of
from tests.support import secagg_v7
from tests.support.secagg_lanes import METRICS, PLAIN, TRAINED, one, step_of


def code_of(caught: pytest.ExceptionInfo[FaultError]) -> Code:
    return caught.value.fault.code


@given(st.integers(2, 1000), st.integers(2, 32))
def test_no_sum_of_the_members_overflows_a_lane_and_none_is_wider_than_need_be(members: int, q: int) -> None:
    plan = plan_lanes(one("F32"), ["m"], dataclasses.replace(PLAIN, members=members, bits=q), updates=True)
    assert members * plan.largest <= 2 ** (plan.bits - 1) - 1
    assert members * (2**q - 1) < 2**plan.bits
    assert plan.bits >= bits_needed(members, plan.largest)
    if members <= 2 ** (q - 1):
        assert plan.bits == bits_needed(members, largest_of(q))


@given(st.floats(1e-30, 1e30), st.integers(2, 53))
def test_the_step_of_reals_is_the_finest_power_of_two_that_their_bits_allow(bound: float, bits: int) -> None:
    quantisation = dataclasses.replace(PLAIN, real_bound=bound, real_bits=bits)
    assert Fraction(quantisation.real_scale) * step_of(quantisation) == 1


def test_a_plan_does_not_depend_on_the_order_of_names() -> None:
    turned = {group: dict(list(members.items())[::-1]) for group, members in list(TRAINED.items())[::-1]}
    plan = plan_lanes(TRAINED, METRICS, PLAIN, updates=True)
    assert plan == plan_lanes(turned, tuple(reversed(METRICS)), PLAIN, updates=True)
    assert plan.digest == layout_digest(plan.specs)


def test_a_plan_covers_each_lane_once_and_ends_with_the_check_lanes() -> None:
    plan = plan_lanes(TRAINED, METRICS, PLAIN, updates=True)
    offset = 0
    for spec in plan.specs:
        assert spec.offset == offset
        offset += spec.count
    assert offset == plan.lanes == plan.count + CHECK_LANES
    assert plan.specs[-1].kind is LaneKind.CHECK
    assert plan.by_name["update/bias"].kind is LaneKind.UPDATE
    assert plan.by_name["update/counter"].kind is LaneKind.COUNT
    assert (plan.scale, plan.largest) == (largest_of(20) / 0.5, largest_of(20))


@given(st.sampled_from(["members", "bits", "clip", "max_weight", "real_bound", "real_bits"]), st.booleans())
def test_a_quantisation_out_of_range_is_refused(name: str, low: bool) -> None:
    wrong: dict[str, Any] = {name: 0 if low else 1e300}
    with pytest.raises(FaultError) as caught:
        plan_lanes(TRAINED, METRICS, dataclasses.replace(PLAIN, **wrong), updates=True)
    assert code_of(caught) is Code.PLAN
    assert name in caught.value.fault.what


@pytest.mark.parametrize("name", ["clip", "real_bound"])
def test_a_bound_that_is_no_number_is_refused(name: str) -> None:
    wrong: dict[str, Any] = {name: math.nan}
    with pytest.raises(FaultError):
        plan_lanes(TRAINED, METRICS, dataclasses.replace(PLAIN, **wrong), updates=True)


def test_weights_whose_sum_would_be_rounded_are_refused() -> None:
    with pytest.raises(FaultError) as caught:
        plan_lanes(TRAINED, METRICS, dataclasses.replace(PLAIN, max_weight=2**52), updates=True)
    assert code_of(caught) is Code.OVERFLOW


@pytest.mark.parametrize(("groups", "metrics"), [(one("BOOL"), ()), (one(), ("m", "m"))])
def test_truth_values_and_names_twice_are_no_lanes(groups: Groups, metrics: tuple[str, ...]) -> None:
    with pytest.raises(FaultError) as caught:
        plan_lanes(groups, metrics, PLAIN, updates=False)
    assert code_of(caught) is Code.PLAN


def test_a_round_of_other_sizes_is_refused() -> None:
    plan = plan_lanes(TRAINED, METRICS, PLAIN, updates=True)
    context = dataclasses.replace(
        secagg_v7.context(), lanes=plan.lanes, bits=plan.bits, layout_digest=plan.digest, clip=0.5, scale=plan.scale
    )
    plan.check_context(context)
    changes: list[tuple[str, Any, Code]] = [
        ("lanes", plan.lanes + 1, Code.PLAN),
        ("bits", plan.bits + 1, Code.PLAN),
        ("layout_digest", bytes(32), Code.PLAN),
        ("clip", 1.0, Code.PLAN),
        ("scale", 1.0, Code.PLAN),
        ("ids", tuple(range(6)), Code.OVERFLOW),
    ]
    for name, value, code in changes:
        with pytest.raises(FaultError) as caught:
            plan.check_context(dataclasses.replace(context, **{name: value}))
        assert code_of(caught) is code

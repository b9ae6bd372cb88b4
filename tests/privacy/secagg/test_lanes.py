"""Lanes of contributions, and their sums, against the same in Python's integers and fractions."""

from __future__ import annotations

import dataclasses
import math
import os
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.privacy.secagg.context import LaneKind
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.lanes import (
    Groups,
    LanePlan,
    LaneSums,
    Quantisation,
    clamped,
    clipped,
    decode,
    encode,
    from_bytes,
    plan_lanes,
    to_bytes,
)
from aimass.privacy.secagg.masks import Lanes, lane_type
from aimass.privacy.secagg.quantise import check_lanes, check_sum, largest_of
from aimass.proto.contribution import Contribution, Group, Metric
from aimass.proto.elements import from_float64
from aimass.server.drivers.base import Sums
from tests.support import secagg_v7
from tests.support.secagg_lanes import (
    COUNTED,
    METRICS,
    PLAIN,
    TRAINED,
    drawn,
    given_once,
    keys,
    one,
    plain_lanes,
    step_of,
    summed,
    terms,
)

QUANTISATIONS = st.builds(
    Quantisation,
    members=st.integers(1, 40),
    bits=st.integers(2, 32),
    clip=st.floats(1e-3, 10),
    max_weight=st.sampled_from([1, 2, 1000, 123_457, 2**30]),
    real_bound=st.sampled_from([2.0**40, 1e12, 3.7e13]),
    real_bits=st.integers(47, 53),
)


def code_of(caught: pytest.ExceptionInfo[FaultError]) -> Code:
    return caught.value.fault.code


# ------------------------------------------------------------------- lanes and their sums


@given(st.integers(2, 1000), st.integers(2, 32), st.sampled_from([1, 3, 2**30]), st.data())
@settings(max_examples=60)
def test_sums_of_extremes_come_back(members: int, q: int, most: int, data: st.DataObject) -> None:
    bits, bound = data.draw(st.integers(2, 53)), data.draw(st.sampled_from([1.0, 1e-20, 0.3, 2.0**52, 1e30]))
    quantisation = Quantisation(members, q, 0.25, most, bound, bits)
    plan = plan_lanes({"g": {"x": ("F64", (2,)), "n": ("I64", ())}}, ["m"], quantisation, updates=True)
    sign = data.draw(st.sampled_from([-1, 1]))
    held = Contribution(
        {"g": Group(float(most), {"x": np.array([sign * 0.25, -9e300]), "n": np.array(0)})},
        {"m": Metric(sign * bound, bound)},
        {},
    )
    lanes = encode(plan, held, keys(1)).tolist()
    total = np.array([lane * members % 2**plan.bits for lane in lanes], lane_type(plan.bits))
    sums = decode(plan, total, members)
    assert sums.weight("g") == members * most
    unit = most / plan.scale
    assert np.abs(sums.total("g", "x") - [sign * 0.25 * members * most, -0.25 * members * most]).max() <= members * unit
    assert sums.total("g", "n") == 0
    metric = sums.metrics()["m"]
    error = members * float(step_of(quantisation)) / 2 + bound * members * 2.0**-52
    assert abs(metric.total - sign * members * bound) <= error
    assert abs(metric.weight - members * bound) <= error


@pytest.mark.parametrize("q", [2, 7, 15, 16, 17, 31, 32])
@pytest.mark.parametrize("members", [1 << 11, 40_000, 65_535])
def test_sums_of_the_largest_cohorts_are_rounded_once(q: int, members: int) -> None:
    quantisation = Quantisation(members, q, 1.0, 1, 1.99, 53)
    plan = plan_lanes(one("F64", (5,)), [], quantisation, updates=False)
    values = [1.99, -1.99, 0.7, -1e-15, 3 * 2.0**-52]
    lanes = encode(plan, given_once(plan, x=values), keys(1)).tolist()
    total = np.array([lane * members for lane in lanes], lane_type(plan.bits))
    assert max(lanes) * members < 2**plan.bits
    step = step_of(quantisation)
    wanted = [float(round(Fraction(value) / step) * members * step) for value in values]
    assert decode(plan, total, members).total("g", "x").tolist() == wanted


@given(QUANTISATIONS, st.integers(0, 255), st.booleans())
@settings(max_examples=150, deadline=None)
def test_lanes_are_those_of_plain_arithmetic(quantisation: Quantisation, seed: int, updates: bool) -> None:
    groups = TRAINED if updates else COUNTED
    plan = plan_lanes(groups, METRICS, quantisation, updates=updates)
    held = drawn(np.random.default_rng(seed), groups, quantisation, 1.5)
    assert encode(plan, held, keys(seed)).tolist() == plain_lanes(plan, held, quantisation, keys(seed))


@given(QUANTISATIONS, st.integers(0, 255), st.booleans(), st.data())
@settings(max_examples=100, deadline=None)
def test_decoded_sums_are_the_weighted_sums(
    quantisation: Quantisation, seed: int, updates: bool, data: st.DataObject
) -> None:
    """However many members drop out, and whoever lacks a metric."""
    survivors = data.draw(st.integers(1, quantisation.members))
    groups, random = (TRAINED if updates else COUNTED), np.random.default_rng(seed)
    plan = plan_lanes(groups, METRICS, quantisation, updates=updates)
    held = [drawn(random, groups, quantisation, 0.999) for _ in range(survivors)]
    total = summed(plan, [encode(plan, each, keys(seed, i)) for i, each in enumerate(held)])
    sums = decode(plan, total, survivors)
    check_tensors(plan, held, sums)
    for name in METRICS:
        pairs = [each.metrics[name] for each in held if name in each.metrics]
        assert (name in sums.metrics()) == bool(pairs)
        if pairs:
            bound = survivors * step_of(quantisation) / 2 + Fraction(2.0**-20)
            assert abs(Fraction(sums.metrics()[name].total) - sum(Fraction(p.total) for p in pairs)) <= bound
            assert abs(Fraction(sums.metrics()[name].weight) - sum(Fraction(p.weight) for p in pairs)) <= bound


def check_tensors(plan: LanePlan, held: list[Contribution], sums: Sums) -> None:
    """Each element within the bound that `LaneSums` states; whole numbers exactly."""
    most, n = plan.quantisation.max_weight, len(held)
    for group, members in plan.groups.items():
        assert sums.weight(group) == sum(min(each.groups[group].weight, most) for each in held)
        assert list(sums.tensors(group)) == sorted(members)
        for name, (dtype, shape) in members.items():
            found = sums.total(group, name)
            assert found.dtype == np.float64
            assert found.shape == shape
            columns = list(zip(*(terms(each, group, name, most) for each in held), strict=True))
            assert len(columns) == found.size
            for value, column in zip(found.reshape(-1).tolist(), columns, strict=True):
                largest = sum(abs(term) for term in column)
                bound = n * step_of(plan.quantisation) / 2 + largest * Fraction(2.0**-51)
                if plan.by_name[f"{group}/{name}"].kind is LaneKind.UPDATE:
                    bound = n * Fraction(most) / Fraction(plan.scale) * Fraction(1 + 2.0**-40)
                elif dtype[0] in "IU" and plan.quantisation.real_scale >= 1:
                    bound = Fraction(0)
                assert abs(Fraction(value) - sum(column)) <= bound


def test_parts_are_parts_of_the_total() -> None:
    for groups, updates in ((TRAINED, True), (COUNTED, False)):
        plan = plan_lanes(groups, METRICS, PLAIN, updates=updates)
        lanes = encode(plan, drawn(np.random.default_rng(3), groups, PLAIN, 1.0), keys(1))
        kept = lanes.copy()
        sums = decode(plan, lanes, 1)
        for group, members in groups.items():
            for name in members:
                whole = sums.total(group, name).reshape(-1)
                for part in (slice(0, 1), slice(1, 3), slice(2, None), slice(None, None, 2), slice(9, 12)):
                    found = sums.part(group, name, part)
                    assert found.tolist() == whole[part].tolist()
                    found += 1  # a driver works in this memory
        assert (lanes == kept).all()


def test_the_mean_has_no_bias_and_the_stated_deviation() -> None:
    quantisation = Quantisation(members=4, bits=6, clip=1.0, max_weight=8, real_bound=100.0)
    count = 1 << 16
    plan = plan_lanes(one("F32", (count,)), [], quantisation, updates=True)
    values = np.full(count, 0.3333, np.float32)
    held = [Contribution({"g": Group(w, {"x": values})}, {}, {}) for w in (8.0, 3.0, 1.0)]
    total = summed(plan, [encode(plan, each, lambda: os.urandom(16)) for each in held])
    sums = decode(plan, total, 3)
    mean = sums.total("g", "x") / sums.weight("g")
    deviation = math.sqrt(3) * 8 / (2 * largest_of(6)) / 12
    assert mean.std() <= deviation
    assert abs(mean.mean() - 0.3333) < 6 * deviation / math.sqrt(count)


def test_a_sum_goes_through_check_lanes() -> None:
    plan = plan_lanes(one("F32", (3,)), ["m"], PLAIN, updates=True)
    context = dataclasses.replace(secagg_v7.context(), lanes=plan.lanes, bits=plan.bits)
    held = [given_once(plan, x=np.array([0.1, -0.2, 0.3], np.float32)) for _ in range(3)]
    total = summed(plan, [check_lanes(context, encode(plan, each, keys(i))) for i, each in enumerate(held)])
    sums = decode(plan, check_sum(context, total), 3)
    assert np.abs(sums.total("g", "x") - [0.3, -0.6, 0.9]).max() < 3 * 1000 / plan.scale
    assert sums.metrics() == {}


@pytest.mark.parametrize("groups", [{}, {"g": {}}])
def test_a_step_may_sum_metrics_alone_or_nothing(groups: Groups) -> None:
    plan = plan_lanes(groups, ["m"], PLAIN, updates=True)
    held = Contribution(dict.fromkeys(groups, Group(7.0, {})), {"m": Metric(2.5, 5.0)}, {})
    total = summed(plan, [encode(plan, held, keys(1))] * 3)
    assert decode(plan, total, 3).metrics() == {"m": Metric(7.5, 15.0)}
    nothing = plan_lanes({}, [], PLAIN, updates=True)
    assert decode(nothing, encode(nothing, Contribution({}, {}, {}), keys(1)), 1).metrics() == {}


def test_statistics_are_not_clipped_at_the_clip_of_updates() -> None:
    plan = plan_lanes(one("F32"), [], PLAIN, updates=False)
    sums = decode(plan, encode(plan, given_once(plan, x=np.array([1e8, -7.25], np.float32)), keys(1)), 1)
    assert sums.total("g", "x").tolist() == [1e8, -7.25]


def test_what_is_decoded_under_another_sign_offset_or_number_of_members_is_something_else() -> None:
    plan = plan_lanes({"g": {"x": ("F32", (1,)), "n": ("I64", (1,))}}, ["m"], PLAIN, updates=True)
    held = given_once(plan, x=np.array([0.25], np.float32), n=np.array([4]))
    lanes = encode(plan, held, keys(1))
    assert decode(plan, lanes, 1).total("g", "n") == 4
    assert decode(plan, lanes, 1).total("g", "x") > 0
    minus = lanes.copy()
    minus[plan.by_name["g/x"].offset] = 2**plan.bits - int(minus[plan.by_name["g/x"].offset])
    assert decode(plan, minus, 1).total("g", "x") < 0
    with pytest.raises(FaultError) as caught:
        decode(plan, lanes, 2)
    assert code_of(caught) is Code.OVERFLOW


# ------------------------------------------------------------------- weights and metrics


def test_a_weight_beyond_the_largest_counts_with_that_and_is_told() -> None:
    plan = plan_lanes(one("F64"), [], PLAIN, updates=False)
    held = Contribution({"g": Group(1e300, {"x": np.array([2.0, -1.0])})}, {}, {})
    assert clamped(plan, held) == {"g": 1e300}
    sums = decode(plan, encode(plan, held, keys(1)), 1)
    assert sums.weight("g") == 1000
    assert sums.total("g", "x").tolist() == [2000.0, -1000.0]
    held = dataclasses.replace(held, groups={"g": Group(1000.0, held.groups["g"].tensors)})
    assert clamped(plan, held) == {}


def test_clipped_elements_are_counted() -> None:
    """At w / w_max = 1 / 2 what lies beyond twice the clip of 0.5."""
    plan = plan_lanes({"g": {"x": ("BF16", (5,)), "n": ("I64", ())}}, [], PLAIN, updates=True)
    tensors = {"x": from_float64(np.array([1.0, -1.0, 1.125, -9.0, 0.0]), "BF16"), "n": np.array(4)}
    assert clipped(plan, Contribution({"g": Group(500.0, tensors)}, {}, {})) == 2
    assert clipped(plan, Contribution({"g": Group(1000.0, tensors)}, {}, {})) == 4
    assert clipped(plan, Contribution({"g": Group(1.0, tensors)}, {}, {})) == 0


@pytest.mark.parametrize(
    ("weight", "code"),
    [(0.0, Code.ENCODING), (-3.0, Code.ENCODING), (1.5, Code.ENCODING), (0.5, Code.ENCODING),
     (math.nan, Code.NONFINITE), (math.inf, Code.NONFINITE)],
)  # fmt: skip
def test_weights_that_are_no_count_are_refused(weight: float, code: Code) -> None:
    plan = plan_lanes(one(), [], PLAIN, updates=True)
    with pytest.raises(FaultError) as caught:
        encode(plan, Contribution({"g": Group(weight, {"x": np.zeros(2)})}, {}, {}), keys(1))
    assert code_of(caught) is code


@pytest.mark.parametrize(
    ("metric", "code"),
    [(Metric(1.0, 0.0), Code.ENCODING), (Metric(1.0, -1.0), Code.ENCODING), (Metric(1.0, 1e-9), Code.ENCODING),
     (Metric(1.0, math.nan), Code.NONFINITE), (Metric(math.nan, 1.0), Code.NONFINITE),
     (Metric(math.inf, 1.0), Code.NONFINITE), (Metric(1.0, math.inf), Code.NONFINITE),
     (Metric(1.0000001e9, 1.0), Code.OVERFLOW), (Metric(1.0, 1.0000001e9), Code.OVERFLOW)],
)  # fmt: skip
def test_metrics_that_do_not_fit_are_refused(metric: Metric, code: Code) -> None:
    plan = plan_lanes({}, ["m"], PLAIN, updates=True)
    with pytest.raises(FaultError) as caught:
        encode(plan, Contribution({}, {"m": metric}, {}), keys(1))
    assert code_of(caught) is code


def test_a_member_without_a_metric_adds_exactly_nothing() -> None:
    plan = plan_lanes({}, ["a", "b"], PLAIN, updates=True)
    given_a = encode(plan, Contribution({}, {"a": Metric(0.1, 0.3)}, {}), keys(1))
    alone = decode(plan, given_a, 1).metrics()
    without = encode(plan, Contribution({}, {}, {}), keys(2))
    assert decode(plan, summed(plan, [given_a, without, without]), 3).metrics() == alone
    assert list(alone) == ["a"]


# ------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("updates", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", ["F16", "F32", "F64"])
@pytest.mark.parametrize("place", [0, 70_000])
def test_what_is_not_finite_is_refused(updates: bool, value: float, dtype: str, place: int) -> None:
    plan = plan_lanes(one(dtype, (70_001,)), [], PLAIN, updates=updates)
    array = from_float64(np.zeros(70_001), dtype)
    array[place] = value
    with pytest.raises(FaultError) as caught:
        encode(plan, given_once(plan, x=array), keys(1))
    assert code_of(caught) is Code.NONFINITE
    assert "g/x" in caught.value.fault.what


@pytest.mark.parametrize(("weight", "value"), [(1.0, 1.0000001e9), (3.0, -4e8), (2.0, 1.7e308)])
def test_a_real_beyond_its_bound_is_refused_and_its_value_not_told(weight: float, value: float) -> None:
    plan = plan_lanes(one(), [], PLAIN, updates=False)
    with pytest.raises(FaultError) as caught:
        encode(plan, Contribution({"g": Group(weight, {"x": np.array([0.0, value])})}, {}, {}), keys(1))
    assert code_of(caught) is Code.OVERFLOW
    assert "g/x" in caught.value.fault.what
    assert caught.value.fault.value is None


@pytest.mark.parametrize(
    "wrong",
    [
        Contribution({}, {}, {}),
        Contribution({"g": Group(1.0, {"x": np.zeros(3)})}, {}, {}),
        Contribution({"g": Group(1.0, {"x": np.zeros(2, np.float32)})}, {}, {}),
        Contribution({"g": Group(1.0, {"x": np.zeros(2), "y": np.zeros(2)})}, {}, {}),
        Contribution({"g": Group(1.0, {"x": np.zeros(2)}), "h": Group(1.0, {})}, {}, {}),
        Contribution({"g": Group(1.0, {"x": np.zeros(2)})}, {"m": Metric(1.0, 1.0)}, {}),
    ],
    ids=["no group", "shape", "type", "tensor", "group", "metric"],
)
def test_a_contribution_of_another_form_is_refused(wrong: Contribution) -> None:
    with pytest.raises(FaultError) as caught:
        encode(plan_lanes(one(), [], PLAIN, updates=True), wrong, keys(1))
    assert code_of(caught) is Code.ENCODING


def test_each_tensor_of_an_update_draws_its_own_key_of_16_bytes() -> None:
    plan = plan_lanes(TRAINED, METRICS, PLAIN, updates=True)
    asked: list[bytes] = []

    def key() -> bytes:
        asked.append(os.urandom(16))
        return asked[-1]

    encode(plan, drawn(np.random.default_rng(1), TRAINED, PLAIN, 1.0), key)
    assert len(asked) == sum(spec.kind is LaneKind.UPDATE for spec in plan.specs)
    with pytest.raises(ValueError, match="16"):
        encode(plan, drawn(np.random.default_rng(1), TRAINED, PLAIN, 1.0), lambda: bytes(32))


@pytest.mark.parametrize("members", [0, -1, 6])
def test_a_sum_of_no_member_or_of_more_than_were_asked_is_refused(members: int) -> None:
    plan = plan_lanes(one(), [], PLAIN, updates=True)
    with pytest.raises(FaultError) as caught:
        decode(plan, np.zeros(plan.count, lane_type(plan.bits)), members)
    assert code_of(caught) is Code.OVERFLOW


def test_a_sum_of_other_lanes_is_refused() -> None:
    plan = plan_lanes(one(), [], PLAIN, updates=True)
    for total in (np.zeros(plan.lanes, lane_type(plan.bits)), np.zeros(plan.count, "<u8")):
        with pytest.raises(FaultError) as caught:
            decode(plan, total, 1)
        assert code_of(caught) is Code.ENCODING


@pytest.mark.parametrize(("name", "lane"), [("weight/g", 0), ("weight/g", 10**6), ("metric/m", 0)])
def test_a_weight_or_metric_that_no_members_can_add_is_refused(name: str, lane: int) -> None:
    plan = plan_lanes(one(), ["m"], PLAIN, updates=True)
    lanes = encode(plan, given_once(plan, x=np.zeros(2)), keys(1))
    spec = plan.by_name[name]
    lanes[spec.offset : spec.offset + spec.count] = lane
    with pytest.raises(FaultError) as caught:
        decode(plan, lanes, 1)
    assert code_of(caught) is Code.OVERFLOW


# ------------------------------------------------------------------- on disk, and in memory


@given(QUANTISATIONS, st.integers(0, 255))
@settings(max_examples=40, deadline=None)
def test_lanes_come_back_from_their_bytes(quantisation: Quantisation, seed: int) -> None:
    plan = plan_lanes(TRAINED, METRICS, quantisation, updates=True)
    lanes = encode(plan, drawn(np.random.default_rng(seed), TRAINED, quantisation, 1.0), keys(seed))
    data = bytes(to_bytes(plan, lanes))
    back: Lanes = from_bytes(plan, data)
    assert back.dtype == lanes.dtype
    assert (back == lanes).all()
    for wrong in (data[:-1], data + b"\0", b""):
        with pytest.raises(FaultError) as caught:
            from_bytes(plan, wrong)
        assert code_of(caught) is Code.ENCODING


def test_bits_beyond_the_last_lane_are_refused() -> None:
    plan = plan_lanes(one("F32", (1,)), [], PLAIN, updates=True)
    assert plan.count * plan.bits % 8
    data = bytearray(to_bytes(plan, encode(plan, given_once(plan, x=np.zeros(1, np.float32)), keys(1))))
    data[-1] |= 0x80
    with pytest.raises(FaultError) as caught:
        from_bytes(plan, data)
    assert code_of(caught) is Code.ENCODING


@pytest.mark.parametrize("updates", [True, False])
def test_encoding_takes_the_memory_of_the_lanes_and_of_a_few_blocks(updates: bool) -> None:
    count = 2_000_000
    plan = plan_lanes(one("F32", (count,)), [], PLAIN, updates=updates)
    held = given_once(plan, x=np.full(count, 0.1, np.float32))
    tracemalloc.start()
    try:
        lanes = encode(plan, held, keys(1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - lanes.nbytes < 2 << 20
    assert isinstance(decode(plan, lanes, 1), LaneSums)

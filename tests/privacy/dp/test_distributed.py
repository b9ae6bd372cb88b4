"""A contribution as noised lanes and back: the bound of the norm, the noise that is there, and what breaks it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.dp import distributed
from aimass.privacy.dp.distributed import decode, encode, noise_share, rounded
from aimass.privacy.dp.noise_plan import Circle, NoiseKind, NoisePlan, Setting, plan_noise
from aimass.privacy.dp.rotation import rotate
from aimass.privacy.dp.sampler import discrete_gaussian
from aimass.privacy.dp.streams import NoiseStream
from aimass.privacy.dp.tables import ENTRY_BITS, gaussian_table
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.masks import Lanes, cut
from aimass.privacy.secagg.quantise import centred
from tests.support.dp_looks import noise_is_enough, noise_is_stated
from tests.support.noise import seeded
from tests.support.noise_plans import TEN, setting
from tests.support.statistics import counts_p, normal_p

KEY = bytes(range(16))
PLAN = plan_noise(setting(TEN, 14, 18, 0.7), 2.0)
"""Nine of ten partners, one of whom adds nothing: eight shares of noise."""
Ints = npt.NDArray[np.int64]


def summed(plan: NoisePlan, lanes: list[Lanes]) -> Lanes:
    total = np.zeros_like(lanes[0])
    for each in lanes:
        total += each
    cut(total, plan.setting.bits)
    return total


def vector(plan: NoisePlan, norm: float, *seed: object) -> npt.NDArray[np.float64]:
    values = seeded(*seed).take(plan.setting.count) / 2.0**64 - 0.5
    return np.asarray(values * (norm / np.linalg.norm(values)))


def spread(plan: NoisePlan, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Clipped, padded, rotated and scaled, written plainly."""
    whole = np.zeros(plan.setting.size)
    whole[: len(values)] = values * min(1.0, plan.setting.clip / float(np.linalg.norm(values)))
    rotate(whole, plan.setting.block, KEY)
    return whole * plan.scale


# ------------------------------------------------------------------- encoding and decoding


@pytest.mark.parametrize("kind", NoiseKind)
@pytest.mark.parametrize("count", [1, 2, 37, 5000])
def test_the_sum_of_encodings_is_the_sum_of_clipped_contributions_and_noise(count: int, kind: NoiseKind) -> None:
    plan = plan_noise(Setting(TEN, count, 20, 0.7, kind), 1.0)
    vectors = [vector(plan, norm, "v", count, norm) for norm in (0.2, 0.69, 0.7, 5.0, 1e6)]
    lanes = [encode(plan, values, KEY, seeded("e", place)) for place, values in enumerate(vectors)]
    assert all(len(each) == plan.setting.size for each in lanes)
    found = decode(plan, summed(plan, lanes), KEY)
    exact = np.sum([values * min(1.0, 0.7 / float(np.linalg.norm(values))) for values in vectors], axis=0)
    deviation = math.sqrt(5 * (plan.deviation**2 + 0.25)) / plan.scale
    assert np.abs(found - exact).max() < 6 * deviation
    if count == 5000:
        assert normal_p((found - exact) / deviation) > 1e-4


def test_an_encoding_in_float32_is_that_of_the_same_numbers() -> None:
    values = vector(PLAN, 3.0, "f").astype(np.float32)
    one = encode(PLAN, values.reshape(128, -1), KEY, seeded("f"))
    assert (one == encode(PLAN, values.astype(np.float64), KEY, seeded("f"))).all()


def test_another_rotation_does_not_decode() -> None:
    """Its signs are others: a mean over the elements is gone."""
    values = np.full(PLAN.setting.count, 0.7 / math.sqrt(PLAN.setting.count))
    lanes = encode(PLAN, values, KEY, seeded("r"))
    noise = PLAN.deviation / PLAN.scale
    assert decode(PLAN, lanes, KEY) @ values == pytest.approx(0.49, abs=0.7 * 5 * noise)
    assert abs(decode(PLAN, lanes, bytes(16)) @ values) < 0.7 * 5 * noise
    clear = plan_noise(setting(), 0.01)
    lanes = encode(clear, values, KEY, seeded("r"))
    assert decode(clear, lanes, KEY) @ values > 0.45
    assert abs(decode(clear, lanes, bytes(16)) @ values) < 0.1


def test_the_lanes_are_the_plain_steps_one_after_another() -> None:
    """Rounding takes the stream's first words, the noise the next."""
    values = vector(PLAN, 0.4, "p")
    stream = seeded("p")
    steps = rounded(PLAN, spread(PLAN, values), stream)
    steps += discrete_gaussian(Fraction(PLAN.deviation) ** 2, PLAN.setting.size, stream)
    assert (centred(encode(PLAN, values, KEY, seeded("p")), 18) == steps).all()


# ------------------------------------------------------------------- rounding


@given(st.integers(0, 2**32), st.integers(1, 300), st.floats(0.0, 3.0), st.integers(12, 20))
def test_no_rounding_is_beyond_the_bound(seed: int, count: int, norm: float, bits: int) -> None:
    plan = plan_noise(Setting(TEN, count, bits, 1.0, NoiseKind.SKELLAM), 1.0)
    values = vector(plan, max(norm, 1e-9), seed)
    around = spread(plan, values)
    steps = rounded(plan, around, seeded(seed))
    assert sum(step * step for step in steps.tolist()) <= plan.norm_squared
    assert np.abs(steps - around).max() < 1 + 1e-6


def test_a_rounding_that_misses_is_drawn_again() -> None:
    """With a bound that about half of all roundings miss; the plan's own is missed by less than one in 10^6."""
    around = spread(PLAN, vector(PLAN, 0.7, "again"))
    squares = [int(np.square(rounded(PLAN, around, seeded(i))).sum()) for i in range(60)]
    assert max(squares) < PLAN.norm_squared
    tight = dataclasses.replace(PLAN, norm_squared=int(np.median(squares)))
    streams = [seeded(i) for i in range(60)]
    again = [int(np.square(rounded(tight, around, stream)).sum()) for stream in streams]
    assert max(again) <= tight.norm_squared
    missed = [i for i, square in enumerate(squares) if square > tight.norm_squared]
    assert [i for i in range(60) if again[i] != squares[i]] == missed
    assert 20 <= len(missed) <= 30


def test_rounding_has_no_bias() -> None:
    around = np.repeat(np.array([0.25, -0.25, 7.9, -7.9]), PLAN.setting.size // 4)
    steps = rounded(PLAN, around, seeded("bias")).reshape(4, -1)
    assert np.abs(steps.mean(axis=1) - [0.25, -0.25, 7.9, -7.9]).max() < 5 * 0.5 / math.sqrt(steps.shape[1])


@pytest.mark.parametrize("beyond", [1.05, 2.0, 1e6, 1e15])
def test_a_contribution_that_was_not_clipped_is_not_sent(beyond: float) -> None:
    """The bound is checked on the whole numbers: a broken clip ends in a named error, never in a lane."""
    plan = plan_noise(setting(bits=20), 2.0)
    with pytest.raises(FaultError) as caught:
        rounded(plan, spread(plan, vector(plan, 1.0, "u")) * beyond, seeded("u"))
    assert caught.value.fault.code is Code.ROUNDING
    assert caught.value.fault.value is None


def test_squares_beyond_int64_are_exact() -> None:
    steps = np.full(1 << 10, 1 << 28, np.int64)
    assert distributed._square(steps, 1 << 70) == 1 << 66
    assert distributed._square(steps, 1 << 50) > 1 << 50


# ------------------------------------------------------------------- the noise that is there


Share = Callable[[int, int], Ints]


def partners(plan: NoisePlan, share: Share) -> Lanes:
    """What a sum over the least cohort holds where the tolerated colluders round and add nothing."""
    circle, nothing = plan.setting.circle, np.zeros(plan.setting.size)
    total = np.zeros(plan.setting.size, np.int64)
    for member in range(circle.quorum):
        total += rounded(plan, nothing, seeded("round", member))
        if member >= circle.colluders:
            total += share(member, plan.setting.size)
    return total


@pytest.mark.parametrize("kind", NoiseKind)
@pytest.mark.parametrize("circle", [TEN, Circle(3, 0, 2), Circle(3, 1, 3), Circle(40, 12, 27)])
def test_the_least_cohort_with_all_colluders_has_the_stated_noise(circle: Circle, kind: NoiseKind) -> None:
    plan = plan_noise(setting(circle, 14, 20, 1.3, kind), 3.0)
    total = partners(plan, lambda member, count: noise_share(plan, count, seeded("noise", circle, member)))
    assert noise_is_stated(plan, total), "enough, and not more"
    assert abs(float(total.mean())) < 5 * total.std() / math.sqrt(len(total))


BROKEN: dict[str, Share] = {
    "half the noise": lambda member, count: noise_share(PLAN, count, seeded(member)) // 2,
    "one share too few": lambda member, count: noise_share(PLAN, count, seeded(member)) * (member > 1),
    "calibrated to all who are asked": lambda member, count: discrete_gaussian(
        Fraction(PLAN.deviation) ** 2 * 8 / 10, count, seeded(member)
    ),
    "no noise": lambda member, count: np.zeros(count, np.int64),
    "signs that cancel": lambda member, count: noise_share(PLAN, count, seeded(member // 2)) * (-1) ** member,
    "one draw for all lanes": lambda member, count: np.repeat(noise_share(PLAN, 1, seeded(member)), count),
}


@pytest.mark.parametrize("name", BROKEN)
def test_less_noise_is_found(name: str) -> None:
    assert not noise_is_enough(PLAN, partners(PLAN, BROKEN[name]))


def test_noise_from_a_seed_that_partners_share_is_found() -> None:
    """Too much variance is as wrong as too little: what all know cancels."""
    total = partners(PLAN, lambda member, count: noise_share(PLAN, count, seeded("shared")))
    assert noise_is_enough(PLAN, total), "the lower bound alone would not see it"
    assert not noise_is_stated(PLAN, total)


def test_two_encodings_of_one_contribution_differ_by_fresh_noise() -> None:
    values = vector(PLAN, 0.5, "two")
    stream = seeded("two")
    one, other = encode(PLAN, values, KEY, stream), encode(PLAN, values, KEY, stream)
    difference = centred(one - other, 18).astype(np.float64)
    assert difference.var() == pytest.approx(2 * PLAN.deviation**2, rel=0.06)
    again = encode(PLAN, values, KEY, seeded("two"))
    assert (again == one).all(), "a stream that is used again gives the same lanes, and is seen by that"


def test_a_sum_of_shares_is_a_discrete_gaussian() -> None:
    """Three shares of deviation 4 against the discrete Gaussian of variance 48: theorem 1's tau is 10^-67."""
    count = 1 << 18
    total = sum(discrete_gaussian(Fraction(16), count, seeded("sum", member)) for member in range(3))
    table = gaussian_table(Fraction(48))
    bounds = np.array([0, *table.entries(), 1 << ENTRY_BITS], object)
    pmf = np.array(np.diff(bounds) / (1 << ENTRY_BITS), np.float64)
    found = np.bincount(np.asarray(total) - table.first, minlength=len(pmf))
    assert counts_p(found, pmf * count) > 1e-4


# ------------------------------------------------------------------- wrapping


def left_lane(plan: NoisePlan, kappa: float) -> float:
    """Share of coordinates that leave their lane if it held only `kappa` deviations; all members send the same."""
    wider = dataclasses.replace(plan, scale=plan.scale * 7 / kappa, deviation=plan.deviation * 7 / kappa)
    total = np.zeros(plan.setting.size)
    for member in range(plan.setting.circle.members):
        around = spread(wider, vector(plan, plan.setting.clip, "worst"))
        total += around + noise_share(wider, plan.setting.size, seeded("wrap", member))
    return float(np.mean(np.abs(total) >= 2 ** (plan.setting.bits - 1)))


def test_lanes_wrap_as_seldom_as_is_stated() -> None:
    plan = plan_noise(setting(TEN, 16, 18), 2.0)
    for kappa in (2.0, 3.0):
        normal = math.erfc(kappa / math.sqrt(2))
        found = left_lane(plan, kappa)
        assert abs(found - normal) < 5 * math.sqrt(normal / plan.setting.size) + 0.05 * normal
        assert found < 2 * math.exp(-(kappa**2) / 2), "the sub-Gaussian bound"
    assert left_lane(plan, 7.0) == 0.0
    assert math.erfc(7 / math.sqrt(2)) < 2.6e-12
    assert 2 * math.exp(-24.5) < 4.6e-11


def test_a_wrapped_lane_is_a_wrong_number_and_no_error() -> None:
    lanes = np.full(PLAN.setting.size, 1 << 17, np.dtype("<u4"))
    assert np.isfinite(decode(PLAN, lanes, KEY)).all()


# ------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    values = vector(PLAN, 0.5, "n")
    values[5] = bad
    with pytest.raises(FaultError, match="E_NONFINITE"):
        encode(PLAN, values, KEY, seeded("n"))


def test_huge_and_tiny_contributions_are_clipped_as_others_are() -> None:
    for size in (1e-300, 1e300):
        values = np.full(PLAN.setting.count, size)
        decoded = decode(PLAN, encode(PLAN, values, KEY, seeded("h")), KEY)
        expected = 0.7 / math.sqrt(PLAN.setting.count) if size > 1 else 0.0
        assert decoded.mean() == pytest.approx(expected, abs=5 * PLAN.deviation / PLAN.scale / math.sqrt(len(decoded)))


def test_other_lengths_are_refused() -> None:
    for call in (
        lambda: encode(PLAN, np.zeros(PLAN.setting.count - 1), KEY, seeded("l")),
        lambda: decode(PLAN, np.zeros(PLAN.setting.size - 1, np.dtype("<u4")), KEY),
        lambda: decode(PLAN, np.zeros(PLAN.setting.size, np.dtype("<u8")), KEY),
    ):
        with pytest.raises(FaultError, match="E_ENCODING"):
            call()


def test_encoding_takes_a_stream_and_no_seed() -> None:
    values: Any = np.zeros(PLAN.setting.count)
    one, other = (encode(PLAN, values, KEY, NoiseStream()) for _ in range(2))
    assert (one != other).mean() > 0.9

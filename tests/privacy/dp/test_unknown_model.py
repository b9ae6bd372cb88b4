"""Figures of noise inside sums without the model: never below what any model costs."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.events import Event, Terms, Unit, tally
from aimass.privacy.dp.private_terms import contribution_events
from aimass.privacy.dp.spending import planned_spent, spent_by
from aimass.privacy.dp.unknown_model import MANY, dearest_sum, rounding_told
from aimass.proto.errors import Refused
from aimass.proto.plan import Cohort, DistributedNoise, Plan, SecureSettings
from tests.explain.runs import made

TERMS = Terms.usual(Unit.PARTNER, 1e-5)


def secure(bits: int, multiplier: float = 1.0, members: int = 10, kind: str = "discrete-gaussian") -> SecureSettings:
    noise = DistributedNoise(multiplier=multiplier, clip=1.0, delta=1e-5, members=members, kind=kind)  # type: ignore[arg-type]
    return SecureSettings(min_cohort=(8 * members) // 10, bits=bits, noise=noise)


def summed(bits: int) -> Plan:
    """Of one round, whose update alone costs."""
    plain = made.run([made.step(0, 1)]).plan
    rounds = (msgspec.structs.replace(plain.stages[0], options={"rounds": 1}),)
    train = msgspec.structs.replace(plain.train, weight="one")
    return msgspec.structs.replace(plain, secure=secure(bits), cohort=Cohort(quorum=9), stages=rounds, train=train)


def renyi(events: tuple[Event, ...]) -> float:
    return Accountant().renyi(TERMS, tally(events))


def exact_of(events: tuple[Event, ...]) -> float:
    return Accountant().figure(TERMS, events).epsilon


@pytest.mark.parametrize(
    ("bits", "elements", "truth"), [(8, 1_000_000, 12.9), (8, MANY, 308), (4, 1_000_000, 734), (12, MANY, 8.35)]
)
def test_no_figure_without_the_model_is_below_what_a_large_one_costs(bits: int, elements: int, truth: float) -> None:
    plan = summed(bits)
    real = renyi(contribution_events(secure(bits), elements))
    assert real == pytest.approx(truth, rel=5e-3)
    assert renyi(contribution_events(secure(bits), None)) == pytest.approx(4.73, rel=1e-2)  # of the noise alone
    for found in (planned_spent(plan, 1, quick=True), spent_by(made.run([made.step(0, 1)], plan))):
        assert found.epsilon is not None
        assert found.epsilon >= exact_of(contribution_events(secure(bits), elements))
        assert f"lanes of {bits} bits" in found.reason


def test_in_wide_lanes_the_figure_is_that_of_the_noise_and_needs_no_word() -> None:
    plan = summed(20)
    found = spent_by(made.run([made.step(0, 1)], plan))
    assert found.reason == ""
    assert renyi(contribution_events(secure(20), dearest_sum(secure(20)))) == pytest.approx(
        renyi(contribution_events(secure(20), None)), rel=1e-3
    )


@settings(deadline=None, max_examples=300)
@given(
    bits=st.integers(2, 32),
    multiplier=st.sampled_from([0.3, 1.0, 2.0, 8.0]),
    members=st.sampled_from([10, 100, 1_000]),
    kind=st.sampled_from(["discrete-gaussian", "skellam"]),
    elements=st.one_of(st.integers(1, 5_000), st.integers(1, MANY)),
)
def test_the_dearest_sum_costs_what_any_other_does(
    bits: int, multiplier: float, members: int, kind: str, elements: int
) -> None:
    asked = secure(bits, multiplier, members, kind)
    try:
        real = renyi(contribution_events(asked, elements))
    except Refused:
        return  # no such sum is ever made
    assert renyi(contribution_events(asked, dearest_sum(asked))) >= real * (1 - 1e-4)


def test_without_noise_inside_sums_nothing_is_rounded() -> None:
    assert (dearest_sum(None), rounding_told(None)) == (MANY, "")
    assert rounding_told(SecureSettings(bits=2)) == ""

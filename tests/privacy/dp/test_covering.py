"""What a reservation covers: matched exactly as a flow would, and never cheaper than what it is said to cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.covering import covers, uncovered
from aimass.privacy.dp.events import (
    DiscreteGaussian,
    Event,
    FixedSizeGaussian,
    Gaussian,
    Mechanism,
    PoissonGaussian,
    Relation,
    Skellam,
    Terms,
    TruncatedPoissonGaussian,
    Unit,
    tally,
)

SIGMAS = st.sampled_from((0.8, 1.0, 1.5, 3.0))
PAIRS: tuple[tuple[Mechanism, Mechanism], ...] = (
    (PoissonGaussian(q=0.02, sigma=1.0), PoissonGaussian(q=0.02, sigma=1.3)),
    (PoissonGaussian(q=0.02, sigma=1.0), PoissonGaussian(q=0.005, sigma=1.0)),
    (PoissonGaussian(q=1.0, sigma=2.0), PoissonGaussian(q=0.3, sigma=2.0)),
    (
        TruncatedPoissonGaussian(q=0.01, sigma=1.0, records=1_000, cap=40),
        TruncatedPoissonGaussian(q=0.01, sigma=1.4, records=1_000, cap=40),
    ),
    (FixedSizeGaussian(sample=10, records=1_000, sigma=1.0), FixedSizeGaussian(sample=10, records=1_000, sigma=1.2)),
    (Gaussian(sigma=4.0), Gaussian(sigma=4.5)),
    (DiscreteGaussian(rho=0.01, xi=1e-6), DiscreteGaussian(rho=0.008, xi=1e-7)),
    (Skellam(mu=200.0, l2=2.0, l1=9.0), Skellam(mu=300.0, l2=1.5, l1=8.0)),
)


@pytest.mark.parametrize(("reserved", "asked"), PAIRS)
@pytest.mark.parametrize("unit", [Unit.EXAMPLE, Unit.PARTNER])
def test_what_is_covered_never_costs_more_alone_or_many_times_for_its_unit_and_smaller_ones(
    reserved: Mechanism, asked: Mechanism, unit: Unit
) -> None:
    assert covers(reserved, asked)
    assert covers(reserved, reserved)
    assert not covers(asked, reserved)
    accountant, figures = Accountant(), 0
    for relation in Relation:
        terms = Terms(
            unit=Unit.EXAMPLE if relation is Relation.ADD_OR_REMOVE_ONE else unit, relation=relation, delta=1e-5
        )
        for times in (1, 30):
            dearest, other = (
                accountant.figure(terms, [Event(mechanism=one, unit=unit, times=times)]).epsilon
                for one in (reserved, asked)
            )
            assert other <= dearest + 1e-6 or other == dearest == math.inf
            figures += math.isfinite(dearest)
    assert figures


@pytest.mark.parametrize(
    ("reserved", "asked"),
    [
        (Gaussian(sigma=4.0), Gaussian(sigma=3.999)),
        (PoissonGaussian(q=0.02, sigma=1.0), PoissonGaussian(q=0.021, sigma=9.0)),
        (PoissonGaussian(q=0.02, sigma=1.0), Gaussian(sigma=9.0)),
        (Gaussian(sigma=1.0), DiscreteGaussian(rho=1e-9, xi=0.0)),
        (DiscreteGaussian(rho=0.01, xi=0.0), DiscreteGaussian(rho=0.001, xi=1e-9)),
        (Skellam(mu=200.0, l2=2.0, l1=9.0), Skellam(mu=999.0, l2=2.0, l1=9.1)),
        (FixedSizeGaussian(sample=10, records=99, sigma=1.0), FixedSizeGaussian(sample=9, records=99, sigma=1.0)),
        (
            TruncatedPoissonGaussian(q=0.01, sigma=1.0, records=1_000, cap=40),
            TruncatedPoissonGaussian(q=0.005, sigma=1.0, records=1_000, cap=40),
        ),
    ],
)
def test_what_may_tell_more_is_not_covered(reserved: Mechanism, asked: Mechanism) -> None:
    assert not covers(reserved, asked)


def events(most: int) -> st.SearchStrategy[list[Event]]:
    sampled = st.builds(PoissonGaussian, q=st.sampled_from((0.01, 0.02, 0.04)), sigma=SIGMAS)
    mechanisms = st.one_of(sampled, st.builds(Gaussian, sigma=SIGMAS))
    units = st.sampled_from((Unit.EXAMPLE, Unit.EXAMPLE, Unit.PERSON))
    return st.lists(st.builds(Event, mechanism=mechanisms, unit=units, times=st.integers(1, 9)), max_size=most)


def flows(asked: list[Event], reserved: list[Event]) -> bool:
    """Whether each run that is asked finds a reserved one of its own, by the largest flow from the ones to the others."""
    ask, have = list(tally(asked).items()), list(tally(reserved).items())
    size = len(ask) + len(have) + 2
    room = np.zeros((size, size), np.int32)
    for place, (kind, times) in enumerate(ask, 1):
        room[0, place] = times
        for other, (held, _) in enumerate(have, 1 + len(ask)):
            room[place, other] = times if kind[1] is held[1] and covers(held[0], kind[0]) else 0
    for other, (_, times) in enumerate(have, 1 + len(ask)):
        room[other, -1] = times
    return int(maximum_flow(csr_array(room), 0, size - 1).flow_value) == sum(times for _, times in ask)


@given(asked=events(6), reserved=events(8))
@settings(deadline=None, max_examples=400)
def test_a_reservation_covers_what_a_flow_can_lead_through_it(asked: list[Event], reserved: list[Event]) -> None:
    found = uncovered(tally(asked), tally(reserved))
    assert (not found) is flows(asked, reserved)
    counts = tally(asked)
    assert all(counts[each.mechanism, each.unit] == each.times for each in found)


@given(reserved=events(5), data=st.data())
@settings(deadline=None, max_examples=40)
def test_whatever_is_covered_fits_a_budget_that_the_reservation_fits(
    reserved: list[Event], data: st.DataObject
) -> None:
    asked = [
        Event(mechanism=_quieter(each.mechanism, data.draw(st.floats(1, 4))), unit=each.unit, times=each.times)
        for each in reserved
    ]
    assert uncovered(tally(asked), tally(reserved)) == ()
    accountant, terms = Accountant(), Terms.usual(Unit.EXAMPLE, 1e-5)
    assert accountant.renyi(terms, tally(asked)) <= accountant.renyi(terms, tally(reserved)) + 1e-9


def _quieter(mechanism: Mechanism, factor: float) -> Mechanism:
    if isinstance(mechanism, PoissonGaussian):
        return PoissonGaussian(q=mechanism.q / factor, sigma=mechanism.sigma * factor)
    assert isinstance(mechanism, Gaussian)
    return Gaussian(sigma=mechanism.sigma * factor)

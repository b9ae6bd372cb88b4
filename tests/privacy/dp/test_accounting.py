"""Figures of privacy against the golden tables of the specification, and the laws that every figure obeys."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting import dp_event, rdp
from dp_accounting.pld import PLDAccountant
from dp_accounting.privacy_accountant import NeighboringRelation
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.privacy.dp import accounting
from aimass.privacy.dp.accounting import SLACK, Accountant, check_accountant, unbounded
from aimass.privacy.dp.events import (
    Budget,
    DiscreteGaussian,
    Event,
    FixedSizeGaussian,
    Gaussian,
    PoissonGaussian,
    Relation,
    Skellam,
    Terms,
    TruncatedPoissonGaussian,
    Unit,
    check_delta,
    events_of,
    tally,
)
from aimass.proto.errors import AimassError, BadInput, InternalError, Refused
from aimass.proto.values import canonical_json, decode_canonical_json


def terms(delta: float = 1e-5, unit: Unit = Unit.EXAMPLE, relation: Relation = Relation.ADD_OR_REMOVE_ONE) -> Terms:
    return Terms(unit=unit, relation=relation, delta=delta)


def sgd(q: float, sigma: float, steps: int, unit: Unit = Unit.EXAMPLE) -> Event:
    return Event(mechanism=PoissonGaussian(q=q, sigma=sigma), unit=unit, times=steps)


MNIST = 256 / 60_000
ROUNDS = [sgd(0.01, 1.1, 100), sgd(0.02, 1.1, 50), sgd(0.05, 1.1, 20)]


@pytest.mark.parametrize(
    ("events", "delta", "by_rdp", "by_pld"),
    [
        pytest.param([sgd(MNIST, 1.1, 60 * 234)], 1e-5, 2.59436, 2.37964, id="A"),
        pytest.param([sgd(1 / 235, 1.1, 60 * 235)], 1e-5, 2.5927, 2.3781, id="A-as-the-loader-samples"),
        pytest.param([sgd(0.01, 1.0, 1000)], 1e-5, 2.10137, 1.82824, id="B"),
        pytest.param([sgd(0.001, 0.8, 10_000)], 1e-6, 1.70363, 0.94732, id="C"),
        pytest.param([sgd(1, 10, 100)], 1e-5, 4.72851, 4.37718, id="D"),
        pytest.param(
            [Event(mechanism=Gaussian(sigma=10), unit=Unit.EXAMPLE, times=100)], 1e-5, 4.72851, 4.37718, id="D-plain"
        ),
        pytest.param(ROUNDS[:1], 1e-5, 0.95609, 0.54977, id="E1"),
        pytest.param(ROUNDS[:2], 1e-5, 1.33508, 0.97712, id="E2"),
        pytest.param(ROUNDS, 1e-5, 2.15046, 1.75353, id="E3"),
        *(
            pytest.param([sgd(0.05, 1.1, 20)] * rounds, 1e-5, by_rdp, by_pld, id=f"F{rounds}")
            for rounds, by_rdp, by_pld in (
                (1, 1.998, 1.590),
                (2, 2.406, 2.003),
                (5, 3.312, 2.887),
                (10, 4.444, 3.962),
                (50, 10.015, 9.192),
            )
        ),
    ],
)
def test_the_golden_figures(events: list[Event], delta: float, by_rdp: float, by_pld: float) -> None:
    figure = Accountant().figure(terms(delta), events)
    assert figure.accountant == "pld"
    assert figure.epsilon == pytest.approx(by_pld, abs=6e-4)
    assert figure.check == pytest.approx(by_rdp, abs=6e-4)


@pytest.mark.parametrize(("cap", "by_pld"), [(256, 12.62), (300, 3.457), (340, 2.3798), (400, 2.3796)])
def test_a_batch_cut_at_five_deviations_costs_nothing_and_one_cut_at_its_mean_all(cap: int, by_pld: float) -> None:
    event = TruncatedPoissonGaussian(q=MNIST, sigma=1.1, records=60_000, cap=cap)
    figure = Accountant().figure(terms(), [Event(mechanism=event, unit=Unit.EXAMPLE, times=60 * 234)])
    assert figure.accountant == "pld"
    assert figure.check is None
    assert figure.epsilon == pytest.approx(by_pld, abs=1e-3)


def test_fixed_batches_have_a_bound_for_replacing_alone_and_cost_ten_times_as_much() -> None:
    event = Event(mechanism=FixedSizeGaussian(sample=256, records=60_000, sigma=1.1), unit=Unit.EXAMPLE, times=14_040)
    figure = Accountant().figure(terms(relation=Relation.REPLACE_ONE), [event])
    assert figure.accountant == "rdp"
    assert figure.epsilon == pytest.approx(24.06, abs=1e-3)
    assert unbounded(tally([event]), terms()) == (event,)
    assert Accountant().figure(terms(), [event]).epsilon == math.inf


def test_replacing_doubles_the_sensitivity_for_both_accountants() -> None:
    """The library's RDP accountant does not: it says 4.729 where the truth is 9.997."""
    figure = Accountant().figure(
        terms(relation=Relation.REPLACE_ONE), [Event(mechanism=Gaussian(sigma=1), unit=Unit.EXAMPLE)]
    )
    assert figure.epsilon == pytest.approx(9.997, abs=1e-3)
    assert figure.check == pytest.approx(10.7255, abs=1e-3)
    library = rdp.RdpAccountant(neighboring_relation=NeighboringRelation.REPLACE_ONE)
    library.compose(dp_event.GaussianDpEvent(1.0))
    assert library.get_epsilon(1e-5) == pytest.approx(4.729, abs=1e-3)


def test_zeroing_costs_what_adding_or_removing_costs() -> None:
    one, other = (
        Accountant().figure(terms(relation=relation), ROUNDS).epsilon
        for relation in (Relation.ADD_OR_REMOVE_ONE, Relation.REPLACE_SPECIAL)
    )
    assert one == other


def test_the_library_s_own_accountants_say_the_same() -> None:
    ours = Accountant().figure(terms(), ROUNDS)
    theirs, check = PLDAccountant(), rdp.RdpAccountant()
    for event in ROUNDS:
        assert isinstance(event.mechanism, PoissonGaussian)
        inner = dp_event.PoissonSampledDpEvent(event.mechanism.q, dp_event.GaussianDpEvent(event.mechanism.sigma))
        for accountant in (theirs, check):
            accountant.compose(dp_event.SelfComposedDpEvent(inner, event.times))
    assert ours.epsilon == pytest.approx(theirs.get_epsilon(1e-5), abs=1e-6)
    assert ours.check == pytest.approx(check.get_epsilon(1e-5), abs=1e-9)


def test_a_partner_level_event_bounds_an_example_at_twice_its_sensitivity() -> None:
    """One row less does not take a clipped contribution away: it makes another one, up to two norms off."""
    event = Event(mechanism=Gaussian(sigma=4), unit=Unit.PARTNER)
    seen = {unit: Accountant().figure(terms(unit=unit), [event]).epsilon for unit in Unit}
    twice = Accountant().figure(terms(unit=Unit.PARTNER, relation=Relation.REPLACE_ONE), [event]).epsilon
    assert seen[Unit.EXAMPLE] == seen[Unit.PERSON] == twice > 2 * seen[Unit.PARTNER]
    discrete = Event(mechanism=DiscreteGaussian(rho=0.01, xi=0), unit=Unit.PARTNER)
    four = Event(mechanism=DiscreteGaussian(rho=0.04, xi=0), unit=Unit.EXAMPLE)
    one, other = (Accountant().figure(terms(), [each]) for each in (discrete, four))
    assert one.epsilon == other.epsilon


@pytest.mark.parametrize("mechanism", [DiscreteGaussian(rho=0.01, xi=0), Skellam(mu=1e6, l2=100, l1=1e4)])
def test_a_partner_that_is_absent_takes_its_share_of_distributed_noise_along(mechanism: DiscreteGaussian) -> None:
    """So there is no bound for adding or removing a partner; its contribution, its persons and rows are hidden."""
    event = Event(mechanism=mechanism, unit=Unit.PARTNER)
    found = {
        (unit, relation): Accountant().figure(terms(unit=unit, relation=relation), [event]).epsilon
        for unit in Unit
        for relation in Relation
    }
    assert found.pop((Unit.PARTNER, Relation.ADD_OR_REMOVE_ONE)) == math.inf
    once = found.pop((Unit.PARTNER, Relation.REPLACE_SPECIAL))
    assert len(set(found.values())) == 1
    assert once < min(found.values()) < math.inf
    inside = Event(mechanism=mechanism, unit=Unit.EXAMPLE)
    assert Accountant().figure(terms(), [inside]).epsilon == once


def test_an_example_level_event_says_nothing_of_persons_and_partners() -> None:
    for unit in (Unit.PERSON, Unit.PARTNER):
        assert unbounded(tally(ROUNDS), terms(unit=unit)) == tuple(ROUNDS)
        figure = Accountant().figure(terms(unit=unit), ROUNDS)
        assert figure.epsilon == math.inf


def test_an_event_without_a_pld_hands_the_whole_ledger_to_renyi() -> None:
    discrete = Event(mechanism=DiscreteGaussian(rho=0.01229639, xi=0), unit=Unit.EXAMPLE, times=100)
    alone = Accountant().figure(terms(), [discrete])
    assert (alone.accountant, alone.check) == ("rdp", None)
    assert alone.epsilon == pytest.approx(8.0, abs=1e-3)
    both = Accountant().figure(terms(), [discrete, *ROUNDS])
    assert both.accountant == "rdp"
    library = rdp.RdpAccountant()
    library.compose(dp_event.ZCDpEvent(0.01229639), 100)
    for event in ROUNDS:
        assert isinstance(event.mechanism, PoissonGaussian)
        inner = dp_event.PoissonSampledDpEvent(event.mechanism.q, dp_event.GaussianDpEvent(event.mechanism.sigma))
        library.compose(inner, event.times)
    assert both.epsilon == pytest.approx(library.get_epsilon(1e-5), abs=1e-9)


def test_skellam_lies_within_a_third_of_a_percent_of_the_discrete_gaussian() -> None:
    """Row 2 of the table of section 8: 100 members, 18 bits, one round."""
    local, honest, dimension, norm = 1869.27, 80, 2**20, 11184.64 * 1.0011
    mu = honest * local**2
    skellam = Skellam(mu=mu, l2=norm, l1=norm * min(math.sqrt(dimension), norm))
    discrete = DiscreteGaussian(rho=norm**2 / (2 * mu), xi=0)
    place = terms(unit=Unit.PARTNER, relation=Relation.REPLACE_SPECIAL)
    one, other = (
        Accountant().figure(place, [Event(mechanism=kind, unit=Unit.PARTNER)]).epsilon for kind in (skellam, discrete)
    )
    assert other < one < other * 1.003


def test_a_turned_vector_in_a_poisson_sample_is_integrated_as_the_closed_form_says_without_sampling() -> None:
    whole = accounting._ORDERS * 4 / (2 * 1.3**2)
    np.testing.assert_allclose(accounting._replaced(1.0, 1.3), whole, rtol=1e-9)
    assert (accounting._replaced(0.3, 1.3) < whole).all()


def test_accountants_that_contradict_each_other_state_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "_renyi", lambda curves, delta: 0.9)
    with pytest.raises(InternalError, match=r"PLD 1\.75.*RDP 0\.9"):
        Accountant().figure(terms(), ROUNDS)


def test_opacus_s_gdp_is_refused_with_the_reason() -> None:
    check_accountant("pld")
    check_accountant("rdp")
    with pytest.raises(Refused, match="below the true epsilon"):
        check_accountant("gdp")
    with pytest.raises(Refused, match="no figure is stated"):
        check_accountant("prv")


def test_a_figure_names_unit_relation_delta_and_accountant() -> None:
    assert Accountant().figure(terms(), ROUNDS).sentence() == (
        "epsilon 1.7535 at delta 1e-05 for one example, add or remove one, by privacy loss distributions "
        "(Rényi accounting: 2.1505)"
    )


def test_what_was_composed_for_one_history_is_not_used_for_a_shorter_or_another_one() -> None:
    accountant = Accountant()
    accountant.figure(terms(), ROUNDS)
    for events in (ROUNDS[:1], [sgd(0.01, 1.1, 60), *ROUNDS[1:]], [sgd(0.02, 2.0, 5)]):
        fresh = Accountant().figure(terms(), events)
        assert accountant.figure(terms(), events).epsilon == pytest.approx(fresh.epsilon, abs=1e-9)


def test_nothing_spent_is_zero() -> None:
    assert Accountant().figure(terms(), []).epsilon == 0


def test_noise_that_hides_nothing_is_refused_quickly_and_not_computed() -> None:
    """A PLD of epsilon 10^6 would fill the memory."""
    figure = Accountant().figure(
        terms(), [sgd(0.5, 0.001, 1000), Event(mechanism=Gaussian(sigma=1e-4), unit=Unit.EXAMPLE)]
    )
    assert figure.accountant == "rdp"
    assert figure.epsilon > 1e6


Kinds = st.one_of(
    st.builds(PoissonGaussian, q=st.sampled_from((0.001, 0.01, 0.05)), sigma=st.sampled_from((0.9, 1.1, 2.0))),
    st.builds(Gaussian, sigma=st.sampled_from((5.0, 8.0, 20.0))),
)
Events = st.builds(Event, mechanism=Kinds, unit=st.sampled_from(Unit), times=st.integers(1, 30))


@settings(max_examples=8, deadline=None)
@given(st.lists(Events, min_size=1, max_size=5), Events, st.randoms(use_true_random=False))
def test_figures_do_not_depend_on_order_or_parts_and_grow_with_every_event(
    events: list[Event], more: Event, random: object
) -> None:
    whole = Accountant().figure(terms(), events)
    shuffled = sorted(events, key=lambda _: random.random())  # type: ignore[attr-defined]
    parts = Accountant()
    for count in range(len(shuffled) + 1):
        inside = parts.figure(terms(), shuffled[:count], shuffled[count:])
        assert inside.epsilon == pytest.approx(whole.epsilon, abs=2e-6)
    assert parts.figure(terms(), shuffled, [more]).epsilon >= whole.epsilon - 2e-6
    assert whole.check is None or whole.epsilon <= whole.check + SLACK


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: Gaussian(sigma=-1.0), "dp.noise"),
        (lambda: Gaussian(sigma=0.0), "dp.noise"),
        (lambda: Gaussian(sigma=math.nan), "dp.noise"),
        (lambda: Gaussian(sigma=math.inf), "dp.noise"),
        (lambda: PoissonGaussian(q=0.1, sigma=math.nan), "dp.noise"),
        (lambda: PoissonGaussian(q=0.0, sigma=1.0), "dp.sampling"),
        (lambda: PoissonGaussian(q=1.0001, sigma=1.0), "dp.sampling"),
        (lambda: PoissonGaussian(q=math.nan, sigma=1.0), "dp.sampling"),
        (lambda: TruncatedPoissonGaussian(q=0.1, sigma=1.0, records=0, cap=1), "dp.count"),
        (lambda: FixedSizeGaussian(sample=5, records=4, sigma=1.0), "dp.sampling"),
        (lambda: DiscreteGaussian(rho=-0.1, xi=0.0), "dp.noise"),
        (lambda: DiscreteGaussian(rho=0.1, xi=-1e-9), "dp.noise"),
        (lambda: Skellam(mu=math.nan, l2=1.0, l1=1.0), "dp.noise"),
        (lambda: Event(mechanism=Gaussian(sigma=1.0), unit=Unit.EXAMPLE, times=0), "dp.count"),
        (lambda: Event(mechanism=Gaussian(sigma=1.0), unit=Unit.EXAMPLE, times=-3), "dp.count"),
        (lambda: terms(delta=0.0), "dp.delta"),
        (lambda: terms(delta=1.0), "dp.delta"),
        (lambda: terms(delta=math.nan), "dp.delta"),
        (lambda: Budget(terms=terms(), epsilon=0.0), "dp.budget"),
        (lambda: Budget(terms=terms(), epsilon=math.nan), "dp.budget"),
        (lambda: Budget(terms=terms(), epsilon=51.0), "dp.budget"),
        (lambda: check_delta(1.01e-3, 1000), "dp.delta"),
        (lambda: check_delta(math.nan, 1000), "dp.delta"),
        (lambda: check_delta(1.01e-5, 0), "dp.delta"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make: object, code: str) -> None:
    with pytest.raises(AimassError) as refused:
        make()  # type: ignore[operator]
    assert refused.value.code == code


def test_a_delta_of_one_in_all_units_is_the_largest() -> None:
    check_delta(1e-3, 1000)


def test_of_units_that_nobody_counts_delta_is_that_of_a_hundred_thousand() -> None:
    check_delta(1e-5, 0)
    with pytest.raises(BadInput, match="nobody knows"):
        check_delta(0.5, 0)


@given(Events)
def test_an_event_is_its_canonical_bytes(event: Event) -> None:
    data = canonical_json(event)
    assert decode_canonical_json(Event, data, "an event") == event
    assert events_of(tally([event])) == (event,)


def test_a_whole_number_and_its_float_are_one_event() -> None:
    assert (
        canonical_json(Gaussian(sigma=2)) == canonical_json(Gaussian(sigma=2.0)) == b'{"kind":"gaussian","sigma":2.0}'
    )


def test_events_from_outside_are_checked_as_those_made_here() -> None:
    with pytest.raises(BadInput, match="sigma"):
        decode_canonical_json(Event, b'{"mechanism":{"kind":"gaussian","sigma":-2.0},"times":1,"unit":"example"}', "x")
    with pytest.raises(BadInput):
        decode_canonical_json(Event, b'{"mechanism":{"kind":"laplace","sigma":2.0},"times":1,"unit":"example"}', "x")

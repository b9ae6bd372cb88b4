"""The rules of a ledger, without a disk: what may be reserved, given back, sent again, and what a refusal says."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest

from aimass.privacy.dp import ledger as rules
from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.events import Budget, Event, Gaussian, PoissonGaussian, Relation, Terms, Unit, tally
from aimass.privacy.dp.ledger_lines import Body, Budgeted, Doubted, EntryState, Head, Opened, Reserved
from aimass.privacy.dp.ledger_state import EMPTY, Ledger, apply, replay
from aimass.privacy.dp.study_rules import end_study
from aimass.proto.errors import AimassError, IntegrityError, NotFound, Refused, WrongState
from tests.support.ledgers import BUDGET, RESULT, RUN, TERMS, steps

AT = 1_700_000_000.0
ACCOUNTANT = Accountant()


def opened(*budgets: Budget) -> Ledger:
    lines: list[Body] = [Opened(data_set="south", ledger="ab" * 16, at=AT)]
    return replay([*lines, Budgeted(budgets=budgets or (BUDGET,), at=AT)])


def reserved(ledger: Ledger, *events: Event, at: float = AT, study: int | None = None) -> Ledger:
    line = rules.reserve(ledger, ACCOUNTANT, run_id=RUN, round_=0, purpose="train", events=events, at=at, study=study)
    return apply(ledger, line)


def spent(ledger: Ledger) -> float:
    return ACCOUNTANT.figure(TERMS, ledger.settled(), ledger.pending()).epsilon


def test_a_reservation_counts_in_full_until_it_is_committed_with_fewer_steps() -> None:
    ledger = reserved(opened(), steps(10))
    assert ledger.pending() == tally([steps(10)])
    ledger = apply(ledger, rules.start(ledger, 1, AT))
    assert ledger.pending() == tally([steps(10)])
    ledger = apply(ledger, rules.commit(ledger, 1, [steps(7)], RESULT, AT))
    assert (ledger.settled(), ledger.pending()) == (tally([steps(7)]), tally([]))
    assert ledger.entries[1].state is EntryState.COMMITTED


def test_what_never_started_is_given_back_and_what_started_is_not() -> None:
    ledger = reserved(opened(), steps(10))
    released = apply(ledger, rules.cancel(ledger, 1, AT))
    assert released.pending() == released.settled() == tally([])
    started = apply(ledger, rules.start(ledger, 1, AT))
    with pytest.raises(WrongState, match="training cannot cancel"):
        rules.cancel(started, 1, AT)


@pytest.mark.parametrize("begun", [False, True])
def test_a_restart_spends_all_that_it_finds_open(begun: bool) -> None:
    ledger = reserved(opened(), steps(10))
    if begun:
        ledger = apply(ledger, rules.start(ledger, 1, AT))
    ledger = replay(rules.restart(ledger, AT), ledger)
    assert ledger.settled() == tally([steps(10)])
    assert ledger.entries[1].state is EntryState.SPENT
    assert rules.restart(ledger, AT) == ()


def test_no_arrow_exists_beside_those_of_the_table() -> None:
    makers: dict[str, Callable[[Ledger], Body]] = {
        "start": lambda ledger: rules.start(ledger, 1, AT),
        "cancel": lambda ledger: rules.cancel(ledger, 1, AT),
        "commit": lambda ledger: rules.commit(ledger, 1, [steps(7)], RESULT, AT),
    }
    allowed = {("reserved", "start"), ("reserved", "cancel"), ("training", "commit")}
    first = reserved(opened(), steps(10))
    training = apply(first, rules.start(first, 1, AT))
    states = {
        "reserved": first,
        "training": training,
        "released": apply(first, rules.cancel(first, 1, AT)),
        "committed": apply(training, rules.commit(training, 1, [steps(7)], RESULT, AT)),
        "spent": replay(rules.restart(first, AT), first),
    }
    lines = {"start": makers["start"](first), "cancel": makers["cancel"](first), "commit": makers["commit"](training)}
    for (state, ledger), (name, make) in product(states.items(), makers.items()):
        assert ledger.entries[1].state == state
        if (state, name) in allowed:
            make(ledger)
            continue
        with pytest.raises(WrongState):
            make(ledger)
        with pytest.raises(IntegrityError, match="cannot have happened"):
            apply(ledger, lines[name])
    for make in makers.values():
        with pytest.raises(NotFound):
            make(opened())


@pytest.mark.parametrize("events", [[steps(11)], [steps(10, rho=0.0011)], [steps(10), steps(1, unit=Unit.PERSON)]])
def test_never_more_than_reserved(events: list[Event]) -> None:
    ledger = reserved(opened(), steps(10))
    ledger = apply(ledger, rules.start(ledger, 1, AT))
    with pytest.raises(Refused, match="more was spent than was reserved") as refused:
        rules.commit(ledger, 1, events, RESULT, AT)
    assert refused.value.code == "ledger.E_LEDGER"


def test_a_budget_one_step_short_refuses_and_says_what_was_asked_what_is_left_and_since_when() -> None:
    most = next(
        times for times in range(1, 10_000) if ACCOUNTANT.figure(TERMS, [steps(times + 1)]).epsilon > BUDGET.epsilon
    )
    ledger = reserved(opened(), steps(most - 5), at=AT + 86_400)
    reserved(ledger, steps(5))
    with pytest.raises(Refused) as refused:
        reserved(ledger, steps(6))
    assert refused.value.code == "ledger.E_BUDGET"
    refusal = rules.refused(ledger, ACCOUNTANT, (steps(6),))
    assert refusal is not None
    assert refusal.asked == pytest.approx(ACCOUNTANT.figure(TERMS, [steps(most + 1)]).epsilon - spent(ledger))
    assert refusal.standing.left == pytest.approx(8 - spent(ledger))
    assert refusal.since == AT + 86_400
    assert f"{refusal.standing.left:.4f} left of 8 since 2023-11-15 22:13 UTC" in str(refused.value)
    assert f"{refusal.asked:.4f} more, epsilon 8.0" in str(refused.value)


def test_a_clock_beyond_all_calendars_still_refuses() -> None:
    ledger = apply(opened(), Budgeted(budgets=(BUDGET,), at=1e300))
    with pytest.raises(Refused, match="since second 1e"):
        reserved(ledger, steps(100_000))


def test_reservations_count_against_each_other_before_either_is_used() -> None:
    ledger = reserved(opened(), steps(700))
    with pytest.raises(Refused, match="too small"):
        reserved(ledger, steps(700))
    ledger = apply(ledger, rules.cancel(ledger, 1, AT))
    reserved(ledger, steps(700))


def test_without_a_budget_nothing_is_reserved() -> None:
    ledger = replay([Opened(data_set="south", ledger="ab" * 16, at=AT)])
    with pytest.raises(Refused, match="no privacy budget"):
        reserved(ledger, steps(1))
    with pytest.raises(Refused, match="names no event"):
        reserved(opened())


def budget(unit: Unit, epsilon: float) -> Budget:
    return Budget(terms=Terms(unit=unit, relation=Relation.ADD_OR_REMOVE_ONE, delta=1e-5), epsilon=epsilon)


def test_an_event_counts_against_every_unit_that_it_affects() -> None:
    """As one partner's it would fit; seen by an example it costs twice the sensitivity."""
    event = Event(mechanism=Gaussian(sigma=4.0), unit=Unit.PARTNER)
    reserved(opened(budget(Unit.PARTNER, 1.0)), event)
    with pytest.raises(Refused, match="for one example") as refused:
        reserved(opened(budget(Unit.PARTNER, 1.0), budget(Unit.EXAMPLE, 1.0)), event)
    assert refused.value.code == "ledger.E_BUDGET"
    reserved(opened(budget(Unit.PARTNER, 1.0), budget(Unit.EXAMPLE, 2.5)), event)


def test_an_event_without_a_bound_at_a_unit_with_a_budget_is_refused() -> None:
    event = Event(mechanism=PoissonGaussian(q=0.01, sigma=2.0), unit=Unit.EXAMPLE)
    reserved(opened(budget(Unit.EXAMPLE, 1.0)), event)
    ledger = opened(budget(Unit.EXAMPLE, 1.0), budget(Unit.PERSON, 8.0))
    with pytest.raises(Refused, match="a budget for each person, and an event has no bound") as refused:
        reserved(ledger, event)
    assert refused.value.code == "ledger.no_bound"


def test_noise_inside_a_secure_sum_is_refused_under_a_budget_for_adding_or_removing_a_partner() -> None:
    with pytest.raises(Refused, match="bound for replace-special") as refused:
        reserved(opened(budget(Unit.PARTNER, 8.0)), steps(1, unit=Unit.PARTNER))
    assert refused.value.code == "ledger.no_bound"
    terms = Terms(unit=Unit.PARTNER, relation=Relation.REPLACE_SPECIAL, delta=1e-5)
    reserved(opened(Budget(terms=terms, epsilon=8.0)), steps(1, unit=Unit.PARTNER))


def test_a_budget_for_a_unit_that_the_past_says_nothing_of_admits_nothing() -> None:
    ledger = reserved(opened(), steps(1))
    ledger = apply(ledger, Budgeted(budgets=(budget(Unit.PERSON, 8.0),), at=AT))
    with pytest.raises(Refused, match="a budget for each person, and an event has no bound"):
        reserved(ledger, steps(1, unit=Unit.PERSON))
    (stand,) = rules.standing(ledger, ACCOUNTANT)
    assert stand.left == 0
    assert stand.whole.epsilon == math.inf


def test_an_event_without_a_pld_is_governed_by_renyi_over_all() -> None:
    """By PLD the training alone leaves room; with one discrete event the ledger is Rényi's, and it does not."""
    training = Event(mechanism=PoissonGaussian(q=0.01, sigma=1.0), unit=Unit.EXAMPLE, times=1000)
    ledger = reserved(opened(budget(Unit.EXAMPLE, 1.9)), training)
    with pytest.raises(Refused, match="by Rényi accounting"):
        reserved(ledger, steps(1, rho=1e-9))


def test_the_identical_update_may_leave_again_and_no_other() -> None:
    ledger = reserved(opened(), steps(10))
    with pytest.raises(WrongState):
        rules.check_resend(ledger, 1, RESULT)
    ledger = apply(ledger, rules.start(ledger, 1, AT))
    ledger = apply(ledger, rules.commit(ledger, 1, [steps(7)], RESULT, AT))
    rules.check_resend(ledger, 1, RESULT)
    with pytest.raises(WrongState, match="another update"):
        rules.check_resend(ledger, 1, "34" * 32)


def study_of(ledger: Ledger, *events: Event, name: str = "tuning", trials: int = 0) -> Ledger:
    return apply(ledger, rules.open_study(ledger, ACCOUNTANT, name=name, events=events, at=AT, trials=trials))


def ended(ledger: Ledger, number: int = 1) -> Ledger:
    return replay(end_study(ledger, number, AT), ledger)


def test_a_study_counts_as_a_whole_and_gives_back_what_its_trials_did_not_draw() -> None:
    ledger = study_of(opened(), steps(700))
    with pytest.raises(Refused):
        reserved(ledger, steps(700))
    ledger = reserved(ledger, steps(400), study=1)
    assert ledger.pending() == tally([steps(700)])
    for beyond in (steps(301), steps(1, rho=0.0011), steps(1, unit=Unit.PERSON)):
        with pytest.raises(Refused, match="more than is left of its study"):
            reserved(ledger, beyond, study=1)
    ledger = apply(ledger, rules.start(ledger, 2, AT))
    ledger = apply(ledger, rules.commit(ledger, 2, [steps(300)], RESULT, AT))
    ledger = reserved(ledger, steps(400), study=1)
    ledger = replay(rules.restart(ledger, AT), ledger)
    assert ledger.pending() == tally([steps(700)])
    ledger = ended(ledger)
    assert (ledger.settled(), ledger.pending()) == (tally([steps(700)]), tally([]))
    with pytest.raises(NotFound):
        reserved(ledger, steps(1), study=1)
    with pytest.raises(NotFound):
        ended(ledger)


def test_a_step_at_work_when_its_study_ends_is_spent_in_full_and_its_update_cannot_leave() -> None:
    ledger = reserved(reserved(study_of(opened(), steps(700)), steps(40), study=1), steps(50), study=1)
    ledger = ended(apply(ledger, rules.start(ledger, 2, AT)))
    assert (ledger.settled(), ledger.pending()) == (tally([steps(90)]), tally([]))
    with pytest.raises(WrongState):
        rules.commit(ledger, 2, [steps(1)], RESULT, AT)
    with pytest.raises(WrongState):
        rules.start(ledger, 3, AT)


def test_a_trial_with_more_noise_draws_on_the_study_and_counts_for_what_it_cost() -> None:
    ledger = reserved(study_of(opened(), steps(700)), steps(400, rho=0.0002), study=1)
    assert ledger.pending() == tally([steps(700)])
    ledger = ended(replay(rules.restart(ledger, AT), ledger))
    assert ledger.settled() == tally([steps(400, rho=0.0002)])


def test_a_study_has_as_many_runs_as_it_reserved_for_however_little_they_cost() -> None:
    def drawn(ledger: Ledger, run_id: str) -> Ledger:
        line = rules.reserve(
            ledger, ACCOUNTANT, run_id=run_id, round_=0, purpose="train", events=[steps(1)], at=AT, study=1
        )
        return apply(ledger, line)

    ledger = study_of(opened(), steps(700), trials=2)
    for run_id in ("01" * 16, "02" * 16, "01" * 16):
        ledger = drawn(ledger, run_id)
    with pytest.raises(Refused) as refused:
        drawn(ledger, "03" * 16)
    assert (refused.value.code, refused.value.limit) == ("ledger.study_trials", "2")
    line = Reserved(number=5, run_id="03" * 16, round=0, purpose="train", events=(steps(1),), at=AT, study=1)
    with pytest.raises(IntegrityError, match="cannot have happened"):
        apply(ledger, line)
    ledger = apply(ledger, rules.cancel(ledger, 3, AT))  # a run that drew nothing in the end is none of them
    drawn(ledger, "03" * 16)


def test_a_study_is_begun_once_under_a_name_and_reserves_for_few_mechanisms() -> None:
    ledger = study_of(opened(), steps(5))
    with pytest.raises(Refused) as refused:
        study_of(ledger, steps(5))
    assert refused.value.code == "ledger.study_changed"
    with pytest.raises(Refused) as refused:
        study_of(ended(ledger), steps(5))
    assert refused.value.code == "ledger.study_ended"
    many = [steps(1, rho=0.001 + number * 1e-6) for number in range(9)]
    study_of(ledger, *many[:8], name="other")
    with pytest.raises(Refused) as refused:
        study_of(ledger, *many, name="other")
    assert refused.value.code == "ledger.study_kinds"


def test_a_doubt_stops_reservations_and_starts_and_lets_what_runs_be_settled() -> None:
    ledger = reserved(reserved(opened(), steps(10)), steps(10))
    ledger = apply(ledger, rules.start(ledger, 1, AT))
    ledger = apply(ledger, Doubted(head=Head(ledger="cd" * 16, lines=9, head=RESULT), at=AT))
    for refused in (lambda: reserved(ledger, steps(1)), lambda: rules.start(ledger, 2, AT)):
        with pytest.raises(Refused) as told:
            refused()
        assert told.value.code == "ledger.E_LEDGER_ROLLBACK"
    rules.cancel(ledger, 2, AT)
    rules.commit(ledger, 1, [steps(10)], RESULT, AT)


def test_lines_that_no_rule_writes_are_not_read() -> None:
    line = rules.reserve(opened(), ACCOUNTANT, run_id=RUN, round_=0, purpose="train", events=[steps(1)], at=AT)
    assert isinstance(line, Reserved)
    again = Opened(data_set="south", ledger="ab" * 16, at=AT)
    number = Reserved(number=3, run_id=RUN, round=0, purpose="train", events=(steps(1),), at=AT)
    foreign = Reserved(number=1, run_id=RUN, round=0, purpose="train", events=(steps(1),), at=AT, study=7)
    study = apply(opened(), rules.open_study(opened(), ACCOUNTANT, name="tuning", events=[steps(5)], at=AT))
    trial = Reserved(number=2, run_id=RUN, round=0, purpose="train", events=(steps(6),), at=AT, study=1)
    lines = ((EMPTY, line), (opened(), again), (opened(), number), (opened(), foreign), (study, trial))
    for ledger, body in lines:
        with pytest.raises(IntegrityError, match="cannot have happened"):
            apply(ledger, body)


def test_every_refusal_has_a_code_of_the_ledger() -> None:
    for maker in (lambda: reserved(opened(), steps(10**6)), lambda: rules.start(opened(), 1, AT)):
        with pytest.raises(AimassError) as told:
            maker()
        assert told.value.code.startswith("ledger.")

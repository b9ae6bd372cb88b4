"""A study at a partner: reserved as a whole before a row is touched, drawn on run by run, and given back in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from aimass.client.budget import Budgets, Debit
from aimass.client.policy import Admit, AdmittedTask, Pending, Policy, Studies, decide
from aimass.client.study_policy import ApprovedStudy
from aimass.client.study_preview import reserved_by, study_preview
from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.events import Event, Terms, Unit
from aimass.privacy.dp.ledger_lines import EntryState
from aimass.privacy.dp.ledger_state import Ledger
from aimass.privacy.dp.private_terms import contribution_events, step_events
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import AimassError, Refused, WrongState
from aimass.proto.plan import MetricNoise, Plan, Study
from aimass.proto.step import StepKind
from aimass.proto.studies import study_digest
from aimass.proto.values import Scalar
from tests.client.test_active_run import PLAN
from tests.client.test_budget import POLICY, measured, noised, partners, plan, step
from tests.support.ledgers import Clock

ID, OTHER = "5" * 32, "6" * 32
RUNS = tuple(f"{number:02x}" * 16 for number in range(1, 9))
OPEN = msgspec.structs.replace(POLICY, studies=Studies(trials=1_000, epsilon=50.0))
DEAREST: dict[str, Scalar] = {"privacy.noise_multiplier": 3.0, "stages.0.options.rounds": 3}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budgets(tmp_path: Path, clock: Clock) -> Iterator[Budgets]:
    held = Budgets(tmp_path / "ledgers", UNINTERRUPTED, clock)
    yield held
    held.close()


def trial(
    noise: float = 3.0, rounds: int = 3, trials: int = 3, study: str = ID, costliest: dict[str, Scalar] | None = None
) -> Plan:
    section = Study(id=study, trials=trials, costliest=DEAREST if costliest is None else costliest)
    return msgspec.structs.replace(plan(rounds=rounds, noise=noise), study=section)


def debit(budgets: Budgets, asked: Plan, run_id: str, round_: int = 1, policy: Policy = OPEN) -> Debit:
    made = budgets.debit(policy, "heart", asked, run_id, step(round_), 500, 1_000)
    assert made is not None
    return made


def ledger(budgets: Budgets, policy: Policy = OPEN) -> Ledger:
    held = budgets.ledger(policy, "heart")
    assert held is not None
    return held.state


def epsilon(budgets: Budgets) -> tuple[float, float]:
    """What is settled, and that with all that is reserved."""
    held = budgets.ledger(OPEN, "heart")
    assert held is not None
    (stand,) = held.standing()
    return stand.settled.epsilon, stand.whole.epsilon


def alone(asked: Plan, times: int) -> float:
    """So many rounds of a plan, by the accountant alone."""
    (event,) = step_events(asked, StepKind.TRAIN, 500, 1_000)
    terms = OPEN.budgets[0]
    whole = msgspec.structs.replace(event, times=event.times * times)
    return Accountant().figure(Terms.usual(Unit(terms.unit), terms.delta), [whole]).epsilon


def refusal(budgets: Budgets, asked: Plan, run_id: str = RUNS[0], policy: Policy = OPEN) -> AimassError:
    with pytest.raises(AimassError) as told:
        budgets.check(policy, "heart", asked, 1_000, {}, run_id)
    return told.value


def test_the_first_step_of_a_study_reserves_all_of_it_and_the_end_frees_what_pruning_left(budgets: Budgets) -> None:
    assert budgets.check(OPEN, "heart", trial(), 1_000, {}, RUNS[0]) is None
    assert epsilon(budgets) == (0.0, 0.0)  # to look reserves nothing
    first = debit(budgets, trial(), RUNS[0])
    assert epsilon(budgets)[1] == pytest.approx(alone(trial(), 9), rel=1e-3)
    first.settle(20, "5" * 64)
    debit(budgets, trial(), RUNS[1]).settle(20, "6" * 64)  # each was pruned after its first round
    assert epsilon(budgets)[1] == pytest.approx(alone(trial(), 9), rel=1e-3)
    assert budgets.open_studies() == (ID,)
    assert budgets.end_study(ID)
    assert epsilon(budgets)[0] == epsilon(budgets)[1] == pytest.approx(alone(trial(), 2), rel=1e-3)
    assert budgets.open_studies() == ()
    assert not budgets.end_study(ID)


def test_runs_of_more_noise_count_for_what_they_cost_and_dearer_ones_are_refused(budgets: Budgets) -> None:
    debit(budgets, trial(noise=6.0), RUNS[0]).settle(20, "5" * 64)
    assert refusal(budgets, trial(noise=2.9), RUNS[1]).code == "ledger.study_costliest"
    assert refusal(budgets, trial(rounds=4), RUNS[1]).code == "ledger.study_costliest"
    with pytest.raises(Refused) as refused:
        debit(budgets, trial(noise=2.9), RUNS[1])
    assert refused.value.code == "ledger.E_BUDGET"
    budgets.end_study(ID)
    assert epsilon(budgets)[1] == pytest.approx(alone(trial(noise=6.0), 1), rel=1e-3)


def test_a_refusal_tells_a_server_nothing_of_how_many_rows_there_are(budgets: Budgets) -> None:
    asked = trial(noise=2.0)
    assert asked.privacy is not None
    cut = msgspec.structs.replace(asked, privacy=msgspec.structs.replace(asked.privacy, cap_deviations=6.0))
    with pytest.raises(Refused) as told:
        budgets.check(OPEN, "heart", cut, 1_237, {}, RUNS[0])
    assert told.value.code == "ledger.study_costliest"
    assert "1237" not in str(told.value)
    assert "cap" not in str(told.value)


def test_a_run_beyond_those_reserved_for_is_refused_before_it_joins_and_by_the_ledger(budgets: Budgets) -> None:
    for run_id in RUNS[:3]:
        debit(budgets, trial(), run_id).settle(20, run_id * 2)
    assert budgets.check(OPEN, "heart", trial(), 1_000, {"train:": 1}, RUNS[2]) is None  # it is one of them
    assert refusal(budgets, trial(), RUNS[3]).code == "ledger.study_trials"
    with pytest.raises(Refused) as refused:
        debit(budgets, trial(), RUNS[3])
    assert refused.value.code == "ledger.study_trials"


def test_a_study_that_ended_admits_no_run_and_one_stated_otherwise_neither(budgets: Budgets) -> None:
    debit(budgets, trial(), RUNS[0])
    assert refusal(budgets, trial(trials=4), RUNS[1]).code == "ledger.study_changed"
    with pytest.raises(Refused) as refused:
        debit(budgets, trial(trials=4), RUNS[1])
    assert refused.value.code == "ledger.study_changed"
    budgets.end_study(ID)
    assert refusal(budgets, trial(), RUNS[0]).code == "ledger.study_ended"
    with pytest.raises(Refused) as refused:
        debit(budgets, trial(), RUNS[0], 2)
    assert refused.value.code == "ledger.study_ended"


def test_what_is_at_work_when_the_study_ends_is_spent_and_cannot_leave(budgets: Budgets) -> None:
    at_work = debit(budgets, trial(), RUNS[0])
    budgets.end_study(ID)
    assert ledger(budgets).entries[at_work.number].state is EntryState.SPENT
    with pytest.raises(WrongState):
        at_work.settle(20, "5" * 64)
    assert epsilon(budgets)[0] == pytest.approx(alone(trial(), 1), rel=1e-3)


def test_a_study_that_fits_no_budget_is_refused_as_a_whole_and_another_run_sees_it_reserved(budgets: Budgets) -> None:
    assert refusal(budgets, trial(trials=500)).code == "ledger.E_BUDGET"
    with pytest.raises(Refused):
        debit(budgets, trial(trials=500), RUNS[0])
    assert not ledger(budgets).studies
    debit(budgets, trial(trials=12), RUNS[0])
    assert refusal(budgets, plan(rounds=100)).code == "ledger.E_BUDGET"
    assert refusal(budgets, trial(study=OTHER, trials=12), RUNS[1]).code == "ledger.E_BUDGET"
    budgets.end_study(ID)
    assert budgets.check(OPEN, "heart", trial(study=OTHER, trials=12), 1_000, {}, RUNS[1]) is None


def test_a_crash_leaves_the_study_reserved_and_its_open_steps_spent(tmp_path: Path, clock: Clock) -> None:
    first = Budgets(tmp_path / "l", UNINTERRUPTED, clock)
    debit(first, trial(), RUNS[0])
    before = epsilon(first)[1]
    first.close()
    again = Budgets(tmp_path / "l", UNINTERRUPTED, clock)
    assert epsilon(again)[1] == before
    assert [entry.state for entry in ledger(again).entries.values()] == [EntryState.SPENT]
    assert again.open_studies() == (ID,)
    debit(again, trial(), RUNS[0], 2).settle(20, "5" * 64)
    again.end_study(ID)
    assert epsilon(again)[1] == pytest.approx(alone(trial(), 2), rel=1e-3)
    again.close()


def test_a_study_that_nobody_ends_lapses_when_it_was_not_drawn_on_for_long_enough(
    budgets: Budgets, clock: Clock
) -> None:
    policy = msgspec.structs.replace(OPEN, studies=msgspec.structs.replace(OPEN.studies, days=2.0))
    debit(budgets, trial(), RUNS[0]).settle(20, "5" * 64)
    clock.at += 1.9 * 86_400
    budgets.end_lapsed(policy)
    debit(budgets, trial(), RUNS[0], 2).settle(20, "6" * 64)
    clock.at += 1.9 * 86_400
    budgets.end_lapsed(policy)
    assert budgets.open_studies() == (ID,)
    clock.at += 0.2 * 86_400
    budgets.end_lapsed(policy)
    assert budgets.open_studies() == ()
    assert epsilon(budgets)[1] == pytest.approx(alone(trial(), 2), rel=1e-3)


def decided(policy: Policy, asked: Plan) -> object:
    ready = msgspec.structs.replace(policy, tasks=(AdmittedTask(name=PLAN.task.name, digest=PLAN.task.digest),))
    return decide(ready, asked, 3, frozenset({"process"}))


def test_without_a_word_of_the_policy_every_study_waits_for_a_person() -> None:
    waiting = decided(POLICY, trial())
    assert waiting == Pending("study 55555555 of 3 runs waits for approval at the partner", ID, study=True)
    assert isinstance(decided(OPEN, trial()), Admit)
    few = msgspec.structs.replace(POLICY, studies=Studies(trials=2))
    assert isinstance(decided(few, trial()), Pending)
    unbudgeted = msgspec.structs.replace(POLICY, budgets=())
    assert isinstance(decided(unbudgeted, trial()), Admit)  # nothing is reserved of it
    assert isinstance(decided(POLICY, plan()), Admit)


def approved(budgets: Budgets, asked: Plan) -> Policy:
    assert asked.study is not None
    events = reserved_by(ledger(budgets), asked, 1_000)
    approval = ApprovedStudy(id=asked.study.id, data_set="heart", terms=study_digest(asked.study), events=events)
    return msgspec.structs.replace(POLICY, studies=Studies(approved=(approval,)))


def test_an_approval_is_of_the_section_and_of_what_it_reserves_and_of_nothing_dearer(budgets: Budgets) -> None:
    policy = approved(budgets, trial())
    assert isinstance(decided(policy, trial()), Admit)
    assert isinstance(decided(policy, trial(trials=2)), Pending)
    assert budgets.check(policy, "heart", trial(noise=5.0), 1_000, {}, RUNS[0]) is None
    bare: dict[str, Scalar] = {}
    policy = approved(budgets, trial(costliest=bare))
    for asked in (trial(noise=2.0, costliest=bare), trial(rounds=9, costliest=bare)):
        waiting = budgets.check(policy, "heart", asked, 1_000, {}, RUNS[0])
        assert waiting is not None
        assert waiting.code == "policy.approval_pending"
        with pytest.raises(WrongState):
            debit(budgets, asked, RUNS[0], policy=policy)
        assert not ledger(budgets, policy).studies
    debit(budgets, trial(noise=4.0, costliest=bare), RUNS[0], policy=policy)


def test_an_approval_is_for_one_data_set(budgets: Budgets) -> None:
    policy = approved(budgets, trial())
    other = (msgspec.structs.replace(POLICY.budgets[0], data_set="other"),)
    moved = msgspec.structs.replace(policy, schemas={PLAN.data_schema: "other"}, budgets=other)
    assert isinstance(decided(policy, trial()), Admit)
    assert isinstance(decided(moved, trial()), Pending)
    waiting = budgets.check(moved, "other", trial(), 1_000, {}, RUNS[0])
    assert waiting is not None


def test_a_run_that_is_dearer_where_the_costliest_says_nothing_is_refused_before_it_joins(budgets: Budgets) -> None:
    bare: dict[str, Scalar] = {}
    debit(budgets, trial(costliest=bare), RUNS[0])
    for asked in (trial(rounds=4, costliest=bare), trial(noise=2.9, costliest=bare)):
        assert refusal(budgets, asked, RUNS[1]).code == "ledger.study_costliest"
    assert budgets.check(OPEN, "heart", trial(rounds=2, noise=4.0, costliest=bare), 1_000, {}, RUNS[1]) is None


def test_a_budget_that_is_lowered_stops_a_study_that_reserved_of_it(budgets: Budgets) -> None:
    debit(budgets, trial(), RUNS[0]).settle(20, "5" * 64)
    lower = (msgspec.structs.replace(POLICY.budgets[0], epsilon=alone(trial(), 9) * 0.99),)
    with pytest.raises(Refused) as refused:
        debit(budgets, trial(), RUNS[0], 2, msgspec.structs.replace(OPEN, budgets=lower))
    assert refused.value.code == "ledger.E_BUDGET"
    debit(budgets, trial(), RUNS[0], 2)


def test_a_policy_bounds_what_a_study_costs_that_nobody_approved(budgets: Budgets) -> None:
    whole = alone(trial(), 9)
    for most, waits in ((whole * 1.01, False), (whole * 0.99, True)):
        policy = msgspec.structs.replace(POLICY, studies=Studies(trials=50, epsilon=most))
        waiting = budgets.check(policy, "heart", trial(), 1_000, {}, RUNS[0])
        assert (waiting is not None) is waits
    assert waiting is not None
    assert f"epsilon {whole:.3f}"[:12] in waiting.sentence()


def test_a_preview_says_what_is_reserved_what_is_left_and_which_rules_the_costliest_run_breaks(
    budgets: Budgets,
) -> None:
    debit(budgets, plan(), RUNS[7]).settle(20, "5" * 64)
    loud = msgspec.structs.replace(POLICY, bounds=msgspec.structs.replace(POLICY.bounds, smallest_noise=4.0))
    found = study_preview(loud, ledger(budgets), trial(noise=5.0), 1_000, 3, frozenset({"process"}))
    (cost,) = found.costs
    assert cost.costliest_run == pytest.approx(alone(trial(), 3), rel=1e-3)
    assert cost.study == pytest.approx(alone(trial(), 9), rel=1e-3)
    assert cost.left == pytest.approx(2.0 - alone(plan(), 1), rel=1e-3)
    assert cost.left_after == pytest.approx(2.0 - alone(plan(), 10), rel=1e-3)
    assert cost.fits
    assert found.beyond_policy == ("noise_multiplier: 3, from 4",)
    assert "waits for approval" in found.waits
    assert study_preview(loud, None, trial(), 1_000, 3, frozenset()).costs == ()
    with pytest.raises(Refused):
        study_preview(loud, None, plan(), 1_000, 3, frozenset())


def test_noise_inside_a_sum_is_reserved_with_its_rounding_so_that_its_runs_are_covered(budgets: Budgets) -> None:
    policy = msgspec.structs.replace(partners("partner", epsilon=20.0), studies=OPEN.studies)
    section = Study(id=ID, trials=2, costliest={"secure.noise.multiplier": 2.0})
    for run_id, multiplier in zip(RUNS, (2.5, 2.0), strict=False):
        asked = msgspec.structs.replace(noised(rounds=2, multiplier=multiplier), study=section)
        assert budgets.check(policy, "heart", asked, 1_000, {}, run_id) is None
        for round_ in (1, 2):
            made = budgets.debit(policy, "heart", asked, run_id, step(round_), 500, 1_000, 500, 500)
            assert made is not None
            made.settle(0, f"{round_:064x}")
    budgets.end_study(ID)
    assert sum(one.events[0].times for one in ledger(budgets, policy).entries.values()) == 4
    (study,) = ledger(budgets, policy).studies.values()
    (dearest,) = contribution_events(noised(multiplier=2.0).secure, 500)
    assert study.events == (msgspec.structs.replace(dearest, times=4),)


def test_a_run_on_a_larger_model_is_covered_by_what_one_on_a_smaller_model_reserved(budgets: Budgets) -> None:
    debit(budgets, trial(), RUNS[0]).settle(20, "5" * 64)
    made = budgets.debit(OPEN, "heart", trial(), RUNS[1], step(), 5_000_000, 1_000)
    assert made is not None
    made.settle(20, "6" * 64)


def test_evaluations_of_a_study_are_reserved_beside_its_training(budgets: Budgets) -> None:
    asked = measured(trial(), MetricNoise(noise_multiplier=8.0), None)
    evaluate = msgspec.structs.replace(step(), kind=StepKind.EVALUATE)
    made = budgets.debit(OPEN, "heart", asked, RUNS[0], evaluate, 500, 1_000)
    assert made is not None
    (study,) = ledger(budgets).studies.values()
    assert sorted(event.times for event in study.events) == [9, 180]


class Gone(BaseException):
    """The process is gone, or its disk is."""


class Dies:
    """A disk whose process dies at its `last` durable point; `reached_all` says that it never came so far."""

    def __init__(self, last: int) -> None:
        self.left, self.reached_all = last, True

    def reached(self, _: str) -> None:
        self.left -= 1
        if self.left == 0:
            self.reached_all = False
            raise Gone


def counted(budgets: Budgets, policy: Policy) -> int:
    state = ledger(budgets, policy)
    return sum(state.settled().values()) + sum(state.pending().values())


def lived(folder: Path, disk: Dies, policy: Policy, asked: Plan) -> int:
    """Two runs of a study of four steps, the first pruned after one, and its end; how many steps were begun."""
    held, begun = Budgets(folder / "ledgers", disk, Clock()), 0
    try:
        for run_id in RUNS[:2]:
            made = held.debit(policy, "heart", asked, run_id, step(), 500, 1_000, 500, 500)
            assert made is not None
            begun += 1
            made.settle(0, run_id * 2)
        held.end_study(ID)
    except Gone:
        disk.left = 0
    held.close()
    return begun


def test_a_death_at_any_instant_leaves_at_most_too_much_reserved_until_the_study_ends(tmp_path: Path) -> None:
    policy = msgspec.structs.replace(partners("partner", epsilon=20.0), studies=OPEN.studies)
    section = Study(id=ID, trials=2, costliest={})
    asked = msgspec.structs.replace(noised(rounds=2, multiplier=3.0), study=section)
    for last in range(1, 200):
        folder, disk = tmp_path / str(last), Dies(last)
        begun = lived(folder, disk, policy, asked)
        again = Budgets(folder / "ledgers", UNINTERRUPTED, Clock())
        if again.ledger(policy, "heart") is not None and again.open_studies():
            assert counted(again, policy) == 4
            again.end_study(ID)
        assert begun <= counted(again, policy) <= min(2, begun + 1)
        assert not any(entry.open for entry in ledger(again, policy).entries.values())
        again.close()
        if disk.reached_all:
            break
    assert last > 20
    assert begun == 2


def narrow(bits: int, costliest: dict[str, Scalar] | None = None) -> Plan:
    """A study whose sums are rounded to few bits, by which a large model costs far more than its noise says."""
    asked = noised(rounds=3, multiplier=2.0)
    assert asked.secure is not None
    section = Study(id=ID, trials=2, costliest=costliest or {})
    return msgspec.structs.replace(asked, secure=msgspec.structs.replace(asked.secure, bits=bits), study=section)


def narrow_policy(studies: Studies, budget: float = 50.0) -> Policy:
    return msgspec.structs.replace(partners("partner", epsilon=budget), studies=studies)


def narrow_approval(events: tuple[Event, ...]) -> ApprovedStudy:
    study = narrow(8).study
    assert study is not None
    return ApprovedStudy(id=ID, data_set="heart", terms=study_digest(study), events=events)


MILLION = 1_000_000


def test_a_study_in_narrow_lanes_is_held_against_what_it_will_really_reserve(budgets: Budgets) -> None:
    """8 bits and a million numbers: the noise alone would cost 5.98, and the ledger reserves 34.6."""
    policy = narrow_policy(Studies(trials=10, epsilon=8.0))
    for summed in (MILLION, None):  # with the model, and without
        waiting = budgets.check(policy, "heart", narrow(8), 1_000, {}, RUNS[0], summed)
        assert waiting is not None
        assert waiting.code == "policy.approval_pending"
    with pytest.raises(WrongState, match="waits for approval"):
        budgets.debit(policy, "heart", narrow(8), RUNS[0], step(), MILLION, 1_000, MILLION, MILLION)
    assert not ledger(budgets, policy).studies
    assert budgets.check(policy, "heart", narrow(8), 1_000, {}, RUNS[0], 500) is None  # a small model costs little
    assert budgets.check(policy, "heart", narrow(20), 1_000, {}, RUNS[0]) is None  # and wide lanes whatever model


def test_a_preview_and_an_approval_say_what_the_ledger_then_reserves(budgets: Budgets) -> None:
    policy = narrow_policy(Studies())
    shown = study_preview(policy, ledger(budgets, policy), narrow(8), 1_000, 10, frozenset({"process"}), MILLION)
    events = reserved_by(ledger(budgets, policy), narrow(8), 1_000, MILLION)
    policy = narrow_policy(Studies(approved=(narrow_approval(events),)))
    assert budgets.check(policy, "heart", narrow(8), 1_000, {}, RUNS[0], MILLION) is None
    made = budgets.debit(policy, "heart", narrow(8), RUNS[0], step(), MILLION, 1_000, MILLION, MILLION)
    assert made is not None
    (study,) = ledger(budgets, policy).studies.values()
    assert study.events == events
    (cost,) = shown.costs
    budget = made.ledger.state.budgets[0]
    assert cost.study == pytest.approx(Accountant().figure(budget.terms, study.events).epsilon)
    assert cost.study == pytest.approx(34.6, rel=1e-2)
    assert cost.costliest_run < cost.study
    again = study_preview(policy, ledger(budgets, policy), narrow(8), 1_000, 10, frozenset({"process"}))
    assert again.costs[0].study == cost.study  # it has begun: what was reserved is known without the model


def test_an_approval_that_was_made_for_a_smaller_model_holds_for_no_larger_one(budgets: Budgets) -> None:
    events = reserved_by(ledger(budgets, narrow_policy(Studies())), narrow(8), 1_000, 500)
    policy = narrow_policy(Studies(approved=(narrow_approval(events),)))
    with pytest.raises(WrongState, match="waits for approval"):
        budgets.debit(policy, "heart", narrow(8), RUNS[0], step(), MILLION, 1_000, MILLION, MILLION)


def test_what_a_study_may_cost_at_most_makes_it_wait_and_what_it_costs_at_least_refuses_it(budgets: Budgets) -> None:
    """Without the model it is not refused for the budget: a small model fits."""
    policy = narrow_policy(Studies(trials=10, epsilon=50.0), budget=10.0)
    assert budgets.check(policy, "heart", narrow(8), 1_000, {}, RUNS[0]) is not None
    with pytest.raises(Refused):
        budgets.check(policy, "heart", narrow(8), 1_000, {}, RUNS[0], MILLION)

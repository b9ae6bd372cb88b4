"""A data set's budget at the daemon: debited before the child works, settled before anything leaves, never overspent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import dp_accounting
import msgspec
import pytest
from dp_accounting import rdp

from aimass.client.budget import Budgets, budgets_of
from aimass.client.policy import Admit, AdmittedTask, DataBudget, Policy, Refuse, Release, decide, rules
from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.ledger_lines import EntryState
from aimass.privacy.dp.private_terms import training_event
from aimass.proto.clock import SystemClock
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import AimassError, BadInput, IntegrityError, Refused, WrongState
from aimass.proto.plan import (
    AnalysisNoise,
    Cohort,
    DistributedNoise,
    MetricNoise,
    Plan,
    PrivacySettings,
    SecureSettings,
    Stage,
    TrainSettings,
)
from aimass.proto.step import Step, StepKind
from tests.client.test_active_run import PLAN

RUN = "ab" * 16
POLICY = Policy(
    schemas={PLAN.data_schema: "heart"}, plain_sums=True, smallest_cohort=1,
    budgets=(DataBudget(data_set="heart", epsilon=2.0, delta=1e-5),),
)  # fmt: skip


def plan(rounds: int = 3, steps: int = 20, noise: float = 3.0) -> Plan:
    return msgspec.structs.replace(
        PLAN,
        stages=(Stage(driver="averaging", options={"rounds": rounds}),),
        train=TrainSettings(batch_size=64, learning_rate=0.1, steps=steps, weight="one"),
        privacy=PrivacySettings(noise_multiplier=noise, clip=1.0, sampling_rate=0.05, delta=1e-5, divisor=50.0),
    )


def measured(asked: Plan, metrics: MetricNoise | None, analyses: AnalysisNoise | None) -> Plan:
    assert asked.privacy is not None
    privacy = msgspec.structs.replace(asked.privacy, metrics=metrics, analyses=analyses)
    return msgspec.structs.replace(asked, privacy=privacy)


def step(round_: int = 1) -> Step:
    return Step(
        index=round_, kind=StepKind.TRAIN, round=round_, participants=("north",), inputs=("0" * 64,), quorum=1,
        deadline_s=9.0,
    )  # fmt: skip


def opened(folder: Path) -> Budgets:
    return Budgets(folder / "ledgers", UNINTERRUPTED, SystemClock())


def test_a_step_is_debited_before_it_runs_and_settled_by_what_was_done(tmp_path: Path) -> None:
    budgets = opened(tmp_path)
    debit = budgets.debit(POLICY, "heart", plan(), RUN, step(), 500, 1_000)
    assert debit is not None
    (entry,) = debit.ledger.state.entries.values()
    assert entry.state is EntryState.TRAINING
    assert entry.run_id == RUN
    assert entry.events[0].times == 20
    debit.settle(18, "5" * 64)
    (entry,) = debit.ledger.state.entries.values()
    assert (entry.state, entry.result, entry.events[0].times) == (EntryState.COMMITTED, "5" * 64, 18)
    budgets.close()


def test_evaluations_and_analyses_with_noise_are_debited_one_by_one_and_others_not_at_all(tmp_path: Path) -> None:
    def asked(kind: StepKind, purpose: str = "") -> Step:
        return msgspec.structs.replace(step(), kind=kind, purpose=purpose)

    budgets = opened(tmp_path)
    asked_for = measured(plan(), MetricNoise(noise_multiplier=8.0), AnalysisNoise(noise_multiplier=6.0))
    spent = []
    for number, what in enumerate((asked(StepKind.ANALYSE, "statistics"), asked(StepKind.EVALUATE)), 1):
        debit = budgets.debit(POLICY, "heart", asked_for, RUN, what, 500, 1_000)
        assert debit is not None
        with pytest.raises(Refused) as refused:
            debit.settle(2, "5" * 64)
        assert refused.value.code == "ledger.E_LEDGER"
        debit.settle(1, f"{number:064x}")
        spent.append(debit.ledger.standing()[0].settled.epsilon)
    assert 0 < spent[0] < spent[1]
    assert budgets.debit(POLICY, "heart", asked_for, RUN, asked(StepKind.ANALYSE, "averaging"), 500, 1_000) is None
    assert budgets.debit(POLICY, "heart", plan(), RUN, asked(StepKind.EVALUATE), 500, 1_000) is None
    budgets.close()


def test_what_a_crash_leaves_open_is_spent_in_full_at_the_next_start(tmp_path: Path) -> None:
    budgets = opened(tmp_path)
    assert budgets.debit(POLICY, "heart", plan(), RUN, step(), 500, 1_000) is not None
    budgets.close()
    again = opened(tmp_path)
    ledger = again.ledger(POLICY, "heart")
    assert ledger is not None
    (entry,) = ledger.state.entries.values()
    assert entry.state is EntryState.SPENT
    again.close()


def test_rounds_end_at_the_budget_and_the_figure_is_that_of_an_independent_computation(tmp_path: Path) -> None:
    budgets, done = opened(tmp_path), 0
    with pytest.raises(Refused) as refused:
        for number in range(1, 200):
            debit = budgets.debit(POLICY, "heart", plan(), RUN, step(number), 500, 1_000)
            assert debit is not None
            debit.settle(20, f"{number:064x}")
            done = number
    assert refused.value.code == "ledger.E_BUDGET"
    (budget,) = budgets_of(POLICY, "heart")
    accountant = Accountant()
    spent = accountant.figure(budget.terms, [training_event(plan().privacy, 20 * done, 500, 1_000)]).epsilon  # type: ignore[arg-type]
    more = accountant.figure(budget.terms, [training_event(plan().privacy, 20 * (done + 1), 500, 1_000)]).epsilon  # type: ignore[arg-type]
    assert spent <= 2.0 < more
    ledger = budgets.ledger(POLICY, "heart")
    assert ledger is not None
    assert ledger.standing()[0].settled.epsilon == pytest.approx(spent, abs=1e-6)
    budgets.close()


def test_a_step_that_is_settled_again_as_after_a_full_disk_costs_nothing_and_another_update_is_refused(
    tmp_path: Path,
) -> None:
    budgets = opened(tmp_path)
    debit = budgets.debit(POLICY, "heart", plan(), RUN, step(), 500, 1_000)
    assert debit is not None
    debit.settle(20, "5" * 64)
    head = debit.ledger.head
    debit.settle(20, "5" * 64)
    with pytest.raises(WrongState) as refused:
        debit.settle(20, "6" * 64)
    assert refused.value.code == "ledger.other_update"
    assert debit.ledger.head == head
    budgets.close()


def test_nothing_leaves_without_a_step_or_with_more_than_were_reserved(tmp_path: Path) -> None:
    budgets = opened(tmp_path)
    for steps, error, code in ((0, IntegrityError, "budget.no_steps"), (21, Refused, "ledger.E_LEDGER")):
        debit = budgets.debit(POLICY, "heart", plan(), RUN, step(), 500, 1_000)
        assert debit is not None
        with pytest.raises(error) as refused:
            debit.settle(steps, "5" * 64)
        assert refused.value.code == code
        assert debit.ledger.state.entries[debit.number].state is EntryState.TRAINING  # and counts in full
    budgets.close()


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (plan(rounds=100, steps=1_000), "ledger.E_BUDGET"),
        (
            msgspec.structs.replace(plan(), stages=(Stage(driver="averaging", options={"rounds": "all"}),)),
            "ledger.E_BUDGET",
        ),
        (plan(noise=0.3), "ledger.E_BUDGET"),
    ],
)
def test_a_plan_that_does_not_fit_as_a_whole_is_refused_before_it_begins(
    tmp_path: Path, asked: Plan, code: str
) -> None:
    budgets = opened(tmp_path)
    budgets.check(POLICY, "heart", plan(), 1_000, {})
    with pytest.raises(Refused) as refused:
        budgets.check(POLICY, "heart", asked, 1_000, {})
    assert refused.value.code == code
    budgets.close()


def test_rounds_that_were_begun_are_not_asked_for_twice(tmp_path: Path) -> None:
    budgets = opened(tmp_path)
    rounds = 0
    while True:
        try:
            budgets.check(POLICY, "heart", plan(rounds=rounds + 1), 1_000, {})
        except Refused:
            break
        rounds += 1
    assert 1 < rounds < 200
    for number in range(1, rounds):
        debit = budgets.debit(POLICY, "heart", plan(rounds=rounds), RUN, step(number), 500, 1_000)
        assert debit is not None
        debit.settle(20, f"{number:064x}")
    budgets.check(POLICY, "heart", plan(rounds=rounds), 1_000, {"train:": rounds - 1})
    with pytest.raises(Refused):
        budgets.check(POLICY, "heart", plan(rounds=rounds), 1_000, {})
    budgets.close()


def test_a_delta_above_one_in_the_number_of_rows_is_refused(tmp_path: Path) -> None:
    budgets = opened(tmp_path)
    with pytest.raises(BadInput) as refused:
        budgets.check(POLICY, "heart", plan(), 200_000, {})
    assert refused.value.code == "dp.delta"
    budgets.close()


def test_a_data_set_without_a_budget_has_no_ledger(tmp_path: Path) -> None:
    budgets = opened(tmp_path)
    assert budgets.debit(Policy(), "heart", plan(), RUN, step(), 500, 1_000) is None
    assert not (tmp_path / "ledgers").exists()


def test_two_daemons_cannot_hold_one_ledger(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    first.ledger(POLICY, "heart")
    with pytest.raises(AimassError):
        second.ledger(POLICY, "heart")
    first.close()
    assert second.ledger(POLICY, "heart") is not None
    second.close()


def renamed(ledgers: Path) -> None:
    (ledgers / "heart").rename(ledgers / "other")


def edited(ledgers: Path) -> None:
    path = ledgers / "heart" / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"round":1', b'"round":2'))


def locked(ledgers: Path) -> None:
    for path in (ledgers / "heart").iterdir():
        path.chmod(0o400)


@pytest.mark.parametrize(
    ("happens", "data_set", "code"),
    [
        (renamed, "other", "ledger.renamed"),
        (edited, "heart", "ledger.edited"),
        (locked, "heart", "ledger.read_only"),
    ],
)
def test_why_a_ledger_is_not_used_is_told_without_names_files_or_numbers_of_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, happens: Callable[[Path], None], data_set: str, code: str
) -> None:
    budgets = opened(tmp_path)
    budgets.debit(POLICY, "heart", plan(), RUN, step(), 500, 1_000)
    budgets.close()
    happens(tmp_path / "ledgers")
    again = opened(tmp_path)
    policy = msgspec.structs.replace(POLICY, budgets=(msgspec.structs.replace(POLICY.budgets[0], data_set=data_set),))
    with pytest.raises(AimassError) as told:
        again.check(policy, data_set, plan(), 1_000, {})
    assert (told.value.code, told.value.value, told.value.limit) == (code, None, None)
    assert data_set in caplog.text
    again.close()


def test_a_policy_with_a_budget_lets_in_private_plans_alone_and_no_analysis_beside_it() -> None:
    def code(policy: Policy, asked: Plan) -> str:
        found = decide(policy, asked, 3, frozenset({"process"}))
        return found.code if isinstance(found, Refuse) else type(found).__name__

    ready = msgspec.structs.replace(POLICY, tasks=(AdmittedTask(name=PLAN.task.name, digest=PLAN.task.digest),))
    assert code(ready, plan()) == Admit.__name__
    assert code(ready, msgspec.structs.replace(plan(), privacy=None)) == "policy.privacy"
    statistics = msgspec.structs.replace(plan(), stages=(Stage(driver="statistics"), *plan().stages))
    assert code(ready, statistics) == "policy.privacy_analyses"
    assert code(ready, measured(statistics, None, AnalysisNoise(noise_multiplier=4.0))) == Admit.__name__
    open_ = msgspec.structs.replace(ready, release=Release(unprotected=True))
    assert code(open_, statistics) == Admit.__name__


def for_persons(**changes: float) -> Plan:
    private = plan().privacy
    assert private is not None
    return msgspec.structs.replace(
        plan(), privacy=msgspec.structs.replace(private, unit="person", rows_per_person=4, **changes)
    )


def test_a_plan_for_persons_fits_a_budget_for_persons_as_one_for_examples_fits_one_for_examples(tmp_path: Path) -> None:
    person = msgspec.structs.replace(POLICY, budgets=(msgspec.structs.replace(POLICY.budgets[0], unit="person"),))
    spent = []
    for place, (policy, asked) in enumerate(((POLICY, plan()), (person, for_persons()), (POLICY, for_persons()))):
        budgets = opened(tmp_path / str(place))
        debit = budgets.debit(policy, "heart", asked, RUN, step(), 500, 1_000)
        assert debit is not None
        debit.settle(20, "5" * 64)
        spent.append(debit.ledger.standing()[0].settled.epsilon)
        budgets.close()
    assert spent[1] == pytest.approx(spent[0])
    assert spent[2] > 1.5 * spent[0]  # a row more is another vector in a person's place, up to twice the clip away
    budgets = opened(tmp_path / "example")
    with pytest.raises(Refused) as refused:
        budgets.debit(person, "heart", plan(), RUN, step(), 500, 1_000)
    assert refused.value.code == "ledger.no_bound"
    budgets.close()


@pytest.mark.parametrize(("asked", "stated"), [(0.011, 1e-5), (1e-5, 0.011)])
def test_deltas_of_plan_and_budget_are_held_against_the_number_of_persons(
    tmp_path: Path, asked: float, stated: float
) -> None:
    budget = DataBudget(data_set="heart", epsilon=50.0, delta=stated, unit="person")
    policy, budgets = msgspec.structs.replace(POLICY, budgets=(budget,)), opened(tmp_path)
    budgets.check(policy, "heart", for_persons(delta=asked), 90, {})
    with pytest.raises(BadInput) as refused:
        budgets.check(policy, "heart", for_persons(delta=asked), 91, {})
    assert refused.value.code == "dp.delta"
    budgets.close()


@pytest.mark.parametrize("for_whom", ["persons", "partners"])
def test_the_delta_of_a_budget_for_examples_is_held_against_their_number_whoever_the_plan_protects(
    tmp_path: Path, for_whom: str
) -> None:
    budget = DataBudget(data_set="heart", epsilon=50.0, delta=0.011)
    policy, budgets = msgspec.structs.replace(POLICY, budgets=(budget,)), opened(tmp_path)
    asked = for_persons() if for_whom == "persons" else noised(multiplier=8.0)
    budgets.check(policy, "heart", asked, 90, {})
    with pytest.raises(BadInput) as refused:
        budgets.check(policy, "heart", asked, 91, {})
    assert refused.value.code == "dp.delta"
    budgets.close()


@pytest.mark.parametrize("unit", ["example", "person"])
def test_of_files_that_nobody_counts_the_delta_of_a_budget_is_that_of_a_hundred_thousand(
    tmp_path: Path, unit: Literal["example", "person"]
) -> None:
    def stating(delta: float) -> Policy:
        budget = DataBudget(data_set="heart", epsilon=50.0, delta=delta, unit=unit)
        return msgspec.structs.replace(POLICY, budgets=(budget,))

    budgets = opened(tmp_path)
    budgets.check(stating(1e-5), "heart", noised(multiplier=8.0), 0, {})
    for delta in (1.1e-5, 0.9):
        with pytest.raises(BadInput) as refused:
            budgets.check(stating(delta), "heart", noised(multiplier=8.0), 0, {})
        assert refused.value.code == "dp.delta"
    budgets.close()


def noised(rounds: int = 3, multiplier: float = 2.0, private: bool = False) -> Plan:
    noise = DistributedNoise(multiplier=multiplier, clip=1.0, delta=1e-5, members=10)
    return msgspec.structs.replace(
        plan(rounds),
        cohort=Cohort(quorum=9),
        secure=SecureSettings(min_cohort=9, noise=noise),
        privacy=plan().privacy if private else None,
    )


def partners(*units: str, epsilon: float = 3.0) -> Policy:
    budgets = tuple(DataBudget(data_set="heart", epsilon=epsilon, delta=1e-5, unit=unit) for unit in units)  # type: ignore[arg-type]
    return msgspec.structs.replace(POLICY, budgets=budgets)


def renyi(rounds: int, sigma: float, doubled: bool = False) -> float:
    """By the library itself: so many Gaussians, or of twice the sensitivity."""
    accountant = rdp.RdpAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(sigma / (2 if doubled else 1)), rounds)
    return float(accountant.get_epsilon(1e-5))


@pytest.mark.parametrize("private", [False, True])
def test_rounds_with_noise_inside_the_sum_end_at_the_budget_for_a_partner(tmp_path: Path, private: bool) -> None:
    """The child did no private step, or some: the noise is the gate's."""
    budgets, done, policy = opened(tmp_path), 0, partners("partner")
    with pytest.raises(Refused) as refused:
        for number in range(1, 100):
            debit = budgets.debit(policy, "heart", noised(private=private), RUN, step(number), 500, 1_000)
            assert debit is not None
            debit.settle(20 if private else 0, f"{number:064x}")
            done = number
    assert refused.value.code == "ledger.E_BUDGET"
    assert renyi(done, 2.0) <= 3.0 < renyi(done + 1, 2.0)
    ledger = budgets.ledger(policy, "heart")
    assert ledger is not None
    assert ledger.standing()[0].settled.epsilon == pytest.approx(renyi(done, 2.0), rel=1e-3)
    budgets.close()


def test_a_budget_for_rows_counts_the_noise_at_twice_the_sensitivity(tmp_path: Path) -> None:
    budgets, policy = opened(tmp_path), partners("example")
    debit = budgets.debit(policy, "heart", noised(multiplier=8.0), RUN, step(), 500, 1_000)
    assert debit is not None
    debit.settle(0, "5" * 64)
    assert debit.ledger.standing()[0].settled.epsilon == pytest.approx(renyi(1, 8.0, doubled=True), rel=1e-3)
    budgets.close()


@pytest.mark.parametrize(("stated", "refused"), [(0.1, False), (0.11, True)])
def test_the_delta_of_a_budget_for_partners_is_held_against_their_number(
    tmp_path: Path, stated: float, refused: bool
) -> None:
    budgets = opened(tmp_path)
    budget = DataBudget(data_set="heart", epsilon=50.0, delta=stated, unit="partner")
    policy = msgspec.structs.replace(POLICY, budgets=(budget,))
    if not refused:
        budgets.check(policy, "heart", noised(), 1_000, {})
    else:
        with pytest.raises(BadInput) as caught:
            budgets.check(policy, "heart", noised(), 1_000, {})
        assert caught.value.code == "dp.delta"
    budgets.close()


@pytest.mark.parametrize(
    ("unit", "asked", "admitted"),
    [
        ("partner", noised(), True),
        ("partner", noised(private=True), True),
        ("person", noised(), True),
        ("example", noised(), True),
        ("example", plan(), True),
        ("person", plan(), False),
        ("partner", plan(), False),
        ("partner", msgspec.structs.replace(noised(), secure=None), False),
    ],
)
def test_a_plan_is_admitted_where_it_has_a_bound_for_the_unit_of_the_budget(
    unit: str, asked: Plan, admitted: bool
) -> None:
    task = AdmittedTask(name=PLAN.task.name, digest=PLAN.task.digest)
    ready = msgspec.structs.replace(partners(unit), tasks=(task,))
    found = decide(ready, asked, 10, frozenset({"process"}))
    assert isinstance(found, Admit if admitted else Refuse), found
    if isinstance(found, Refuse):
        assert found.code == "policy.privacy"
        assert found.limit == f"differential privacy for each {unit}"


@pytest.mark.parametrize(
    ("unit", "asked", "holds"),
    [
        ("example", plan(), True),
        ("example", for_persons(), True),
        ("person", plan(), False),
        ("person", for_persons(), True),
        ("partner", for_persons(), False),
    ],
)
def test_a_budget_is_for_its_unit_and_smaller_ones_and_the_rule_says_so(
    unit: Literal["example", "person", "partner"], asked: Plan, holds: bool
) -> None:
    budgets = (msgspec.structs.replace(POLICY.budgets[0], unit=unit),)
    found = rules(msgspec.structs.replace(POLICY, budgets=budgets), asked, 3, frozenset())
    (rule,) = (each for each in found if each.name == "privacy")
    assert rule.holds is holds
    assert rule.limit == f"differential privacy for each {unit}"
    assert asked.privacy is not None
    assert rule.value == f"each {asked.privacy.unit}, noise 3"

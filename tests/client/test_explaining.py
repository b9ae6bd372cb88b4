"""Explanations at a partner: what the policy lets in, what the gate keeps back, what is shown and what it costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.client.budget import Budgets
from aimass.client.explain_policy import Explain
from aimass.client.explaining import explained, explained_privately
from aimass.client.learning import learning
from aimass.client.policy import Admit, AdmittedTask, DataBudget, Pending, Policy, Refuse, Release, decide, rules
from aimass.client.preview import first_step, preview_of, unnoised
from aimass.client.release import Facts, check_allowed, release
from aimass.client.small_counts import withheld_cells
from aimass.client.tasks.heart import task
from aimass.client.trainee import Trainee
from aimass.client.worker_protocol import order_of
from aimass.privacy.dp.ledger_lines import EntryState
from aimass.privacy.dp.private_terms import explanation_noise, planned_events, step_events
from aimass.privacy.dp.streams import NoiseStream
from aimass.proto.analysis import Analysis, AtPartner, Summed
from aimass.proto.asking import approved, ask_of, phase_in
from aimass.proto.asks import EXPLAIN, Ask, Cells, Phase
from aimass.proto.clock import SystemClock
from aimass.proto.contribution import Contribution, Group, decode_contribution
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import BadInput, Refused
from aimass.proto.plan import AnalysisNoise, Plan, planned_steps
from aimass.proto.step import StepKind
from aimass.proto.task import locate
from aimass.proto.tensors import Array, Blob, encode_numpy
from tests.support.explanations import SECURE, asked, hospital_shards

ALL = frozenset(("process", "files", "network", "calls"))
SHARD = hospital_shards()[0]


def policy(plan: Plan, **release_: object) -> Policy:
    assert plan.explain is not None
    return Policy(
        schemas={"heart/1": "heart"},
        plain_sums=True,
        tasks=(
            AdmittedTask(name="heart", digest=locate("heart").digest),
            AdmittedTask(name=plan.explain.name, digest=plan.explain.digest, kind="analysis"),
        ),
        release=msgspec.convert({"analyses": (EXPLAIN,), **release_}, Release),
        explain=Explain(plain=True),
    )


def test_an_analysis_runs_by_its_digest_where_the_policy_lets_explanations_leave() -> None:
    plan, _ = asked("confusion", least=5)
    assert isinstance(decide(policy(plan), plan, 4, ALL), Admit)
    none = msgspec.structs.replace(policy(plan), tasks=policy(plan).tasks[:1])
    waits = decide(none, plan, 4, ALL)
    assert isinstance(waits, Pending)
    assert (waits.name, waits.reason.partition(" waits")[0][:18]) == ("confusion", "analysis confusion")
    as_task = msgspec.structs.replace(policy(plan).tasks[1], kind="task")
    assert isinstance(decide(msgspec.structs.replace(none, tasks=(*none.tasks, as_task)), plan, 4, ALL), Pending)
    refused = decide(msgspec.structs.replace(policy(plan), release=Release()), plan, 4, ALL)
    assert isinstance(refused, Refuse)
    assert refused.code == "policy.analyses"


def test_a_plan_that_would_let_smaller_cells_leave_is_refused_unless_it_has_noise() -> None:
    plan, _ = asked("confusion", least=4)
    refused = decide(policy(plan), plan, 4, ALL)
    assert isinstance(refused, Refuse)
    assert (refused.code, refused.value, refused.limit) == ("policy.analysis_least_count", "4", "from 5")
    noised, _ = asked("confusion", least=4, noise=1.0)
    assert isinstance(decide(policy(noised), noised, 4, ALL), Admit)


def test_plain_sums_leave_where_the_policy_says_so_and_of_a_search_never() -> None:
    """Boxes and slices lie in each other, so that two steps tell of the rows between them."""
    for name, secure, noise, plain, code in (
        ("confusion", None, 0.0, False, "explain_plain"),
        ("confusion", None, 0.0, True, ""),
        ("confusion", SECURE, 0.0, False, ""),
        ("confusion", None, 1.0, False, ""),
        ("prim", None, 0.0, True, "explain_repeated"),
        ("slices", None, 0.0, True, "explain_repeated"),
        ("slices", SECURE, 0.0, False, ""),
        ("slices", None, 4.0, False, ""),
    ):
        plan, model = asked(name, secure=secure, noise=noise, least=5)
        kept = msgspec.structs.replace(policy(plan), explain=Explain(plain=plain))
        decided, step = decide(kept, plan, 4, ALL), first_step(plan, "cleveland")
        if not code:
            assert isinstance(decided, Admit)
            check_allowed(plan, step, kept)
            continue
        assert isinstance(decided, Refuse)
        assert decided.code == f"policy.{code}"
        assert "secure sums or noise" in decided.limit
        with pytest.raises(Refused, match="in secure sums or with noise alone") as caught:
            release(memoryview(b""), plan, step, Blob(model).layout, kept)
        assert caught.value.code == "release.mechanism"


def test_a_search_without_noise_counts_groups_where_the_policy_says_so() -> None:
    for name, group, noise, code in (
        ("prim", 1, 0.0, "policy.explain_group"),
        ("slices", 4, 0.0, "policy.explain_group"),
        ("prim", 5, 0.0, ""),
        ("prim", 1, 20.0, ""),
        ("confusion", 1, 0.0, ""),
    ):
        plan, _ = asked(
            name, {"group": group} if group > 1 else {}, secure=None if noise else SECURE, noise=noise, least=5
        )
        kept = msgspec.structs.replace(policy(plan), explain=Explain(smallest_group=5))
        decided = decide(kept, plan, 4, ALL)
        assert isinstance(decided, Refuse if code else Admit)
        if isinstance(decided, Refuse):
            assert (decided.code, decided.value, decided.limit) == (code, str(group), "from 5")
            with pytest.raises(Refused, match="groups of more rows"):  # also where the policy came later than the run
                check_allowed(plan, first_step(plan, "cleveland"), kept)
        else:
            check_allowed(plan, first_step(plan, "cleveland"), kept)
    with pytest.raises(BadInput, match="asks each of its tables once"):
        asked("confusion", {"group": 5})


def test_what_two_steps_of_a_search_may_differ_by_is_said_before_it_joins() -> None:
    for options, words in (
        ({}, "two steps may differ by 1 of them, which tells of it"),
        ({"group": 7}, "by 7 of them"),
    ):
        plan, _ = asked("prim", options, secure=SECURE)
        assert words in " ".join(learning(plan, policy(plan), 4).could_learn)


def test_noise_stands_for_secret_sums_once_it_hides_a_row_in_all_steps_together() -> None:
    budget = DataBudget(data_set="heart", epsilon=3.0, delta=1e-5)
    for name, noise, code in (("confusion", 0.9, "explain_noise"), ("permutation", 1.4, "explain_noise"),
                              ("confusion", 1.0, ""), ("permutation", 1.5, "")):  # fmt: skip
        plan, _ = asked(name, noise=noise)
        decided = decide(policy(plan), plan, 4, ALL)
        assert isinstance(decided, Refuse if code else Admit)
        if isinstance(decided, Refuse):
            assert decided.code == f"policy.{code}"
        paid = msgspec.structs.replace(policy(plan), budgets=(budget,))  # which says itself how much is enough
        assert all(rule.name != "explain_noise" for rule in rules(paid, plan, 4, ALL))


def test_a_data_set_with_a_budget_asks_for_noise() -> None:
    budget = DataBudget(data_set="heart", epsilon=3.0, delta=1e-5)
    for noise, holds in ((0.0, False), (2.0, True)):
        plan, _ = asked("confusion", least=5, noise=noise)
        kept = msgspec.structs.replace(policy(plan), budgets=(budget,))
        (rule,) = (rule for rule in rules(kept, plan, 4, ALL) if rule.name == "privacy_analyses")
        assert rule.holds is holds


def test_what_an_explanation_tells_is_said_before_it_joins() -> None:
    plan, _ = asked("confusion", least=5)
    told = " ".join(learning(plan, policy(plan), 4).could_learn)
    assert "the analysis confusion: in 1 steps sums over its held-out rows" in told
    assert "of no fewer than 5 rows here" in told
    noised, _ = asked("confusion", noise=2.0)
    assert "with noise of 2 times what one row can change" in " ".join(learning(noised, policy(noised), 4).could_learn)


PHASE = Phase(
    cells=(
        Cells(name="rows", counts=True),
        Cells(name="cells", shape=(2, 3), counts=True, tables=1),
        Cells(name="sums", shape=(2, 3, 2), of="cells", row_norm=1.0),
    )
)


def made(rows: float, cells: Sequence[Sequence[float]]) -> Contribution:
    counts = np.array(cells, np.float64)
    sums = np.ones((2, 3, 2)) * counts[:, :, None]
    return Contribution({EXPLAIN: Group(1.0, {"rows": np.array(float(rows)), "cells": counts, "sums": sums})}, {}, {})


def test_each_table_loses_its_own_small_cells_and_their_sums() -> None:
    kept = withheld_cells(made(30, [[10, 20, 0], [2, 8, 20]]), PHASE, 5, 30).groups[EXPLAIN].tensors
    # Of the second table 2 rows would follow from the others, so that the 8 stay as well.
    np.testing.assert_array_equal(kept["cells"], [[10, 20, 0], [0, 0, 20]])
    np.testing.assert_array_equal(kept["sums"][..., 0], kept["cells"])
    assert kept["rows"] == 30


def test_a_partner_with_two_rows_tells_nothing() -> None:
    kept = withheld_cells(made(2, [[1, 1, 0], [2, 0, 0]]), PHASE, 5, 2).groups[EXPLAIN].tensors
    assert not any(one.any() for one in kept.values())


def test_the_gate_holds_a_contribution_to_the_plans_shapes_and_policy() -> None:
    plan, model = asked("confusion", {"bins": 10}, least=5)
    step, layout, analysis = first_step(plan, "cleveland"), Blob(model).layout, approved_in(plan)
    whole = explained(analysis, ask_of(plan), 0, task, SHARD, [Blob(model)])
    facts = Facts(rows=len(SHARD.train.labels), held_out_rows=len(SHARD.held_out.labels))
    released = release(memoryview(whole.encode()), plan, step, layout, policy(plan, smallest_count=9), facts=facts)
    left = decode_contribution(Blob(b"".join(released.parts))).groups[EXPLAIN].tensors
    assert not ((left["cells"] > 0) & (left["cells"] < 9)).any()
    assert (left["cells"] >= 9).any()
    with pytest.raises(Refused, match="does not release this analysis"):
        release(memoryview(whole.encode()), plan, step, layout, Policy(plain_sums=True), facts=facts)
    other = dataclasses.replace(whole, groups={EXPLAIN: Group(1.0, {"cells": np.zeros((1, 10, 2))})})
    with pytest.raises(BadInput, match="lacks tensors"):
        release(memoryview(other.encode()), plan, step, layout, policy(plan), facts=facts)
    later = msgspec.structs.replace(step, round=1, inputs=(*step.inputs, "1" * 64))
    with pytest.raises(BadInput, match="no such step"):
        phase_in(plan, later)
    with pytest.raises(BadInput, match="other inputs"):
        phase_in(plan, msgspec.structs.replace(step, inputs=later.inputs))


def approved_in(plan: Plan) -> Analysis:
    assert plan.explain is not None
    return approved(plan.explain, ask_of(plan))


class Lying:
    """An analysis whose sums are given."""

    name = "lying"

    def __init__(self, sums: Mapping[str, Array]) -> None:
        self._sums = sums

    def check(self, ask: Ask) -> None:
        pass

    def phases(self, ask: Ask) -> tuple[Phase, ...]:
        return (PHASE,)

    def compute(self, ask: Ask, number: int, at: AtPartner) -> Mapping[str, Array]:
        return self._sums

    def next(self, ask: Ask, found: Sequence[Summed]) -> None:
        pass


def test_sums_that_are_not_the_phases_never_come_to_the_gate() -> None:
    good = dict(made(30, [[10, 20, 0], [2, 8, 20]]).groups[EXPLAIN].tensors)
    ask, blob = Ask(schema=task.schema), Blob(task.first(0))
    assert explained(Lying(good), ask, 0, task, SHARD, [blob]).groups[EXPLAIN].tensors["rows"] == 30
    with pytest.raises(BadInput, match="counts no whole rows"):
        explained(Lying(good | {"rows": np.array(0.5)}), ask, 0, task, SHARD, [blob])
    with pytest.raises(BadInput, match="other columns"):
        columns = task.schema.columns[:-1]
        explained(
            Lying(good), Ask(schema=msgspec.structs.replace(task.schema, columns=columns)), 0, task, SHARD, [blob]
        )


class Noting(Lying):
    """An analysis that remembers by how many rows its steps were to differ."""

    asked_for = 0

    def compute(self, ask: Ask, number: int, at: AtPartner) -> Mapping[str, Array]:
        self.asked_for = at.least
        return super().compute(ask, number, at)


def test_groups_are_asked_for_where_there_is_no_noise_and_there_alone() -> None:
    """In a group one row more moves others, and adds more than noise is made for."""
    noting = Noting(dict(made(30, [[10, 20, 0], [2, 8, 20]]).groups[EXPLAIN].tensors))
    ask, blob = Ask(schema=task.schema), Blob(task.first(0))
    explained(noting, ask, 0, task, SHARD, [blob], 5)
    assert noting.asked_for == 5
    explained_privately(noting, ask, 0, task, SHARD, [blob], AnalysisNoise(noise_multiplier=1.0), NoiseStream())
    assert noting.asked_for == 1


def test_noise_is_unbiased_and_as_large_as_it_says_on_every_tensor() -> None:
    cells = (Cells(name="rows", counts=True), Cells(name="sums", shape=(4_000,), of="rows", row_norm=50.0))
    phase = Phase(cells=cells)

    class Wide(Lying):
        def phases(self, ask: Ask) -> tuple[Phase, ...]:
            return (phase,)

    sums = {"rows": np.array(7.0), "sums": np.linspace(-100.0, 100.0, 4_000)}
    setting, ask = AnalysisNoise(noise_multiplier=0.5), Ask(schema=task.schema)
    noisy = explained_privately(Wide(sums), ask, 0, task, SHARD, [Blob(task.first(0))], setting, NoiseStream())
    off = noisy.groups[EXPLAIN].tensors["sums"] - sums["sums"]
    deviation = phase.deviation(cells[1], 0.5)
    assert deviation == pytest.approx(0.5 * np.sqrt(2) * 50)
    assert off.std() == pytest.approx(deviation, rel=0.06)
    assert abs(off.mean()) < 4 * deviation / np.sqrt(4_000)


def test_a_noised_explanation_is_priced_once_a_phase_and_never_below_its_noise() -> None:
    plan, _ = asked("permutation", noise=2.0)
    assert plan.explain is not None
    assert planned_steps(plan, StepKind.ANALYSE, EXPLAIN) == 2
    assert sum(event.times for event in planned_events(plan, None, 300)) == 2
    (event,) = step_events(plan, StepKind.ANALYSE, 0, 300, purpose=EXPLAIN)
    setting = AnalysisNoise(noise_multiplier=2.0)
    assert all(event.mechanism.sigma <= explanation_noise(setting, phase).accounted for phase in plan.explain.phases)  # type: ignore[union-attr]
    plain, _ = asked("permutation")
    assert step_events(plain, StepKind.ANALYSE, 0, 300, purpose=EXPLAIN) == ()


def test_each_step_is_debited_before_its_rows_are_read_and_settled_by_the_noise_that_was_drawn(tmp_path: Path) -> None:
    plan, model = asked("confusion", noise=2.0)
    budgeted = msgspec.structs.replace(policy(plan), budgets=(DataBudget(data_set="heart", epsilon=3.0, delta=1e-5),))
    budgets, step = Budgets(tmp_path / "ledgers", UNINTERRUPTED, SystemClock()), first_step(plan, "cleveland")
    debit = budgets.debit(budgeted, "heart", plan, "ab" * 16, step, 500, 300)
    assert debit is not None
    done = Trainee(task).do(order_of(plan, step, "cleveland"), SHARD, [Blob(model)], b"")
    assert done.private_steps == 1
    debit.settle(done.private_steps, "5" * 64)
    (entry,) = debit.ledger.state.entries.values()
    assert (entry.state, entry.events) == (
        EntryState.COMMITTED,
        step_events(plan, StepKind.ANALYSE, 0, 300, purpose=EXPLAIN),
    )
    facts = Facts(accounted=True, held_out_rows=len(SHARD.held_out.labels))
    made, layout = memoryview(done.contribution.encode()), Blob(model).layout
    assert (
        release(made, plan, step, layout, budgeted, private_steps=1, facts=facts)
        .mechanisms[0]
        .startswith("noised explain")
    )
    with pytest.raises(Refused, match="not as private as the plan"):
        release(made, plan, step, layout, budgeted, private_steps=0, facts=facts)
    plain, _ = asked("confusion", least=5)
    with pytest.raises(Refused, match="the analysis carries no noise"):
        release(made, plain, step, layout, budgeted, facts=facts)
    budgets.close()


def test_a_preview_is_what_would_leave_with_the_size_of_the_noise_beside_it() -> None:
    plan, model = asked("permutation", {"shuffles": 2}, least=5)
    whole = explained(approved_in(plan), ask_of(plan), 0, task, SHARD, [Blob(model)])
    rows = len(SHARD.held_out.labels)
    shown = preview_of(plan, whole, rows, policy(plan))
    left = withheld_cells(whole, approved_in(plan).phases(ask_of(plan))[0], 5, rows).groups[EXPLAIN].tensors
    assert {one.name: one.numbers for one in shown.sums} == {name: tuple(one.ravel()) for name, one in left.items()}
    assert shown.sums[0].stay_here > 0
    assert shown.then[0].startswith("1 step: rows []")
    noised, _ = asked("permutation", {"shuffles": 2}, noise=2.0)
    (first, *_) = preview_of(noised, whole, rows, policy(noised)).sums
    assert first.stay_here == 0
    assert first.noise > 0
    assert unnoised(noised).privacy is None
    with pytest.raises(Refused, match="explains nothing"):
        unnoised(msgspec.structs.replace(plan, explain=None))


def test_later_steps_are_rehearsed_on_the_own_sums_in_place_of_the_federations() -> None:
    """Through the child's own code: what would leave of the second step, were this partner alone."""
    plan, model = asked("permutation", {"shuffles": 2}, least=5)
    order, trainee = order_of(plan, first_step(plan, "cleveland"), "cleveland"), Trainee(task)

    def step(number: int) -> Contribution:
        one = msgspec.structs.replace(order, number=number, rehearsal=True)
        return decode_contribution(Blob(trainee.do(one, SHARD, [Blob(model)], b"").contribution.encode()))

    first, second = step(0), step(1)
    assert step(2).groups == {}  # the analysis has no third
    analysis, ask = approved_in(plan), ask_of(plan)
    own = Summed(first.groups[EXPLAIN].tensors, ("cleveland",))
    inputs = Blob(encode_numpy(dict(analysis.next(ask, [own]) or {})))
    whole = explained(analysis, ask, 1, task, SHARD, [Blob(model), inputs])
    for name, one in whole.groups[EXPLAIN].tensors.items():
        np.testing.assert_array_equal(second.groups[EXPLAIN].tensors[name], one)
    rows = len(SHARD.held_out.labels)
    shown = preview_of(plan, first, rows, policy(plan), [second])
    (later,) = shown.later
    left = withheld_cells(whole, analysis.phases(ask)[1], 5, rows).groups[EXPLAIN].tensors
    assert {one.name: one.numbers for one in later} == {name: tuple(one.ravel()) for name, one in left.items()}
    again = step(0).groups[EXPLAIN].tensors["marginals"]  # it begins anew
    np.testing.assert_array_equal(again, first.groups[EXPLAIN].tensors["marginals"])

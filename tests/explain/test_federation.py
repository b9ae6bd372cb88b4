"""A question to a federation: the plan that asks it, and the answer with who is counted and what was left out."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.client.tasks.heart import task
from aimass.explain.federated.confusion import ConfusionOptions, FederatedConfusion
from aimass.explain.federated.permutation import PermutationOptions
from aimass.explain.federated.prim import FederatedPrimOptions
from aimass.explain.federated_cli import _background
from aimass.explain.federation import Terms, federated_views, found_in, plan_of, view_named
from aimass.explain.models import model_of_task
from aimass.proto.analysis import AtPartner
from aimass.proto.asking import ask_of
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.plan import Plan, SecureSettings
from aimass.proto.statistics import Statistics
from aimass.proto.step import StepKind
from aimass.proto.tensors import Blob
from aimass.proto.values import Value
from aimass.proto.views import ParticipantState, ParticipantView, RunState, RunSummary, RunView, SlotState, StepView
from tests.support.explanations import HOSPITALS, hospital_shards, pooled, run_phases
from tests.support.explanations import found_in as summed_in

MODEL = task.first(3)
OPEN = Terms(plain=True, least_count=1)
BINS = ConfusionOptions()


def planned(name: str = "confusion", options: Value = BINS, terms: Terms = OPEN) -> Plan:
    return plan_of(name, "heart", task.schema, MODEL, options, terms)


def viewed(plan: Plan, phases: list[Statistics], state: RunState = RunState.FINISHED, absent: str = "") -> RunView:
    """The run, as a server shows it."""
    summary = RunSummary(
        run_id="ab" * 16, name=plan.name, task="heart", state=state, reason="", round=0, rounds=0, partners=4,
        created_at=0.0, ended_at=1.0, model=plan.model, owner="sam",
    )  # fmt: skip
    steps = tuple(
        StepView(
            index=number, kind=StepKind.ANALYSE, round=number, purpose="explain", state="committed", opened_at=0.0,
            deadline_at=1.0, slots=dict.fromkeys(HOSPITALS, SlotState.COUNTED), committed_at=1.0, statistics=one,
            reasons={absent: "step.late: too late"} if absent and number == len(phases) - 1 else {},
        )
        for number, one in enumerate(phases)
    )  # fmt: skip
    return RunView(
        summary=summary, plan=plan, plan_digest="0" * 64, participants=(), steps=steps, disk_bytes=0,
        transcript_entries=0, transcript_head="",
    )  # fmt: skip


def model() -> object:
    return model_of_task(task, Blob(MODEL), name="heart", digest=Blob(MODEL).digest, run="cd" * 16, round_=2)


def test_the_answer_reads_as_one_over_all_rows_and_names_who_is_counted(tmp_path: Path) -> None:
    plan = planned()
    result = found_in(viewed(plan, run_phases(plan, MODEL, tmp_path)), model())  # type: ignore[arg-type]
    assert isinstance(result, FederatedConfusion)
    labels = pooled(hospital_shards()).labels
    assert result.lineage.rows == result.rows == len(labels)
    assert (result.lineage.partners, result.lineage.held_out, result.lineage.run) == (4, True, "cd" * 16)
    assert result.lineage.model_digest == plan.model == Blob(MODEL).digest
    assert result.lineage.data == f"heart/1 at {', '.join(HOSPITALS)}"
    assert FederatedConfusion.from_json(result.to_json()) == result


@pytest.mark.parametrize("name", ["confusion", "permutation", "ale", "pdp", "prim", "slices"])
def test_whatever_is_asked_the_answer_says_how_many_rows_it_is_over(name: str, tmp_path: Path) -> None:
    """Not how many its last box holds, nor how often rows were drawn."""
    plan = planned(name, view_named(name).options(), Terms(least_count=1))
    result = found_in(viewed(plan, run_phases(plan, MODEL, tmp_path)), model())  # type: ignore[arg-type]
    assert result.lineage.rows == len(pooled(hospital_shards()).labels)


def test_where_every_partner_has_too_few_rows_there_is_no_answer(tmp_path: Path) -> None:
    """Nothing summed reads as masks that agree, and as curves that are flat."""
    plan = planned(terms=Terms(least_count=1_000))
    with pytest.raises(NotFound, match=r"0 held-out rows of 4 partners.*1000 rows at one partner"):
        found_in(viewed(plan, run_phases(plan, MODEL, tmp_path, least=1_000)), model())  # type: ignore[arg-type]


def test_who_was_lost_between_two_steps_is_said(tmp_path: Path) -> None:
    plan = planned("permutation", PermutationOptions(shuffles=1))
    phases = run_phases(plan, MODEL, tmp_path, lost={1: ("hungarian",)})
    result = found_in(viewed(plan, phases, absent="hungarian"), model())  # type: ignore[arg-type]
    assert result.lineage.partners == 3
    shy = ParticipantView(partner="shy", state=ParticipantState.DECLINED, connected=True, reason="policy.tasks: no")
    view = msgspec.structs.replace(viewed(plan, phases, absent="hungarian"), participants=(shy,))
    assert "shy takes no part: policy.tasks: no." in found_in(view, model()).caveats  # type: ignore[arg-type]
    assert "hungarian is not counted: step.late: too late." in result.caveats
    assert any(line.startswith("Step 0 was over the rows of cleveland, hungarian") for line in result.caveats)


def test_what_stays_at_partners_and_what_rounding_did_is_said(tmp_path: Path) -> None:
    plan = planned(terms=Terms(quorum=3))
    result = found_in(viewed(plan, run_phases(plan, MODEL, tmp_path, least=5)), model())  # type: ignore[arg-type]
    assert any("fewer than 5 rows" in line for line in result.caveats)
    assert any("Secure aggregation rounded" in line for line in result.caveats)
    noised = planned(terms=Terms(plain=True, noise=1.0))
    told = found_in(viewed(noised, run_phases(noised, MODEL, tmp_path / "noised")), model()).caveats  # type: ignore[arg-type]
    assert any("Gaussian noise" in line for line in told)
    assert not any("fewer than" in line for line in told)


def test_a_search_is_never_asked_for_in_plain_sums_and_says_what_its_steps_tell(tmp_path: Path) -> None:
    options = FederatedPrimOptions(target="label", boxes=1, support=0.3, bins=8, peel=0.3, steps=3)
    with pytest.raises(BadInput, match="few rows, which plain sums") as caught:
        planned("prim", options)
    assert caught.value.cure.startswith("Leave out --plain")
    assert planned("prim", options, Terms(plain=True, noise=20.0)).secure is None
    plan = planned("prim", options, Terms(least_count=1))
    result = found_in(viewed(plan, run_phases(plan, MODEL, tmp_path)), model())  # type: ignore[arg-type]
    assert any("boxes or slices lie in each other" in line for line in result.caveats)


def test_in_groups_a_search_goes_through_the_gate_and_says_by_how_much_its_steps_differ(tmp_path: Path) -> None:
    """What is summed is what each hospital finds of its own groups."""
    options = FederatedPrimOptions(target="label", boxes=1, support=0.2, bins=8, peel=0.3)
    plan = planned("prim", options, Terms(group=5))
    assert plan.explain is not None
    assert plan.explain.group == 5
    phases = run_phases(plan, MODEL, tmp_path, least=5)
    result = found_in(viewed(plan, phases), model())  # type: ignore[arg-type]
    assert any("two of them differ by no row of a partner or by 5 at least" in line for line in result.caveats)
    assert any("groups of at least 5 alike rows" in line for line in result.caveats)
    view = view_named("prim")
    parts = [
        view.compute(ask_of(plan), 0, AtPartner.of(task, Blob(MODEL), shard.held_out, least=5))
        for shard in hospital_shards()
    ]
    np.testing.assert_array_equal(summed_in(phases[0]).sums["levels"], sum(np.asarray(one["levels"]) for one in parts))


def test_a_run_that_did_not_finish_has_no_answer(tmp_path: Path) -> None:
    plan = planned()
    with pytest.raises(NotFound, match="given no answer"):
        found_in(viewed(plan, [], RunState.FAILED), model())  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="given no answer"):
        found_in(viewed(plan, run_phases(plan, MODEL, tmp_path), RunState.STOPPED), model())  # type: ignore[arg-type]


def test_lanes_hold_what_so_many_rows_can_add_and_no_more() -> None:
    secure = planned(terms=Terms(most_rows=1_000)).secure
    assert isinstance(secure, SecureSettings)
    assert (secure.real_bound, secure.bits, secure.min_cohort) == (1_024.0, 32, 3)
    wide = planned("permutation", PermutationOptions(), Terms(most_rows=1_000)).secure
    assert isinstance(wide, SecureSettings)
    assert np.log2(wide.real_bound) % 1 == 0
    assert wide.real_bound > 1_000 * 27.6**2  # the largest squared log loss


def test_all_installed_analyses_can_be_read_and_an_unknown_one_is_an_error() -> None:
    assert {"confusion", "shapley", "permutation", "ale", "pdp"} <= set(federated_views())
    for view in federated_views().values():
        assert view.asks
        assert view.options() == view.options()
    with pytest.raises(NotFound, match="no such view"):
        view_named("absent")


def test_rows_are_shared_only_with_the_place_where_they_are_published(tmp_path: Path) -> None:
    def said(background: str, says: str = "") -> argparse.Namespace:
        return argparse.Namespace(background=background, says=says, seed=1)

    assert _background(said(""), task.schema) is None
    shared = _background(said("synthetic"), task.schema)
    assert shared is not None
    assert shared.kind == "synthetic"
    with pytest.raises(BadInput, match="must be public"):
        _background(said("rows.csv"), task.schema)


def test_options_travel_as_a_plan_has_them() -> None:
    plan = planned(options=ConfusionOptions(bins=7))
    assert plan.stages[0].options["bins"] == 7
    assert plan.explain is not None
    assert {cells.name: cells for cells in plan.explain.phases[0].cells}["cells"].shape[1] >= 7
    other = msgspec.structs.replace(OPEN, rows="train")
    asked = planned(terms=other).explain
    assert asked is not None
    assert asked.rows == "train"

"""What a server may make of the replies to a step: what the plan says, of as many as the policy wants."""

from __future__ import annotations

import msgspec
import pytest

from aimass.client.step_check import check_taken_together
from aimass.proto.errors import Refused
from aimass.proto.plan import FLOWER, Plan, Stage
from aimass.proto.robust import RULES
from aimass.proto.step import Reduce, Step, StepKind
from tests.client.test_active_run import PLAN
from tests.client.test_flower_gate import PLAN as APP


def ruled(rule: str, driver: str = "averaging") -> Plan:
    """With a stage of this rule behind the statistics."""
    options: dict[str, bool | int | float | str] = {"rounds": 2, "rule": rule, "tolerated": 1}
    return msgspec.structs.replace(PLAN, stages=(PLAN.stages[0], Stage(driver=driver, options=options)))


def step(kind: StepKind = StepKind.TRAIN, purpose: str = "", quorum: int = 3) -> Step:
    return Step(
        index=0, kind=kind, purpose=purpose, round=1, participants=("a", "b", "c"), inputs=("0" * 64,), quorum=quorum,
        deadline_s=9.0, reduce=Reduce.COLLECT,
    )  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_updates_are_kept_apart_for_a_robust_rule_and_of_as_many_as_a_sum(rule: str) -> None:
    check_taken_together(ruled(rule), step(), 3)
    with pytest.raises(Refused) as caught:
        check_taken_together(ruled(rule), step(quorum=2), 3)
    assert caught.value.code == "policy.quorum"


@pytest.mark.parametrize(
    ("plan", "asked"),
    [
        (PLAN, step()),
        (ruled("mean"), step()),
        (ruled("median", driver="fednova"), step()),
        (ruled("median"), step(StepKind.EVALUATE)),
        (ruled("median"), step(StepKind.ANALYSE, "statistics")),
    ],
)
def test_nothing_else_of_a_task_is_kept_apart(plan: Plan, asked: Step) -> None:
    with pytest.raises(Refused) as caught:
        check_taken_together(plan, asked, 1)
    assert caught.value.code == "session.not_summed"


def test_an_app_may_ask_one_node_for_a_reply_of_its_own_and_sums_none_of_too_few() -> None:
    for kind, purpose in ((StepKind.QUERY, FLOWER), (StepKind.TRAIN, ""), (StepKind.EVALUATE, "")):
        alone = msgspec.structs.replace(step(kind, purpose, quorum=1), participants=("a",))
        check_taken_together(APP, alone, 3)
        with pytest.raises(Refused) as caught:
            check_taken_together(APP, msgspec.structs.replace(alone, reduce=Reduce.SUM), 3)
        assert caught.value.code == "policy.quorum"


def test_where_training_overlaps_a_plain_step_is_of_one_partner_and_the_plans_quorum_is_looked_at() -> None:
    stage = Stage(driver="fedbuff", options={"rounds": 2, "buffer": 3})
    cohort = msgspec.structs.replace(PLAN.cohort, quorum=3)
    plan = msgspec.structs.replace(PLAN, stages=(PLAN.stages[0], stage), cohort=cohort)
    alone = msgspec.structs.replace(step(quorum=1), participants=("a",), reduce=Reduce.SUM)
    check_taken_together(plan, alone, 3)
    measuring = msgspec.structs.replace(alone, kind=StepKind.EVALUATE)
    mixed = msgspec.structs.replace(plan, stages=(stage, Stage(driver="averaging", options={"rounds": 2})))
    for of, asked, least in ((plan, alone, 4), (plan, measuring, 3), (PLAN, alone, 3), (mixed, alone, 3)):
        with pytest.raises(Refused) as caught:
            check_taken_together(of, asked, least)
        assert caught.value.code == "policy.quorum"


@pytest.mark.parametrize("purpose", ["trees", "explain"])
def test_a_step_of_trees_or_of_an_explanation_has_the_same_inputs_for_all(purpose: str) -> None:
    asked = msgspec.structs.replace(step(StepKind.ANALYSE, purpose), reduce=Reduce.SUM)
    check_taken_together(PLAN, asked, 3)
    with pytest.raises(Refused) as caught:
        check_taken_together(PLAN, msgspec.structs.replace(asked, addressed={"a": ("1" * 64, "2" * 64)}), 3)
    assert caught.value.code == "session.addressed"

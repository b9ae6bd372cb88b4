"""What the server hears of an app that fails: where sums are secret or a budget guards the rows, that it failed."""

from __future__ import annotations

import msgspec
import pytest

from aimass.client.child import ChildDied, ChildFailed
from aimass.client.policy import DataBudget
from aimass.client.told import APP_FAILED, told
from aimass.proto.errors import AimassError, BadInput, DeadlinePassed, Refused, Unavailable
from aimass.proto.plan import Stage, TaskRef
from tests.client.test_flower_gate import PLAN, POLICY, SECURED

BUDGETED = msgspec.structs.replace(POLICY, budgets=(DataBudget(data_set="case", epsilon=1.0, delta=1e-5),))
CHOSEN = (
    ChildFailed("the training child failed at Miller/diabetes.py:47", code="child.Huntington"),
    ChildDied("the training child ended with exit code 47", code="child.died"),
    DeadlinePassed("the app did not reply before the step's deadline", code="child.deadline"),
    BadInput("a contribution was refused", code="contribution.not_finite"),
    Refused("a contribution does not fit the plan's lanes", code="secagg.E_OVERFLOW"),
)


@pytest.mark.parametrize("error", CHOSEN)
def test_what_an_app_chooses_of_a_fault_does_not_pass_a_secret_sum_or_a_budget(error: AimassError) -> None:
    for plan, policy in ((SECURED, POLICY), (PLAN, BUDGETED)):
        heard = told(error, plan, policy)
        assert heard.code == APP_FAILED
        assert heard.sentence() == "the app failed; the log of the partner says how."
    assert told(error, PLAN, POLICY) is error, "a plain reply leaves as the app made it anyway"
    stages = (Stage(driver="averaging", options={"rounds": 5}),)
    task = msgspec.structs.replace(SECURED, task=TaskRef(name="case", digest="1" * 64), stages=stages)
    assert told(error, task, POLICY) is error
    assert told(error, None, POLICY) is error


def test_what_policy_and_link_say_is_told_as_it_is() -> None:
    for error in (Refused("no", code="release.budget"), Unavailable("the link broke")):
        assert told(error, SECURED, BUDGETED) is error

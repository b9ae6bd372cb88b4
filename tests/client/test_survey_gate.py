"""The gate on surveys: in the plan's shapes alone, without counts of few rows, and only as the policy releases them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from aimass.client.policy import DataBudget, Policy, Release, rules
from aimass.client.release import Facts, release
from aimass.client.surveys import surveyed
from aimass.privacy.secagg.lanes import decode, from_bytes
from aimass.privacy.secagg.rounds import lanes_of
from aimass.proto.contribution import Contribution, Group, decode_contribution
from aimass.proto.errors import BadInput
from aimass.proto.plan import AnalysisNoise, Cohort, SecureSettings, Stage
from aimass.proto.step import StepKind
from aimass.proto.surveys import survey_of
from aimass.proto.tensors import Blob
from tests.client.test_gate import ALL, MODEL, PLAN, POLICY, PRIVACY, PRIVATE, SECURE, sent, step
from tests.support.surveys import batch, plan_of

COUNTED = plan_of("counts")
COUNTING = msgspec.structs.replace(POLICY, release=Release(analyses=("counts",)))


def test_the_gate_knows_how_many_rows_are_in_no_table() -> None:
    """Three rows have no age: quantiles have no cell for them, and moments a count of the others."""
    rows = batch(80, 1)
    rows.numbers[:, 0] = np.where(np.arange(80) < 3, np.nan, np.arange(80))
    for name in ("quantiles", "moments"):
        plan, policy = plan_of(name), msgspec.structs.replace(POLICY, release=Release(analyses=(name,)))
        survey, asked = survey_of(plan, name), step(StepKind.ANALYSE, name)
        made = memoryview(surveyed(survey, rows).encode())
        released = release(made, plan, asked, MODEL, policy, facts=Facts(rows=80))
        (told,) = list(decode_contribution(Blob(b"".join(released.parts))).groups[name].tensors.values())[:1]
        if name == "moments":
            assert told[0] == 0
        else:
            assert 80 - told[:20].sum() >= 5


def counted(secure: SecureSettings | None, policy: Policy, **more: object) -> dict[str, list[float]]:
    """What leaves of a survey of 30 rows, 3 of which have no age."""
    plan = msgspec.structs.replace(COUNTED, secure=secure, cohort=Cohort(quorum=3), **more)
    asked, survey = step(StepKind.ANALYSE, "counts"), survey_of(plan, "counts")
    rows = batch(30, 1)
    rows.numbers[:, 0] = np.where(np.arange(30) < 3, np.nan, 50.0)
    made = memoryview(surveyed(survey, rows).encode())
    released = release(made, plan, asked, MODEL, policy, private_steps=int("privacy" in more))
    if secure is None:
        groups = decode_contribution(Blob(b"".join(released.parts))).groups
        return {name: array.tolist() for name, array in groups["counts"].tensors.items()}
    lanes = lanes_of(plan, asked, {"counts": survey.shapes})
    sums = decode(lanes, from_bytes(lanes, released.parts[0]), 1)
    return {name: sums.total("counts", name).round().tolist() for name in survey.shapes}


@pytest.mark.parametrize("secure", [None, SECURE], ids=["plain", "secure"])
def test_counts_of_few_rows_are_told_neither_singly_nor_to_a_secure_sum(secure: SecureSettings | None) -> None:
    assert counted(secure, COUNTING)["numbers"][:2] == [0, 0]  # 27 would tell of the 3, beside the rows of the label
    least = msgspec.structs.replace(COUNTING, release=msgspec.structs.replace(COUNTING.release, smallest_count=3))
    assert counted(secure, least)["numbers"][:2] == [27, 3]


def test_counts_with_noise_are_not_touched_again() -> None:
    privacy = msgspec.structs.replace(PRIVACY, analyses=AnalysisNoise(noise_multiplier=1.0))
    assert counted(None, COUNTING, privacy=privacy)["numbers"][:2] == [27, 3]


def test_a_survey_leaves_in_the_shapes_of_the_plan_alone() -> None:
    with pytest.raises(BadInput) as caught:
        release(sent(group="counts", dtype=np.float64), COUNTED, step(StepKind.ANALYSE, "counts"), MODEL, COUNTING)
    assert caught.value.code == "contribution.tensors"
    bare = msgspec.structs.replace(COUNTED, schema=None)
    with pytest.raises(BadInput) as caught:
        release(sent(group="counts"), bare, step(StepKind.ANALYSE, "counts"), MODEL, COUNTING)
    assert caught.value.code == "plan.schema"


def test_sums_over_rows_may_be_larger_than_the_longest_update() -> None:
    made = Contribution({"statistics": Group(1.0, {"count": np.array([5e6])})}, {}, {})
    assert release(memoryview(made.encode()), PLAN, step(StepKind.ANALYSE, "statistics"), MODEL, POLICY).parts


def test_an_analysis_that_is_not_required_does_not_decide_over_a_plan() -> None:
    """Of a data set with a budget it stays here, and the run goes on."""
    budget = DataBudget(data_set="heart", epsilon=1.0, delta=1e-5)
    policy = msgspec.structs.replace(POLICY, budgets=(budget,), release=Release(analyses=("histogram",)))
    for required in (True, False):
        stage = Stage(driver="histogram", options={"required": required})
        checked = rules(policy, msgspec.structs.replace(PRIVATE, stages=(*PRIVATE.stages, stage)), 3, ALL)
        (rule,) = (rule for rule in checked if rule.name == "privacy_analyses")
        assert rule.holds is not required

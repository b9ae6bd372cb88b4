"""What leaves a partner of a Flower app: policy and gate know that it is one, and hold what they can."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

from aimass.client.policy import AdmittedTask, Policy, Release
from aimass.client.release import REPLY, Facts, release
from aimass.privacy.secagg.lanes import decode, from_bytes
from aimass.privacy.secagg.rounds import lanes_of
from aimass.proto.contribution import Contribution, Group, Metric, decode_contribution
from aimass.proto.elements import update_shapes
from aimass.proto.errors import BadInput, Refused
from aimass.proto.flower.records import EMPTY_MODEL, pack_reply, unpack_reply
from aimass.proto.plan import FLOWER, Cohort, Plan, SecureSettings, Stage, TaskRef, TrainSettings
from aimass.proto.step import Reduce, Step, StepKind
from aimass.proto.tensors import Blob, encode_numpy

PLAN = Plan(
    name="test", task=TaskRef(name="case", digest="1" * 64, kind="app"), data_schema="case/1", seed=1, model="0" * 64,
    stages=(Stage(driver=FLOWER, options={"rounds": 5}),),
    train=TrainSettings(batch_size=1, learning_rate=1.0, steps=1), cohort=Cohort(quorum=3),
)  # fmt: skip
SECURE = SecureSettings(colluders=0.1, max_weight=100, metrics=("loss",))
SECURED = msgspec.structs.replace(PLAN, secure=SECURE)
POLICY = Policy(
    schemas={"case/1": "case"}, tasks=(AdmittedTask(name="case", digest="1" * 64, kind="app"),), plain_sums=True,
    release=Release(metrics=("loss",), analyses=()),
)  # fmt: skip
MODEL = Blob(encode_numpy({"w": np.zeros(3, np.float32)})).layout
NOTHING = Blob(EMPTY_MODEL).layout


def step(kind: StepKind, *, plan: Plan = PLAN) -> Step:
    return Step(
        index=0, kind=kind, round=1, participants=("a", "b", "c"), inputs=("0" * 64, "1" * 64), quorum=3,
        purpose=FLOWER if kind is StepKind.QUERY else "", deadline_s=1.0,
        reduce=Reduce.COLLECT if plan.secure is None else Reduce.SUM,
    )  # fmt: skip


def sent(contribution: Contribution) -> memoryview:
    return memoryview(contribution.encode())


REPLIED = RecordDict(
    {"arrays": ArrayRecord({"w": Array(np.full(3, 1e9))}), "metrics": MetricRecord({"own": 3, "num-examples": 212})}
)


@pytest.mark.parametrize("kind", [StepKind.TRAIN, StepKind.EVALUATE, StepKind.QUERY])
def test_a_plain_reply_leaves_as_the_app_made_it_and_the_journal_says_so(kind: StepKind) -> None:
    released = release(sent(pack_reply(REPLIED)), PLAN, step(kind), MODEL, POLICY)
    assert unpack_reply(decode_contribution(Blob(b"".join(released.parts)))) == REPLIED
    assert released.mechanisms == (REPLY,)
    assert not released.repeatable, "an app may draw what nobody can draw again"


@pytest.mark.parametrize(
    "contribution",
    [
        Contribution({"update": Group(1.0, {"w": np.zeros(3, np.float32)})}, {}, {}),
        Contribution(pack_reply(REPLIED).groups, {"loss": Metric(1.0, 1.0)}, {}),
        Contribution(pack_reply(REPLIED).groups, {}, {"rows": 212.0}),
        Contribution({"reply": Group(1.0, {"w": np.zeros(3)})}, {}, {}),
        pack_reply(RecordDict({"arrays": ArrayRecord([np.array([np.nan])])})),
        pack_reply(RecordDict({"arrays": ArrayRecord([np.array([np.inf], np.float32)])})),
    ],
)
def test_what_is_no_reply_or_holds_no_numbers_does_not_leave(contribution: Contribution) -> None:
    with pytest.raises(BadInput):
        release(sent(contribution), PLAN, step(StepKind.TRAIN), MODEL, POLICY)


def test_a_reply_does_not_leave_for_a_plan_of_a_task_nor_of_secret_sums() -> None:
    task = msgspec.structs.replace(
        PLAN, task=TaskRef(name="case", digest="1" * 64), stages=(Stage(driver="averaging", options={"rounds": 5}),)
    )
    for plan in (task, SECURED):
        with pytest.raises(BadInput):
            release(sent(pack_reply(REPLIED)), plan, step(StepKind.TRAIN, plan=plan), MODEL, POLICY)


def test_nothing_leaves_where_the_policy_demands_secret_sums_or_the_data_set_has_a_budget() -> None:
    demanding = msgspec.structs.replace(POLICY, secure_aggregation=True)
    with pytest.raises(Refused) as caught:
        release(sent(pack_reply(REPLIED)), PLAN, step(StepKind.TRAIN), MODEL, demanding)
    assert caught.value.code == "release.mechanism"
    for kind in (StepKind.TRAIN, StepKind.EVALUATE, StepKind.QUERY):
        with pytest.raises(Refused) as caught:
            release(sent(pack_reply(REPLIED)), PLAN, step(kind), MODEL, POLICY, facts=Facts(accounted=True))
        assert caught.value.code == "release.budget"


def test_an_app_has_no_analyses() -> None:
    asked = msgspec.structs.replace(step(StepKind.QUERY), kind=StepKind.ANALYSE, purpose="statistics")
    with pytest.raises(Refused) as caught:
        release(sent(pack_reply(REPLIED)), PLAN, asked, MODEL, POLICY)
    assert caught.value.code == "release.analysis"


def test_in_secret_sums_an_apps_update_and_the_metrics_that_policy_and_plan_name_leave_as_lanes() -> None:
    update = Contribution(
        {"update": Group(10.0, {"w": np.array([0.1, 0.2, 0.3], np.float32)})},
        {"loss": Metric(5.0, 10.0), "own": Metric(3.0, 10.0)},
        {"loss": 0.5},
    )
    asked = step(StepKind.TRAIN, plan=SECURED)
    policy = msgspec.structs.replace(POLICY, release=Release(metrics=("loss",), figures=("loss",)))
    released = release(sent(update), SECURED, asked, MODEL, policy)
    assert released.beside is not None
    assert released.beside.figures == {}, "beside a sum an app shows no number of its own"
    assert released.metrics == ("loss",)
    lanes = lanes_of(SECURED, asked, {"update": update_shapes(MODEL)})
    sums = decode(lanes, from_bytes(lanes, released.parts[0]), 1)
    assert np.allclose(sums.part("update", "w", slice(None)) / sums.weight("update"), [0.1, 0.2, 0.3], atol=1e-3)


@pytest.mark.parametrize("kind", [StepKind.EVALUATE, StepKind.QUERY])
def test_in_secret_sums_of_any_other_message_numbers_alone_leave(kind: StepKind) -> None:
    numbers = Contribution({}, {"loss": Metric(5.0, 10.0)}, {})
    assert release(sent(numbers), SECURED, step(kind, plan=SECURED), NOTHING, POLICY).metrics == ("loss",)
    more = Contribution({FLOWER: Group(1.0, {"w": np.zeros(3)})}, {}, {})
    with pytest.raises(BadInput):
        release(sent(more), SECURED, step(kind, plan=SECURED), NOTHING, POLICY)

"""Personal models at a partner: made from the plan, measured, kept in the folder, and bounded by the policy."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.client import trainer
from aimass.client.child import Made
from aimass.client.meters import DaemonMeters
from aimass.client.own_layers import with_own_layers
from aimass.client.personal_cli import model_export, model_list, model_remove
from aimass.client.personal_models import PersonalModels
from aimass.client.policy import Bounds, Refuse, decide
from aimass.client.run_folder import RunFolder
from aimass.client.trainee import Trainee
from aimass.client.workbench import Workbench
from aimass.client.worker_protocol import Opened, Order, order_of
from aimass.proto.clock import SystemClock
from aimass.proto.contribution import Metric, decode_contribution
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import AimassError, BadInput, NotFound
from aimass.proto.personal import BEFORE, PERSONAL, trainings
from aimass.proto.plan import Plan, Stage, TrainSettings, planned_steps
from aimass.proto.step import StepKind
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.values import convert, decode_json
from tests.client.test_active_run import PLAN as RUNS_PLAN
from tests.client.test_active_run import POLICY as RUNS_POLICY
from tests.client.test_active_run import _Uplink
from tests.client.test_gate import AS_PRIVATE, POLICY, step
from tests.client.test_own_layers import KEEP, PLAN, START
from tests.client.test_trainer import heart, plain_task
from tests.support.partners import enrolled, opened

RUN = "ab" * 16
TUNING: dict[str, bool | int | float | str] = {"steps": 6, "learning_rate": 0.02}


def with_stage(options: dict[str, bool | int | float | str] = TUNING, plan: Plan = PLAN) -> Plan:
    return msgspec.structs.replace(plan, stages=(*plan.stages, Stage(driver="personal", options=options)))


TUNED = with_stage()


def test_a_personal_model_is_the_final_one_trained_on_with_the_stages_options() -> None:
    order = order_of(TUNED, step(StepKind.EVALUATE, PERSONAL), "a")
    assert (order.train.steps, order.train.learning_rate, order.train.batch_size) == (6, 0.02, 32)
    done = Trainee(plain_task).do(order, heart(), [START], b"")
    every = msgspec.structs.replace(order.train, keep_local=())
    made, _ = trainer.train(plain_task, heart(), START, b"", bytes.fromhex(order.seed), every)
    tuned = Blob(done.personal)
    for name, change in made.groups["update"].tensors.items():
        np.testing.assert_allclose(tuned.numpy(name), START.numpy(name) + change, atol=1e-6)
    assert done.contribution == trainer.evaluate(plain_task, heart(), tuned, TUNED.evaluate)
    assert not done.contribution.groups
    assert (done.state, done.private_steps) == (b"", 0)


def test_it_begins_with_the_own_layers_and_leaves_them_as_they_are() -> None:
    trainee, shard = Trainee(plain_task), heart()
    kept = trainee.do(order_of(TUNED, step(), "a"), shard, [START], b"").state
    done = trainee.do(order_of(TUNED, step(StepKind.EVALUATE, PERSONAL), "a"), shard, [START], kept)
    alone = trainee.do(
        order_of(TUNED, step(StepKind.EVALUATE, PERSONAL), "a"), shard, [with_own_layers(START, kept, KEEP)], b""
    )
    assert done.personal == alone.personal
    assert done.state == kept


def test_a_plan_has_room_for_two_evaluations_more_and_one_personal_stage_at_its_end() -> None:
    for purpose in (BEFORE, PERSONAL):
        assert planned_steps(TUNED, StepKind.EVALUATE, purpose) == 1
        assert planned_steps(PLAN, StepKind.EVALUATE, purpose) == 0
    assert planned_steps(TUNED, StepKind.EVALUATE, "else") == 0
    assert planned_steps(TUNED, StepKind.EVALUATE, "") == planned_steps(PLAN, StepKind.EVALUATE, "")
    assert planned_steps(TUNED, StepKind.TRAIN, "") == planned_steps(PLAN, StepKind.TRAIN, "")


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ((Stage(driver="personal"), *PLAN.stages), "the last one"),
        ((Stage(driver="personal"), Stage(driver="personal")), "the only one"),
        ((Stage(driver="personal", options={"rounds": 3}),), "rounds"),
        ((Stage(driver="personal", options={"steps": 3, "epochs": 2}),), "epochs"),
        ((Stage(driver="personal", options={"learning_rate": -1.0}),), "learning_rate"),
    ],
)
def test_personal_stages_that_cannot_be_are_refused_with_the_reason(stages: tuple[Stage, ...], words: str) -> None:
    fields = json.loads(msgspec.json.encode(PLAN)) | {"stages": json.loads(msgspec.json.encode(stages))}
    with pytest.raises(BadInput, match=words):
        convert(Plan, fields, "the plan")


def test_measures_of_models_that_were_tuned_without_noise_have_no_place_in_a_private_plan() -> None:
    with pytest.raises(ValueError, match="personal"):
        msgspec.structs.replace(with_stage(plan=msgspec.structs.replace(PLAN, **AS_PRIVATE)))


@pytest.mark.parametrize(
    ("options", "bounds", "code"),
    [
        ({"learning_rate": 0.5}, Bounds(learning_rate=0.2), "policy.learning_rate"),
        ({"steps": 50}, Bounds(steps=49), "policy.steps"),
        ({"epochs": 3}, Bounds(epochs=2), "policy.epochs"),
        ({"batch_size": 4}, Bounds(smallest_batch=8), "policy.batch_size"),
    ],
)
def test_a_policy_bounds_the_tuning_as_it_bounds_training(
    options: dict[str, bool | int | float | str], bounds: Bounds, code: str
) -> None:
    policy = msgspec.structs.replace(POLICY, bounds=bounds, smallest_cohort=1)
    levels = frozenset({"process"})
    decided = decide(policy, with_stage(options), 3, levels)
    assert isinstance(decided, Refuse)
    assert decided.code == code
    assert not isinstance(decide(policy, with_stage({"steps": 2}), 3, levels), Refuse)


def test_training_settings_of_a_stage_differ_only_where_it_says_so() -> None:
    (train, tuned) = trainings(with_stage({"epochs": 2}))
    assert train == PLAN.train
    assert tuned == msgspec.structs.replace(PLAN.train, epochs=2, steps=None)
    assert trainings(PLAN) == (PLAN.train,)
    assert isinstance(tuned, TrainSettings)


def test_a_partner_lists_and_exports_what_it_keeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = PersonalModels(tmp_path, UNINTERRUPTED)
    before = step(StepKind.EVALUATE, BEFORE)
    models.measured(RUN, TUNED, before, {"accuracy": Metric(3.0, 4.0)}, 1.0)
    assert not list(models.all())
    after = msgspec.structs.replace(before, purpose=PERSONAL)
    for _ in "ab":  # a repetition changes nothing
        models.measured(RUN, TUNED, after, {"accuracy": Metric(4.0, 4.0)}, 2.0)
        models.keep(RUN, START.data, START.layout)
    (kept,) = models.all()
    assert (kept.before, kept.after, kept.digest) == ({"accuracy": 0.75}, {"accuracy": 1.0}, START.digest)
    assert models.find("last")[0] == models.find("abab")[0] == kept
    with pytest.raises(NotFound):
        models.find("cd")
    with pytest.raises(BadInput):
        models.keep(RUN, memoryview(encode_numpy({"w": np.zeros(1)})), START.layout)
    target = tmp_path / "mine.safetensors"
    model_list(argparse.Namespace(dir=tmp_path, json=False))
    assert "0.7500 -> 1.0000" in capsys.readouterr().out
    model_export(argparse.Namespace(dir=tmp_path, json=True, run="last", path=target))
    assert decode_json(dict, capsys.readouterr().out.encode(), "what was said")["digest"] == START.digest
    assert target.read_bytes() == bytes(START.data)
    with pytest.raises(AimassError):
        model_export(argparse.Namespace(dir=tmp_path, json=True, run="cd", path=target))
    with pytest.raises(NotFound):
        model_remove(argparse.Namespace(dir=tmp_path, json=True, run="cd"))
    model_remove(argparse.Namespace(dir=tmp_path, json=True, run="abab"))
    assert decode_json(dict, capsys.readouterr().out.encode(), "what was said")["removed"] == RUN
    assert not list(models.all())
    assert list((tmp_path / "models").iterdir()) == []


class _Here:
    """A child in this process, on real rows."""

    opened = Opened(device="none", confinement=("process",), training_rows=1, held_out_rows=1)
    alive = True

    async def work(self, order: Order, inputs: Sequence[Path], state: Path, max_bytes: int) -> Made:
        blobs = [Blob(path.read_bytes()) for path in inputs]
        done = Trainee(plain_task).do(order, heart(), blobs, state.read_bytes())
        return Made(memoryview(done.contribution.encode()), memoryview(done.personal or done.state))

    async def stop(self) -> None:
        pass


async def _start(*_: object) -> _Here:
    return _Here()


def test_a_personal_stage_leaves_metrics_to_go_and_the_model_in_the_folder(tmp_path: Path) -> None:
    enrolled(tmp_path, ["north"], RUNS_POLICY)
    partner = opened(tmp_path / "north")
    folder = RunFolder(partner.folder / "state" / "runs" / RUN, UNINTERRUPTED)
    bench = Workbench(RUN, partner, folder, DaemonMeters(), _Uplink(), SystemClock(), _start)
    plan = msgspec.structs.replace(TUNED, task=RUNS_PLAN.task)
    writer = partner.cache.spool.begin(START.digest, len(START.data), START.digest)
    writer.append(START.data)
    writer.finish()
    made = {}
    for purpose in (BEFORE, PERSONAL):
        asked = msgspec.structs.replace(step(StepKind.EVALUATE, purpose), inputs=(START.digest,))
        product = asyncio.run(bench.compute(plan, asked))
        made[purpose] = decode_contribution(Blob(b"".join(product.released.parts)))
        assert not made[purpose].groups
        assert product.state == b""
    ((kept, path),) = [PersonalModels(partner.folder, UNINTERRUPTED).find("last")]
    assert kept.base == START.digest != kept.digest == Blob(path.read_bytes()).digest
    for purpose, told in ((BEFORE, kept.before), (PERSONAL, kept.after)):
        metrics = made[purpose].metrics
        assert told == {name: metric.total / metric.weight for name, metric in metrics.items()}
    assert kept.before != kept.after

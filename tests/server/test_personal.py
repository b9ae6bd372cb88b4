"""A run that ends in personal models: two evaluations, no change of the run's model, sums in secret too."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from aimass.client.tasks.heart import task
from aimass.privacy.secagg.rounds import lanes_of, purpose_of
from aimass.proto.errors import BadInput
from aimass.proto.personal import BEFORE, PERSONAL
from aimass.proto.plan import EvaluateSettings, Plan, SecureSettings, Stage, TaskRef, TrainSettings
from aimass.proto.step import Step, StepKind
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob
from aimass.server.drivers.base import Context, Done, find_driver
from aimass.server.simulate import simulate
from tests.server.test_simulate import hospitals


def plan(model: str, *stages: Stage) -> Plan:
    return Plan(
        name="p", task=TaskRef(name="heart", digest="1" * 64), data_schema="heart/1", seed=1, model=model,
        stages=(Stage(driver="statistics"), Stage(driver="averaging", options={"rounds": 4}), *stages),
        train=TrainSettings(batch_size=32, learning_rate=0.1, epochs=1), evaluate=EvaluateSettings(every=4),
    )  # fmt: skip


def test_a_personal_stage_measures_before_and_after_and_leaves_the_model_as_it_is(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    model = blobs.put([first_model(task, 1)])
    tuning = Stage(driver="personal", options={"epochs": 10, "learning_rate": 0.05})
    plain, tuned = (simulate(plan(model, *more), task, hospitals(), blobs) for more in ((), (tuning,)))
    assert tuned.model == plain.model
    *usual, before, after = tuned.evaluations
    assert [each.purpose for each in (*usual, before, after)] == ["", BEFORE, PERSONAL]
    assert before.metrics == usual[-1].metrics == plain.evaluations[-1].metrics
    assert set(after.figures) == {shard.participant for shard in hospitals()}
    assert after.metrics["loss"].total < before.metrics["loss"].total  # two hospitals differ: each does better alone


def test_the_driver_asks_twice_on_the_same_model_and_is_done() -> None:
    driver, stage = find_driver("personal"), Stage(driver="personal")
    context = Context(plan("0" * 64, stage), stage, ("a", "b"), 7)
    state = driver.start(context, "1" * 64)
    asked = []
    while not isinstance(proposed := driver.next(state, context), Done):
        (step,) = proposed
        asked.append((step.kind, step.purpose, step.inputs))
        assert driver.expects(step, Blob(first_model(task, 1)).layout, context.plan) == {}
        state = driver.receive(state, None, None, context)  # type: ignore[arg-type]
    assert asked == [(StepKind.EVALUATE, purpose, ("1" * 64,)) for purpose in (BEFORE, PERSONAL)]
    assert proposed.model == driver.model(state) == "1" * 64
    with pytest.raises(BadInput):
        driver.check(context.plan, Stage(driver="personal", options={"learning_rate": 0.0}))


def test_in_secret_it_has_the_lanes_of_an_evaluation_and_a_purpose_of_its_own() -> None:
    secure = msgspec.structs.replace(
        plan("0" * 64, Stage(driver="personal")),
        secure=SecureSettings(),
        cohort=msgspec.structs.replace(plan("0" * 64).cohort, quorum=3),
    )
    steps = [
        Step(
            index=1, kind=StepKind.EVALUATE, purpose=purpose, round=0, participants=("a", "b", "c"),
            inputs=("0" * 64,), quorum=3, deadline_s=1.0,
        )
        for purpose in ("", BEFORE, PERSONAL)
    ]  # fmt: skip
    assert len({lanes_of(secure, step, {}).digest for step in steps}) == 1
    assert [purpose_of(secure, step) for step in steps] == ["evaluate", "evaluate:before", "evaluate:personal"]

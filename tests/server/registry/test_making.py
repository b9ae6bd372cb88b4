"""A version says of its run what the run says of itself, and no more."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.privacy.dp.spending import spent_by
from aimass.proto.errors import IntegrityError, WrongState
from aimass.proto.model_manifest import ModelManifest, Reference
from aimass.proto.origin import Origin
from aimass.proto.plan import Cohort, Plan, PrivacySettings, Stage, TaskRef, TrainSettings, encode_plan, plan_digest
from aimass.proto.registry.entries import Contributors, Interval, Parent
from aimass.proto.registry.reader import Resolved
from aimass.proto.step import StepKind
from aimass.proto.tensors import Blob
from aimass.proto.values import canonical_json
from aimass.proto.views import MetricView, ModelView, RunState, RunSummary, RunView, SlotState, StepView
from aimass.server.registry.making import contributors_of, of_run, with_parent
from tests.support.registries import SCHEMA, tensors, version_of

COUNTED, LATE = SlotState.COUNTED, SlotState.LATE
MODEL, FIRST = tensors(2), tensors(1)
PLAN = Plan(
    name="study",
    task=TaskRef(name="heart", digest="0" * 64),
    data_schema="heart/1",
    schema=SCHEMA,
    seed=1,
    model=hashlib.sha256(FIRST).hexdigest(),
    stages=(Stage(driver="averaging", options={"rounds": 2}),),
    train=TrainSettings(batch_size=4, learning_rate=0.1, steps=5, weight="one"),
    cohort=Cohort(partners=("north", "south"), quorum=1),
)
PRIVATE = msgspec.structs.replace(
    PLAN, privacy=PrivacySettings(noise_multiplier=1.0, clip=1.0, sampling_rate=0.01, delta=1e-5, divisor=4.0)
)


def step(index: int, kind: StepKind, **slots: SlotState) -> StepView:
    return StepView(
        index=index,
        kind=kind,
        round=1 + index // 2,
        purpose="",
        state="committed",
        opened_at=0.0,
        deadline_at=1.0,
        slots=slots,
        committed_at=1.0,
    )


def run(plan: Plan = PLAN, state: RunState = RunState.FINISHED, origin: Origin | None = None) -> RunView:
    steps = (
        step(0, StepKind.TRAIN, north=COUNTED, south=COUNTED),
        step(1, StepKind.EVALUATE, north=COUNTED, south=COUNTED, west=COUNTED),
        step(2, StepKind.TRAIN, north=LATE, east=COUNTED),
    )
    summary = RunSummary(
        run_id="a" * 32,
        name="study",
        task="heart",
        state=state,
        reason="",
        round=2,
        rounds=2,
        partners=2,
        created_at=0.0,
        ended_at=5.0,
        model=hashlib.sha256(MODEL).hexdigest(),
        owner="anna",
    )
    return RunView(
        summary=summary,
        plan=plan,
        plan_digest=plan_digest(encode_plan(plan)),
        participants=(),
        steps=steps,
        disk_bytes=0,
        transcript_entries=3,
        transcript_head="1" * 64,
        origin=origin,
    )


def model() -> ModelView:
    return ModelView(
        digest=hashlib.sha256(MODEL).hexdigest(),
        bytes=len(MODEL),
        run_id="a" * 32,
        run_name="study",
        task="heart",
        step=2,
        round=2,
        committed_at=3.0,
        metrics={"accuracy": MetricView(mean=0.8, weight=100.0), "loss": MetricView(mean=0.5, weight=100.0)},
    )


def manifest(parameters: str = "") -> bytes:
    return canonical_json(
        ModelManifest(
            run_id="a" * 32,
            run_name="study",
            task=PLAN.task,
            data_schema="heart/1",
            schema=SCHEMA.digest,
            plan="2" * 64,
            first_model=PLAN.model,
            parameters=parameters or hashlib.sha256(MODEL).hexdigest(),
            bytes=len(MODEL),
            step=2,
            round=2,
            transcript_head="1" * 64,
            finished_at=5.0,
            metrics={"accuracy": 0.8},
            reference=Reference(reason="the plan has no stage `histogram`"),
        )
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(MODEL)
    return path


def test_a_version_holds_what_its_run_says(file: Path) -> None:
    made = of_run("heart", run(), model(), manifest(), file, SCHEMA)
    version = made.version
    assert version.metrics["loss"] == Interval(mean=0.5, rows=100.0)
    assert version.metrics["accuracy"].low == pytest.approx(0.7112, abs=1e-4)
    assert version.run is not None
    assert (version.run.rounds, version.run.transcript_head, version.run.data_set) == (2, "1" * 64, "")
    assert version.manifest is not None
    assert made.reports == {version.manifest.digest: manifest()}
    assert version.privacy.epsilon is None


def test_contributors_are_counted_where_they_trained() -> None:
    assert contributors_of(run()) == Contributors(kind="partners", members=3, fewest=1)


def test_of_an_offline_run_shards_are_counted() -> None:
    origin = Origin(data_set="adult@3", manifest="3" * 64, shards=40)
    assert contributors_of(run(origin=origin)) == Contributors(kind="shards", members=40, fewest=39)


def test_a_run_that_goes_on_is_not_published(file: Path) -> None:
    with pytest.raises(WrongState, match="has not ended"):
        of_run("heart", run(state=RunState.RUNNING), model(), manifest(), file, SCHEMA)


def test_a_manifest_of_another_model_or_schema_is_refused(file: Path) -> None:
    other = msgspec.structs.replace(SCHEMA, name="lung/1")
    for told, schema in ((manifest("9" * 64), SCHEMA), (manifest(), other), (manifest(), None)):
        with pytest.raises(IntegrityError):
            of_run("heart", run(), model(), told, file, schema)


def test_the_version_that_the_run_began_with_is_the_parent(file: Path) -> None:
    made = of_run("heart", run(), model(), manifest(), file, SCHEMA)
    first = Resolved(version_of("heart", 3, FIRST), "7" * 64, "olga")
    other = Resolved(version_of("heart", 4, tensors(9)), "8" * 64, "olga")
    assert with_parent(made, PLAN.model, [other, first]).version.parent == Parent(number=3, digest="7" * 64)
    assert with_parent(made, PLAN.model, [other]).version.parent is None


def test_what_was_spent_is_that_of_the_steps_that_were_taken() -> None:
    layout = Blob(MODEL).layout
    spent = spent_by(run(PRIVATE), layout)
    once = spent_by(msgspec.structs.replace(run(PRIVATE), steps=run().steps[:1]), layout)
    assert (spent.unit, spent.delta, spent.accountant) == ("example", 1e-5, "pld")
    assert spent.epsilon is not None
    assert once.epsilon is not None
    assert 0 < once.epsilon < spent.epsilon < 2
    assert np.isfinite(spent.epsilon)

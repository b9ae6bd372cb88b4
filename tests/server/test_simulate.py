"""A run in one process: private training too goes through the partners' own code."""

from __future__ import annotations

from pathlib import Path

import msgspec

from aimass.client.shards import Shard, open_shard
from aimass.client.tasks.heart import task
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import (
    AnalysisNoise,
    EvaluateSettings,
    MetricNoise,
    Plan,
    PrivacySettings,
    Stage,
    TaskRef,
    TrainSettings,
)
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob
from aimass.server.simulate import simulate
from tests.support.datasets import dataset

PRIVACY = PrivacySettings(noise_multiplier=1.0, clip=1.0, sampling_rate=0.2, delta=1e-5, divisor=40.0)


def hospitals() -> list[Shard]:
    shards = []
    for place in ("cleveland", "hungarian"):
        path = dataset("heart") / f"{place}.parquet"
        manifest = ShardManifest(
            name="heart", data_schema="heart/1", uris=(str(path),), format="parquet", participant=place,
            salt="00" * 32, held_out=0.3,
        )  # fmt: skip
        with path.open("rb") as file:
            shards.append(open_shard(task.schema, manifest, [file])[0])
    return shards


def test_a_simulation_of_a_private_plan_trains_privately_and_never_repeats_itself(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    plan = Plan(
        name="private", task=TaskRef(name="heart", digest="1" * 64), data_schema="heart/1", seed=1,
        model=blobs.put([first_model(task, 1)]), stages=(Stage(driver="averaging", options={"rounds": 2}),),
        train=TrainSettings(batch_size=32, learning_rate=0.1, steps=3, weight="one", momentum=0.9, keep_optimizer=True),
        evaluate=EvaluateSettings(every=0), privacy=PRIVACY,
    )  # fmt: skip
    first, second = (simulate(plan, task, hospitals(), blobs).model for _ in "ab")
    assert plan.model != first != second != plan.model


def test_a_simulation_gives_metrics_and_analyses_the_noise_that_partners_would(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    privacy = msgspec.structs.replace(
        PRIVACY, metrics=MetricNoise(noise_multiplier=1.0), analyses=AnalysisNoise(noise_multiplier=1.0)
    )
    plan = Plan(
        name="private", task=TaskRef(name="heart", digest="1" * 64), data_schema="heart/1", seed=1,
        model=blobs.put([first_model(task, 1)]),
        stages=(Stage(driver="statistics"), Stage(driver="averaging", options={"rounds": 1})),
        train=TrainSettings(batch_size=32, learning_rate=0.1, steps=1, weight="one"), privacy=privacy,
    )  # fmt: skip
    shards = hospitals()
    first, second = (simulate(plan, task, shards, blobs) for _ in "ab")
    rows = sum(len(shard.held_out.labels) for shard in shards)
    for made in (first, second):
        accuracy = made.evaluations[-1].metrics["accuracy"]
        assert accuracy.weight != rows
        assert abs(accuracy.weight - rows) < 6 * 1.0 * (2 * 40) ** 0.5
    assert first.evaluations[-1].metrics != second.evaluations[-1].metrics
    scales = [Blob(blobs.open(made.model)).numpy("preprocess.scale") for made in (first, second)]
    assert (scales[0] != scales[1]).any()

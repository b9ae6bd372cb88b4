"""A run in one process: private training too goes through the partners' own code."""

from __future__ import annotations

from pathlib import Path

from aimass.client.shards import open_shard
from aimass.client.tasks.heart import task
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import EvaluateSettings, Plan, PrivacySettings, Stage, TaskRef, TrainSettings
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.server.simulate import simulate
from tests.support.datasets import dataset

PRIVACY = PrivacySettings(noise_multiplier=1.0, clip=1.0, sampling_rate=0.2, delta=1e-5, divisor=40.0)


def test_a_simulation_of_a_private_plan_trains_privately_and_never_repeats_itself(tmp_path: Path) -> None:
    shards = []
    for place in ("cleveland", "hungarian"):
        path = dataset("heart") / f"{place}.parquet"
        manifest = ShardManifest(
            name="heart", data_schema="heart/1", uris=(str(path),), format="parquet", participant=place,
            salt="00" * 32, held_out=0.3,
        )  # fmt: skip
        with path.open("rb") as file:
            shards.append(open_shard(task.schema, manifest, [file])[0])
    blobs = FileBlobs(tmp_path)
    plan = Plan(
        name="private", task=TaskRef(name="heart", digest="1" * 64), data_schema="heart/1", seed=1,
        model=blobs.put([first_model(task, 1)]), stages=(Stage(driver="averaging", options={"rounds": 2}),),
        train=TrainSettings(batch_size=32, learning_rate=0.1, steps=3, weight="one", momentum=0.9, keep_optimizer=True),
        evaluate=EvaluateSettings(every=0), privacy=PRIVACY,
    )  # fmt: skip
    first, second = (simulate(plan, task, shards, blobs).model for _ in "ab")
    assert plan.model != first != second != plan.model

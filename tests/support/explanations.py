"""An analysis over the four hospitals, by the partners' own code and the server's driver, without processes."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec
import numpy as np

from aimass.client.policy import Policy, read_policy
from aimass.client.release import Facts, release
from aimass.client.shards import Shard, make_shard
from aimass.client.tasks.heart import task
from aimass.client.trainee import Trainee
from aimass.client.worker_protocol import order_of
from aimass.privacy.secagg.lanes import decode, from_bytes
from aimass.privacy.secagg.rounds import lanes_of
from aimass.proto.analysis import Summed
from aimass.proto.asking import phase_in
from aimass.proto.asks import EXPLAIN, Shared
from aimass.proto.contribution import decode_contribution
from aimass.proto.drafts import completed
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import AnalysisNoise, Cohort, Plan, PlanDraft, PrivacySettings, SecureSettings, Stage
from aimass.proto.plan import TrainSettings as Train
from aimass.proto.rows import Batch, read_table
from aimass.proto.statistics import PhaseSums, Statistics
from aimass.proto.step import Step
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Array, Blob
from aimass.proto.values import Scalar
from aimass.server.aggregation.models import ModelStore
from aimass.server.aggregation.sums import SpooledSums
from aimass.server.drivers.base import Context, Done, StepResult, Sums
from aimass.server.drivers.explain import driver
from aimass.server.simulation.partner import open_policy
from tests.support.datasets import dataset

__all__ = ["HOSPITALS", "SECURE", "asked", "found_in", "hospital_shards", "pooled", "run_phases", "task"]

HOSPITALS = ("cleveland", "hungarian", "long-beach", "switzerland")
SECURE = SecureSettings(min_cohort=3, colluders=0.0, bits=32, real_bound=65_536.0)


@functools.cache
def hospital_shards() -> tuple[Shard, ...]:
    """Each hospital's rows, split as its own salt has it."""
    found = []
    for name in HOSPITALS:
        manifest = ShardManifest(
            name="heart", data_schema="heart/1", uris=(f"{name}.parquet",), format="parquet", participant=name,
            salt=hashlib.sha256(name.encode()).hexdigest(),
        )  # fmt: skip
        with (dataset("heart") / f"{name}.parquet").open("rb") as file:
            found.append(make_shard(read_table(task.schema, [file], "parquet"), manifest))
    return tuple(found)


def pooled(shards: Sequence[Shard], rows: str = "held_out") -> Batch:
    """The rows of all in one place, as only a test may have them."""
    parts = [shard.held_out if rows == "held_out" else shard.train for shard in shards]
    return Batch(
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.categories for part in parts]),
        None,
        np.concatenate([part.labels for part in parts]),
    )


def asked(
    analysis: str,
    options: Mapping[str, Scalar] = MappingProxyType({}),
    *,
    model: bytes | None = None,
    shared: Shared | None = None,
    secure: SecureSettings | None = None,
    noise: float = 0.0,
    seed: int = 3,
    least: int = 1,
) -> tuple[Plan, bytes]:
    """A plan that asks this of the heart task's model, and the model; without one the task's first."""
    privacy = None if not noise else PrivacySettings(
        noise_multiplier=1.0, clip=1.0, sampling_rate=0.1, delta=1e-5, divisor=1.0,
        analyses=AnalysisNoise(noise_multiplier=noise),
    )  # fmt: skip
    draft = PlanDraft(
        name="explained", task="heart", data_schema="heart/1", seed=seed, secure=secure, privacy=privacy,
        stages=(Stage(driver=EXPLAIN, options={"analysis": analysis, "least_count": least, **options}),), cohort=Cohort(quorum=3),
        train=Train(batch_size=32, learning_rate=0.1, steps=1, weight="one"),
    )  # fmt: skip
    return completed(draft, model, shared)


def run_phases(
    plan: Plan,
    model: bytes,
    folder: Path,
    *,
    shards: Sequence[Shard] | None = None,
    least: int = 1,
    lost: Mapping[int, Collection[str]] = MappingProxyType({}),
) -> list[Statistics]:
    """What each phase came to. `lost` are the partners that bring nothing to a phase, by its number."""
    blobs, shards = FileBlobs(folder), shards or hospital_shards()
    assert blobs.put([model]) == plan.model
    policy = read_policy(open_policy(plan), "the policy")
    policy = msgspec.structs.replace(policy, release=msgspec.structs.replace(policy.release, smallest_count=least))
    (stage,), names = plan.stages, tuple(sorted(shard.participant for shard in shards))
    driver.check(plan, stage)
    trainee, found = Trainee(task), list[Statistics]()
    state = driver.start(Context(plan, stage, names, 0), plan.model)
    while not isinstance(proposed := driver.next(state, Context(plan, stage, names, len(found))), Done):
        (step,) = proposed
        inputs = [Blob(blobs.open(digest)) for digest in step.inputs]
        counted = tuple(name for name in names if name not in lost.get(len(found), ()))
        parts = [_left(plan, step, trainee, shard, inputs, policy) for shard in shards if shard.participant in counted]
        result = StepResult(step, counted, {}, _added(plan, step, parts))
        state = driver.receive(state, result, ModelStore(blobs), Context(plan, stage, names, step.index))
        found.append(msgspec.convert(msgspec.to_builtins(driver.statistics(state)), Statistics))
    return found


def found_in(statistics: Statistics) -> Summed:
    """The sums of a phase, as an analysis reads them."""
    assert isinstance(statistics.found, PhaseSums)
    sums: dict[str, Array] = {one.name: np.array(one.values).reshape(one.shape) for one in statistics.found.sums}
    return Summed(sums, statistics.found.counted)


def _left(plan: Plan, step: Step, trainee: Trainee, shard: Shard, inputs: list[Blob], policy: Policy) -> bytes:
    """What leaves a partner."""
    done = trainee.do(order_of(plan, step, shard.participant), shard, inputs, b"")
    facts = Facts(rows=len(shard.train.labels), held_out_rows=len(shard.held_out.labels))
    made = memoryview(done.contribution.encode())
    released = release(made, plan, step, inputs[0].layout, policy, private_steps=done.private_steps, facts=facts)
    return b"".join(released.parts)


def _added(plan: Plan, step: Step, parts: Sequence[bytes]) -> Sums:
    if plan.secure is None:
        return SpooledSums([decode_contribution(Blob(part)) for part in parts])
    phase = phase_in(plan, step)
    assert phase is not None
    lanes = lanes_of(plan, step, {EXPLAIN: phase.shapes})
    every = [from_bytes(lanes, part) for part in parts]
    total = np.add.reduce(every, dtype=every[0].dtype) & every[0].dtype.type((1 << lanes.bits) - 1)
    return decode(lanes, total, len(parts))

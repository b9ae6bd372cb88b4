"""Boosted trees over rows in this process: the partners' sums, the gate, plain sums or lanes, the driver."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from aimass.client.coarse import Coarseness
from aimass.client.policy import read_policy
from aimass.client.release import Facts, release
from aimass.client.shards import Shard, open_shard
from aimass.client.tasks.heart import trees as heart
from aimass.client.trainee import Trainee
from aimass.client.worker_protocol import order_of
from aimass.privacy.secagg import lanes, masks
from aimass.privacy.secagg.rounds import lanes_of
from aimass.proto.contribution import Metric, decode_contribution
from aimass.proto.manifest import Category, Number, Schema, ShardManifest
from aimass.proto.partition import iid
from aimass.proto.plan import Cohort, EarlyStop, EvaluateSettings, Plan, SecureSettings, Stage, TaskRef, TrainSettings
from aimass.proto.rows import Batch
from aimass.proto.step import Step, StepKind
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Blob
from aimass.proto.tree_task import TreeTask
from aimass.proto.trees import Ensemble, Objective, decode
from aimass.proto.values import Scalar
from aimass.server.aggregation.models import ModelStore
from aimass.server.aggregation.sums import SpooledSums, added_metrics
from aimass.server.drivers.base import Context, Done, StepResult, Sums
from aimass.server.drivers.trees import driver
from aimass.server.simulation.partner import open_policy
from tests.support.datasets import dataset

__all__ = ["SCHEMA", "SECURE", "Grove", "chance", "dealt", "edges_of", "grow", "hospitals", "plan_of", "pooled"]

SECURE = SecureSettings(max_weight=500)
SCHEMA = Schema(
    name="ward/1",
    columns=(
        Number(name="age", minimum=0.0, maximum=120.0),
        Category(name="sex", values=("f", "m")),
        Number(name="weight", minimum=0.5, maximum=250.0),
        Category(name="stage", values=("i", "ii", "iii", "iv", "v", "vi")),
    ),
    label=Category(name="outcome", values=("no", "perhaps", "yes"), required=True),
)


class Grove(TreeTask):
    """Trees over any schema, by the squared error of the label's number too."""

    def __init__(self, schema: Schema = SCHEMA, objective: Objective | None = None) -> None:
        self.schema, self._objective = schema, objective  # type: ignore[misc]

    def empty(self) -> Ensemble:
        """No trees, of the objective that was asked for."""
        if self._objective is None:
            return super().empty()
        return dataclasses.replace(super().empty(), objective=self._objective, base=np.zeros(1, np.float32))


def chance(rows: int, seed: int, labels: int = 3) -> Batch:
    """Rows of `SCHEMA` by chance, a tenth of whose cells is missing; labels follow columns, with noise."""
    rng = np.random.default_rng(seed)
    numbers = np.stack([rng.normal(60, 20, rows), rng.gamma(8, 10, rows)], axis=1).astype(np.float32)
    numbers = np.clip(numbers, [0.0, 0.5], [120.0, 250.0]).astype(np.float32)
    categories = np.stack([rng.integers(0, 2, rows), rng.integers(0, 6, rows)], axis=1)
    score = (numbers[:, 0] > 55) + np.isin(categories[:, 1], [1, 4]) + rng.normal(0, 0.4, rows)
    numbers[rng.random(numbers.shape) < 0.1] = np.nan
    categories[rng.random(categories.shape) < 0.1] = -1
    return Batch(numbers, categories, None, np.clip(np.rint(score), 0, labels - 1).astype(np.int64))


def hospitals(held_out: float = 0.0) -> list[Shard]:
    """The heart disease rows as they lie: four hospitals."""
    shards = []
    for place in ("cleveland", "hungarian", "long-beach", "switzerland"):
        path = dataset("heart") / f"{place}.parquet"
        manifest = ShardManifest(
            name="heart", data_schema="heart/1", uris=(str(path),), format="parquet", participant=place,
            salt="00" * 32, held_out=held_out,
        )  # fmt: skip
        with path.open("rb") as file:
            shards.append(open_shard(heart.schema, manifest, [file])[0])
    return shards


def pooled(batches: Sequence[Batch]) -> Batch:
    """All rows in one place."""
    return Batch(
        np.concatenate([one.numbers for one in batches]),
        np.concatenate([one.categories for one in batches]),
        None,
        np.concatenate([one.labels for one in batches]),
    )


def dealt(rows: Batch, partners: int, seed: int = 1) -> list[Shard]:
    """The rows at so many partners, at random."""
    parts = iid(len(rows.labels), partners, seed)
    return [Shard(f"p{at:02}", rows.take(part), rows.take(slice(0, 0))) for at, part in enumerate(parts)]


def plan_of(
    task: TreeTask,
    rate: float = 0.3,
    secure: SecureSettings | None = None,
    early_stop: EarlyStop | None = None,
    **options: Scalar,
) -> Plan:
    """A plan that grows trees; it evaluates where it may stop early."""
    options = {name.replace("penalty", "lambda"): value for name, value in options.items()}
    return Plan(
        name="grove", task=TaskRef(name="grove", digest="1" * 64), data_schema=task.schema.name, seed=1, model="2" * 64,
        stages=(Stage(driver="trees", options=options),), schema=task.schema, secure=secure, early_stop=early_stop,
        train=TrainSettings(batch_size=1, learning_rate=rate, steps=1, weight="one"),
        evaluate=EvaluateSettings(every=1 if early_stop else 0), cohort=Cohort(quorum=3 if secure else 1),
    )  # fmt: skip


def grow(
    plan: Plan,
    task: TreeTask,
    shards: Sequence[Shard],
    folder: Path,
    least: int = 1,
    seen: Callable[[Step, Sums], None] = lambda _step, _sums: None,
    absent: Callable[[Step], str] = lambda _: "",
    changed: Callable[[Sums], Sums] = lambda sums: sums,
) -> Ensemble:
    """The model of the plan through every partner's gate, where no count of fewer rows than `least` leaves.

    `seen` is told of each step's sums, `absent` says who brings nothing to one, and `changed` changes the sums.
    """
    blobs = FileBlobs(folder)
    plan = msgspec.structs.replace(plan, model=blobs.put([task.first(plan.seed)]))
    policy = read_policy(open_policy(plan), "the policy")
    policy = msgspec.structs.replace(policy, release=msgspec.structs.replace(policy.release, smallest_count=least))
    names, (stage,), trainee = tuple(sorted(shard.participant for shard in shards)), plan.stages, Trainee(task)
    driver.check(plan, stage)
    state, index = driver.start(Context(plan, stage, names, 0), plan.model), 0
    while not isinstance(proposed := driver.next(state, Context(plan, stage, names, index)), Done):
        (step,) = proposed
        inputs = [Blob(blobs.open(digest)) for digest in step.inputs]
        released = {}
        for shard in shards:
            if shard.participant == absent(step):
                continue
            done = trainee.do(
                order_of(plan, step, shard.participant, coarseness=Coarseness(least=least)), shard, inputs, b""
            )
            facts, made = Facts("0" * 32, rows=len(shard.train.labels)), memoryview(done.contribution.encode())
            left = release(made, plan, step, inputs[0].layout, policy, facts=facts, private_steps=done.private_steps)
            released[shard.participant] = memoryview(b"".join(left.parts))
        sums, metrics = _secret(plan, step, inputs[0], released) if plan.secure else _plain(released)
        if step.kind is StepKind.ANALYSE:
            seen(step, sums)
        result = StepResult(step, tuple(released), metrics, changed(sums) if step.round else sums)
        state = driver.receive(state, result, ModelStore(blobs), Context(plan, stage, names, index))
        index = step.index + 1
    return decode(Blob(blobs.open(proposed.model)))


def edges_of(folder: Path, steps: Sequence[Step]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The edges of the bins that trees were grown by, which the second step names."""
    return Blob(FileBlobs(folder).open(steps[1].inputs[1])).numpy("edges")


def _plain(released: dict[str, memoryview]) -> tuple[Sums, dict[str, Metric]]:
    made = [decode_contribution(Blob(released[name])) for name in sorted(released)]
    return SpooledSums(made), added_metrics(one.metrics for one in made)


def _secret(plan: Plan, step: Step, model: Blob, released: dict[str, memoryview]) -> tuple[Sums, dict[str, Metric]]:
    layout = lanes_of(plan, step, driver.expects(step, model.layout, plan))
    total = np.zeros(layout.count, masks.lane_type(layout.bits))
    for data in released.values():
        total += lanes.from_bytes(layout, data)
    masks.cut(total, layout.bits)
    sums = lanes.decode(layout, total, len(released))
    return sums, sums.metrics()

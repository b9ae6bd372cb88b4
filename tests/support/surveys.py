"""Rows of a small schema at several partners, and a survey of them through its driver without processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from aimass.client.worker_protocol import survey_in
from aimass.proto.contribution import Contribution
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.plan import AnalysisNoise, Plan, PrivacySettings, Stage, TaskRef, TrainSettings
from aimass.proto.rows import Batch
from aimass.proto.statistics import Statistics
from aimass.proto.step import Step
from aimass.proto.storage import FileBlobs
from aimass.proto.surveys import Survey
from aimass.proto.tensors import Blob, encode_numpy
from aimass.server.aggregation.models import ModelStore
from aimass.server.aggregation.sums import SpooledSums
from aimass.server.drivers.base import Context, Done, StepResult, Sums
from aimass.server.drivers.surveys import Surveyor

__all__ = ["NUMBERS", "SCHEMA", "Work", "asked", "batch", "plan_of", "pooled", "private"]

SCHEMA = Schema(
    name="ward/1",
    columns=(
        Number(name="age", minimum=0.0, maximum=120.0),
        Category(name="sex", values=("f", "m")),
        Number(name="weight", minimum=0.5, maximum=250.0),
        Category(name="stage", values=("i", "ii", "iii")),
    ),
    label=Category(name="outcome", values=("no", "yes"), required=True),
)
NUMBERS = SCHEMA.numbers
Work = Callable[[Survey, Batch, Blob | None], Contribution]


def batch(rows: int, seed: int) -> Batch:
    """Rows of chance with a mean and a share of missing cells of their own."""
    rng = np.random.default_rng(seed)
    spread = [rng.uniform(0.1, 0.2) * (column.maximum - column.minimum) for column in NUMBERS]
    numbers = np.stack(
        [
            np.clip(rng.normal(rng.uniform(0.3, 0.7) * column.maximum, width, rows), column.minimum, column.maximum)
            for column, width in zip(NUMBERS, spread, strict=True)
        ],
        axis=1,
    ).astype(np.float32)
    numbers[rng.random(numbers.shape) < 0.1] = np.nan
    categories = np.stack([rng.integers(-1, len(column.values), rows) for column in SCHEMA.categories], axis=1)
    return Batch(numbers, categories, None, rng.integers(0, 2, rows))


def pooled(batches: Sequence[Batch]) -> Batch:
    """All rows in one place."""
    return Batch(
        np.concatenate([one.numbers for one in batches]),
        np.concatenate([one.categories for one in batches]),
        None,
        np.concatenate([one.labels for one in batches]),
    )


def plan_of(name: str, **options: bool | int | float | str) -> Plan:
    """A plan with one survey."""
    return Plan(
        name="survey", task=TaskRef(name="ward", digest="1" * 64), data_schema="ward/1", seed=1, model="2" * 64,
        stages=(Stage(driver=name, options=options),), schema=SCHEMA,
        train=TrainSettings(batch_size=1, learning_rate=0.1, steps=1, weight="one"),
    )  # fmt: skip


def private(plan: Plan, multiplier: float) -> Plan:
    """With noise on its analyses."""
    privacy = PrivacySettings(
        noise_multiplier=1.0, clip=1.0, sampling_rate=0.1, delta=1e-5, divisor=1.0,
        analyses=AnalysisNoise(noise_multiplier=multiplier),
    )  # fmt: skip
    return msgspec.structs.replace(plan, privacy=privacy)


def asked(
    plan: Plan,
    batches: Sequence[Batch],
    folder: Path,
    work: Work,
    added: Callable[[Step, Sequence[Contribution]], Sums] = lambda _, made: SpooledSums(made),
) -> list[Statistics]:
    """What each step of the plan's survey came to, where partners do `work` and `added` sums it."""
    blobs = FileBlobs(folder)
    plan = msgspec.structs.replace(plan, model=blobs.put([encode_numpy({"w": np.zeros(1)})]))
    (stage,) = plan.stages
    driver, names = Surveyor(stage.driver), tuple(f"p{index}" for index in range(len(batches)))
    driver.check(plan, stage)
    found: list[Statistics] = []
    state = driver.start(Context(plan, stage, names, 0), plan.model)
    while not isinstance(proposed := driver.next(state, Context(plan, stage, names, len(found))), Done):
        (step,) = proposed
        survey = survey_in(plan, step)
        assert survey is not None
        chosen = Blob(blobs.open(step.inputs[1])) if len(step.inputs) > 1 else None
        made = [work(survey, rows, chosen) for rows in batches]
        result = StepResult(step, names, {}, added(step, made))
        state = driver.receive(state, result, ModelStore(blobs), Context(plan, stage, names, step.index))
        statistics = driver.statistics(state)
        assert statistics is not None
        found.append(statistics)
    return found

"""A plan tried with its noise and without: what the noise costs is seen, and the numbers are the plan's."""

from __future__ import annotations

import statistics

import msgspec
import numpy as np
import pytest

from aimass.client.synthetic import dealt, learnable_rows
from aimass.client.tasks.heart import task
from aimass.proto.contribution import Contribution, Group
from aimass.proto.errors import BadInput
from aimass.proto.plan import MetricNoise, PlanDraft, PrivacySettings, Stage, TrainSettings
from aimass.proto.step import Step, StepKind
from aimass.server.trial import PartnerNoise, tried, without_noise

SHARDS = dealt(learnable_rows(task.schema, 900, 1), 3, 0.3, 1)
DRAFT = PlanDraft(
    name="trial", task="heart", data_schema="heart/1", seed=1,
    stages=(Stage(driver="averaging", options={"rounds": 6}),),
    train=TrainSettings(batch_size=64, learning_rate=0.5, steps=5, weight="one"),
    privacy=PrivacySettings(noise_multiplier=1.0, clip=1.0, sampling_rate=0.2, delta=1e-4, divisor=40.0),
)  # fmt: skip


def noisy(noise: float) -> PlanDraft:
    assert DRAFT.privacy is not None
    return msgspec.structs.replace(DRAFT, privacy=msgspec.structs.replace(DRAFT.privacy, noise_multiplier=noise))


def test_noise_that_drowns_the_signal_is_seen_in_what_is_learnt() -> None:
    bare, little, much = (
        tried(draft, task, SHARDS, 1)["auc"] for draft in (without_noise(DRAFT), noisy(1), noisy(400))
    )
    assert bare > 0.7
    assert little > 0.65
    assert much < 0.65


def test_the_same_work_without_noise_takes_batches_of_the_same_mean_size() -> None:
    bare = without_noise(DRAFT)
    assert bare.privacy is None
    assert (bare.train.batch_size, bare.train.steps) == (40, 5)


STEP = Step(index=0, kind=StepKind.TRAIN, round=1, participants=("a",), inputs=("0" * 64,), quorum=1, deadline_s=1.0)


def test_a_mean_of_simulated_partners_has_the_noise_of_the_plans_cohort_and_updates_are_clipped() -> None:
    noise = PartnerNoise(clip=2.0, mean_deviation=0.5)
    update = np.full(4_000, 3.0, np.float32)
    made = Contribution({"update": Group(1.0, {"a": update[:1_000], "b": update[1_000:].reshape(3, -1)})}, {}, {})
    protect = noise.protect(5)
    means = np.mean([
        np.concatenate([part.ravel() for part in protect(STEP, "a", made).groups["update"].tensors.values()]) for _ in range(5)
    ], axis=0)  # fmt: skip
    assert statistics.stdev(means.tolist()) == pytest.approx(0.5, rel=0.06)  # five deviations of its own
    assert float(means.mean()) == pytest.approx(2 / 4_000**0.5, abs=0.04)


def test_noise_for_partners_reaches_the_sum_of_a_trial() -> None:
    drowned = [tried(without_noise(DRAFT), task, SHARDS, seed, PartnerNoise(1.0, 5.0))["auc"] for seed in (1, 2)]
    assert statistics.fmean(drowned) < 0.65


def test_a_trial_measures_without_the_noise_that_partners_would_add() -> None:
    assert DRAFT.privacy is not None
    privacy = msgspec.structs.replace(DRAFT.privacy, metrics=MetricNoise(noise_multiplier=5.0))
    found = tried(msgspec.structs.replace(DRAFT, privacy=privacy), task, SHARDS, 1)
    right = found["accuracy"] * sum(len(shard.held_out.labels) for shard in SHARDS)
    assert right == pytest.approx(round(right), abs=1e-9)


def test_a_plan_that_measures_nothing_is_refused_by_name() -> None:
    shards = dealt(learnable_rows(task.schema, 90, 1), 3, 0.0, 1)
    with pytest.raises(BadInput, match="measured nothing"):
        tried(DRAFT, task, shards, 1)

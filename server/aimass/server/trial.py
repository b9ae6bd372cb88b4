"""What a plan learns, tried in this process on rows that need no protection: with its noise and without, seed by seed.

A simulated partner trains by the partners' own trainer and the plan's own numbers. What a trial measures is the cost
of a plan's noise on the rows that it was given, and nothing of the rows that the plan is for.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from aimass.privacy.dp.clipping import clip_flat
from aimass.privacy.dp.gaussian import GridNoise, noised
from aimass.privacy.dp.streams import NoiseStream
from aimass.proto.contribution import Contribution
from aimass.proto.errors import BadInput
from aimass.proto.plan import Cohort, EvaluateSettings, Plan, PlanDraft, Stage, planned_rounds
from aimass.proto.step import Step
from aimass.proto.storage import FileBlobs
from aimass.proto.task import Task, first_model
from aimass.server.simulate import Protect, Shard, simulate

__all__ = ["Outcome", "PartnerNoise", "Variant", "compared", "estimated_s", "tried", "without_noise"]

_NEVER = 1_000_000
_NO_DIGEST = "0" * 64


@dataclasses.dataclass(frozen=True, slots=True)
class PartnerNoise:
    """Noise inside a secure sum, as few partners stand for many: each clips to `clip`, and the mean of those that are
    simulated has a deviation of `mean_deviation` on each element, as the mean of the plan's cohort has."""

    clip: float
    mean_deviation: float

    def protect(self, partners: int) -> Protect:
        """What a contribution becomes before the sum; rounding and lanes, which change nothing to see, are left out."""
        stream = NoiseStream()
        share = self.mean_deviation * partners**0.5 / self.clip

        def protected(_step: Step, _partner: str, made: Contribution) -> Contribution:
            group = made.groups["update"]
            clipped, _ = clip_flat(group.tensors, self.clip)
            count = sum(array.size for array in clipped.values())
            flat = np.concatenate([array.reshape(-1).astype(np.float64) for array in clipped.values()])
            flat = noised(GridNoise(share, self.clip, count), flat, stream)
            ends = np.cumsum([array.size for array in clipped.values()])[:-1]
            parts = zip(clipped.items(), np.split(flat, ends), strict=True)
            noisy = {name: part.reshape(array.shape).astype(array.dtype) for (name, array), part in parts}
            return dataclasses.replace(
                made, groups={**made.groups, "update": dataclasses.replace(group, tensors=noisy)}
            )

        return protected


@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
    """A plan to try, by name."""

    name: str
    draft: PlanDraft
    noise: PartnerNoise | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """Of each metric its mean over the seeds, its least and its largest."""

    name: str
    metrics: Mapping[str, tuple[float, float, float]]


def without_noise(draft: PlanDraft) -> PlanDraft:
    """The same work without privacy: as many steps, on batches of the size that private ones have in the mean."""
    if draft.privacy is None:
        return draft
    batch = max(1, round(draft.privacy.divisor))
    return msgspec.structs.replace(
        draft, privacy=None, train=msgspec.structs.replace(draft.train, batch_size=min(batch, 1_000_000))
    )


def tried(
    draft: PlanDraft,
    task: Task,
    shards: Sequence[Shard],
    seed: int,
    noise: PartnerNoise | None = None,
    progress: Callable[[Step], None] = lambda _: None,
) -> Mapping[str, float]:
    """The metrics of the last model over all held-out rows, after a run of `draft` from the first model of `seed`.

    Everybody takes part in every round, and nothing stops early. Raises `BadInput` where training diverges.
    """
    with tempfile.TemporaryDirectory() as folder:
        blobs = FileBlobs(Path(folder))
        plan = _plan(draft, task, seed, blobs.put([first_model(task, seed)]))
        simulated = partial(simulate, plan, task, shards, blobs, progress)
        made = simulated() if noise is None else simulated(noise.protect(len(shards)))
        evaluations = made.evaluations
    if not evaluations or not evaluations[-1].metrics:
        raise BadInput(
            "the simulation measured nothing: no stage trains, or no row is held out",
            code="plan.trial",
            cure="Give the plan a stage of averaging, and the simulation more rows.",
        )
    return {name: metric.total / metric.weight for name, metric in evaluations[-1].metrics.items() if metric.weight}


def estimated_s(variants: Sequence[Variant], task: Task, shards: Sequence[Shard], seeds: int) -> tuple[float, ...]:
    """How long `compared` takes for each variant, from a run of the first one's first round."""
    first = variants[0]
    one = msgspec.structs.replace(first.draft, stages=tuple(_shortened(stage) for stage in first.draft.stages))
    for _ in range(2):  # the first also loads and looks
        began = time.monotonic()
        tried(one, task, shards, 0, first.noise)
        taken = time.monotonic() - began
    return tuple(seeds * taken * _work(each.draft) / _work(one) for each in variants)


def _work(draft: PlanDraft) -> float:
    return planned_rounds(draft) * (draft.train.steps or draft.train.epochs or 1)


def _shortened(stage: Stage) -> Stage:
    return (
        msgspec.structs.replace(stage, options={**stage.options, "rounds": 1}) if "rounds" in stage.options else stage
    )


def compared(
    variants: Sequence[Variant],
    task: Task,
    shards: Sequence[Shard],
    seeds: Sequence[int],
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Outcome, ...]:
    """Each variant, once for each seed; one that diverges with any has no metrics."""
    found: list[Outcome] = []
    for variant in variants:
        say(f"trying {variant.name} ({len(found) + 1} of {len(variants)}), {len(seeds)} seeds")
        try:
            each = [tried(variant.draft, task, shards, seed, variant.noise) for seed in seeds]
        except BadInput as error:
            if error.code != "trainer.diverged":
                raise
            each = []
        found.append(Outcome(variant.name, _spread(each)))
    return tuple(found)


def _spread(runs: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float, float]]:
    names = set.intersection(*map(set, runs)) if runs else set()
    return {
        name: (statistics.fmean(values), min(values), max(values))
        for name in sorted(names)
        for values in [[run[name] for run in runs]]
        if all(map(math.isfinite, values))
    }


def _plan(draft: PlanDraft, task: Task, seed: int, model: str) -> Plan:
    plan = draft.complete(_NO_DIGEST, model, task.schema)
    # The rows need no protection: what is learnt with noise is measured without.
    privacy = None if plan.privacy is None else msgspec.structs.replace(plan.privacy, metrics=None)
    return msgspec.structs.replace(
        plan,
        privacy=privacy,
        seed=seed,
        cohort=Cohort(),
        secure=None,
        early_stop=None,
        evaluate=msgspec.structs.replace(EvaluateSettings(every=_NEVER), batch_size=plan.evaluate.batch_size),
    )

"""A run in one process: the same drivers and the partners' own trainer over shards that are all here.

For comparing (each partner alone, all rows pooled), for trials, and as the plain version of `simulation`, which has
many partners, the gate, and a folder to go on from. Over equal shards it ends in the same model, bit for bit, as the
federated run of the same plan, unless that has differential privacy, whose noise never repeats. Where steps overlap it
is the run in which they are counted in the order in which they were opened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from aimass.client.shards import Shard
from aimass.client.trainee import Trainee
from aimass.client.worker_protocol import order_of
from aimass.proto.contribution import Contribution, Metric
from aimass.proto.plan import Plan
from aimass.proto.sent import codec_of
from aimass.proto.step import Reduce, Step, StepKind
from aimass.proto.storage import Blobs
from aimass.proto.task import Task
from aimass.proto.tensors import Blob
from aimass.server.aggregation.collected import Held
from aimass.server.aggregation.models import ModelStore
from aimass.server.aggregation.sums import SpooledSums, added_metrics
from aimass.server.drivers.base import Context, Done, Overlapping, StepResult, find_driver

__all__ = ["Evaluated", "Protect", "Shard", "Simulated", "simulate"]

Protect = Callable[[Step, str, Contribution], Contribution]
"""What arrives for a partner's training contribution: with noise, or, of one that lies, something else. It is asked in
the order of the participants' keys."""


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluated:
    """Metrics of one evaluation: over all, and each participant's own. A `purpose` is that of a personal stage."""

    round: int
    metrics: dict[str, Metric]
    figures: dict[str, dict[str, float]]
    purpose: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Simulated:
    """The last model's digest and every evaluation."""

    model: str
    evaluations: tuple[Evaluated, ...]


def simulate(
    plan: Plan,
    task: Task,
    shards: Sequence[Shard],
    blobs: Blobs,
    progress: Callable[[Step], None] = lambda _: None,
    protect: Protect = lambda _step, _partner, made: made,
    trainees: Mapping[str, Trainee] = MappingProxyType({}),
) -> Simulated:
    """Run `plan` over `shards`, whose participants' keys order the sums; the plan's first model is in `blobs`.

    `protect` stands for what a secure sum adds to training contributions, which is nothing without noise. `trainees`
    do the work of the participants that they are given for, who compute otherwise than others.
    """
    ordered = sorted(shards, key=lambda shard: shard.participant.encode())
    names = tuple(sorted(shard.participant for shard in ordered))
    models, model, index = ModelStore(blobs), plan.model, 0
    layout = Blob(blobs.open(plan.model)).layout
    evaluations: list[Evaluated] = []
    states: dict[str, bytes | memoryview] = {}
    plain = Trainee(task)  # without a ledger: who simulates holds all rows anyway
    for stage in plan.stages:
        driver, waiting = find_driver(stage.driver), list[Step]()
        known = partial(Context, plan, stage, names)
        state = driver.start(known(index), model)
        while True:
            if not waiting or isinstance(driver, Overlapping):
                proposed = driver.next(state, known(index, tuple(waiting)))
                if isinstance(proposed, Done):
                    break
                waiting += proposed
                index += len(proposed)
            step = waiting.pop(0)
            progress(step)
            # Nobody is slow here: of more that are asked than are wanted, the first by name count.
            counted = step.participants[: step.wanted or None]
            chosen = [shard for shard in ordered if shard.participant in counted]
            made = []
            for shard in chosen:
                inputs = [Blob(blobs.open(digest)) for digest in step.inputs_of(shard.participant)]
                held = states.get(shard.participant, b"")
                done = trainees.get(shard.participant, plain).do(
                    order_of(plan, step, shard.participant), shard, inputs, held
                )
                states[shard.participant] = done.state
                made.append(done.contribution)
            if step.kind is StepKind.TRAIN:
                made = [protect(step, shard.participant, one) for shard, one in zip(chosen, made, strict=True)]
            metrics = added_metrics(one.metrics for one in made)
            each = {shard.participant: one for shard, one in zip(chosen, made, strict=True)}
            codec = codec_of(plan, step, layout)
            codecs = {} if codec is None else dict.fromkeys(each, codec)
            replies = Held(each, blobs, codecs) if step.reduce is Reduce.COLLECT else None
            result = StepResult(step, counted, metrics, SpooledSums(made, [codec] * len(made)), replies=replies)
            state = driver.receive(state, result, models, known(index, tuple(waiting)))
            if isinstance(driver, Overlapping):
                outdated = driver.outdated(state, known(index, tuple(waiting)))
                waiting = [other for other in waiting if other.index not in outdated]
            if step.kind is StepKind.EVALUATE:
                figures = {shard.participant: dict(item.figures) for shard, item in zip(chosen, made, strict=True)}
                evaluations.append(Evaluated(step.round, dict(result.metrics), figures, step.purpose))
        model = proposed.model
    return Simulated(model, tuple(evaluations))

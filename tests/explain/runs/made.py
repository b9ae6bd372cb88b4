"""Runs as a server shows them, made from what they are known to have done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.proto.plan import Plan, PrivacySettings, Stage, TaskRef, TrainSettings
from aimass.proto.step import StepKind
from aimass.proto.traffic import Moved
from aimass.proto.views import (
    LayerSummary,
    MetricView,
    RunState,
    RunSummary,
    RunView,
    SlotState,
    StepSummary,
    StepView,
)

BUCKETS = 128
SECONDS = 10.0


def plan(seed: int = 0, learning_rate: float = 0.1, batch_size: int = 32, driver: str = "averaging") -> Plan:
    return Plan(
        name="heart",
        task=TaskRef(name="heart", digest="a" * 64),
        data_schema="heart/1",
        seed=seed,
        model="b" * 64,
        stages=(Stage(driver=driver, options={"rounds": 3}),),
        train=TrainSettings(batch_size=batch_size, learning_rate=learning_rate, epochs=1),
    )


PRIVACY = PrivacySettings(noise_multiplier=1.0, clip=1.0, sampling_rate=0.02, delta=1e-5, divisor=4.0)
PRIVATE = msgspec.structs.replace(
    plan(), privacy=PRIVACY, train=TrainSettings(batch_size=32, learning_rate=0.1, steps=20, weight="one")
)


def summary(norms: Mapping[str, float], drifts: Mapping[str, float], sketch: npt.NDArray[Any]) -> StepSummary:
    quantiles = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
    layers = {
        name: LayerSummary(norm=norms[name], drift=drifts[name], similarity=0.5, quantiles=quantiles) for name in norms
    }
    total = float(np.sqrt(sum(norm**2 for norm in norms.values())))
    drift = float(np.sqrt(sum(norm**2 for norm in drifts.values())))
    return StepSummary(norm=total, drift=drift, similarity=0.5, layers=layers, sketch=tuple(map(float, sketch)))


def step(index: int, round_: int, kind: StepKind = StepKind.TRAIN, **more: Any) -> StepView:
    begin = 1_000.0 + SECONDS * index
    fields: dict[str, Any] = {
        "purpose": "", "state": "committed", "opened_at": begin, "deadline_at": begin + 60,
        "slots": {"a": SlotState.COUNTED, "b": SlotState.COUNTED}, "committed_at": begin + 2.0,
    }  # fmt: skip
    return StepView(index=index, kind=kind, round=round_, **(fields | more))


def evaluated(index: int, round_: int, means: Mapping[str, float], **by_partner: float) -> StepView:
    metrics = {name: MetricView(mean=mean, weight=100.0, by_partner=by_partner) for name, mean in means.items()}
    return step(index, round_, StepKind.EVALUATE, metrics=metrics)


def run(steps: Sequence[StepView], of: Plan | None = None, run_id: str = "r1", **summary_fields: Any) -> RunView:
    of = plan() if of is None else of
    fields: dict[str, Any] = {
        "name": of.name, "task": "heart", "state": RunState.FINISHED, "reason": "", "round": 3, "rounds": 3,
        "partners": 2, "created_at": 1_000.0, "ended_at": 1_100.0, "model": "c" * 64, "owner": "olga",
    }  # fmt: skip
    return RunView(
        summary=RunSummary(run_id=run_id, **(fields | summary_fields)),
        plan=of,
        plan_digest="d" * 64,
        participants=(),
        steps=tuple(steps),
        disk_bytes=0,
        transcript_entries=0,
        transcript_head="",
        moved=Moved(down=1_000, up=500),
    )


def ended(run_id: str, of: Plan, quality: float, metric: str = "auc") -> RunView:
    return run([step(0, 1), evaluated(1, 1, {metric: quality})], of, run_id)

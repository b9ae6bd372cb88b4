"""Early stopping: when a plan's metric has not improved for long enough. Pure, for any driver of rounds."""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec

from aimass.proto.errors import BadInput
from aimass.proto.plan import Plan
from aimass.server.drivers.base import StepResult

__all__ = ["check_early_stop", "judged"]


class Watched(Protocol):
    """What a state remembers: the metric's best value and its round, evaluations since, why to stop."""

    @property
    def round(self) -> int: ...
    @property
    def best(self) -> float | None: ...
    @property
    def best_round(self) -> int: ...
    @property
    def stale(self) -> int: ...
    @property
    def stopped(self) -> str: ...


S = TypeVar("S", bound=Watched)


def check_early_stop(plan: Plan) -> None:
    """Raise `BadInput` for early stopping without what it looks at."""
    if plan.early_stop is not None and plan.evaluate.every == 0:
        raise BadInput(
            "early stopping needs an evaluation", code="plan.early_stop", cure="Set evaluate.every to 1 or more."
        )


def judged(state: S, result: StepResult, plan: Plan) -> S:
    """The state after an evaluation of the model of the step's round; a plan without early stopping stops never."""
    rule = plan.early_stop
    metric = result.metrics.get(rule.metric) if rule else None
    if rule is None or metric is None:
        return state
    value = metric.total / metric.weight
    gain = value if rule.mode == "max" else -value
    best = None if state.best is None else (state.best if rule.mode == "max" else -state.best)
    if best is None or gain > best + rule.min_delta:
        return msgspec.structs.replace(state, best=value, best_round=result.step.round, stale=0)  # type: ignore[type-var]
    stale = state.stale + 1
    stopped = f"{rule.metric} has not improved for {stale} evaluations" if stale >= rule.patience else ""
    return msgspec.structs.replace(state, stale=stale, stopped=stopped)  # type: ignore[type-var]

"""What a partner needs for a plan, estimated from its first model: by whoever submits it, for whoever would take part.

A training step holds the model, its gradients and what the method keeps beside them. What the layers compute on the way
(activations) depends on the task and the batch, and is not in the estimate: a plan whose author knows it says more.
"""

from __future__ import annotations

from typing import Final

from aimass.proto.elements import update_shapes
from aimass.proto.methods import method_of
from aimass.proto.personal import trainings
from aimass.proto.plan import Plan, PlanDraft
from aimass.proto.plan_settings import Needs, TrainSettings
from aimass.proto.tensors import Layout, TensorSpec

__all__ = ["PROCESS_BYTES", "estimated"]

PROCESS_BYTES: Final = 300_000_000
"""Of a training child before it has a model: torch above all."""


def estimated(plan: Plan | PlanDraft, model: Layout, base_bytes: int = 0) -> Needs:
    """The least that training takes beside the rows, beside a frozen base of so many bytes; what is stated holds."""
    trained = sum(TensorSpec(name, dtype, shape).bytes for name, (dtype, shape) in update_shapes(model).items())
    held, kept = max(_held(plan, train) for train in trainings(plan)), _kept(plan)
    inputs = model.total_bytes + (trained if method_of(_drivers(plan)) == "scaffold" else 0)
    stated = plan.needs or Needs()
    on_device = base_bytes + model.data_bytes + held * trained
    return Needs(
        memory_bytes=stated.memory_bytes or PROCESS_BYTES + on_device + kept * trained,
        gpu_bytes=stated.gpu_bytes or on_device,
        disk_bytes=stated.disk_bytes or base_bytes + inputs + trained * (1 + 2 * kept),
    )


def _drivers(plan: Plan | PlanDraft) -> list[str]:
    return [stage.driver for stage in plan.stages]


def _held(plan: Plan | PlanDraft, train: TrainSettings) -> int:
    """Numbers beside each one that is trained: its gradient, and those of optimiser and method."""
    gradient = 4 if plan.privacy is not None else 1  # of DP-SGD also the clipped sum, and its noise in float64
    optimizer = 2 if train.optimizer == "adam" else bool(train.momentum)
    control = 2 if method_of(_drivers(plan)) == "scaffold" else 0
    return gradient + optimizer + bool(train.proximal_mu) + control


def _kept(plan: Plan | PlanDraft) -> int:
    """Numbers that a partner keeps from step to step for each one that is trained: a file, and its copy at work."""
    moments = 2 if plan.train.optimizer == "adam" else bool(plan.train.momentum)
    residual = plan.compress is not None and plan.compress.error_feedback
    control = method_of(_drivers(plan)) == "scaffold"
    return (moments if plan.train.keep_optimizer else 0) + residual + control

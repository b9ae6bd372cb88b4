"""The gate: what leaves this partner, after which mechanisms. It runs in the daemon, never in the training child.

The child's bytes are decoded strictly, checked against the model that the step trains, passed through the
postprocessors in order, stripped of what the policy does not release, and encoded again: nothing else leaves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from aimass.client.policy import Policy
from aimass.proto.contribution import Contribution, Group, Limits, check_contribution, decode_contribution
from aimass.proto.elements import update_shapes
from aimass.proto.errors import Refused
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Blob, Layout

__all__ = ["Postprocessor", "Released", "release"]

Postprocessor = Callable[[Contribution], Contribution]
PLAIN: Final = "plain sum"


@dataclasses.dataclass(frozen=True, slots=True)
class Released:
    """The parts of the blob that may leave, and what the journal says of them."""

    parts: list[bytes | memoryview]
    tensors: int
    metrics: tuple[str, ...]
    figures: tuple[str, ...]
    mechanisms: tuple[str, ...]

    @property
    def repeatable(self) -> bool:
        """Whether the same work gives the same bytes again: a plain sum does, private noise and masks do not."""
        return self.mechanisms == (PLAIN,)


def release(
    child_bytes: memoryview,
    step: Step,
    model: Layout,
    policy: Policy,
    postprocessors: Mapping[str, Postprocessor] | None = None,
) -> Released:
    """Decide what of a child's contribution leaves.

    Raises `Refused` where the policy demands a mechanism that is not among `postprocessors`, or does not allow the
    step's analysis; `BadInput` for a contribution that does not fit the step.
    """
    applied = postprocessors or {}
    if policy.secure_aggregation and "secure_aggregation" not in applied:
        raise Refused(
            "the policy demands secure aggregation and the run has none",
            code="release.mechanism",
            value="plain sums",
            limit="secure aggregation",
        )
    if step.kind is StepKind.ANALYSE and step.purpose not in policy.release.analyses:
        raise Refused(
            "the policy does not release this analysis",
            code="release.analysis",
            value=step.purpose,
            limit=", ".join(policy.release.analyses) or "none",
        )
    contribution = decode_contribution(Blob(child_bytes))
    check_contribution(contribution, _expected(step, contribution, model), Limits(norm=policy.bounds.norm))
    for process in applied.values():
        contribution = process(contribution)
    kept = Contribution(
        groups={name: Group(group.weight, _own(group.tensors)) for name, group in contribution.groups.items()},
        metrics={name: metric for name, metric in contribution.metrics.items() if name in policy.release.metrics},
        figures={name: value for name, value in contribution.figures.items() if name in policy.release.figures},
    )
    return Released(
        kept.parts(),
        sum(len(group.tensors) for group in kept.groups.values()),
        tuple(kept.metrics),
        tuple(kept.figures),
        tuple(applied) or (PLAIN,),
    )


def _own(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.asarray(array) for name, array in tensors.items()}


def _expected(
    step: Step, contribution: Contribution, model: Layout
) -> Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]] | None:
    """What a step may hold: in training an update of the model, nothing under `preprocess.`."""
    if step.kind is StepKind.TRAIN:
        return {"update": update_shapes(model)}
    if step.kind is StepKind.EVALUATE:
        return {}
    # An analysis sends its one group, by its own name; its tensors are those of approved code.
    return (
        {step.purpose: {n: ("F64", a.shape) for n, a in contribution.groups[step.purpose].tensors.items()}}
        if (step.purpose in contribution.groups)
        else {step.purpose: {}}
    )

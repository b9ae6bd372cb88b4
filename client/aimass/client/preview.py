"""What an explanation would take of a partner, shown to its owner: the very numbers of the own rows, before any leaves.

Nothing of it leaves, so that nothing is debited and no noise is drawn: its size stands beside the numbers instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from aimass.client.policy import Policy
from aimass.client.shared_rows import SharedArray, shared_arrays
from aimass.client.small_counts import withheld_cells
from aimass.proto.asking import asked_in
from aimass.proto.asks import EXPLAIN, Phase, phase_at
from aimass.proto.contribution import Contribution, Limits, check_contribution
from aimass.proto.errors import Refused
from aimass.proto.plan import Plan
from aimass.proto.step import Step, StepKind
from aimass.proto.values import Value

__all__ = ["MOST_STEPS", "Preview", "PreviewSum", "first_step", "preview_of", "unnoised"]

MOST_STEPS: Final = 8
"""That are shown with numbers: a search has a hundred and more, all of the same tables."""


class PreviewSum(Value, frozen=True):
    """One tensor: its numbers as they would leave, how many cells stay here, and the deviation of the noise."""

    name: str
    shape: tuple[int, ...]
    numbers: tuple[float, ...]
    stay_here: int
    noise: float


class Preview(Value, frozen=True):
    """The first step over so many `rows` of this partner. `then` are the shapes of later steps, whose numbers follow
    from what the first comes to over all partners. `later` are those of the next few steps all the same, of a
    federation in which this partner is alone. `arrays` are all that partners compute with."""

    analysis: str
    which_rows: str
    rows: int
    shared: str
    arrays: tuple[SharedArray, ...]
    sums: tuple[PreviewSum, ...]
    then: tuple[str, ...] = ()
    later: tuple[tuple[PreviewSum, ...], ...] = ()


def first_step(plan: Plan, partner: str) -> Step:
    """The step that the run would begin with here."""
    return Step(
        index=0,
        kind=StepKind.ANALYSE,
        purpose=EXPLAIN,
        round=0,
        participants=(partner,),
        inputs=(plan.model,),
        quorum=1,
        deadline_s=plan.cohort.step_deadline_s,
    )


def unnoised(plan: Plan) -> Plan:
    """The same without noise on its analyses; raises `Refused` for a plan that explains nothing."""
    if plan.explain is None:
        raise Refused(
            "this run explains nothing: what it trains is made by rounds of work, and not shown before",
            code="client.preview",
            value=plan.name,
            cure="aimass client show RUN says what the server could learn of it.",
        )
    if plan.privacy is None or plan.privacy.analyses is None:
        return plan
    alone = msgspec.structs.replace(plan.explain, group=1)  # noise is for single rows
    return msgspec.structs.replace(plan, privacy=None, explain=alone)


def preview_of(
    plan: Plan, made: Contribution, rows: int, policy: Policy, later: Sequence[Contribution] = ()
) -> Preview:
    """What of a contribution without noise would leave by the plan and the policy; raises `BadInput` for another.

    `later` are those of the steps behind it.
    """
    asked, phase = asked_in(plan), phase_at(asked_in(plan).phases, 0)
    shared = "nothing" if asked.shared is None else asked.shared.told
    return Preview(
        analysis=asked.name,
        which_rows=asked.rows,
        rows=rows,
        shared=shared,
        arrays=shared_arrays(asked.shared, plan.schema),
        sums=_left(plan, 0, made, rows, policy),
        then=tuple(filter(None, (_told(one, one.times - (one is phase)) for one in asked.phases))),
        later=tuple(_left(plan, number, one, rows, policy) for number, one in enumerate(later, start=1)),
    )


def _left(plan: Plan, number: int, made: Contribution, rows: int, policy: Policy) -> tuple[PreviewSum, ...]:
    """What would leave of one step."""
    asked = asked_in(plan)
    phase = phase_at(asked.phases, number)
    check_contribution(made, {EXPLAIN: phase.shapes}, Limits(norm=Limits().metric))
    noise = plan.privacy.analyses if plan.privacy is not None else None
    least = 1 if noise is not None else max(asked.least_count, policy.release.smallest_count)
    kept, multiplier = withheld_cells(made, phase, least, rows), 0.0 if noise is None else noise.noise_multiplier
    whole, left = made.groups[EXPLAIN].tensors, kept.groups[EXPLAIN].tensors
    return tuple(
        PreviewSum(
            name=cells.name,
            shape=cells.shape,
            numbers=tuple(left[cells.name].reshape(-1).tolist()),
            stay_here=int(np.count_nonzero(whole[cells.name] != left[cells.name])),
            noise=phase.deviation(cells, multiplier),
        )
        for cells in phase.cells
    )


def _told(phase: Phase, times: int) -> str:
    names = ", ".join(f"{cells.name} {list(cells.shape)}" for cells in phase.cells)
    return f"{times} step{'s' if times > 1 else ''}: {names}" if times else ""

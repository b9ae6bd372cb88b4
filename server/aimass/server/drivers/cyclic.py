"""One model that goes from shard to shard: each trains it in turn, and hands it on.

Cyclical weight transfer (Chang et al. 2018, "Distributed deep learning networks among institutions for medical
imaging", JAMIA 25(8)). Over one organisation's own shards it is what one machine does that streams a data set through a
model. A round is a pass over all shards, in the order of their names; whoever comes late in it has the last word.
"""

from __future__ import annotations

import msgspec

from aimass.proto.errors import BadInput
from aimass.proto.plan import Plan, Stage
from aimass.proto.step import Step, StepKind
from aimass.server.cohort import ask
from aimass.server.drivers.averaging import Averaging, AveragingState
from aimass.server.drivers.base import Context, Done, Models, StepResult

__all__ = ["Cyclic", "CyclicState", "driver"]


class CyclicState(AveragingState, frozen=True):
    """So many of a round's participants, `place`, have trained in it."""

    place: int = 0


class Cyclic(Averaging):
    """The driver: averaging over one participant at a time."""

    name = "cyclic"
    state_type = CyclicState

    def check(self, plan: Plan, stage: Stage) -> None:
        """As averaging; a sum of one keeps no secret, and a rule has nobody to compare."""
        super().check(plan, stage)
        if plan.secure is not None or "rule" in stage.options:
            raise BadInput(
                "a model that goes from one to the next is in no sum with others",
                code="plan.cyclic",
                value="secure" if plan.secure is not None else "rule",
                cure='Leave it out of the plan, or take driver = "averaging".',
            )

    def start(self, context: Context, model: str) -> CyclicState:
        """No round is begun."""
        return CyclicState(model=model)

    def next(self, state: AveragingState, context: Context) -> tuple[Step, ...] | Done:
        """Train at the next one, or evaluate what the round made."""
        proposed = super().next(state, context)
        if isinstance(proposed, Done) or proposed[0].kind is StepKind.EVALUATE:
            return proposed
        assert isinstance(state, CyclicState)  # noqa: S101  (its own)
        whose = _turns(state, context)[state.place]
        return (msgspec.structs.replace(proposed[0], participants=(whose,), quorum=1, wanted=0),)

    def receive(self, state: AveragingState, result: StepResult, models: Models, context: Context) -> AveragingState:
        """After training the model that came of it; after the round's last, whether to evaluate."""
        after = super().receive(state, result, models, context)
        if result.step.kind is StepKind.EVALUATE:
            return after
        assert isinstance(state, CyclicState)  # noqa: S101  (its own)
        done = state.place + 1
        if done < len(_turns(state, context)):
            return msgspec.structs.replace(after, place=done, round=state.round, phase="train")
        return msgspec.structs.replace(after, place=0)


def _turns(state: CyclicState, context: Context) -> tuple[str, ...]:
    """Who trains in this round, in order."""
    return ask(context.plan.cohort, context.plan.seed, state.round + 1, context.joined)[0]


driver = Cyclic()

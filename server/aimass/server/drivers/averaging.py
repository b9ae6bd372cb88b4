"""Federated averaging: rounds of local training, the weighted mean of the updates, evaluation in between.

McMahan et al. 2017, algorithm 1, in the form of Reddi et al. 2021, algorithm 1: the server takes a step from the mean
sum_i w_i d_i / sum_i w_i, where d_i is a partner's new parameters minus the model. `optimisers` has the steps, `robust`
what takes the place of the mean where partners may lie.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from aimass.privacy.dp.adaptive import next_clip
from aimass.privacy.secagg.rounds import adaptive_of
from aimass.proto.errors import BadInput
from aimass.proto.methods import Method
from aimass.proto.plan import Plan, Stage
from aimass.proto.sent import trained_groups
from aimass.proto.step import Reduce, Step, StepKind
from aimass.proto.tensors import Layout
from aimass.proto.values import Value
from aimass.server.cohort import ask
from aimass.server.drivers import robust
from aimass.server.drivers.base import Context, Done, ExpectedGroups, Models, Progress, StepResult, Sums
from aimass.server.drivers.moments import moments_after, stepped
from aimass.server.drivers.optimisers import rule_of
from aimass.server.drivers.stopping import check_early_stop, judged

__all__ = ["Averaging", "AveragingState", "clip_after", "driver"]


class AveragingState(Value, frozen=True):
    """`round` rounds are trained into `model`; `best` and `stale` serve early stopping, `clip` is the next round's
    where the plan's noise adapts it (0: the plan's), `moments` the blob of what the server's optimiser keeps, `control`
    that of SCAFFOLD's control variate ("": zero)."""

    model: str
    round: int = 0
    phase: Literal["train", "evaluate"] = "train"
    best: float | None = None
    best_round: int = 0
    stale: int = 0
    stopped: str = ""
    clip: float = 0.0
    moments: str = ""
    control: str = ""


class Averaging:
    """The driver; those of other methods differ in `inputs` and `trained`."""

    name = "averaging"
    method: Method = "plain"
    state_type = AveragingState

    def check(self, plan: Plan, stage: Stage) -> None:
        """Options in range; early stopping needs evaluation."""
        rule_of(stage)
        robust.check(plan, stage)
        if self.method != "plain" and robust.robust_of(stage) is not None:
            raise BadInput(
                f"a robust rule would judge each part of what {self.name} sends alone",
                code="plan.robust_method",
                value=stage.options["rule"],
                limit="mean",
                cure='Leave options.rule out, or take driver = "averaging".',
            )
        check_early_stop(plan)

    def start(self, context: Context, model: str) -> AveragingState:
        """No round is trained."""
        return AveragingState(model=model)

    def next(self, state: AveragingState, context: Context) -> tuple[Step, ...] | Done:
        """Train, or evaluate the model that was just made."""
        rounds = rule_of(context.stage).rounds
        if state.stopped:
            return Done(state.model, state.stopped)
        if state.phase == "train" and state.round >= rounds:
            return Done(state.model, f"{rounds} rounds")
        training = state.phase == "train"
        single = training and robust.robust_of(context.stage) is not None
        cohort = context.plan.cohort
        participants, wanted = context.joined, 0
        if training:
            participants, wanted = ask(cohort, context.plan.seed, state.round + 1, context.joined)
        return (
            Step(
                index=context.next_index,
                kind=StepKind.TRAIN if training else StepKind.EVALUATE,
                round=state.round + 1 if training else state.round,
                participants=participants,
                inputs=self.inputs(state) if training else (state.model,),
                quorum=min(cohort.quorum, len(participants)),
                wanted=wanted,
                deadline_s=cohort.step_deadline_s,
                reduce=Reduce.COLLECT if single else Reduce.SUM,
                clip=state.clip if training else 0.0,
            ),
        )

    def expects(self, step: Step, layout: Layout, plan: Plan) -> ExpectedGroups:
        """Training: an update of what partners do not keep to themselves. Evaluation: metrics alone."""
        return {} if step.kind is StepKind.EVALUATE else trained_groups(plan, layout)

    def receive(self, state: AveragingState, result: StepResult, models: Models, context: Context) -> AveragingState:
        """After training the averaged model; after evaluation, whether to stop early."""
        if result.step.kind is StepKind.EVALUATE:
            return judged(msgspec.structs.replace(state, phase="train"), result, context.plan)
        rounds, done = rule_of(context.stage).rounds, state.round + 1
        return msgspec.structs.replace(
            self.trained(state, robust.sums_of(context.stage, result), models, context),
            round=done,
            phase="evaluate" if context.plan.evaluate.follows(done, rounds) else "train",
            clip=clip_after(context.plan, state.clip, result.within),
        )

    def inputs(self, state: AveragingState) -> tuple[str, ...]:
        """What a training step works on."""
        return (state.model,)

    def trained(self, state: AveragingState, sums: Sums, models: Models, context: Context) -> AveragingState:
        """The state with the model after the server's step, and with what the server keeps beside it."""
        rule = rule_of(context.stage)
        moments = moments_after(rule, state.model, state.moments, sums, models)
        model = stepped(rule, state.model, moments, sums, models)
        return msgspec.structs.replace(state, model=model, moments=moments)

    def model(self, state: AveragingState) -> str:
        """The model so far."""
        return state.model

    def progress(self, state: AveragingState, context: Context) -> Progress:
        """Rounds trained and planned."""
        return Progress(state.round, rule_of(context.stage).rounds)


def clip_after(plan: Plan, clip: float, within: float | None) -> float:
    """The clip of the round after one with this clip, of which this share of the partners was within it."""
    rule = adaptive_of(plan.secure) if plan.secure else None
    if rule is None or within is None:
        return clip
    return next_clip(rule, clip or rule.first, within)


driver = Averaging()

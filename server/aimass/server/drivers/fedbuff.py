"""FedBuff: averaging that waits for nobody. Partners train the newest model whenever they are free.

Nguyen et al. 2022, "Federated Learning with Buffered Asynchronous Aggregation", Algorithm 1, at the server: the update
d_i of a model that is tau_i versions old meanwhile goes into a buffer, and with K of them a version is made from

    delta = sum_i s(tau_i) w_i d_i / sum_i w_i,    s(tau) = 1 / sqrt(1 + tau)

by the rule of `optimisers`. The paper's w_i is one, so its divisor is K.

Several steps are open at once: of one partner each where sums are plain; where they are secret, of as many as the
plan's quorum at least, on one model. A partner trains a version once, or again where a secret sum came to nothing: it
costs no more than a round does, and no two sums are of one partner's work on one model. A version is made of no fewer
partners than the quorum has; of fewer contributions than K only where nobody is left that could train for it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from aimass.proto.errors import BadInput, WrongState
from aimass.proto.methods import OVERLAPPING, UPDATE
from aimass.proto.plan import Plan, Stage
from aimass.proto.sent import trained_groups
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Layout
from aimass.proto.values import Value
from aimass.server.attempts import deal
from aimass.server.drivers import robust
from aimass.server.drivers.base import Context, Done, ExpectedGroups, Models, Progress, StepResult
from aimass.server.drivers.buffer import OPTIONS, Buffered, buffer_of, stored
from aimass.server.drivers.moments import moments_after, stepped
from aimass.server.drivers.optimisers import Rule, rule_of
from aimass.server.drivers.stopping import check_early_stop, judged

__all__ = ["FedBuff", "FedBuffState", "driver"]


class FedBuffState(Value, frozen=True):
    """`round` versions are made, the newest of them `model`; `best` and `stale` serve early stopping, `moments` is the
    blob of what the server's optimiser keeps. `buffer` is the blob of the sum since ("": nothing), of `count`
    contributions of `partners`, which weigh `weight`. `trained` are those who have had their turn with this version,
    whatever came of it; `evaluated` is the newest version that was measured."""

    model: str
    round: int = 0
    best: float | None = None
    best_round: int = 0
    stale: int = 0
    stopped: str = ""
    moments: str = ""
    buffer: str = ""
    weight: float = 0.0
    count: int = 0
    partners: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
    evaluated: int = 0


class FedBuff:
    """The driver."""

    name = OVERLAPPING
    state_type = FedBuffState

    def check(self, plan: Plan, stage: Stage) -> None:
        """Options in range, and nothing of the plan that is said of rounds that all take part in."""
        buffer_of(stage)
        _rule(stage)
        check_early_stop(plan)
        _check_plan(plan, stage)

    def start(self, context: Context, model: str) -> FedBuffState:
        """Nobody has trained."""
        return FedBuffState(model=model)

    def next(self, state: FedBuffState, context: Context) -> tuple[Step, ...] | Done:
        """Train with all that are free, or measure the newest version with them where that is due."""
        rounds = _rule(context.stage).rounds
        due = _due(state, rounds, context.plan)
        if state.stopped or (state.round >= rounds and not due):
            return Done(state.model, state.stopped or f"{rounds} rounds")
        if due and all(step.kind is not StepKind.EVALUATE for step in context.open):
            proposed = _evaluation(state, context)
        else:
            proposed = _training(state, context) if state.round < rounds else ()
        if not proposed and not context.open and len(context.joined) >= context.plan.cohort.quorum:
            raise _starved(state, context)
        return proposed

    def expects(self, step: Step, layout: Layout, plan: Plan) -> ExpectedGroups:
        """Training: an update of what partners do not keep to themselves. Evaluation: metrics alone."""
        return {} if step.kind is StepKind.EVALUATE else trained_groups(plan, layout)

    def outdated(self, state: FedBuffState, context: Context) -> Mapping[int, str]:
        """Training of models that are too old, or for which no version is to be made any more."""
        rounds, most = _rule(context.stage).rounds, buffer_of(context.stage).max_staleness
        training = (step for step in context.open if step.kind is StepKind.TRAIN)
        if state.round >= rounds:
            return {step.index: "step.stage_over: the last version is made" for step in training}
        return {
            step.index: f"step.stale: the model that this is of is {tau} versions old, and the plan takes {most}"
            for step in training
            if (tau := _staleness(state, step)) > most
        }

    def receive(self, state: FedBuffState, result: StepResult, models: Models, context: Context) -> FedBuffState:
        """Into the buffer, and a version where it is full; after an evaluation, whether to stop early."""
        step = result.step
        if step.kind is StepKind.EVALUATE:
            return judged(msgspec.structs.replace(state, evaluated=step.round), result, context.plan)
        if _staleness(state, step) == 0:
            state = msgspec.structs.replace(state, trained=_with(state.trained, step.participants))
        state, sums = self._taken(state, result, models, context)
        if _is_full(state, context):
            return _version(state, sums, models, _rule(context.stage))
        if not result.counted:
            return state
        buffer = stored(sums, models.tensors(state.model), models)
        return msgspec.structs.replace(state, buffer=buffer, weight=sums.weight(UPDATE))

    def model(self, state: FedBuffState) -> str:
        """The newest version."""
        return state.model

    def progress(self, state: FedBuffState, context: Context) -> Progress:
        """Versions made and planned."""
        return Progress(state.round, _rule(context.stage).rounds)

    def _taken(
        self, state: FedBuffState, result: StepResult, models: Models, context: Context
    ) -> tuple[FedBuffState, Buffered]:
        """Who is in the buffer with this result, and the sum that is in it then."""
        held = models.tensors(state.buffer) if state.buffer else {}
        if not result.counted:
            return state, Buffered(None, 1.0, held, state.weight)
        counted = msgspec.structs.replace(
            state,
            count=state.count + len(result.counted),
            partners=_with(state.partners, result.counted),
        )
        discount = buffer_of(context.stage).discount(_staleness(state, result.step))
        return counted, Buffered(result.sums, discount, held, state.weight)


def _rule(stage: Stage) -> Rule:
    """What a version is made by."""
    return rule_of(stage, OPTIONS)


def _version(state: FedBuffState, sums: Buffered, models: Models, rule: Rule) -> FedBuffState:
    """The next version, from what is in the buffer, which is empty then; all may train it."""
    moments = moments_after(rule, state.model, state.moments, sums, models)
    return msgspec.structs.replace(
        state,
        model=stepped(rule, state.model, moments, sums, models),
        moments=moments,
        round=state.round + 1,
        buffer="",
        weight=0.0,
        count=0,
        partners=(),
        trained=(),
    )


def _with(names: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*names, *more}))


def _staleness(state: FedBuffState, step: Step) -> int:
    """How many versions were made since the one that the step is of."""
    return state.round + 1 - step.round


def _due(state: FedBuffState, rounds: int, plan: Plan) -> bool:
    """Whether a version that is to be measured has not been."""
    every = plan.evaluate.every
    if not every:
        return False
    scheduled = state.round if state.round == rounds else state.round - state.round % every
    return scheduled > state.evaluated


def _is_full(state: FedBuffState, context: Context) -> bool:
    """K contributions are there, or nobody is left that could train this version; in either case of a quorum."""
    quorum = context.plan.cohort.quorum
    left = set(context.joined) - set(state.trained)
    nobody = len(left) < (quorum if context.plan.secure is not None else 1)
    return len(state.partners) >= quorum and (nobody or state.count >= buffer_of(context.stage).buffer)


def _training(state: FedBuffState, context: Context) -> tuple[Step, ...]:
    free = tuple(name for name in context.free if name not in state.trained)
    quorum = 1
    cohorts: tuple[tuple[str, ...], ...] = tuple((name,) for name in free)
    if context.plan.secure is not None:
        quorum = context.plan.cohort.quorum
        count = len(free) // quorum
        cohorts = deal(free, count, f"fedbuff {state.round} {state.model}") if count else ()
    return tuple(
        _step(StepKind.TRAIN, state.round + 1, names, quorum, context.next_index + place, state, context)
        for place, names in enumerate(cohorts)
    )


def _evaluation(state: FedBuffState, context: Context) -> tuple[Step, ...]:
    """Of all that are free, once they are a quorum: who is slow is not waited for."""
    quorum = context.plan.cohort.quorum
    if len(context.free) < quorum:
        return ()
    return (_step(StepKind.EVALUATE, state.round, context.free, quorum, context.next_index, state, context),)


def _step(
    kind: StepKind,
    round_: int,
    participants: tuple[str, ...],
    quorum: int,
    index: int,
    state: FedBuffState,
    context: Context,
) -> Step:
    """None is required: where nothing comes of one the others go on."""
    return Step(
        index=index,
        kind=kind,
        round=round_,
        participants=participants,
        inputs=(state.model,),
        quorum=quorum,
        deadline_s=context.plan.cohort.step_deadline_s,
        required=False,
    )


def _starved(state: FedBuffState, context: Context) -> WrongState:
    return WrongState(
        "the buffer cannot fill: all partners have trained this version, and too few of them brought something",
        code="fedbuff.starved",
        value=f"{len(state.partners)} partners ({', '.join(state.partners) or 'nobody'}) in version {state.round + 1}",
        limit=f"a quorum of {context.plan.cohort.quorum}",
        cure="Look at what those say that failed; a smaller cohort.quorum needs fewer of them.",
    )


def _check_plan(plan: Plan, stage: Stage) -> None:
    """Raise `BadInput` for what does not go with steps that overlap, with the reason."""
    cohort, secure = plan.cohort, plan.secure
    noise = secure.noise if secure is not None else None
    refused = (
        (robust.robust_of(stage) is not None, "options.rule", "a robust rule compares updates of one model", "mean"),
        (cohort.sample > 0, "cohort.sample", "whoever is free is asked, and nobody else waits", "0"),
        (cohort.connected, "cohort.connected", "who is away keeps nobody waiting", "false"),
        (cohort.late != "refuse", "cohort.late", "work on an older model counts as long as it is open", "refuse"),
        (secure is not None and secure.groups > 1, "secure.groups", "each cohort is a circle of its own", "1"),
        (
            noise is not None and noise.adaptive is not None,
            "secure.noise.adaptive",
            "the clip of a round is made of the votes of the one before, and here rounds overlap",
            "none",
        ),
        (
            noise is not None and noise.members < 2 * cohort.quorum - 1,
            "secure.noise.members",
            "those that are free are dealt into cohorts of less than twice the quorum",
            f"{2 * cohort.quorum - 1} or more",
        ),
    )
    for found, what, why, limit in refused:
        if found:
            raise BadInput(
                f"{what} does not go with {stage.driver}: {why}",
                code="plan.fedbuff",
                value=what,
                limit=limit,
                cure=f'Set {what} to {limit}, or leave it out; driver = "averaging" has it.',
            )


driver = FedBuff()

"""Flower apps: the rounds are those of an app's own server code, which says what to ask; see `runs.Said`.

A Flower exchange, the messages that an app sends in one go, is one step. Plain replies are kept apart, each as the blob
that it came in; of a secure sum the app gets one reply, with the mean. What becomes of an exchange stays in the journal
until the run ends.
"""

from __future__ import annotations

from typing import Final

import msgspec

from aimass.proto.contribution import Contribution, Limits, Metric
from aimass.proto.elements import moved, update_shapes
from aimass.proto.errors import BadInput
from aimass.proto.flower.records import EMPTY_DIGEST, check_reply, measures_of, numbers_of, weight_of
from aimass.proto.methods import UPDATE
from aimass.proto.plan import Plan, Stage
from aimass.proto.step import Reduce, Step, StepKind
from aimass.proto.tensors import Array, Layout
from aimass.proto.values import decode_json
from aimass.server.drivers.base import Context, Done, ExpectedGroups, Models, Progress, StepResult
from aimass.server.flower.journal import Asked, Exchange, Finished, Past, State, Sum, Words

__all__ = ["Flower", "driver"]

_LIMITS: Final = Limits()
_MOST_MEASURES: Final = 100
_MOST_ROUNDS: Final = 1_000_000
_REASON: Final = 300


class Flower:
    """The driver. Options: `rounds`, and `config.KEY` for what the app's configuration says otherwise."""

    name = "flower"
    state_type = State

    def check(self, plan: Plan, stage: Stage) -> None:
        """What of a plan means nothing to an app is refused, so that nobody thinks that it holds."""
        rounds = stage.options.get("rounds")
        if type(rounds) is not int or not 1 <= rounds <= _MOST_ROUNDS:
            raise _bad("needs `rounds`, how often it may train", "options", rounds, f"1 to {_MOST_ROUNDS}")
        if odd := sorted(key for key in stage.options if key != "rounds" and not key.startswith("config.")):
            raise _bad("takes no such option", "options", ", ".join(odd), "rounds, config.KEY")
        cohort = plan.cohort
        for what, is_there in (
            ("[early_stop]: the app says when it ends", plan.early_stop is not None),
            ("cohort.sample: the app chooses whom it asks", cohort.sample > 0),
            (
                "cohort.exclude_after in plain sums: an error is an answer there, and excludes nobody",
                cohort.exclude_after > 0 and plan.secure is None,
            ),
            ('cohort.late = "next": a reply belongs to its message', cohort.late != "refuse"),
        ):
            if is_there:
                raise _bad(f"goes without {what}", "plan")

    def start(self, context: Context, model: str) -> State:
        """Nothing was asked."""
        return State(model=model)

    def hear(self, state: State, words: str, context: Context) -> State:
        """What the app asks next, or its end; what was heard before changes nothing."""
        said: Words = decode_json(Words, words, "the words of a Flower app")  # type: ignore[arg-type]
        match said:
            case Asked() if said.number == len(state.past) + len(state.asked) and state.result is None:
                return msgspec.structs.replace(state, asked=(*state.asked, said.exchange))
            case Finished() if state.result is None:
                return msgspec.structs.replace(state, result=said.model or state.model)
            case _:
                return state

    def settle(self, state: State, context: Context) -> State:
        """Who does not take part now gets nothing; an exchange in which nobody is left is over."""
        while state.asked:
            exchange = state.asked[0]
            absent = [name for name in _waiting(exchange) if name not in context.joined]
            gone = dict.fromkeys(absent, "flower.absent: this partner does not take part now")
            exchange = msgspec.structs.replace(exchange, failures=exchange.failures | gone)
            if _waiting(exchange):
                return msgspec.structs.replace(state, asked=(exchange, *state.asked[1:])) if absent else state
            state = _over(state, Past.of(exchange, {}, {}), exchange)
        return state

    def next(self, state: State, context: Context) -> tuple[Step, ...] | Done:
        """The first exchange that is not over; without one the app is waited for.

        An error is an answer to an app: plain replies are not required, and the round goes on without them.
        """
        if state.result is not None:
            return Done(state.result, "the Flower app has ended")
        if not state.asked:
            return ()
        exchange, cohort = state.asked[0], context.plan.cohort
        partners = _waiting(exchange)
        return (
            Step(
                index=context.next_index,
                kind=exchange.kind,
                purpose=self.name if exchange.kind is StepKind.QUERY else "",
                round=exchange.round,
                participants=partners,
                inputs=exchange.inputs,
                addressed={name: inputs for name, inputs in exchange.addressed.items() if name in partners},
                reduce=Reduce.COLLECT if context.plan.secure is None else Reduce.SUM,
                required=context.plan.secure is not None,
                quorum=min(cohort.quorum, len(partners)),
                deadline_s=min(exchange.timeout_s or cohort.step_deadline_s, cohort.step_deadline_s),
            ),
        )

    def expects(self, step: Step, layout: Layout, plan: Plan) -> ExpectedGroups | None:
        """Of a plain reply anything; of a secure one an update of the arrays that were sent, or metrics alone."""
        if step.reduce is Reduce.COLLECT:
            return None
        return {UPDATE: update_shapes(layout)} if step.kind is StepKind.TRAIN else {}

    def receive(self, state: State, result: StepResult, models: Models, context: Context) -> State:
        """The replies stay as they came, or as their mean."""
        exchange = state.asked[0]
        failures = {name: why for name, why in result.failures.items() if name in exchange.partners}
        if result.replies is not None:
            replies = {name: result.replies.keep(name) for name in result.replies.partners}
            return _over(state, Past.of(exchange, replies, failures), exchange)
        return _over(state, Past.of(exchange, {}, failures, _sum(exchange, result, models)), exchange)

    def ended(self, state: State) -> State:
        """Without its journal: no app runs again."""
        return State(model=state.model, result=state.result, rounds=state.trained)

    def check_reply(self, contribution: Contribution) -> None:
        """Raise `BadInput` for what is no reply: its partner alone is told, and no app has to bear it."""
        check_reply(contribution)

    def measured(self, contribution: Contribution) -> dict[str, Metric]:
        """The numbers of a reply, weighted by its examples as Flower does; without a count all weigh the same."""
        numbers = {name: value for name, value in numbers_of(contribution).items() if abs(value) <= _LIMITS.metric}
        told = weight_of(numbers)
        weight = told if told is not None and 0 < told <= _LIMITS.weight else 1.0
        few = dict(sorted(numbers.items())[:_MOST_MEASURES])
        return {name: Metric(value * weight, weight) for name, value in measures_of(few).items()}

    def model(self, state: State) -> str:
        """The arrays that were sent last; the app's result becomes the run's model with the end of the stage."""
        return state.model

    def progress(self, state: State, context: Context) -> Progress:
        """Rounds trained, and the most that the plan allows."""
        return Progress(state.trained, int(context.stage.options["rounds"]))


def _waiting(exchange: Exchange) -> tuple[str, ...]:
    """Who is still to be asked."""
    return tuple(name for name in exchange.partners if name not in exchange.failures)


def _over(state: State, past: Past, exchange: Exchange) -> State:
    past = msgspec.structs.replace(past, failures={name: why[:_REASON] for name, why in past.failures.items()})
    model = state.model if exchange.inputs[0] == EMPTY_DIGEST else exchange.inputs[0]
    return msgspec.structs.replace(
        state, past=(*state.past, past), asked=state.asked[1:], sent=exchange.blobs, model=model
    )


def _sum(exchange: Exchange, result: StepResult, models: Models) -> Sum:
    """The weighted mean, as one reply: of training the model that was sent, moved by the mean update."""
    metrics = {name: each.total / each.weight for name, each in result.metrics.items()}
    weights = [each.weight for each in result.metrics.values()]
    model, weight = "", max(weights, default=float(len(result.counted)))
    if exchange.kind is StepKind.TRAIN:
        sums, weight = result.sums, result.sums.weight(UPDATE)

        def change(name: str, part: slice, old: Array) -> Array:
            return moved(old, sums.part(UPDATE, name, part) / weight)

        model = models.edit(exchange.inputs[0], sums.tensors(UPDATE), change)
    return Sum(node=result.counted[0], model=model, weight=weight, metrics=metrics)


def _bad(what: str, code: str, value: object = None, limit: object = None) -> BadInput:
    return BadInput(f"a plan of a Flower app {what}", code=f"plan.{code}", value=value, limit=limit)


driver = Flower()

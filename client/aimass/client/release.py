"""The gate: what leaves this partner, after which mechanisms. It runs in the daemon, never in the training child.

The child's bytes are decoded strictly, checked against the model that the step trains, passed through the
postprocessors in order, stripped of what the policy does not release, and encoded again: nothing else leaves. For a
plan with secure aggregation they are encoded as lanes, rounded in secret, which leave under masks alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np

from aimass.client.explain_policy import in_the_open, too_fine
from aimass.client.policy import Policy, mechanism
from aimass.client.small_counts import withheld, withheld_cells
from aimass.client.step_check import is_buffered
from aimass.client.tree_counts import coarsened
from aimass.client.worker_protocol import survey_in
from aimass.privacy.dp.clipping import l2_norm
from aimass.privacy.dp.noise_plan import NoisePlan
from aimass.privacy.secagg.client_state import Room
from aimass.privacy.secagg.faults import FaultError
from aimass.privacy.secagg.labels import MASK_KEY_BYTES
from aimass.privacy.secagg.lanes import LanePlan, clamped, clipped, encode, to_bytes
from aimass.privacy.secagg.rounds import lanes_of, rotation_of
from aimass.proto.asking import asked_in, phase_in
from aimass.proto.asks import EXPLAIN
from aimass.proto.boosting import boosting_in, level_of, noise_of_trees, outputs_of
from aimass.proto.contribution import STATE_LOST, Contribution, Group, Limits, check_contribution, decode_contribution
from aimass.proto.errors import BadInput, Refused
from aimass.proto.flower.records import check_reply
from aimass.proto.plan import Plan
from aimass.proto.plan_settings import TREES
from aimass.proto.sent import Sent, check_sent, codec_of, trained_groups
from aimass.proto.step import Reduce, Step, StepKind
from aimass.proto.tensors import Blob, Layout
from aimass.proto.values import Value

__all__ = ["Beside", "Facts", "Postprocessor", "Released", "check_allowed", "release"]

Postprocessor = Callable[[Contribution], Contribution]
Shapes = Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]]
PLAIN: Final = "plain sum"
APART: Final = "plain, kept apart"
"""What a robust rule looks at: the server keeps it by itself, and not in a sum alone."""
ALONE: Final = "plain, of one partner"
"""An update that waits in a buffer: the step's sum is of this partner alone."""
REPLY: Final = "an app's reply, as it made it"


class Beside(Value, frozen=True):
    """What is kept beside a contribution's lanes: what they are lanes of, and the figures that the policy releases.

    A figure is this partner's own number, in no sum: the server sees it as it is.
    """

    groups: dict[str, dict[str, tuple[str, tuple[int, ...]]]]
    figures: dict[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Released:
    """The parts of the blob that may leave, and what the journal says of them.

    With `beside` the parts are the lanes of a secure sum: they may leave under masks. `lost` says in words what of the
    contribution lies beyond the plan's lanes, for the log.
    """

    parts: list[bytes | memoryview]
    tensors: int
    metrics: tuple[str, ...]
    figures: tuple[str, ...]
    mechanisms: tuple[str, ...]
    beside: Beside | None = None
    lost: tuple[str, ...] = ()

    @property
    def repeatable(self) -> bool:
        """Whether the same work gives the same bytes again: plain numbers are, private noise and rounding are not."""
        return self.mechanisms in ((PLAIN,), (APART,), (ALONE,))


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What the daemon knows beside plan, step and policy: the run, whether a privacy ledger accounts for the data set,
    whether what was kept between steps is lost here, of which the server is told, and how many rows there are, to train
    on and held out.
    """

    run_id: str = ""
    accounted: bool = False
    state_lost: bool = False
    rows: int = 0
    held_out_rows: int = 0


_NONE: Final = Facts()


def release(
    child_bytes: memoryview,
    plan: Plan,
    step: Step,
    model: Layout,
    policy: Policy,
    postprocessors: Mapping[str, Postprocessor] | None = None,
    draw: Callable[[int], bytes] = secrets.token_bytes,
    private_steps: int = 0,
    facts: Facts = _NONE,
    room: Room = bytearray,
) -> Released:
    """Decide what of a child's contribution leaves. `draw` gives secret bytes, for a rounding and a noise that nobody
    can predict; `room` bytes for the lanes of a secure sum, which may be many. `private_steps` is how many private
    steps the child says it did. Of one contribution of a plan with
    noise inside its sums, each call is another release: call once for a debit, and keep what it gives.

    With `facts.accounted` nothing leaves but what has noise, which a privacy ledger accounts for: updates, and metrics
    and analyses where the plan gives them noise of their own.

    A Flower app's reply leaves as the app made it where sums are plain: its code is what was approved, and nothing else
    here knows what its numbers mean. In secret sums it is held to all that a task is held to.

    Raises `Refused` where the policy demands secure aggregation and the plan has none, or does not allow the step's
    analysis, or where training was not as private as the plan; `BadInput` for a contribution that does not fit the
    step.
    """
    applied = postprocessors or {}
    check_allowed(plan, step, policy)
    private = _private(plan, step, private_steps)
    if facts.accounted:
        _check_accounted(step, private)
    reply, names = plan.task.kind == "app" and plan.secure is None, _names(plan, step, policy, facts, private)
    with _unquoted():
        contribution = decode_contribution(Blob(child_bytes))
        expected = _expected(plan, step, contribution, model)
        if reply:
            _check_reply(contribution, accounted=facts.accounted)
        else:
            contribution = _leaving(contribution, *names)  # what stays is not judged: a refusal would tell of it
            # The policy's norm is for updates. Sums over rows are as large as there are rows.
            norm = policy.bounds.norm if step.kind is StepKind.TRAIN else Limits().metric
            check_sent(Sent(contribution, codec_of(plan, step, model)), expected, Limits(norm=norm))
    if (boosting := boosting_in(plan, step)) is not None and not private:
        contribution = coarsened(contribution, boosting, policy.release.smallest_count)
    if (survey := survey_in(plan, step)) is not None and not private:
        contribution = withheld(contribution, survey, policy.release.smallest_count, facts.rows)
    if (phase := phase_in(plan, step)) is not None and not private:
        asked = asked_in(plan)
        rows = facts.held_out_rows if asked.rows == "held_out" else facts.rows
        least = max(asked.least_count, policy.release.smallest_count)
        contribution = withheld_cells(contribution, phase, least, rows)
    for process in applied.values():
        contribution = process(contribution)
    kept = _leaving(contribution, *names)
    kept = dataclasses.replace(
        kept,
        groups={name: Group(group.weight, _own(group.tensors)) for name, group in kept.groups.items()},
        figures={**kept.figures, **({STATE_LOST: 1.0} if facts.state_lost else {})},
    )
    released = Released(
        [],
        sum(len(group.tensors) for group in kept.groups.values()),
        tuple(kept.metrics),
        tuple(kept.figures),
        (*private, *applied) if applied else (*private, REPLY if reply else _taken(plan, step)),
    )
    if plan.secure is None:
        return dataclasses.replace(released, parts=kept.parts())
    lanes, noised, lost = _lanes(plan, facts.run_id, step, expected, dataclasses.replace(kept, figures={}), draw, room)
    return dataclasses.replace(
        released,
        parts=[lanes],
        mechanisms=(*private, *applied, *noised, mechanism(plan.secure)),
        beside=Beside(groups={name: dict(members) for name, members in expected.items()}, figures=dict(kept.figures)),
        lost=lost,
    )


def _taken(plan: Plan, step: Step) -> str:
    """How the server has a plain contribution."""
    if step.reduce is Reduce.COLLECT:
        return APART
    return ALONE if is_buffered(plan, step) else PLAIN


def _names(
    plan: Plan, step: Step, policy: Policy, facts: Facts, private: tuple[str, ...]
) -> tuple[frozenset[str], frozenset[str]]:
    """The metrics and figures that may leave."""
    if facts.accounted and not (private and step.kind is StepKind.EVALUATE):
        return frozenset(), frozenset()
    metrics = frozenset(policy.release.metrics)
    if plan.secure is not None:
        metrics &= frozenset(plan.secure.metrics)
    return metrics, frozenset(policy.release.figures if plan.task.kind == "task" else ())  # an app's is in its sum


def _leaving(made: Contribution, metrics: frozenset[str], figures: frozenset[str]) -> Contribution:
    """The contribution without other metrics and figures."""
    return dataclasses.replace(
        made,
        metrics={name: metric for name, metric in made.metrics.items() if name in metrics},
        figures={name: value for name, value in made.figures.items() if name in figures},
    )


@contextlib.contextmanager
def _unquoted() -> Iterator[None]:
    """A refusal without a word of what was made, but in `value`, for the log here: the server hears code and `what`.

    Those of `contribution` are so themselves.
    """
    try:
        yield
    except BadInput as error:
        if error.code.startswith("contribution."):
            raise
        what = "a contribution was refused: it is none, or no reply"
        raise BadInput(what, code=error.code, value=error.sentence()) from error


def _check_reply(contribution: Contribution, *, accounted: bool) -> None:
    """Refuse what is no app's reply, holds NaN or infinity, or is of a data set whose privacy is accounted for."""
    if accounted:
        raise Refused(
            "this data set has a privacy budget, and the app's replies carry no noise that it accounts for",
            code="release.budget",
            limit="secure.noise in the plan, or release.unprotected in the policy",
        )
    check_reply(contribution)
    check_contribution(contribution, None, Limits(norm=math.inf))


def check_allowed(plan: Plan, step: Step, policy: Policy) -> None:
    """Raise `Refused` where nothing of such a step may leave, whatever it holds."""
    if plan.task.kind == "app" and step.kind is StepKind.ANALYSE:
        raise Refused("an app has no analyses", code="release.analysis", value=step.purpose)
    if plan.task.kind == "task" and step.kind is StepKind.QUERY:  # it would pass by the rules for surveys
        raise Refused("a task has no queries", code="release.analysis", value=step.purpose)
    if policy.secure_aggregation and plan.secure is None:
        raise Refused(
            "the policy demands secure aggregation and the run has none",
            code="release.mechanism",
            value="plain sums",
            limit="secure aggregation",
        )
    asked = step.kind not in (StepKind.TRAIN, StepKind.EVALUATE) and plan.task.kind == "task"
    if asked and step.purpose not in policy.release.analyses:
        raise Refused(
            "the policy does not release this analysis",
            code="release.analysis",
            value=step.purpose,
            limit=", ".join(policy.release.analyses) or "none",
        )
    if asked and step.purpose == TREES and plan.secure is None and not policy.trees.plain:
        raise Refused(
            "the policy releases histograms of trees in secure sums alone",
            code="release.mechanism",
            value="plain sums",
            limit="secure aggregation (or trees.plain = true)",
        )
    if asked and step.purpose == EXPLAIN and (told := in_the_open(policy.explain, plan)) is not None:
        raise Refused(
            "the policy releases this explanation in secure sums or with noise alone",
            code="release.mechanism",
            value=told[0],
            limit=told[1],
        )
    if asked and step.purpose == EXPLAIN and (told := too_fine(policy.explain, plan)) is not None:
        raise Refused(
            "the policy releases a search over groups of more rows alone",
            code="release.group",
            value=told[0],
            limit=told[1],
        )


def _check_accounted(step: Step, private: tuple[str, ...]) -> None:
    """Raise `Refused` for an analysis without noise."""
    if step.kind not in (StepKind.TRAIN, StepKind.EVALUATE) and not private:
        raise Refused(
            "this data set has a privacy budget, and the analysis carries no noise",
            code="release.budget",
            value=step.purpose,
            limit="privacy.analyses in the plan, or release.unprotected in the policy",
        )


def _private(plan: Plan, step: Step, done: int) -> tuple[str, ...]:
    """What the child did before, in words; raises `Refused` where it did not do what the plan says.

    It is the child's word, which is worth what the approved task's code is worth.
    """
    promised = _promised(plan, step)
    if promised is None:
        return ()
    wanted, told = promised
    if done != wanted:
        raise Refused(
            "the step was not as private as the plan: nothing of it leaves",
            code="release.private",
            value=done,
            limit=wanted,
        )
    return (told,)


def _promised(plan: Plan, step: Step) -> tuple[int | None, str] | None:
    """How many private steps the plan has in a step of the run, and what they are."""
    privacy = plan.privacy
    if step.kind is StepKind.ANALYSE and step.purpose == TREES and (noise := noise_of_trees(plan)):
        return 1, f"noised histograms of trees (noise {noise:g})"
    if privacy is None:
        return None
    if step.kind is StepKind.TRAIN:
        persons = f"persons of {privacy.rows_per_person} rows at most, " if privacy.unit == "person" else ""
        noise, clip, rate, steps = privacy.noise_multiplier, privacy.clip, privacy.sampling_rate, plan.train.steps
        return steps, f"DP-SGD ({persons}noise {noise:g}, clip {clip:g}, rate {rate:g}, {steps} steps)"
    if step.kind is StepKind.EVALUATE and privacy.metrics is not None:
        metrics = privacy.metrics
        return 1, f"noised score histogram (noise {metrics.noise_multiplier:g}, {metrics.bins} bins)"
    if step.kind is StepKind.ANALYSE and privacy.analyses is not None:
        return 1, f"noised {step.purpose} (noise {privacy.analyses.noise_multiplier:g})"
    return None


def _lanes(
    plan: Plan, run_id: str, step: Step, shapes: Shapes, kept: Contribution, draw: Callable[[int], bytes], room: Room
) -> tuple[memoryview, tuple[str, ...], tuple[str, ...]]:
    """The packed lanes of a contribution, the noise in them in words, and what of it they do not hold."""
    try:
        lane_plan = lanes_of(plan, step, shapes)
        rotation = rotation_of(plan, run_id, step) if lane_plan.noise else b""
    except FaultError as error:
        raise error.fault.error() from error
    try:
        lanes = encode(lane_plan, kept, lambda: draw(MASK_KEY_BYTES), rotation, room)
        lost = _lost(lane_plan, kept)
    except FaultError as error:  # whose words name a tensor
        whole = error.fault.error()
        what = "a contribution does not fit the plan's lanes"
        raise type(whole)(what, code=whole.code, value=whole.sentence()) from error
    noised = () if lane_plan.noise is None else (distributed(lane_plan.noise, votes=lane_plan.adaptive is not None),)
    return to_bytes(lane_plan, lanes, room), noised, lost


def _lost(plan: LanePlan, kept: Contribution) -> tuple[str, ...]:
    """What of a contribution lies beyond its lanes, in words."""
    if plan.noise is not None:
        norm = l2_norm(tensor for group in kept.groups.values() for tensor in group.tensors.values())
        return (f"the update's norm {norm:.3g} was clipped to {plan.clip:g}",) if norm > plan.clip else ()
    most, cut = plan.quantisation.max_weight, clipped(plan, kept)
    lost = [f"{group} counts with {most} instead of {weight:g}" for group, weight in clamped(plan, kept).items()]
    return (*lost, *((f"{cut} elements of the update were clipped",) if cut else ()))


def distributed(noise: NoisePlan, *, votes: bool = False) -> str:
    """The noise inside a sum, in words."""
    setting = noise.setting
    return (
        f"distributed {setting.kind.word} noise (z {noise.multiplier:g}, clip {setting.clip:g}, at least "
        f"{setting.circle.shares} shares{', a vote on the clip' if votes else ''})"
    )


def _own(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.asarray(array) for name, array in tensors.items()}


def _expected(plan: Plan, step: Step, contribution: Contribution, model: Layout) -> Shapes:
    """What a step may hold: in training what the plan's method has, nothing of the model that stays here."""
    if step.kind is StepKind.TRAIN:
        return trained_groups(plan, model)
    if step.kind is StepKind.EVALUATE or plan.task.kind == "app":
        return {}
    if (phase := phase_in(plan, step)) is not None:
        return {step.purpose: phase.shapes}
    if (survey := survey_in(plan, step)) is not None:
        return {step.purpose: survey.shapes}
    if (boosting := boosting_in(plan, step)) is not None:
        return {step.purpose: boosting.shapes(outputs_of(model), level_of(boosting, step.inputs))}
    # Any other analysis sends its one group, by its own name; its tensors are those of approved code.
    found = contribution.groups.get(step.purpose)
    return {step.purpose: {n: ("F64", a.shape) for n, a in found.tensors.items()} if found is not None else {}}

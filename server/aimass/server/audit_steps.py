"""What each committed step of a run must be, by the plan and by the steps before it: pure rules for an auditor.

They read the bodies of the transcript as values; every fault is a line that names the step and the partner.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from aimass.privacy.secagg.parameters import corrupted, quorum
from aimass.privacy.secagg.rounds import ppm
from aimass.proto.errors import AimassError
from aimass.proto.methods import OVERLAPPING
from aimass.proto.names import Digest, Name
from aimass.proto.origin import Origin
from aimass.proto.plan import Cohort, Plan, SecureSettings
from aimass.proto.robust import least
from aimass.proto.step import Reduce, Step, StepKind
from aimass.proto.values import Value, decode_json
from aimass.proto.views import ParticipantState, RunState, SlotState
from aimass.server.aggregation.secure_sums import SecureTold
from aimass.server.cohort import ask
from aimass.server.drivers.averaging import clip_after
from aimass.server.drivers.buffer import buffer_of
from aimass.server.store import Entry

__all__ = [
    "Body",
    "Created",
    "Ended",
    "ReportedTold",
    "StepTold",
    "Steps",
    "Void",
    "choices",
    "most_stale",
    "read_bodies",
    "reported_faults",
    "reported_in",
    "step_faults",
    "steps_in",
    "voids_in",
]

_CHOOSING: Final = "averaging"
"""The driver whose training cohorts follow `aimass.server.cohort.ask`."""
_NOT_YET: Final = (ParticipantState.INVITED, ParticipantState.DECLINED)


class Created(Value, frozen=True, tag_field="event", tag="created"):
    """What was agreed before anything was computed; an offline run says where it computes."""

    plan: Digest
    roster: Digest
    model: Digest
    owner: str
    origin: Origin | None = None


class ReportedTold(Value, frozen=True, tag_field="event", tag="reported"):
    """A step of an offline run: its own word for what it came to. Of a model that is `not_kept` no bytes ever came."""

    step: int
    kind: StepKind
    round: int
    metrics: dict[str, float | None]
    model: Digest
    not_kept: str = ""


class StepTold(Value, frozen=True, tag_field="event", tag="step"):
    """A committed step, as `aimass.server.commits` writes it; `statistics` is the digest of what a survey found."""

    step: Step
    contributions: dict[Name, Digest]
    others: dict[Name, SlotState]
    metrics: dict[str, float | None]
    model: Digest
    away: dict[Name, str]
    candidates: tuple[Name, ...] = ()
    excluded: dict[Name, str] = {}
    secure: tuple[SecureTold, ...] = ()
    failed_attempts: tuple[str, ...] = ()
    statistics: str = ""

    @property
    def pool(self) -> tuple[str, ...]:
        """Among whom the partners were chosen: those alone that were asked, where no others are named."""
        return self.candidates or self.step.participants

    def origin(self, partner: str) -> int:
        """The index of the step that a partner's work here is for."""
        return self.step.carried.get(partner, self.step.index)


class Void(Value, frozen=True, tag_field="event", tag="void"):
    """A step that ended without a result, as `aimass.server.turns` writes it."""

    step: Step
    others: dict[Name, SlotState]
    away: dict[Name, str]
    reason: str
    failed_attempts: tuple[str, ...] = ()
    candidates: tuple[Name, ...] = ()
    excluded: dict[Name, str] = {}


class Ended(Value, frozen=True, tag_field="event", tag="ended"):
    """How the run ended."""

    state: RunState
    reason: str
    model: Digest


Body = Created | StepTold | Void | Ended | ReportedTold
Steps = Sequence[tuple[int, StepTold]]
"""Committed steps, each after the number of entries that the history has with it."""


def read_bodies(entries: Sequence[Entry], faults: list[str]) -> list[Body | None]:
    """What the entries say, None for those that cannot be read."""
    bodies: list[Body | None] = []
    for index, entry in enumerate(entries):
        try:
            bodies.append(decode_json(Body, entry.body, f"the body of entry {index}"))  # type: ignore[arg-type]
        except AimassError as error:
            faults.append(f"entry {index}: {error}")
            bodies.append(None)
    return bodies


def steps_in(bodies: Sequence[Body | None]) -> list[tuple[int, StepTold]]:
    """The committed steps among `bodies`."""
    return [(index + 1, body) for index, body in enumerate(bodies) if isinstance(body, StepTold)]


def reported_in(bodies: Sequence[Body | None]) -> list[ReportedTold]:
    """The steps among `bodies` that an offline run reported."""
    return [body for body in bodies if isinstance(body, ReportedTold)]


def reported_faults(first: str, steps: Sequence[ReportedTold], made: Sequence[tuple[int, str]]) -> Iterator[str]:
    """A record of an offline run counts its steps, and names the models on record, each `made` by a step."""
    if [step.step for step in steps] != list(range(len(steps))):
        yield "the reported steps are not counted from the first to the last"
    before = [first, *(step.model for step in steps)]
    told = [(step.step, step.model) for was, step in zip(before, steps, strict=False) if step.model != was]
    if sorted(made) != told:
        yield "the models on record are not those of the transcript"


def voids_in(bodies: Sequence[Body | None]) -> list[Void]:
    """The steps without a result among `bodies`."""
    return [body for body in bodies if isinstance(body, Void)]


def step_faults(plan: Plan, steps: Steps, invited: frozenset[str], voids: Sequence[Void] = ()) -> Iterator[str]:
    """Everything but the choice that the plan's seed makes; `invited` are all partners of the run."""
    yield from _asked(plan, steps, invited)
    yield from _absences(plan.cohort, steps)
    yield from _exclusions(plan.cohort, steps, voids)
    yield from _late(plan.cohort, steps)
    yield from _secret(plan.secure, steps)
    yield from _clips(plan, steps)


def choices(plan: Plan, steps: Steps) -> tuple[int, list[str]]:
    """How many choices of training partners were repeated, and the faults: whom the seed chooses is who was asked."""
    trained = [body for _, body in steps if body.step.kind is StepKind.TRAIN]
    if all(stage.driver != _CHOOSING for stage in plan.stages):
        return 0, []
    return len(trained), [fault for body in trained for fault in _choice(plan, body)]


def most_stale(plan: Plan) -> int | None:
    """How many versions old the model of a step may be in a plan whose steps overlap; None in another."""
    overlapping = [stage for stage in plan.stages if stage.driver == OVERLAPPING]
    return max(buffer_of(stage).max_staleness for stage in overlapping) if overlapping else None


def _asked(plan: Plan, steps: Steps, invited: frozenset[str]) -> Iterator[str]:
    """Every partner is accounted for in every step, once, under the plan's terms; a Flower app may ask fewer."""
    cohort, app = plan.cohort, plan.task.kind == "app"
    overlap = most_stale(plan) is not None
    seen = set[int]()
    for _, body in steps:
        step, what = body.step, f"step {body.step.index}"
        single = app or (overlap and plan.secure is None and step.kind is StepKind.TRAIN)
        quorum = min(cohort.quorum, len(step.participants)) if single else cohort.quorum
        if step.index in seen:
            yield f"{what}: it stands in the history twice"
        seen.add(step.index)
        if step.grace_s != cohort.grace_s or step.quorum < quorum:
            yield f"{what}: its quorum or its grace is not the plan's"
        places = [*body.pool, *step.carried, *body.excluded, *body.away]
        # Where steps overlap, whoever is in none of these places was in another step, which stands in the history too.
        known = set(places) if overlap and invited.issuperset(places) else invited
        if sorted(places) != sorted(known):
            odd = sorted(invited.symmetric_difference(places)) or sorted({n for n in places if places.count(n) > 1})
            yield f"{what}: the history does not say once where {', '.join(odd)} was"
        if not set(step.participants) <= set(body.pool):
            yield f"{what}: somebody was asked who was no candidate"
        if not app and step.kind is not StepKind.TRAIN and step.participants != body.pool:
            yield f"{what}: not all that were there were asked"
        if sorted([*body.contributions, *body.others]) != sorted([*step.participants, *step.carried]):
            yield f"{what}: what became of a partner that was asked is not told, or of one that was not asked is"
        if len(body.contributions) < max(step.quorum, quorum) and (step.required or body.contributions):
            yield f"{what}: fewer than the quorum were counted"


def _absences(cohort: Cohort, steps: Steps) -> Iterator[str]:
    """Nobody is said to be away for what the plan does not know or the history itself contradicts."""
    last: dict[str, str] = {}
    for _, body in _as_opened(steps):
        for name, why in body.away.items():
            if (
                (why == "not connected" and not cohort.connected)
                or (why == "late" and (body.step.kind is StepKind.TRAIN or last.get(name) != SlotState.LATE))
                or (why in _NOT_YET and last.get(name, why) not in _NOT_YET)
            ):
                yield f"step {body.step.index}: {name} is said to have been away ({why}), and that cannot be"
        for name in sorted(name for name, why in last.items() if why == ParticipantState.REMOVED):
            if body.away.get(name) != ParticipantState.REMOVED:
                yield f"step {body.step.index}: {name} had been removed from the run before"
        last |= dict.fromkeys(body.contributions, SlotState.COUNTED) | body.others
        last |= {name: why for name, why in body.away.items() if why != "late"}


def _as_opened(steps: Steps) -> Steps:
    """In the order in which they were opened: those that overlap end in another."""
    return sorted(steps, key=lambda step: step[1].step.index)


def _choice(plan: Plan, body: StepTold) -> Iterator[str]:
    """Whom the plan's seed chooses of the candidates is who was asked."""
    asked, wanted = ask(plan.cohort, plan.seed, body.step.round, body.pool)
    if (asked, wanted) != (body.step.participants, body.step.wanted):
        yield f"step {body.step.index}: the plan's seed chooses {', '.join(asked)}, and others were asked"
    if body.step.deadline_s != plan.cohort.step_deadline_s:
        yield f"step {body.step.index}: its deadline is not the plan's"


def _exclusions(cohort: Cohort, steps: Steps, voids: Sequence[Void]) -> Iterator[str]:
    """Who was excluded had failed as often as the plan says; after it came back, once is enough.

    In a step without a result those have failed that are said to; nobody else brought nothing by its own fault.
    """
    failures: dict[str, int] = {}
    out, ever = frozenset[str](), set[str]()
    told: list[StepTold | Void] = sorted([body for _, body in steps] + list(voids), key=lambda body: body.step.index)
    for body in told:
        for name in sorted(set(body.excluded) - out):
            if not cohort.exclude_after or failures.get(name, 0) < (1 if name in ever else cohort.exclude_after):
                yield f"step {body.step.index}: {name} was excluded and had not failed as often as the plan says"
        out = frozenset(body.excluded)
        ever |= out
        if isinstance(body, StepTold):
            failures |= dict.fromkeys(body.contributions, 0)
        slow = isinstance(body, StepTold) or body.reason.startswith("step.stale:")
        at_fault = tuple(SlotState) if slow else (SlotState.FAILED, SlotState.REFUSED)
        failures |= {name: failures.get(name, 0) + 1 for name, state in body.others.items() if state in at_fault}


def _late(cohort: Cohort, steps: Steps) -> Iterator[str]:
    """Work that was carried from an earlier step was late there, is as late as the plan allows, and counted once."""
    counted: set[tuple[int, str]] = set()
    earlier: dict[int, StepTold] = {}
    for _, body in steps:
        what = f"step {body.step.index}"
        for partner, index in body.step.carried.items():
            origin = earlier.get(index)
            if origin is None or origin.others.get(partner) is not SlotState.LATE:
                yield f"{what}: {partner} was not late in step {index}"
            elif (
                cohort.late != "next"
                or not 0 < body.step.round - origin.step.round <= cohort.late_rounds
                or {(b.step.kind, b.step.reduce) for b in (body, origin)} != {(StepKind.TRAIN, Reduce.SUM)}
            ):
                yield f"{what}: the plan does not count the work of {partner} for step {index} here"
        for partner in body.contributions:
            work = body.origin(partner), partner
            if work in counted:
                yield f"{what}: the work of {partner} for step {work[0]} counts twice"
            counted.add(work)
        earlier[body.step.index] = body


def _clips(plan: Plan, steps: Steps) -> Iterator[str]:
    """The clip of a round is what the plan's rule makes of the votes in the one before, and the plan's in the first."""
    clip = 0.0
    for _, body in steps:
        if body.step.kind is not StepKind.TRAIN:
            continue
        wanted = 0.0 if body.step.round == 1 else clip
        if not math.isclose(body.step.clip, wanted, rel_tol=1e-9):  # another machine's exp may round otherwise
            yield f"step {body.step.index}: its clip is {body.step.clip:g}, and the votes before it make {wanted:g}"
        clip = clip_after(plan, body.step.clip, body.secure[0].within if len(body.secure) == 1 else None)


def _secret(secure: SecureSettings | None, steps: Steps) -> Iterator[str]:
    """Sums are made in secret where the plan says so, and nowhere else, over enough partners, each in one of them."""
    for _, body in steps:
        what = f"step {body.step.index}"
        if not body.step.required and not body.contributions:
            continue  # (no sum was used)
        if bool(body.secure) != (secure is not None):
            yield f"{what}: it was {'' if body.secure else 'not '}summed in secret, and the plan says otherwise"
        if secure is None or not body.secure:
            continue
        members = [name for told in body.secure for name in told.members]
        if len(set(members)) != len(members) or not set(members) <= set(body.step.participants):
            yield f"{what}: somebody was a member of two secure sums, or was not asked"
        counted = [name for told in body.secure for name in told.counted]
        if sorted(counted) != sorted(body.contributions):
            yield f"{what}: what was counted is not what the secure sums are of"
        used = sum(not told.fault for told in body.secure)
        if (
            not least(secure.rule, secure.tolerated) <= len(body.secure)
            or len(body.secure) - used > secure.tolerated
            or len(body.secure) > secure.groups
        ):
            yield f"{what}: it has more or fewer secure sums than the plan's rule takes"
        if secure.noise and body.step.kind is StepKind.TRAIN and len(body.step.participants) > secure.noise.members:
            yield f"{what}: it asked more partners than the plan's noise is made for"
        for told in body.secure:
            yield from (f"{what}: {fault}" for fault in _sum_faults(secure, told))


def _sum_faults(secure: SecureSettings, told: SecureTold) -> Iterator[str]:
    if not set(told.signatures) <= set(told.counted) <= set(told.sharers) <= set(told.members):
        yield "somebody was counted in a secure sum who did not share in it, or signed and is not in it"
    colluders = corrupted(len(told.members), ppm(secure.colluders))
    malicious = secure.profile == "malicious"
    enough = quorum(len(told.members), colluders) if malicious else 0
    if len(told.counted) < max(secure.min_cohort, enough) or told.attempt >= secure.attempts:
        yield "a secure sum has fewer partners than the plan allows, or came after too many attempts"
    if (malicious and len(told.signatures) < enough) or (not malicious and told.signatures):
        yield "a secure sum has not as many signatures as the plan's profile asks for"

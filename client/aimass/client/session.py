"""A partner in one run, as a pure machine: invited, joined, step by step, until the end or until it leaves.

The state is a frozen value, stored with each change, so a daemon that is killed anywhere goes on from it. Events may
repeat, as they do after each reconnection; nothing is done twice that leaves this machine.
"""

from __future__ import annotations

import enum

import msgspec

from aimass.privacy.transcript import EMPTY_HEAD, Chain, Receipt
from aimass.proto.plan_settings import TREES
from aimass.proto.step import Step, StepKind
from aimass.proto.values import Value

__all__ = [
    "Acknowledged",
    "Action",
    "Answer",
    "Ended",
    "Event",
    "Forked",
    "GotReceipt",
    "HistoryGrew",
    "KeepLocalState",
    "LeaveRun",
    "Lost",
    "Opened",
    "Phase",
    "Release",
    "Sent",
    "Session",
    "StepFailed",
    "StepOver",
    "Submit",
    "TellReady",
    "TellStepFailed",
    "Train",
    "Withdrew",
    "Work",
    "Worked",
    "apply",
    "repeats",
    "task_of",
]


class Phase(enum.StrEnum):
    """Where a partner stands in a run."""

    PENDING = "pending"
    JOINED = "joined"
    DECLINED = "declined"
    LEFT = "left"
    WITHDRAWN = "withdrawn"
    ENDED = "ended"


class Work(enum.StrEnum):
    """Where a partner stands in a step: computing, its contribution durable, the server's word that it has it."""

    WORKING = "working"
    READY = "ready"
    STORED = "stored"


class Session(Value, frozen=True):
    """What a partner knows of a run. `resolved` is the first step index that may still be worked on.

    `worked` counts the steps that were begun, by kind and purpose: a plan has room for so many and no more. In a
    `secure` run a step that asks for the same work as the one before, which came to no sum, counts in `repeated`
    instead; `asked` is that work, by kind and purpose.
    `head_signature` is the server's over the last of `heads`, in hexadecimal: it shows a server that was restored from
    a backup what it signed since. `kept` says that this partner contributed to training, and so keeps a local state
    where the plan has one. In a `secure` run the contribution (its encoded lanes, of which `digest` is) never leaves:
    `sent` is the SHA-256 of the masked input that was last sent in its place. `bins` is the blob of the bins that the
    run's trees are grown by: with others beside them, a difference would tell of the few rows between two edges.
    """

    run_id: str
    plan_digest: str
    roster_digest: str
    phase: Phase
    reason: str = ""
    heads: tuple[str, ...] = ()
    resolved: int = 0
    step: Step | None = None
    work: Work = Work.WORKING
    digest: str = ""
    failed: str = ""
    worked: dict[str, int] = {}
    repeated: dict[str, int] = {}
    asked: dict[str, str] = {}
    head_signature: str = ""
    kept: bool = False
    secure: bool = False
    sent: str = ""
    bins: str = ""

    @property
    def chain(self) -> Chain:
        """How far the run's history was seen."""
        return Chain(len(self.heads), self.heads[-1] if self.heads else EMPTY_HEAD)


class Answer(Value, frozen=True):
    """The policy's decision about the invitation."""

    phase: Phase
    reason: str = ""


class Opened(Value, frozen=True):
    """The server asks for a step."""

    step: Step


class Worked(Value, frozen=True):
    """A contribution went through the gate and is on the disk."""

    index: int
    digest: str


class Lost(Value, frozen=True):
    """The contribution of the open step is not whole on the disk: the machine went down before it was."""


class StepFailed(Value, frozen=True):
    """A step cannot be done here, or its contribution was refused."""

    index: int
    reason: str
    told: bool = False


class Acknowledged(Value, frozen=True):
    """The server has a contribution."""

    index: int


class Sent(Value, frozen=True):
    """A masked input of this digest is about to be sent: known before it leaves, since a receipt may name it."""

    index: int
    digest: str


class StepOver(Value, frozen=True):
    """The server does not want a step's work any more."""

    index: int
    reason: str


class HistoryGrew(Value, frozen=True):
    """The transcript was extended and verified; the head after each new entry, the server's signature over the last."""

    heads: tuple[str, ...]
    signature: str = ""


class Forked(Value, frozen=True):
    """The server's history contradicts what was seen, here or by another partner."""

    reason: str


class GotReceipt(Value, frozen=True):
    """A verified receipt of this partner."""

    receipt: Receipt


class Withdrew(Value, frozen=True):
    """A person here takes this partner out of the run."""

    reason: str


class Ended(Value, frozen=True):
    """The run is over."""

    state: str
    reason: str


StepEvent = Opened | Worked | Lost | StepFailed | Acknowledged | Sent | StepOver
Event = Answer | StepEvent | HistoryGrew | Forked | Withdrew | GotReceipt | Ended


class Train(Value, frozen=True):
    """Do a step's work in the child."""

    step: Step


class Submit(Value, frozen=True):
    """Send the durable contribution."""

    step: Step
    digest: str


class TellReady(Value, frozen=True):
    """The contribution is durable: say that it waits to be summed in secret."""

    index: int


class Release(Value, frozen=True):
    """Forget a step's files; the child may stop working on it."""

    index: int


class KeepLocalState(Value, frozen=True):
    """The contribution was counted: what the child wants to keep replaces what it kept before."""

    index: int


class TellStepFailed(Value, frozen=True):
    """Say why a step cannot be done here."""

    index: int
    reason: str


class LeaveRun(Value, frozen=True):
    """Stop the child; `reason` is told to the server where it is not empty."""

    reason: str


Action = Train | Submit | TellReady | Release | KeepLocalState | TellStepFailed | LeaveRun


def apply(session: Session, event: Event) -> tuple[Session, tuple[Action, ...]]:
    """The next state and what is to be done. A run that was left or has ended takes no more work."""
    if session.phase in (Phase.LEFT, Phase.ENDED):
        return session, ()
    if session.phase is Phase.WITHDRAWN and not isinstance(event, HistoryGrew | Ended | Forked):
        return session, ()  # the history goes on: it says what was counted of this partner
    match event:
        case Answer():
            return _answered(session, event)
        case HistoryGrew():
            signature = event.signature or session.head_signature
            return msgspec.structs.replace(session, heads=session.heads + event.heads, head_signature=signature), ()
        case Forked() | Withdrew():
            phase = Phase.LEFT if isinstance(event, Forked) else Phase.WITHDRAWN
            left = msgspec.structs.replace(session, phase=phase, reason=event.reason, step=None)
            return left, (*_drop(session), LeaveRun(reason=event.reason))
        case Ended():
            reason = event.reason or event.state
            return msgspec.structs.replace(session, phase=Phase.ENDED, reason=reason, step=None), (
                *_drop(session),
                LeaveRun(reason=""),
            )
        case GotReceipt():
            return _receipt(session, event.receipt)
        case Opened():
            return _opened(session, event.step)
        case Lost():
            return msgspec.structs.replace(session, work=Work.WORKING, digest=""), ()
        case _:
            return _in_step(session, event)


def task_of(step: Step) -> str:
    """A step's kind and purpose in one word."""
    return f"{step.kind}:{step.purpose}"


def repeats(session: Session, step: Step) -> bool:
    """Whether a step of a secure run asks for the work of the last one of its kind and purpose once more."""
    return session.secure and session.asked.get(task_of(step)) == _work_of(step)


def _work_of(step: Step) -> str:
    return f"{step.round} {' '.join(step.inputs)}"


def _answered(session: Session, answer: Answer) -> tuple[Session, tuple[Action, ...]]:
    """A run that is not, or no longer, permitted has no work at hand; one that is declined has no child either."""
    after = msgspec.structs.replace(session, phase=answer.phase, reason=answer.reason)
    if answer.phase is Phase.JOINED:
        return after, ()
    leave = (LeaveRun(reason=""),) if answer.phase is Phase.DECLINED else ()
    return msgspec.structs.replace(after, step=None), (*_drop(session), *leave)


def _drop(session: Session) -> tuple[Action, ...]:
    return () if session.step is None else (Release(index=session.step.index),)


def _opened(session: Session, step: Step) -> tuple[Session, tuple[Action, ...]]:
    if session.phase is not Phase.JOINED:
        return session, ()
    if step.index < session.resolved:
        # The server asks again for what was resolved here: it did not hear that it failed.
        again = TellStepFailed(index=step.index, reason=session.failed)
        return session, (again,) if session.failed and step.index == session.resolved - 1 else ()
    if session.step is None or step.index > session.step.index:
        bins = _bins_of(step) or session.bins
        if session.bins and bins != session.bins:
            return apply(session, Forked(reason="session.bins: the server changed the bins of the run's trees"))
        fresh = msgspec.structs.replace(
            _begun(session, step),
            step=step,
            work=Work.WORKING,
            digest="",
            sent="",
            resolved=step.index,
            failed="",
            bins=bins,
        )
        return fresh, (*_drop(session), Train(step=step))
    if step != session.step:
        reason = "session.step_changed: the server changed a step that it had opened"
        return apply(session, Forked(reason=reason))
    if session.work is Work.WORKING:
        return session, (Train(step=step),)
    return session, (_bring(session, step),)


def _bins_of(step: Step) -> str:
    """The blob of bins, of a step that sums rows by them."""
    return step.inputs[1] if step.purpose == TREES and len(step.inputs) > 1 else ""


def _begun(session: Session, step: Step) -> Session:
    """The step is counted."""
    task = task_of(step)
    if repeats(session, step):
        return msgspec.structs.replace(session, repeated=session.repeated | {task: session.repeated.get(task, 0) + 1})
    return msgspec.structs.replace(
        session,
        worked=session.worked | {task: session.worked.get(task, 0) + 1},
        asked=session.asked | {task: _work_of(step)},
    )


def _bring(session: Session, step: Step) -> Action:
    """How a contribution that is durable comes to count."""
    return TellReady(index=step.index) if session.secure else Submit(step=step, digest=session.digest)


def _in_step(
    session: Session, event: Worked | StepFailed | Acknowledged | Sent | StepOver
) -> tuple[Session, tuple[Action, ...]]:
    step = session.step
    if step is None or step.index != event.index:
        return session, ()
    match event:
        case Worked():
            if session.work is not Work.WORKING:
                return session, ()
            ready = msgspec.structs.replace(session, work=Work.READY, digest=event.digest)
            return ready, (_bring(ready, step),)
        case Acknowledged():
            return msgspec.structs.replace(session, work=Work.STORED), ()
        case Sent():
            return msgspec.structs.replace(session, sent=event.digest), ()
        case StepFailed():
            over = msgspec.structs.replace(session, step=None, resolved=step.index + 1, failed=event.reason)
            told = () if event.told else (TellStepFailed(index=step.index, reason=event.reason),)
            return over, (Release(index=step.index), *told)
        case StepOver():
            return msgspec.structs.replace(session, step=None, resolved=step.index + 1), (Release(index=step.index),)


def _receipt(session: Session, receipt: Receipt) -> tuple[Session, tuple[Action, ...]]:
    step, counted = session.step, receipt.outcome == "counted"
    if step is None or step.index != receipt.step:
        # Who began nothing and is told what it contributed has lost all that it had of the run.
        return msgspec.structs.replace(session, kept=session.kept or (counted and not session.worked)), ()
    counted = counted and receipt.contribution in {session.digest, session.sent} - {""}
    kept = session.kept or (counted and step.kind is StepKind.TRAIN)
    over = msgspec.structs.replace(session, step=None, resolved=step.index + 1, kept=kept)
    keep = (KeepLocalState(index=step.index),) if counted else ()
    return over, (*keep, Release(index=step.index))

"""What the server says to partners: pure functions from a run's state to the messages of the wire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from aimass.privacy.transcript import Chain
from aimass.proto.errors import NotFound, WrongState, printable
from aimass.proto.step import Step
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import canonical_json
from aimass.proto.views import RunState
from aimass.proto.wire import CARRIED, to_fault
from aimass.server.runs import Run, TellCarried, TellClosed
from aimass.server.store import ReceiptRow, RunRow
from aimass.server.witnesses import Circle

__all__ = [
    "Heads",
    "carried",
    "close_step",
    "end_run",
    "history",
    "invite",
    "open_steps",
    "reason_of",
    "receipt",
    "secagg",
    "standing",
    "unknown_run",
]

Heads = Mapping[str, tuple[Chain, bytes]]
"""Each partner's latest signed word on the history."""


def invite(row: RunRow) -> pb.ToPartner:
    """The exact plan, and the roster that the run pins."""
    return pb.ToPartner(invite=pb.Invite(run_id=row.run_id, plan=row.plan, roster_digest=row.roster_digest))


def history(run_id: str, first: int, entries: Sequence[bytes], signature: bytes) -> pb.ToPartner:
    """Transcript entries from index `first`, and the server's signature over the head after them."""
    return pb.ToPartner(history=pb.History(run_id=run_id, first=first, entries=entries, signature=signature))


def open_steps(
    run_id: str, step: Step, deadline_at: float, partners: Sequence[str], heads: Heads
) -> Iterator[tuple[str, pb.ToPartner]]:
    """A step for each of `partners`, with what its witnesses signed of the history."""
    data, circle = canonical_json(step), Circle(run_id, step.index, heads)
    for partner in partners:
        seen = [
            pb.HeadSeen(
                run_id=run_id,
                partner=who,
                entries=heads[who][0].entries,
                head=heads[who][0].head,
                signature=heads[who][1],
            )
            for who in circle.witnesses(partner)
        ]
        opened = pb.OpenStep(run_id=run_id, step=data, deadline_ms=int(deadline_at * 1000), heads=seen)
        yield partner, pb.ToPartner(open_step=opened)


def close_step(run_id: str, action: TellClosed) -> pb.ToPartner:
    """A step is over for a partner, and why."""
    code, _, what = action.reason.partition(": ")
    fault = pb.Fault(kind="deadline", code=code if what else "step.closed", what=what or action.reason)
    return pb.ToPartner(close_step=pb.CloseStep(run_id=run_id, step=action.index, fault=fault))


def carried(run_id: str, action: TellCarried) -> pb.ToPartner:
    """A partner is late, and goes on: its work counts in the next training step."""
    fault = pb.Fault(kind="deadline", code=CARRIED, what="late: this work counts in the next training step")
    return pb.ToPartner(close_step=pb.CloseStep(run_id=run_id, step=action.index, fault=fault))


def standing(run_id: str, reason: str) -> pb.ToPartner:
    """A partner is asked no more, and why; without a reason it is asked again."""
    if not reason:
        return pb.ToPartner(standing=pb.Standing(run_id=run_id))
    code, _, what = reason.partition(": ")
    cure = "Mend what the last reason names; then `aimass run readmit` on the scientist's side."
    fault = pb.Fault(kind="refused", code=code, what=what, cure=cure)
    return pb.ToPartner(standing=pb.Standing(run_id=run_id, fault=fault))


def receipt(row: ReceiptRow) -> pb.ToPartner:
    """A signed receipt."""
    return pb.ToPartner(receipt=pb.Receipt(body=row.body, signature=row.signature))


def secagg(run_id: str, step: int, attempt: int, kind: str, data: bytes) -> pb.ToPartner:
    """A message of an attempt at a step's secure sum."""
    return pb.ToPartner(secagg=pb.SecAgg(run_id=run_id, step=step, attempt=attempt, kind=kind, data=data))


def end_run(run: Run) -> pb.ToPartner:
    """The run is over, and why unless it finished."""
    end = pb.EndRun(run_id=run.run_id, state=run.state, model=run.model)
    if run.state is not RunState.FINISHED:
        end.fault.CopyFrom(to_fault(WrongState(run.reason, code=f"run.{run.state}")))
    return pb.ToPartner(end_run=end)


def unknown_run(run_id: str) -> pb.ToPartner:
    """A run that this server has no word of is over: it was restored from a backup that is older."""
    lost = NotFound(
        "run.restored_behind: the server does not know this run: it was restored from an older backup",
        code="run.restored_behind",
    )
    return pb.ToPartner(end_run=pb.EndRun(run_id=run_id, state=RunState.FAILED, fault=to_fault(lost)))


def reason_of(fault: pb.Fault) -> str:
    """A partner's fault as the one line that both sides log."""
    text = f"{fault.code}: {fault.what}"
    if fault.value:
        text += f"; got {fault.value}"
    if fault.limit:
        text += f"; allowed: {fault.limit}"
    return printable(text, 500)

"""What the server says to partners: pure functions from a run's state to the messages of the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aimass.privacy.transcript import Chain
from aimass.proto.errors import WrongState, printable
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import canonical_json
from aimass.proto.views import RunState
from aimass.proto.wire import to_fault
from aimass.server.runs import Run, TellClosed
from aimass.server.steps import StepState
from aimass.server.store import ReceiptRow, RunRow

__all__ = ["Heads", "close_step", "end_run", "history", "invite", "open_step", "reason_of", "receipt"]

Heads = Mapping[str, tuple[Chain, bytes]]
"""Each partner's latest signed word on the history."""


def invite(row: RunRow) -> pb.ToPartner:
    """The exact plan, and the roster that the run pins."""
    return pb.ToPartner(invite=pb.Invite(run_id=row.run_id, plan=row.plan, roster_digest=row.roster_digest))


def history(run_id: str, first: int, entries: Sequence[bytes], signature: bytes) -> pb.ToPartner:
    """Transcript entries from index `first`, and the server's signature over the head after them."""
    return pb.ToPartner(history=pb.History(run_id=run_id, first=first, entries=entries, signature=signature))


def open_step(run_id: str, state: StepState, partner: str, heads: Heads) -> pb.ToPartner:
    """A step, with what the other partners signed of the history."""
    others = [
        pb.HeadSeen(run_id=run_id, partner=who, entries=chain.entries, head=chain.head, signature=signature)
        for who, (chain, signature) in sorted(heads.items())
        if who != partner
    ]
    return pb.ToPartner(
        open_step=pb.OpenStep(
            run_id=run_id,
            step=canonical_json(state.step),
            deadline_ms=int(state.deadline_at * 1000),
            heads=others,
        )
    )


def close_step(run_id: str, action: TellClosed) -> pb.ToPartner:
    """A step is over for a partner, and why."""
    code, _, what = action.reason.partition(": ")
    fault = pb.Fault(kind="deadline", code=code if what else "step.closed", what=what or action.reason)
    return pb.ToPartner(close_step=pb.CloseStep(run_id=run_id, step=action.index, fault=fault))


def receipt(row: ReceiptRow) -> pb.ToPartner:
    """A signed receipt."""
    return pb.ToPartner(receipt=pb.Receipt(body=row.body, signature=row.signature))


def end_run(run: Run) -> pb.ToPartner:
    """The run is over, and why unless it finished."""
    end = pb.EndRun(run_id=run.run_id, state=run.state, model=run.model)
    if run.state is not RunState.FINISHED:
        end.fault.CopyFrom(to_fault(WrongState(run.reason, code=f"run.{run.state}")))
    return pb.ToPartner(end_run=end)


def reason_of(fault: pb.Fault) -> str:
    """A partner's fault as the one line that both sides log."""
    text = f"{fault.code}: {fault.what}"
    if fault.value:
        text += f"; got {fault.value}"
    if fault.limit:
        text += f"; allowed: {fault.limit}"
    return printable(text, 500)

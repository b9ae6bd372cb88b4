"""What is written with a change of a run: transcript entries, a committed step, receipts. Pure but for the key."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.transcript import Chain, Receipt, entry_bytes, sign_receipt
from aimass.proto.sealed import SealedHead
from aimass.proto.values import canonical_json
from aimass.proto.views import SlotState, StepView
from aimass.server import runs, steps
from aimass.server.aggregation.secure_sums import SecureTold
from aimass.server.store import Commit, Entry, ModelRow, ReceiptRow, RunRow

__all__ = ["created_entry", "ledger_commit", "next_entry", "reported_commit", "step_commit", "void_entry"]


def next_entry(run_id: str, chain: Chain, body: bytes) -> Entry:
    """The transcript entry that extends `chain` by `body`."""
    data = entry_bytes(run_id, chain, body)
    return Entry(data, body, chain.extended(data))


def created_entry(row: RunRow) -> Entry:
    """The first entry of a run: what was agreed before anything was computed."""
    fields: dict[str, object] = {
        "event": "created",
        "plan": row.plan_digest,
        "roster": row.roster_digest,
        "model": row.run.plan.model,
        "owner": row.owner,
    }
    if row.run.offline is not None:
        fields["origin"] = row.run.offline.origin
    return next_entry(row.run_id, Chain(), canonical_json(fields))


def step_commit(
    run: runs.Run,
    chain: Chain,
    state: steps.StepState,
    view: StepView,
    made: tuple[ModelRow, ...],
    key: Ed25519PrivateKey,
    secure: Sequence[SecureTold] = (),
) -> Commit:
    """Everything that a committed step leaves: its view, its entry, a receipt for each who sent something.

    `secure` is what is to be told of sums that were made in secret.
    """
    counted = {name: slot.digest for name, slot in state.slots.items() if slot.state is SlotState.COUNTED}
    fields: dict[str, object] = {
        **_partners(state),
        "event": "step",
        "contributions": counted,
        "metrics": {name: metric.mean for name, metric in view.metrics.items()},
        "model": made[0].digest if made else run.model,
    }
    if secure:
        fields["secure"] = secure
    if view.statistics is not None:
        fields["statistics"] = hashlib.sha256(canonical_json(view.statistics)).hexdigest()
    entry = next_entry(run.run_id, chain, canonical_json(fields))
    receipts = tuple(
        _receipt(run.run_id, state.origin(name).index, name, slot, entry.chain, key)
        for name, slot in sorted(state.slots.items())
        if slot.digest or slot.state is SlotState.REFUSED
    )
    view = msgspec.structs.replace(view, transcript_head=entry.chain.head)
    return Commit(steps=(view,), entries=(entry,), receipts=receipts, models=made)


def reported_commit(run_id: str, chain: Chain, view: StepView, model: str, made: tuple[ModelRow, ...]) -> Commit:
    """Everything that a reported step of an offline run leaves; `model` is the run's after it, with its bytes here."""
    fields = {
        "event": "reported",
        "step": view.index,
        "kind": view.kind,
        "round": view.round,
        "metrics": {name: metric.mean for name, metric in view.metrics.items()},
        "model": model,
    }
    if view.model not in ("", model):
        fields["not_kept"] = view.model
    entry = next_entry(run_id, chain, canonical_json(fields))
    view = msgspec.structs.replace(view, transcript_head=entry.chain.head)
    return Commit(steps=(view,), entries=(entry,), models=made)


def ledger_commit(partner: str, ledger: SealedHead | None) -> Commit:
    """What is kept of how far a partner's privacy ledger goes, to be given back when it connects."""
    return Commit() if ledger is None else Commit(ledgers=((partner, ledger),))


def void_entry(run_id: str, chain: Chain, state: steps.StepState, reason: str) -> Entry:
    """A step without a result stands in the history too: partners count what they signed."""
    return next_entry(run_id, chain, canonical_json({**_partners(state), "event": "void", "reason": reason}))


def _partners(state: steps.StepState) -> dict[str, object]:
    """What the history says of any step that is over: what was asked of whom, who does not count, what failed."""
    fields: dict[str, object] = {
        "step": state.step,
        "others": {name: slot.state for name, slot in state.slots.items() if slot.state is not SlotState.COUNTED},
        "away": state.away,
    }
    if state.candidates:
        fields["candidates"] = state.candidates
    if state.excluded:
        fields["excluded"] = state.excluded
    if state.attempts is not None and state.attempts.failed:
        fields["failed_attempts"] = state.attempts.failed
    return fields


def _receipt(
    run_id: str, step: int, partner: str, slot: steps.Slot, chain: Chain, key: Ed25519PrivateKey
) -> ReceiptRow:
    receipt = Receipt(
        run_id=run_id,
        step=step,
        partner=partner,
        contribution=slot.digest or "0" * 64,
        outcome="counted" if slot.state is SlotState.COUNTED else "refused",
        reason=slot.reason,
        entries=chain.entries,
        head=chain.head,
        ledger=slot.ledger,
    )
    body, signature = sign_receipt(key, receipt)
    return ReceiptRow(step, partner, chain.entries, body, signature)

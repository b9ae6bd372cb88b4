"""A run told again from its transcript, for an auditor: the chain, the choice of partners, what was counted of whom.

It trusts the stored bytes of the plan and of the entries no further than their digests reach, and computes anew what
follows from them. What partners signed of the history ties it to what they saw while it was made. Who was away when a
step opened is the server's word: it stands in the history, so that whoever is named there can deny it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from aimass.privacy.roster import Roster
from aimass.privacy.secagg.attempt import verify
from aimass.privacy.secagg.codec import ids_bytes
from aimass.privacy.secagg.labels import Name, digest
from aimass.privacy.secagg.messages import SurvivorSignature
from aimass.privacy.transcript import Chain, check_head_seen, check_receipt, entry_bytes
from aimass.proto.errors import AimassError
from aimass.proto.plan import Plan, decode_plan
from aimass.proto.values import Value
from aimass.proto.views import RunState
from aimass.server.audit_steps import (
    Body,
    Created,
    Ended,
    Steps,
    choices,
    most_stale,
    read_bodies,
    reported_faults,
    reported_in,
    step_faults,
    steps_in,
    voids_in,
)
from aimass.server.store import Entry, ModelRow, ReceiptRow, RunRow, Store

__all__ = ["Audit", "Evidence", "audit_run", "gather"]

_ALL: Final = 1_000_000


class Audit(Value, frozen=True):
    """What was looked at, by kind, and every fault that was found: none for a run that is what it says.

    `heads_signed` says how many entries each partner signed; of the partners in `heads_missing` something was counted,
    and no signature that can be checked lies here: for them the history is the server's word alone. `not_repeated` is
    what follows from nothing that lies here.
    """

    run_id: str
    entries: int
    steps: int
    choices_repeated: int
    receipts: int
    heads_signed: dict[str, int]
    heads_missing: tuple[str, ...]
    head: str
    faults: tuple[str, ...]
    not_repeated: tuple[str, ...] = ()


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that a store holds of a run, and the identity keys and roster ids of server and partners."""

    row: RunRow
    entries: Sequence[Entry]
    receipts: Sequence[ReceiptRow]
    heads: Sequence[tuple[str, Chain, bytes]]
    models: Sequence[ModelRow]
    server: bytes
    partners: Mapping[str, bytes]
    ids: Mapping[str, int] = {}


def gather(store: Store, row: RunRow, roster: Roster) -> Evidence:
    """Everything that a store holds of a run as far as its transcript goes; the run may go on meanwhile."""
    heads, entries = store.heads(row.run_id), store.transcript(row.run_id)
    receipts, models = store.receipts(row.run_id), store.models(row.run_id, limit=_ALL)
    # Models carry the index of their step: those of steps that the entries do not have were committed meanwhile.
    bodies = read_bodies(entries, [])
    told = {body.step.index for _, body in steps_in(bodies)} | {body.step for body in reported_in(bodies)}
    return Evidence(
        row=row,
        entries=entries,
        receipts=[receipt for receipt in receipts if receipt.entries <= len(entries)],
        heads=heads,
        models=[model for model in models if row.run.state.final or model.step in told],
        server=roster.server.identity,
        partners={member.name: member.identity for member in roster.members},
        ids={member.name: member.id for member in roster.members},
    )


def audit_run(evidence: Evidence) -> Audit:
    """Look at everything; nothing that is found stops the rest."""
    chains = [Chain()]
    faults = list(_chain(evidence, chains))
    bodies = read_bodies(evidence.entries, faults)
    steps, repeated = steps_in(bodies), 0
    try:
        plan = decode_plan(evidence.row.plan)
    except AimassError as error:
        faults.append(f"plan: {error}")
    else:
        faults += _created(evidence.row, plan, bodies)
        faults += step_faults(plan, steps, frozenset(evidence.row.run.participants), voids_in(bodies))
        if evidence.row.run.offline is not None:
            made = [(model.step, model.digest) for model in evidence.models]
            faults += reported_faults(plan.model, reported_in(bodies), made)
        else:
            faults += _models(evidence, plan, bodies)
        repeated, wrong_choices = choices(plan, steps)
        faults += wrong_choices
    faults += _receipts(evidence, steps, chains)
    faults += _signatures(evidence, steps)
    signed, wrong = _heads(evidence, chains)
    return Audit(
        run_id=evidence.row.run_id,
        entries=len(evidence.entries),
        steps=len(steps) + len(reported_in(bodies)),
        choices_repeated=repeated,
        receipts=len(evidence.receipts),
        heads_signed=signed,
        heads_missing=tuple(sorted({name for _, body in steps for name in body.contributions} - set(signed))),
        head=chains[-1].head,
        faults=(*faults, *wrong),
        not_repeated=_not_repeated(evidence.row),
    )


def _not_repeated(row: RunRow) -> tuple[str, ...]:
    """Of a Flower app it cannot be said whether its server code did what it was to do: that stands in no plan. What an
    offline run reports was computed elsewhere."""
    if row.run.offline is not None:
        return (f"every step: it was computed elsewhere over {row.run.offline.origin.data_set}, and reported",)
    task = row.run.plan.task
    if task.kind != "app":
        return ()
    whose = f"the server code of the app {task.name} ({task.digest[:16]})"
    return (
        f"whom {whose} asked, and when: it chose among those that the history says were there",
        f"the models: {whose} made them of the replies that were counted, which go with the run's end",
    )


def _chain(evidence: Evidence, chains: list[Chain]) -> Iterator[str]:
    """Each entry is the one that follows from the last one and its own body."""
    for index, entry in enumerate(evidence.entries):
        if entry_bytes(evidence.row.run_id, chains[-1], entry.body) != entry.data:
            yield f"entry {index}: it does not extend the entry before it, or its body was changed"
        chains.append(chains[-1].extended(entry.data))
        if entry.chain != chains[-1]:
            yield f"entry {index}: its head is not the one that was recorded"


def _created(row: RunRow, plan: Plan, bodies: Sequence[Body | None]) -> Iterator[str]:
    """The history begins with the plan, and ends once."""
    first = bodies[0] if bodies else None
    if not isinstance(first, Created):
        yield "entry 0: the run does not begin with its creation"
    elif (first.plan, first.model, first.roster, first.owner) != (
        hashlib.sha256(row.plan).hexdigest(), plan.model, row.roster_digest, row.owner,
    ):  # fmt: skip
        yield "entry 0: plan, roster or first model, or the owner, is not the one that the run began with"
    if row.run.offline is None and plan.cohort.partners and set(plan.cohort.partners) != set(row.run.participants):
        yield "the participants on record are not those of the plan"
    for index, body in enumerate(bodies):
        if index and isinstance(body, Created):
            yield f"entry {index}: the run begins a second time"
        if isinstance(body, Ended) and index + 1 != len(bodies):
            yield f"entry {index}: the history goes on after the run's end"
    last = bodies[-1] if bodies else None
    if row.run.state.final and not (isinstance(last, Ended) and last.state is row.run.state):
        yield f"the run is {row.run.state} on record, and its history does not end so: {row.run.reason or 'no reason'}"


def _models(evidence: Evidence, plan: Plan, bodies: Sequence[Body | None]) -> Iterator[str]:
    """Each step works on the model before it, or on an older one where steps overlap; the models on record are those
    that the entries name, in order."""
    told = [plan.model]
    app, last = plan.task.kind == "app", bodies[-1] if bodies else None
    versions, stale = [plan.model], most_stale(plan) or 0
    for _, body in steps_in(bodies):
        # An app makes its models itself: the history comes to the one that it sends, or stays where it sends none.
        fitting = {body.model, plan.model} if app else set(versions[-1 - stale :])
        if not fitting.intersection(body.step.inputs[:1]):
            yield f"step {body.step.index}: it worked on another model than the one that the history had come to"
        told.append(body.model)
        versions += [body.model] * (body.model != versions[-1])
    if app and isinstance(last, Ended) and last.state is RunState.FINISHED:
        told.append(last.model)
    made = [after for before, after in itertools.pairwise(told) if after != before]
    order = {body.step.index: place for place, (_, body) in enumerate(steps_in(bodies))}
    if made != [model.digest for model in sorted(evidence.models, key=lambda model: order.get(model.step, len(order)))]:
        yield "the models on record are not those of the transcript"
    run = evidence.row.run
    if run.model not in (told[-1:] if run.state.final else told):
        yield "the run's model on record is not the one that its history came to"
    if isinstance(last, Ended) and last.model != told[-1]:
        yield "the run ended with another model than its last step made"


def _receipts(evidence: Evidence, steps: Steps, chains: Sequence[Chain]) -> Iterator[str]:
    """A receipt for everything that was counted, signed, and nothing counted that has none."""
    told: set[tuple[int, str, str, int]] = set()
    counted = {
        (body.origin(partner), partner, digest, entries)
        for entries, body in steps
        for partner, digest in body.contributions.items()
    }
    for row in evidence.receipts:
        what = f"receipt of {row.partner} for step {row.step}"
        try:
            receipt = check_receipt(row.body, row.signature, evidence.server)
        except AimassError as error:
            yield f"{what}: {error}"
            continue
        if (receipt.step, receipt.partner) != (row.step, row.partner):
            yield f"{what}: it is that of {receipt.partner} for step {receipt.step}"
        if not 0 < receipt.entries < len(chains) or chains[receipt.entries].head != receipt.head:
            yield f"{what}: it speaks of another history"
        if receipt.outcome == "counted":
            told.add((receipt.step, receipt.partner, receipt.contribution, receipt.entries))
        elif any(work[:2] == (receipt.step, receipt.partner) for work in counted):
            yield f"{what}: it says {receipt.outcome} of work that was counted"
    for index, partner, sent, entries in sorted(told ^ counted):
        yield (
            f"step {index}: contribution {sent[:16]} of {partner} has a receipt or an entry, and not both "
            f"(the history's entry {entries - 1})"
        )


def _signatures(evidence: Evidence, steps: Steps) -> Iterator[str]:
    """What survivors of secure sums signed: the sets that the history names, under the keys of the roster of now."""
    for _, body in steps:
        for told in body.secure:
            if not {*told.sharers, *told.counted} <= evidence.ids.keys():
                continue  # no members any more: neither their ids nor their keys are in the roster of now
            sid = bytes.fromhex(told.sid)
            sharers, survivors = (
                digest(name, sid, ids_bytes(sorted(evidence.ids[partner] for partner in names)))
                for name, names in ((Name.SHARERS, told.sharers), (Name.SURVIVORS, told.counted))
            )
            signed = SurvivorSignature.signed(sid, sharers, survivors)
            for partner, signature in told.signatures.items():
                if not verify(evidence.partners[partner], Name.SURVIVORS_SIGNED, signed, bytes.fromhex(signature)):
                    yield f"step {body.step.index}: the signature of {partner} does not hold for the secure sum's sets"


def _heads(evidence: Evidence, chains: Sequence[Chain]) -> tuple[dict[str, int], list[str]]:
    """How far each partner's signature goes; a signed head that is not in this history is a fork."""
    signed: dict[str, int] = {}
    faults = []
    for partner, chain, signature in evidence.heads:
        key = evidence.partners.get(partner)
        if key is None:
            continue  # no member any more: its key is not in the roster of now
        try:
            check_head_seen(evidence.row.run_id, chain, signature, key, partner)
        except AimassError as error:
            faults.append(f"head of {partner}: {error}")
            continue
        if chain.entries >= len(chains) or chains[chain.entries] != chain:
            faults.append(f"head of {partner}: it signed another history after {chain.entries} entries")
        signed[partner] = chain.entries
    return signed, faults

"""A run told again from its transcript, for an auditor: the chain, the choice of partners, what was counted of whom.

It trusts the stored bytes of the plan and of the entries no further than their digests reach, and computes anew what
follows from them. What partners signed of the history ties it to what they saw while it was made.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from aimass.privacy.roster import Roster
from aimass.privacy.transcript import Chain, check_head_seen, check_receipt, entry_bytes
from aimass.proto.errors import AimassError
from aimass.proto.plan import Plan, decode_plan
from aimass.proto.step import Step, StepKind
from aimass.proto.values import Value, convert
from aimass.server.cohort import ask
from aimass.server.store import Entry, ModelRow, ReceiptRow, RunRow, Store

__all__ = ["Audit", "Evidence", "audit_run", "gather"]

_ALL: Final = 1_000_000
_CHOOSING: Final = "averaging"
"""The driver whose training cohorts follow `aimass.server.cohort.ask`."""


class Audit(Value, frozen=True):
    """What was looked at, by kind, and every fault that was found: none for a run that is what it says."""

    run_id: str
    entries: int
    steps: int
    choices_repeated: int
    receipts: int
    heads_signed: dict[str, int]
    head: str
    faults: tuple[str, ...]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that a store holds of a run, and the identity keys of server and partners."""

    row: RunRow
    entries: Sequence[Entry]
    receipts: Sequence[ReceiptRow]
    heads: Sequence[tuple[str, Chain, bytes]]
    models: Sequence[ModelRow]
    server: bytes
    partners: Mapping[str, bytes]


def gather(store: Store, row: RunRow, roster: Roster) -> Evidence:
    """Everything that a store holds of a run as far as its transcript goes; the run may go on meanwhile."""
    heads, entries = store.heads(row.run_id), store.transcript(row.run_id)
    committed = [
        msgspec.json.decode(entry.body)["step"]["index"] for entry in entries if b'"event":"step"' in entry.body
    ]
    return Evidence(
        row=row,
        entries=entries,
        receipts=[receipt for receipt in store.receipts(row.run_id) if receipt.entries <= len(entries)],
        heads=heads,
        models=[model for model in store.models(row.run_id, limit=_ALL) if model.step in committed],
        server=roster.server.identity,
        partners={member.name: member.identity for member in roster.members},
    )


def audit_run(evidence: Evidence) -> Audit:
    """Look at everything; nothing that is found stops the rest."""
    row, chains = evidence.row, [Chain()]
    faults = list(_chain(evidence, chains))
    bodies: list[dict[str, Any]] = [msgspec.json.decode(entry.body) for entry in evidence.entries]
    steps = {body["step"]["index"]: body for body in bodies if body.get("event") == "step"}
    try:
        plan = decode_plan(row.plan)
        faults += _created(row, plan, bodies)
        faults += _choices(plan, steps)
    except AimassError as error:
        faults.append(f"plan: {error}")
    faults += _late(steps)
    faults += _models(evidence, bodies)
    faults += _receipts(evidence, steps, chains)
    signed, wrong = _heads(evidence, chains)
    return Audit(
        run_id=row.run_id,
        entries=len(bodies),
        steps=len(steps),
        choices_repeated=sum(body["step"]["kind"] == StepKind.TRAIN for body in steps.values()),
        receipts=len(evidence.receipts),
        heads_signed=signed,
        head=chains[-1].head,
        faults=(*faults, *wrong),
    )


def _chain(evidence: Evidence, chains: list[Chain]) -> Iterator[str]:
    """Each entry is the one that follows from the last one and its own body."""
    for index, entry in enumerate(evidence.entries):
        if entry_bytes(evidence.row.run_id, chains[-1], entry.body) != entry.data:
            yield f"entry {index}: it does not extend the entry before it, or its body was changed"
        chains.append(chains[-1].extended(entry.data))
        if entry.chain != chains[-1]:
            yield f"entry {index}: its head is not the one that was recorded"


def _created(row: RunRow, plan: Plan, bodies: Sequence[dict[str, Any]]) -> Iterator[str]:
    digest = hashlib.sha256(row.plan).hexdigest()
    if not bodies or bodies[0].get("event") != "created":
        yield "entry 0: the run does not begin with its creation"
    elif bodies[0]["plan"] != digest or bodies[0]["model"] != plan.model or bodies[0]["roster"] != row.roster_digest:
        yield "entry 0: plan, roster or first model is not the one that the run began with"
    for index, body in enumerate(bodies):
        if body.get("event") == "ended" and index + 1 != len(bodies):
            yield f"entry {index}: the history goes on after the run's end"


def _choices(plan: Plan, steps: Mapping[int, dict[str, Any]]) -> Iterator[str]:
    """Whom the plan's seed chooses of the candidates is who was asked."""
    for index, body in sorted(steps.items()):
        step = convert(Step, body["step"], f"step {index}")
        pool = tuple(body.get("candidates", step.participants))
        if not set(step.participants) <= set(pool) or set(step.participants) & set(body.get("excluded", {})):
            yield f"step {index}: somebody was asked who was no candidate"
        if step.kind is StepKind.TRAIN and any(stage.driver == _CHOOSING for stage in plan.stages):
            asked, wanted = ask(plan.cohort, plan.seed, step.round, pool)
            if (asked, wanted) != (step.participants, step.wanted):
                yield f"step {index}: the plan's seed chooses {', '.join(asked)}, and others were asked"
        counted = set(body["contributions"])
        if len(counted) < step.quorum or not counted <= {*step.participants, *step.carried}:
            yield f"step {index}: fewer than the quorum were counted, or somebody who was not asked"


def _late(steps: Mapping[int, dict[str, Any]]) -> Iterator[str]:
    """Work that was carried from an earlier step was late there, and counted once."""
    counted: set[tuple[int, str]] = set()
    for index, body in sorted(steps.items()):
        carried = body["step"]["carried"]
        for partner, origin in carried.items():
            if steps.get(origin, {}).get("others", {}).get(partner) != "late":
                yield f"step {index}: {partner} was not late in step {origin}"
        for partner in body["contributions"]:
            work = carried.get(partner, index), partner
            if work in counted:
                yield f"step {index}: the work of {partner} for step {work[0]} counts twice"
            counted.add(work)


def _models(evidence: Evidence, bodies: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The models on record are those that the entries name, in order."""
    told = [evidence.row.run.plan.model, *(body["model"] for body in bodies if body.get("event") == "step")]
    made = [after for before, after in itertools.pairwise(told) if after != before]
    if made != [model.digest for model in sorted(evidence.models, key=lambda model: model.step)]:
        yield "the models on record are not those of the transcript"


def _receipts(evidence: Evidence, steps: Mapping[int, dict[str, Any]], chains: Sequence[Chain]) -> Iterator[str]:
    """A receipt for everything that was counted, signed, and nothing counted that has none."""
    told: set[tuple[int, str, str]] = set()
    for row in evidence.receipts:
        what = f"receipt of {row.partner} for step {row.step}"
        try:
            receipt = check_receipt(row.body, row.signature, evidence.server)
        except AimassError as error:
            yield f"{what}: {error}"
            continue
        if not 0 < receipt.entries < len(chains) or chains[receipt.entries].head != receipt.head:
            yield f"{what}: it speaks of another history"
        if receipt.outcome == "counted":
            told.add((receipt.step, receipt.partner, receipt.contribution))
    counted = {
        (body["step"]["carried"].get(partner, index), partner, digest)
        for index, body in steps.items()
        for partner, digest in body["contributions"].items()
    }
    for index, partner, digest in sorted(told ^ counted):
        yield f"step {index}: contribution {digest[:16]} of {partner} has a receipt or an entry, and not both"


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

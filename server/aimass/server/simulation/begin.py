"""How a simulation begins, and what it must still be when it goes on: plan, task, shards, policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path

from aimass.proto import drafts
from aimass.proto.errors import BadInput, Conflict
from aimass.proto.hashing import file_digest
from aimass.proto.plan import Plan, PlanDraft, encode_plan, plan_digest
from aimass.proto.sharding import RECORD, load_shards
from aimass.proto.storage import Blobs
from aimass.proto.tensors import Blob
from aimass.server.audit_steps import most_stale
from aimass.server.drivers.base import Driver, Listener
from aimass.server.engine import InstalledDrivers
from aimass.server.simulation.folder import Folder, Saved, Setup
from aimass.server.simulation.pace import Pace
from aimass.server.simulation.partner import check_admitted, open_policy
from aimass.server.simulation.shell import first
from aimass.server.submission import check_stages, cohort

__all__ = ["Members", "begin", "check_same", "completed", "opening"]


def completed(draft: PlanDraft, blobs: Blobs) -> Plan:
    """The plan that `aimass run submit` would make of the draft; its first model is put into `blobs`."""
    plan, model = drafts.completed(draft)
    blobs.put([model])
    return plan


def begin(folder: Folder, plan: Plan, shards: Path, policy: str | None, pace: Pace | None = None) -> None:
    """Write down a new simulation of `plan` over a folder of shards.

    Without a `policy` partners permit what the plan asks; without a `pace` they answer at once, or, where steps
    overlap, all in the same time. Raises `Conflict` where one stands here, and what a
    submission raises for a plan that suits neither drivers, model nor partners; `Refused` where the policy refuses it.
    """
    if folder.begun:
        raise Conflict(
            "a simulation stands in this folder",
            code="simulation.exists",
            value=folder.path,
            cure="Go on with it (--resume), or name another folder (--out).",
        )
    held = load_shards(shards)
    members = Members(held.data_schema, {shard.partner: shard.participant for shard in held.shards})
    text, saved = opening(plan, members, folder.blobs, policy)
    digest = plan_digest(encode_plan(plan))
    setup = Setup(
        run_id=digest[:32],
        plan=digest,
        shards=str(shards.resolve()),
        shards_digest=file_digest(shards / RECORD),
        policy=text,
        pace=_checked(pace or (Pace() if most_stale(plan) is not None else None), plan, saved.run.participants),
    )
    folder.begin(setup, plan, saved)


@dataclasses.dataclass(frozen=True, slots=True)
class Members:
    """Who can take part, by name with the keys of their shards, and the schema of those."""

    data_schema: str
    participants: Mapping[str, str]


def opening(
    plan: Plan,
    members: Members,
    blobs: Blobs,
    policy: str | None,
    drivers: Mapping[str, Driver] | None = None,
) -> tuple[str, Saved]:
    """The policy of the gate, and where a run of `plan` stands before its first step.

    Raises what a submission raises for a plan that suits neither drivers, model (of `blobs`) nor partners; `Refused`
    where the policy refuses it.
    """
    if members.data_schema != plan.data_schema:
        raise BadInput(
            "the shards have another schema", code="shard.schema", value=members.data_schema, limit=plan.data_schema
        )
    names, drivers = cohort(plan, sorted(members.participants)), drivers if drivers is not None else InstalledDrivers()
    for stage in plan.stages:
        if isinstance(drivers[stage.driver], Listener):
            raise BadInput(
                "a simulation runs no program beside the driver that this stage waits for",
                code="simulation.driver",
                value=stage.driver,
                cure="Submit the plan to a server.",
            )
    check_stages(plan, drivers, Blob(blobs.open(plan.model)).layout, names)
    text = policy if policy is not None else open_policy(plan)
    check_admitted(text, plan, len(names))
    participants = {name: key for name, key in members.participants.items() if name in names}
    return text, Saved(run=first(plan_digest(encode_plan(plan))[:32], plan, participants))


def _checked(pace: Pace | None, plan: Plan, names: Collection[str]) -> Pace | None:
    """Raise `BadInput` for the pace of partners that take no part, and for one with what it cannot tell the time of."""
    if pace is None:
        return None
    if unknown := sorted(set(pace.slower) - set(names)):
        raise BadInput(
            "the pace names partners that take no part",
            code="simulation.pace",
            value=", ".join(unknown),
            limit=", ".join(sorted(names)[:20]),
            cure="Correct the names under `slower`.",
        )
    if plan.cohort.late != "refuse":
        raise BadInput(
            "a simulation with a pace has no late work: it does not say when that was begun",
            code="simulation.pace",
            value=f"cohort.late = {plan.cohort.late}",
            limit="refuse",
            cure='Leave the pace out, or set cohort.late = "refuse".',
        )
    return pace


def check_same(folder: Folder, plan: Plan | None) -> None:
    """Raise `Conflict` where a simulation would not go on with what it was begun with."""
    setup = folder.setup()
    if plan is not None and plan != folder.plan():  # not by digest: a release that knows fewer fields may have begun it
        raise Conflict(
            "the simulation in this folder was begun with another plan, or another version of the task",
            code="simulation.plan",
            value=plan_digest(encode_plan(plan))[:16],
            limit=setup.plan[:16],
            cure="Name another folder (--out).",
        )
    record = Path(setup.shards) / RECORD
    if not record.is_file() or file_digest(record) != setup.shards_digest:
        raise Conflict("the shards were changed since the simulation began", code="simulation.shards", value=record)

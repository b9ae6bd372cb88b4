"""How an offline run begins, and what it must still be when it goes on: plan, task, and the data set's version."""

from __future__ import annotations

from collections.abc import Sequence

from aimass.proto.data_sets import DataSetManifest
from aimass.proto.errors import BadInput, Conflict
from aimass.proto.plan import Plan, encode_plan, plan_digest
from aimass.proto.storage import Blobs
from aimass.proto.task import load, locate
from aimass.proto.values import canonical_json
from aimass.server.audit_steps import most_stale
from aimass.server.offline.journal import Journal, Setup
from aimass.server.offline.schedules import Schedule, drivers_of
from aimass.server.offline.software import software
from aimass.server.simulation.begin import Members, opening

__all__ = ["begin", "check_same"]


def begin(
    journal: Journal,
    plan: Plan,
    data_set: DataSetManifest,
    stores: Sequence[str],
    policy: str | None,
    blobs: Blobs,
    schedule: Schedule = "averaging",
) -> Setup:
    """Write down a new run of `plan`, whose first model is in `blobs`, over a version of a data set in `stores`.

    Raises `Conflict` where a run stands in this store, and what a submission raises for a plan that suits neither
    drivers, model nor shards.
    """
    _check_schema(plan, data_set)
    if most_stale(plan) is not None:
        raise BadInput(
            "steps that overlap have no order of their own here",
            code="offline.driver_kind",
            value=", ".join(stage.driver for stage in plan.stages),
            cure="Use `averaging`, or simulate the plan with a pace.",
        )
    members = Members(data_set.data_schema.name, {shard.participant: shard.participant for shard in data_set.shards})
    text, saved = opening(plan, members, blobs, policy, drivers_of(schedule))
    setup = Setup(
        run_id=saved.run.run_id,
        plan=blobs.put([encode_plan(plan)]),
        data_set=data_set.name,
        version=data_set.version,
        manifest=blobs.put([canonical_json(data_set)]),
        first=blobs.put([canonical_json(saved)]),
        stores=tuple(stores),
        policy=text,
        software=software(),
        schedule=schedule,
    )
    journal.begin(setup)
    return setup


def _check_schema(plan: Plan, data_set: DataSetManifest) -> None:
    """By the whole schema, not its name: columns or bounds may differ under one name."""
    wanted = load(locate(plan.task.name)).schema
    if data_set.data_schema != wanted:
        raise BadInput(
            "the data set has another schema than the task",
            code="dataset.schema",
            value=f"{data_set.data_schema.name}, {data_set.data_schema.digest[:16]}",
            limit=f"{wanted.name}, {wanted.digest[:16]}",
            cure="Register the data set under this task's schema.",
        )


def check_same(journal: Journal, plan: Plan | None, data: str | None, blobs: Blobs) -> None:
    """Raise `Conflict` where a run would not go on with what it was begun with; None stands for what was not named."""
    setup = journal.setup()
    if plan is not None and plan != journal.plan(blobs):
        raise Conflict(
            "the run in this store was begun with another plan, or another version of the task",
            code="offline.plan",
            value=plan_digest(encode_plan(plan))[:16],
            limit=setup.plan[:16],
            cure="Name another store or prefix (--out).",
        )
    begun = f"{setup.data_set}@{setup.version}"
    if data is not None and data not in (begun, setup.data_set):
        raise Conflict(
            "the run in this store was begun with another data set",
            code="offline.data",
            value=data,
            limit=begun,
            cure="Leave --data out, or name another store or prefix (--out).",
        )
